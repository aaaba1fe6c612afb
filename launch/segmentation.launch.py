"""Start the segmentation node; ``ros2 launch seg_node segmentation.launch.py --show-args`` lists the arguments."""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from seg_node.ros.bringup import (
    BOOLEANS,
    absolute,
    camera_remappings,
    listed,
    profile_environment,
    stated_cameras,
)

PARAMETER_TYPES = {
    "profile": str,
    "model": str,
    "engine": str,
    "cameras": list,
    "image_transport": str,
    "autostart": bool,
    "use_sim_time": bool,
}
"""Parameters of the node with a launch argument of the same name; those left empty keep the value of params_file."""

CONFIG = PathJoinSubstitution([FindPackageShare("seg_node"), "config"])

ARGUMENTS = [
    DeclareLaunchArgument(
        "image",
        default_value="image",
        description="Camera topic; where compressed, its name without /compressed. With cameras, its name below each.",
    ),
    DeclareLaunchArgument(
        "cameras",
        default_value="",
        description="Names of several cameras for one process, e.g. [front,left]; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        choices=["", "raw", "compressed"],
        description="Subscribe to the camera's raw or compressed topic; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "profile",
        default_value="",
        description="File that `seg_node tune` wrote; what is given here or in params_file wins over it; "
        "empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "model",
        default_value="",
        description="Model bundle, the name of a shipped one or a path; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "engine",
        default_value="",
        choices=["", "auto", "onnxruntime", "openvino", "torch"],
        description="What runs the model; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        choices=BOOLEANS,
        description="Whether the node configures and activates itself; false under a lifecycle supervisor; "
        "empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        choices=BOOLEANS,
        description="Whether the clock is the topic /clock, as when a bag is played; empty: as in params_file.",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node, e.g. of its camera."),
    DeclareLaunchArgument(
        "name",
        default_value="segmentation",
        description="Name of the node, under which its topics are; another one for a second node in a namespace.",
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([CONFIG, "segmentation.yaml"]),
        description="YAML file with the node's parameters.",
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="Least severity that is logged.",
    ),
    DeclareLaunchArgument(
        "fastdds_profile",
        default_value=PathJoinSubstitution([CONFIG, "fastdds_shm.xml"]),
        description="Fast DDS profile of the node, unless the environment names one; empty: none. The camera's "
        "process needs it as well, for it is the sender's shared memory that holds the frames.",
    ),
]


def start_node(context: LaunchContext) -> list[LifecycleNode]:
    """The node, with the parameters that were given."""
    given = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    for argument in ("params_file", "fastdds_profile"):
        if given[argument] and not Path(given[argument]).is_file():
            raise FileNotFoundError(f"{argument} is {given[argument]!r}: there is no such file")
    parameters = [given["params_file"]] if given["params_file"] else []
    parameters += [
        # Not the text itself, of which launch_ros makes no other type.
        {name: listed(given[name]) if kind is list else ParameterValue(LaunchConfiguration(name), value_type=kind)}
        for name, kind in PARAMETER_TYPES.items()
        if given[name]
    ]
    # What PushRosNamespace of an including launch file leaves.
    namespace = absolute(given["namespace"], context.launch_configurations.get("ros_namespace", ""))
    cameras = stated_cameras(given["cameras"], given["params_file"], absolute(given["name"], namespace))
    return [
        # Not simply a Node: launch files that include this one hear of its transitions.
        LifecycleNode(
            package="seg_node",
            executable="segmentation",
            name=given["name"],
            namespace=given["namespace"],
            parameters=parameters,
            remappings=camera_remappings(given["image"], cameras),
            ros_arguments=["--log-level", given["log_level"]],
            additional_env=profile_environment(given["fastdds_profile"]),
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments and the node."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start_node)])
