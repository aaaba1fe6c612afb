"""Play a bag into the segmentation node; ``ros2 launch seg_node replay.launch.py --show-args`` lists the arguments.

The bag is played by ``ros2 bag play``, from the moment at which the node is active. Arguments of view.launch.py and
segmentation.launch.py (engine, params_file, namespace, alpha, ...) are taken as well. When the bag ends, all ends.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetLaunchConfiguration,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown
from launch.events.process import ProcessIO
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.event_handlers import OnStateTransition
from launch_ros.substitutions import FindPackageShare

from seg_node.ros.bringup import (
    DEFAULT_NAME,
    absolute,
    first_given,
    is_true,
    parameter_in_file,
    profile_environment,
)

SHARE = FindPackageShare("seg_node")

BOOLEANS = ["true", "false", "True", "False"]

ARGUMENTS = [
    DeclareLaunchArgument(
        "bag",
        default_value=PathJoinSubstitution([SHARE, "rosbags", "synthetic_drive"]),
        description="rosbag2 folder or file to play; by default the drive that comes with the package.",
    ),
    DeclareLaunchArgument(
        "image",
        default_value="/camera/image",
        description="Camera topic of the bag; where compressed, its name without /compressed.",
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        choices=["", "raw", "compressed"],
        description="Whether that topic holds Image (raw) or CompressedImage; empty: as in params_file, or compressed.",
    ),
    DeclareLaunchArgument("rate", default_value="1.0", description="Factor by which the bag is played faster."),
    DeclareLaunchArgument("start_offset", default_value="0.0", description="Seconds to skip at the start of the bag."),
    DeclareLaunchArgument(
        "loop", default_value="false", choices=BOOLEANS, description="Whether the bag starts again when it ends."
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="true",
        choices=BOOLEANS,
        description="Whether the node's clock is the bag's, published on /clock; ages are then those of the drive.",
    ),
    DeclareLaunchArgument(
        "rviz",
        default_value="false",
        choices=["auto", *BOOLEANS],
        description="Whether RViz shows camera, overlay and mask; auto: where rviz2 is installed.",
    ),
]

PASSED = ("image", "image_transport", "use_sim_time", "rviz")
"""Arguments that view.launch.py has with other defaults; all else reaches it by itself."""


BAG_TRANSPORT = "compressed"
"""Of the drive that comes with the package, as of most that were recorded."""


def choose_transport(context: LaunchContext) -> list[SetLaunchConfiguration]:
    """Settle what node, overlay and RViz listen to, for the node's own default is not the bag's."""
    defaults = {"image_transport": "", "params_file": "", "namespace": "", "name": DEFAULT_NAME}
    given = {name: LaunchConfiguration(name, default=value).perform(context) for name, value in defaults.items()}
    namespace = absolute(given["namespace"], context.launch_configurations.get("ros_namespace", ""))
    stated = parameter_in_file(given["params_file"], absolute(given["name"], namespace), "image_transport")
    transport = first_given(given["image_transport"], stated, BAG_TRANSPORT)
    return [SetLaunchConfiguration("image_transport", transport)]


def number(name: str, text: str, least: float) -> str:
    """A number of at least ``least``, as it was given."""
    try:
        fits = least <= float(text) < float("inf")
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} is {text!r}; expected a number of at least {least:g}")
    return text


def play_when_active(context: LaunchContext) -> list[RegisterEventHandler]:
    """Start the player when the node is active, and end everything when the player ends."""
    given = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    if not Path(given["bag"]).exists():
        raise FileNotFoundError(f"bag is {given['bag']!r}: there is no such file or folder")
    command = ["ros2", "bag", "play", given["bag"], "--rate", number("rate", given["rate"], 0.001)]
    command += ["--start-offset", number("start_offset", given["start_offset"], 0.0)]
    command += ["--loop"] * is_true(given["loop"]) + ["--clock"] * is_true(given["use_sim_time"])
    # The frames lie in the player's shared memory, so it needs the node's profile.
    environment = profile_environment(LaunchConfiguration("fastdds_profile").perform(context))
    player = ExecuteProcess(cmd=command, name="bag_player", additional_env=environment, output="screen")
    heard = []

    def play(_) -> list[ExecuteProcess]:
        """Start the player, the first time."""
        heard.append(True)
        return [player] if len(heard) == 1 else []

    def look(event: ProcessIO) -> list[ExecuteProcess]:
        return play(event) if b": active on " in event.text else []

    return [
        RegisterEventHandler(OnStateTransition(goal_state="active", entities=[OpaqueFunction(function=play)])),
        # A node that is active before discovery is over makes a transition that is not heard; what it logs is.
        RegisterEventHandler(OnProcessIO(on_stdout=look, on_stderr=look)),
        RegisterEventHandler(
            OnProcessExit(target_action=player, on_exit=[EmitEvent(event=Shutdown(reason="the bag has ended"))])
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments, the node, its overlay and RViz, and the player."""
    view = IncludeLaunchDescription(
        PathJoinSubstitution([SHARE, "launch", "view.launch.py"]),
        launch_arguments=[(name, LaunchConfiguration(name)) for name in PASSED],
    )
    return LaunchDescription(
        [*ARGUMENTS, OpaqueFunction(function=choose_transport), view, OpaqueFunction(function=play_when_active)]
    )
