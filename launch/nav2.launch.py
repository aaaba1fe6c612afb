"""Mask, confidence, names and cloud for Nav2's semantic costmap layer; ``--show-args`` lists the arguments.

    ros2 launch seg_node nav2.launch.py image:=/front/image_raw camera_info:=/front/camera_info camera_height:=0.4

The topics are those of config/nav2_semantic_layer.yaml. Arguments of segmentation.launch.py (model, engine, ...) are
taken as well.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from seg_node.ros.bringup import below_camera, camera_info_topic, profile_environment

PARAMETER_TYPES = {
    "ground": str,
    "base_frame": str,
    "camera_height": float,
    "camera_pitch": float,
    "camera_roll": float,
    "rectified": lambda text: text.lower() == "true",
}
"""Parameters of the projection node with a launch argument of the same name."""

BOOLEANS = ["true", "false", "True", "False"]

ARGUMENTS = [
    DeclareLaunchArgument(
        "image", default_value="image", description="Camera topic; where compressed, its name without /compressed."
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        choices=["", "raw", "compressed"],
        description="Subscribe to the camera's raw or compressed topic; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "camera_info", default_value="", description="Calibration topic of the camera; empty: camera_info beside image."
    ),
    DeclareLaunchArgument(
        "cameras",
        default_value="",
        description="Names of several cameras for one process, e.g. [front,left]; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "camera", default_value="", description="Whose masks are projected where cameras names several, e.g. front."
    ),
    DeclareLaunchArgument(
        "depth", default_value="", description="Depth topic, registered to the camera; empty: the ground is flat."
    ),
    DeclareLaunchArgument(
        "ground",
        default_value="mounting",
        choices=["mounting", "tf"],
        description="Where the camera is: by camera_height, camera_pitch and camera_roll, or by tf from base_frame.",
    ),
    DeclareLaunchArgument("base_frame", default_value="base_footprint", description="Frame on the ground."),
    DeclareLaunchArgument("camera_height", default_value="0.0", description="Metres from the ground to the lens."),
    DeclareLaunchArgument("camera_pitch", default_value="0.0", description="Radians by which the camera looks down."),
    DeclareLaunchArgument("camera_roll", default_value="0.0", description="Radians by which its right side is lower."),
    DeclareLaunchArgument(
        "rectified", default_value="false", choices=BOOLEANS, description="Whether the images are rectified."
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of both nodes, e.g. of the camera."),
]


def start_projection(context: LaunchContext) -> list[Node]:
    """The projection node; the profile is an argument of the launch file that was included before."""
    names = [*(argument.name for argument in ARGUMENTS), "fastdds_profile"]
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    parameters = {name: kind(given[name]) for name, kind in PARAMETER_TYPES.items()}
    camera = given["camera"]
    image = below_camera(given["image"], camera)
    return [
        Node(
            package="seg_node",
            executable="projection",
            name="projection",
            namespace=given["namespace"],
            parameters=[parameters | {"depth": bool(given["depth"]), "camera": camera}],
            remappings=[
                (below_camera("camera_info", camera), given["camera_info"] or camera_info_topic(image)),
                *([(below_camera("depth", camera), given["depth"])] if given["depth"] else []),
            ],
            # It sends a cloud for each mask, out of shared memory of its own.
            additional_env=profile_environment(given["fastdds_profile"]),
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments, the segmentation node and the projection node."""
    passed = {name: LaunchConfiguration(name) for name in ("image", "cameras", "image_transport", "namespace")}
    segmentation = IncludeLaunchDescription(
        PathJoinSubstitution([FindPackageShare("seg_node"), "launch", "segmentation.launch.py"]),
        launch_arguments=passed.items(),
    )
    return LaunchDescription([*ARGUMENTS, segmentation, OpaqueFunction(function=start_projection)])
