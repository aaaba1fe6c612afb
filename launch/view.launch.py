"""A segmentation node, its overlay, and RViz to look at them; ``ros2 launch seg_node view.launch.py --show-args``.

Arguments of segmentation.launch.py (model, engine, params_file, ...) are taken as well.
"""

from pathlib import Path

import launch.logging
import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from seg_node.ros.bringup import (
    BOOLEANS,
    DEFAULT_TRANSPORT,
    absolute,
    below_camera,
    camera_topic,
    first_given,
    is_true,
    overlay_name,
    parameter_in_file,
    profile_environment,
    rviz_config,
    shown_camera,
    stated_cameras,
    viewer_remappings,
)

SHARE = FindPackageShare("seg_node")

ARGUMENTS = [
    DeclareLaunchArgument(
        "image",
        default_value="image",
        description="Camera topic; where compressed, its name without /compressed. With cameras, its name below each.",
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        choices=["", "raw", "compressed"],
        description="Subscribe to the camera's raw or compressed topic; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        choices=BOOLEANS,
        description="Whether the nodes' clock is the topic /clock, as when a bag is played; empty: as in params_file.",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the nodes, e.g. of the camera."),
    DeclareLaunchArgument(
        "name",
        default_value="segmentation",
        description="Name of the segmentation node; another one for a second camera or model in a namespace.",
    ),
    DeclareLaunchArgument(
        "cameras",
        default_value="",
        description="Names of several cameras for one process, e.g. [front,left]; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "camera", default_value="", description="Which of several cameras is shown; empty: the first of cameras."
    ),
    DeclareLaunchArgument(
        "camera_info", default_value="", description="Calibration topic of the camera; empty: camera_info beside image."
    ),
    DeclareLaunchArgument(
        "source",
        default_value="mask",
        choices=["mask", "mask_now"],
        description="Which masks are shown: those that were inferred, or those carried to the present.",
    ),
    DeclareLaunchArgument("alpha", default_value="0.5", description="Share of the categories' colours in the overlay."),
    DeclareLaunchArgument(
        "rviz",
        default_value="auto",
        choices=["auto", "true", "false", "True", "False"],
        description="Whether to start RViz; auto: where rviz2 is installed.",
    ),
    DeclareLaunchArgument(
        "frame",
        default_value="camera",
        description="Fixed frame of RViz: the camera's frame_id, or a frame to which there are transforms from it.",
    ),
]


PASSED = ("image", "cameras", "image_transport", "use_sim_time", "namespace", "name")
"""Arguments that segmentation.launch.py has, too; the others of its own reach it by themselves."""


def start_viewers(context: LaunchContext) -> list[Node | LogInfo]:
    """The overlay node and RViz; what only segmentation.launch.py declares is there since that was included."""
    names = [*(argument.name for argument in ARGUMENTS), "params_file", "log_level", "fastdds_profile"]
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    # What PushRosNamespace of an including launch file leaves.
    namespace = absolute(given["namespace"], context.launch_configurations.get("ros_namespace", ""))
    node = absolute(given["name"], namespace)
    camera = shown_camera(given["camera"], stated_cameras(given["cameras"], given["params_file"], node))
    stated = {name: parameter_in_file(given["params_file"], node, name) for name in ("image_transport", "use_sim_time")}
    # What a camera is not given begins with the node's.
    own = parameter_in_file(given["params_file"], node, f"{camera}.image_transport") if camera else None
    transport = first_given(own, given["image_transport"], stated["image_transport"], DEFAULT_TRANSPORT)
    sim_time = first_given(given["use_sim_time"], stated["use_sim_time"])
    # Nothing where nobody says: what is set for the whole launch holds then.
    clock = [] if sim_time is None else [{"use_sim_time": is_true(sim_time)}]
    logging = ["--log-level", given["log_level"]]
    image = given["image"]
    overlay = Node(
        package="seg_node",
        executable="overlay",
        name=overlay_name(given["name"]),
        namespace=given["namespace"],
        parameters=[
            {"alpha": float(given["alpha"]), "image_transport": transport, "source": given["source"]},
            *([{"camera": camera}] if camera else []),
            *clock,
        ],
        remappings=viewer_remappings(image, given["name"], given["camera_info"], camera),
        ros_arguments=logging,
        # It sends whole pictures, out of shared memory of its own.
        additional_env=profile_environment(given["fastdds_profile"]),
        output="screen",
    )
    if given["rviz"].lower() == "false":
        return [overlay]
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        if is_true(given["rviz"]):
            raise
        return [overlay, LogInfo(msg="rviz2 is not installed; the overlay can be seen with any image viewer")]
    shipped = yaml.safe_load(Path(SHARE.perform(context), "config", "segmentation.rviz").read_text())
    topic = camera_topic(absolute(below_camera(image, camera), namespace), transport)
    shown = absolute(camera, node)
    config = rviz_config(shipped, topic, shown, given["frame"], given["source"])
    file = Path(launch.logging.launch_config.log_dir, f"{shown.strip('/').replace('/', '_')}.rviz")
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(file)],
        parameters=clock,
        ros_arguments=logging,
        additional_env=profile_environment(given["fastdds_profile"]),
        output="screen",
    )
    return [overlay, rviz]


def generate_launch_description() -> LaunchDescription:
    """Arguments, the segmentation node and the viewers."""
    segmentation = IncludeLaunchDescription(
        PathJoinSubstitution([SHARE, "launch", "segmentation.launch.py"]),
        launch_arguments=[(name, LaunchConfiguration(name)) for name in PASSED],
    )
    return LaunchDescription([*ARGUMENTS, segmentation, OpaqueFunction(function=start_viewers)])
