"""Options that several commands have, and what these options open: the drive and the node.

Libraries are imported by the functions that need them: the memory of a node's process is seen to before any of them.
"""

import argparse
import dataclasses
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from seg_node.core.errors import UserError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from seg_node.bags.drive import Drive
    from seg_node.core.taxonomy import Taxonomy
    from seg_node.rig.node_process import NodeProcess
    from seg_node.ros.remote import Remote

SHIPPED_DRIVE = "rosbags/synthetic_drive"
LONGEST_FORECAST_MS = 200.0
"""Upper end of the node's parameter ``forecast_ms``."""


def add_ros_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    """Declare ``--ros-args``, which has to be the last option; without it ``options.ros_arguments`` is empty."""
    parser.add_argument(
        "--ros-args",
        dest="ros_arguments",
        action=_RosArguments,
        nargs=argparse.REMAINDER,
        default=[],
        help=f"parameters, remappings and log level, as ROS 2 has them: --ros-args {example}",
    )


class _RosArguments(argparse.Action):
    """Keeps the flag with what follows it, as ``rclpy.init`` takes them."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, [option_string, *values])


def add_drive(parser: argparse._ActionsContainer) -> argparse._MutuallyExclusiveGroup:
    """Declare ``--bag`` and ``--video``, of which one at most is given; returns their group."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--bag", type=Path, help="rosbag2 folder, or a .mcap, .db3 or ROS 1 .bag file (default: the shipped drive)"
    )
    source.add_argument("--video", type=Path, help="any video that OpenCV reads")
    return source


def add_grouping(parser: argparse._ActionsContainer) -> None:
    """Declare ``--truth-categories`` and ``--grouping``."""
    parser.add_argument(
        "--truth-categories",
        type=Path,
        metavar="YAML",
        help="file that lists the categories of the ground truth, as config/labels has them (default: the eight)",
    )
    parser.add_argument(
        "--grouping",
        type=Path,
        metavar="YAML",
        help="score in common categories, the eight or those that the file lists, by its table that says to which of"
        " them each other one belongs, as in config/groupings",
    )


def with_truth_categories(drive: "Drive", options: argparse.Namespace) -> tuple["Drive", "Taxonomy"]:
    """The drive with its ground truth in the categories of ``--truth-categories``, and these."""
    from seg_node.core.label_table import load_taxonomy
    from seg_node.core.taxonomy import EIGHT

    taxonomy = load_taxonomy(options.truth_categories) if options.truth_categories else EIGHT
    return dataclasses.replace(drive, masks=drive.masks.of(len(taxonomy))), taxonomy


def node_categories(name: str) -> "Taxonomy":
    """Categories of a running node, as its parameters say; the eight where it does not answer or tells none."""
    from seg_node.core.errors import RunError
    from seg_node.core.taxonomy import EIGHT, Taxonomy
    from seg_node.ros.remote import remote

    try:
        with remote() as graph:
            values = graph.parameters(name)
    except RunError:
        return EIGHT
    names, parts = (list(values.get(key) or ()) for key in ("category_names", "category_colors"))
    palette = tuple(tuple(map(int, parts[i : i + 3])) for i in range(0, len(parts), 3))
    return Taxonomy(tuple(names), palette) if names and palette else EIGHT


def load_drive(
    options: argparse.Namespace,
    topic: str | None = None,
    mask_topic: str | None = None,
    start: float = 0.0,
    duration: float | None = None,
    raw: bool = False,
    scratch: Path | None = None,
) -> "Drive":
    """Load what the options of ``add_drive`` name, or else the shipped drive, into memory.

    Args:
        options: with ``bag`` and ``video``.
        topic: see ``open_drive``, as for the next three; they are for bags.
        mask_topic: topic of the ground truth.
        start: seconds of the bag to skip.
        duration: seconds of the bag to take.
        raw: read a video as raw images, not as JPEG.
        scratch: folder for a bag that is made of the video and removed again; the system's by default.

    Raises:
        BagError: see ``open_drive`` and ``from_video``.
        UserError: nothing is given, and no drive is shipped.
    """
    from seg_node.bags.drive import open_drive
    from seg_node.bags.from_video import from_video
    from seg_node.core.share import shared_path

    if options.video:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            made = Path(folder) / "drive"
            from_video(options.video, made, raw=raw, progress=True)
            return dataclasses.replace(open_drive(made), path=options.video)
    bag = options.bag or shared_path(SHIPPED_DRIVE)
    if bag is None:
        raise UserError(f"the shipped drive {SHIPPED_DRIVE} is missing; give one with --bag or --video")
    return open_drive(bag, topic, mask_topic, start, duration)


def add_engine(parser: argparse._ActionsContainer) -> None:
    """Declare ``--engine``."""
    from seg_node.core.engines import ENGINES

    parser.add_argument("--engine", default="auto", choices=["auto", *ENGINES], help="default: %(default)s")


def add_threads(parser: argparse._ActionsContainer) -> None:
    """Declare ``--threads``."""
    parser.add_argument("--threads", type=int, default=0, help="for one inference (default: the engine's choice)")


def add_model(parser: argparse._ActionsContainer) -> None:
    """Declare ``--model``."""
    from seg_node.core.bundle import DEFAULT_MODEL

    parser.add_argument("--model", default=DEFAULT_MODEL, help="shipped bundle, or path of one (default: %(default)s)")


def require_engine(name: str) -> None:
    """Check that an engine can be had.

    Raises:
        UserError: it is not installed, or none is.
    """
    from seg_node.core.engines import present_engines

    present = present_engines()
    if not present or name not in ("auto", *present):
        raise UserError(f"engine {name} is not installed; installed: {', '.join(present) or 'none'}")


def require_ros(what: str) -> None:
    """Check that rclpy is installed.

    Args:
        what: for the message, such as ``a replay``.

    Raises:
        UserError: it is not.
    """
    from seg_node.rig.node_process import ros_missing

    if problem := ros_missing(what):
        raise UserError(problem)


def full_name(text: str) -> str:
    """Name of a node or topic, from the root of the ROS graph on."""
    return f"/{text.strip('/')}"


def join_graph() -> "AbstractContextManager[Remote]":
    """Look at other nodes, see ``seg_node.ros.remote``; they may be on other machines.

    Raises:
        UserError: rclpy is not installed.
    """
    require_ros("a look at other nodes")
    from seg_node.rig.node_process import default_profile_environment

    # Fast DDS reads its profile when the first participant of a process is made.
    os.environ.update(default_profile_environment())
    from seg_node.ros.remote import remote

    return remote()


def make_folder(folder: Path, option: str = "--out") -> None:
    """Make the folder that an option names, with its parents.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option} {folder} cannot be made: {error.strerror}") from error


def node_process(
    log: Path, namespace: str, model: str, engine: str, drive: "Drive", **parameters: object
) -> "NodeProcess":
    """A node for a drive, not started yet.

    Args:
        log: file for what it prints.
        namespace: a namespace of its own, so that no other segmentation node of this domain is heard or fed.
        model: name of a shipped bundle, or path of one.
        engine: name, or ``auto``.
        drive: gives the transport of images, and the size to warm up for.
        parameters: other parameters of the node.
    """
    from seg_node.bags.images import frame_size
    from seg_node.rig.node_process import NodeProcess

    return NodeProcess(
        log,
        namespace=namespace,
        parameters={
            # The process may have another working directory.
            "model": model if "/" not in model else str(Path(model).resolve()),
            "engine": engine,
            "image_transport": "raw" if drive.frames[0].kind == "image" else "compressed",
            "warm_up_size": list(frame_size(drive)),
            **parameters,
        },
    )


def check_forecast(forecast: float | None) -> None:
    """Refuse a value of ``--forecast`` that the node's ``forecast_ms`` cannot have.

    Raises:
        UserError: it is out of range.
    """
    if forecast is not None and not 0 <= forecast <= LONGEST_FORECAST_MS:
        raise UserError(f"--forecast must be from 0 to {LONGEST_FORECAST_MS:g} ms, not {forecast:g}")


def exit_on_sigterm() -> None:
    """Let SIGTERM unwind this process, so that the nodes that it started are stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def interrupt_on_signals() -> Callable[[], bool]:
    """Let SIGTERM end this process as Ctrl-C does, and SIGINT, too, which a shell's background job ignores.

    Returns:
        Whether one of them came: rclpy turns the KeyboardInterrupt of some of its callbacks into another error.
    """
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.default_int_handler(number, frame)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return lambda: bool(came)
