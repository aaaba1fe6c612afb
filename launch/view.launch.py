"""A segmentation node, its overlay, and RViz to look at them; ``ros2 launch seg_node view.launch.py --show-args``.

Arguments of segmentation.launch.py (model, engine, params_file, ...) are taken as well.
"""

import os

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Where Fast DDS looks for its profile, up to ROS 2 Jazzy and since Kilted."""

RVIZ_TOPICS = ("overlay", "mask", "camera_info")
"""Of the segmentation node, under whose default name config/segmentation.rviz has them."""

SHARE = FindPackageShare("seg_node")

ARGUMENTS = [
    DeclareLaunchArgument(
        "image", default_value="image", description="Camera topic; where compressed, its name without /compressed."
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="raw",
        choices=["raw", "compressed"],
        description="Subscribe to the camera's raw or compressed topic.",
    ),
    DeclareLaunchArgument(
        "camera_info", default_value="", description="Calibration topic of the camera; empty: camera_info beside image."
    ),
    DeclareLaunchArgument("alpha", default_value="0.5", description="Share of the categories' colours in the overlay."),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the nodes, e.g. of the camera."),
    DeclareLaunchArgument(
        "rviz",
        default_value="auto",
        choices=["auto", "true", "false"],
        description="Whether to start RViz; auto: where rviz2 is installed.",
    ),
]


def camera_info_topic(image: str) -> str:
    """The topic beside an image topic where its calibration is looked for."""
    return "/".join([*image.split("/")[:-1], "camera_info"])


def absolute(topic: str, namespace: str) -> str:
    """Full name of a topic of a node in a namespace."""
    return topic if topic.startswith("/") else "/".join(["", *filter(None, namespace.split("/")), topic])


def start_viewers(context: LaunchContext) -> list[Node | LogInfo]:
    """The overlay node and RViz; the profile is an argument of the launch file that was included before."""
    names = [*(argument.name for argument in ARGUMENTS), "fastdds_profile"]
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    image, namespace = given["image"], given["namespace"]
    profile = given["fastdds_profile"]
    if any(os.environ.get(variable) for variable in PROFILE_VARIABLES):
        profile = ""
    overlay = Node(
        package="seg_node",
        executable="overlay",
        name="overlay",
        namespace=namespace,
        parameters=[{"alpha": float(given["alpha"]), "image_transport": given["image_transport"]}],
        remappings=[
            ("image", image),
            ("image/compressed", f"{image}/compressed"),
            ("camera_info", given["camera_info"] or camera_info_topic(image)),
        ],
        # It sends whole pictures, out of shared memory of its own.
        additional_env=dict.fromkeys(PROFILE_VARIABLES, profile) if profile else {},
        output="screen",
    )
    if given["rviz"] == "false":
        return [overlay]
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        if given["rviz"] == "true":
            raise
        return [overlay, LogInfo(msg="rviz2 is not installed; the overlay can be seen with any image viewer")]
    topics = [f"segmentation/{topic}" for topic in RVIZ_TOPICS]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", PathJoinSubstitution([SHARE, "config", "segmentation.rviz"])],
        remappings=[("/image", absolute(image, namespace)), *((f"/{t}", absolute(t, namespace)) for t in topics)],
        output="screen",
    )
    return [overlay, rviz]


def generate_launch_description() -> LaunchDescription:
    """Arguments, the segmentation node and the viewers."""
    passed = {name: LaunchConfiguration(name) for name in ("image", "image_transport", "namespace")}
    segmentation = IncludeLaunchDescription(
        PathJoinSubstitution([SHARE, "launch", "segmentation.launch.py"]), launch_arguments=passed.items()
    )
    return LaunchDescription([*ARGUMENTS, segmentation, OpaqueFunction(function=start_viewers)])
