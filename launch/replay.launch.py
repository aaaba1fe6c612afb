"""Play a bag into the segmentation node; ``ros2 launch seg_node replay.launch.py --show-args`` lists the arguments.

The bag is played by ``ros2 bag play``, from the moment at which the node is active. Arguments of
segmentation.launch.py (engine, params_file, namespace, ...) are taken as well. When the bag ends, all of it ends.
"""

import os
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown
from launch.events.process import ProcessIO
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare("seg_node")

BOOLEANS = ["true", "false", "True", "False"]

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Where Fast DDS looks for its profile, up to ROS 2 Jazzy and since Kilted."""

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
        default_value="compressed",
        choices=["raw", "compressed"],
        description="Whether that topic holds Image (raw) or CompressedImage.",
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
        "rviz", default_value="false", choices=BOOLEANS, description="Whether RViz shows camera, overlay and mask."
    ),
]


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
    command += ["--loop"] * (given["loop"].lower() == "true") + ["--clock"] * (given["use_sim_time"].lower() == "true")
    # The frames lie in the player's shared memory, so it needs the node's profile.
    profile = LaunchConfiguration("fastdds_profile").perform(context)
    chosen = not profile or any(os.environ.get(variable) for variable in PROFILE_VARIABLES)
    environment = {} if chosen else dict.fromkeys(PROFILE_VARIABLES, profile)
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
    """Arguments, the node, the player and RViz."""
    passed = {name: LaunchConfiguration(name) for name in ("image", "image_transport", "use_sim_time")}
    return LaunchDescription(
        [
            *ARGUMENTS,
            IncludeLaunchDescription(
                PathJoinSubstitution([SHARE, "launch", "segmentation.launch.py"]), launch_arguments=passed.items()
            ),
            OpaqueFunction(function=play_when_active),
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", PathJoinSubstitution([SHARE, "config", "segmentation.rviz"])],
                remappings=[
                    ("/image", LaunchConfiguration("image")),
                    ("/image/compressed", [LaunchConfiguration("image"), "/compressed"]),
                ],
                parameters=[{"use_sim_time": True}],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )
