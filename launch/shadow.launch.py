"""Run two models on one camera topic and compare them; ``ros2 launch seg_node shadow.launch.py --show-args``.

The incumbent masks the camera's frames as it comes to them; the challenger is given those that it has masked, so that
both can be compared even where neither keeps up. Arguments of segmentation.launch.py (engine, params_file, ...) are
taken as well, for both nodes.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node, SetParameter
from launch_ros.substitutions import FindPackageShare

from seg_node.ros.bringup import (
    DEFAULT_NAME,
    DEFAULT_TRANSPORT,
    absolute,
    camera_topic,
    first_given,
    is_true,
    parameter_in_file,
)

SIDES = ("incumbent", "challenger")

ARGUMENTS = [
    DeclareLaunchArgument(
        "image", default_value="/image", description="Camera topic; where compressed, its name without /compressed."
    ),
    DeclareLaunchArgument(
        "camera",
        default_value="",
        description="Name of one of several cameras, below which image is looked for, e.g. front for /front/image.",
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        choices=["", "raw", "compressed"],
        description="Subscribe to the camera's raw or compressed topic; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "incumbent", default_value="fpn_resnet50", description="Model bundle that drives: a shipped one or a path."
    ),
    DeclareLaunchArgument(
        "challenger", default_value="fpn_convnextv2", description="Model bundle to compare: a shipped one or a path."
    ),
    DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace of the shadow node; the two others lie below that node."
    ),
]


def start_nodes(context: LaunchContext) -> list[GroupAction | Node]:
    """Both segmentation nodes, below the name of the node that compares them, and that node."""
    given = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    name = "/".join(["", *filter(None, given["namespace"].split("/")), "shadow"])
    image = absolute(given["image"].lstrip("/"), given["camera"]) if given["camera"] else given["image"]
    share = FindPackageShare("seg_node")
    config = PathJoinSubstitution([share, "config", "segmentation.yaml"]).perform(context)
    params_file = LaunchConfiguration("params_file", default=config).perform(context)
    transport = first_given(
        given["image_transport"],
        parameter_in_file(params_file, f"{name}/incumbent/{DEFAULT_NAME}", "image_transport"),
        DEFAULT_TRANSPORT,
    )
    camera = {"incumbent": image, "challenger": f"{name}/challenger/image"}
    # One frame at a time, of which none may be lost: there is no other one to wait for.
    reliability = f"qos_overrides.{camera_topic(camera['challenger'], transport)}.subscription.reliability"
    alone = {"incumbent": [], "challenger": [SetParameter("patience", 0.0), SetParameter(reliability, "reliable")]}
    nodes = [
        # A group keeps the arguments of one node from the other.
        GroupAction(
            [
                *alone[side],
                IncludeLaunchDescription(
                    PathJoinSubstitution([share, "launch", "segmentation.launch.py"]),
                    launch_arguments={
                        "image": camera[side],
                        "image_transport": transport,
                        "model": given[side],
                        "namespace": f"{name}/{side}",
                        "name": DEFAULT_NAME,
                    }.items(),
                ),
            ]
        )
        for side in SIDES
    ]
    compared = [f"{name}/{side}/{DEFAULT_NAME}" for side in SIDES]
    sim_time, log_level = (LaunchConfiguration(of, default="").perform(context) for of in ("use_sim_time", "log_level"))
    return [
        *nodes,
        Node(
            package="seg_node",
            executable="shadow",
            name="shadow",
            namespace=given["namespace"],
            arguments=[
                *("--attach", *compared, "--follow", camera["challenger"]),
                *("--image", absolute(image, ""), "--image-transport", transport),
            ],
            parameters=[{"use_sim_time": is_true(sim_time)}] if sim_time else [],
            ros_arguments=["--log-level", log_level or "info"],
            output="screen",
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments and the nodes."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start_nodes)])
