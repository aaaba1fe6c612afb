"""``seg_node replay --topics`` and ``--cameras``: several cameras at once through one real node."""

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seg_node.bags.drive import Drive, open_drive
from seg_node.commands.options import exit_on_sigterm, load_drive, make_folder
from seg_node.core.errors import UserError
from seg_node.core.machine import setting

if TYPE_CHECKING:
    from seg_node.rig.cameras import CameraRun, Feed
    from seg_node.rig.schedule import Rate


def add_arguments(group: argparse._ActionsContainer) -> None:
    """Declare the options."""
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--topics",
        nargs="+",
        metavar="TOPIC",
        help="image topics of the bag, played at once as the cameras of one node; what comes back of each is reported",
    )
    which.add_argument(
        "--cameras",
        nargs="+",
        metavar="NAME",
        help="the same with one topic, played under so many names, evenly offset",
    )


def run(options: argparse.Namespace) -> int:
    """Replay; returns the exit status: 0, or 1 where a camera's books do not balance."""
    from seg_node.rig.cameras import Traffic, in_all
    from seg_node.rig.node_process import NodeProcess, default_environment
    from seg_node.ros.cameras.names import check_names

    if options.attach or options.alongside or options.write_bag or options.clock:
        raise UserError("--topics and --cameras take neither --attach, --alongside, --write-bag nor --clock")
    if options.rate.kind == "max":
        raise UserError("--rate max is for one camera: say how fast each of them is, such as 30")
    make_folder(options.out)
    check_names(options.cameras or [])
    drives = _drives(options)
    # Fast DDS reads its profile when the first participant of a process is made.
    os.environ.update(default_environment())
    namespace = f"/replay_{os.getpid()}"
    parameters = node_parameters(drives) | {
        # The process may have another working directory.
        "model": options.model if "/" not in options.model else str(Path(options.model).resolve()),
        "engine": options.engine,
        "threads": options.threads,
        "deadline_ms": options.deadline_ms,
        "on_give_up": "exit",
    }
    if options.forecast is not None:
        parameters["forecast_ms"] = options.forecast
    seconds = longest(drives) * options.loop
    exit_on_sigterm()
    print(f"starting the node with {options.model} for {', '.join(drives)}", flush=True)
    with NodeProcess(options.out / "node.log", parameters, namespace=namespace) as node:
        node.wait_for("active")
        found = feeds(drives, namespace, node.full_name, options.rate, offset=bool(options.cameras))
        with Traffic(found, options.qos, options.forecast is not None, node.check) as traffic:
            runs = traffic.play(seconds)
    whole = in_all(runs)
    result = {"cameras": [dataclasses.asdict(one) for one in runs], "in_all": whole, "machine": setting()}
    file = options.out / "cameras.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"\n{table(runs)}\n\nin all {whole['masks_per_s']:.1f} masks/s, Jain's index {whole['jain']:.3f}"
        f"\nwritten: {file}"
    )
    return 0 if all(one.balanced for one in runs) else 1


def node_parameters(drives: Mapping[str, Drive]) -> dict[str, object]:
    """Parameters of a node that takes drives as its cameras, by name."""
    from seg_node.bags.images import frame_size

    parameters: dict[str, object] = {"cameras": list(drives)}
    for name, drive in drives.items():
        parameters[f"{name}.image_transport"] = "raw" if drive.frames[0].kind == "image" else "compressed"
        parameters[f"{name}.warm_up_size"] = list(frame_size(drive))
    return parameters


def feeds(drives: Mapping[str, Drive], namespace: str, node: str, rate: "Rate", offset: bool = False) -> list["Feed"]:
    """What is played as each camera of a node.

    Args:
        drives: by name of the camera.
        namespace: of the topics that are played.
        node: full name.
        rate: at which each is played.
        offset: play them after each other by equal parts of a frame period, for all are one drive.
    """
    from seg_node.rig.cameras import Feed

    found = []
    for number, (name, drive) in enumerate(drives.items()):
        after = number / len(drives) / drive.rate if offset and drive.rate else 0.0
        topic = f"{namespace}/{name}/image" + ("" if drive.frames[0].kind == "image" else "/compressed")
        found.append(Feed(name, drive, topic, f"{node}/{name}", after, rate))
    return found


def table(runs: Sequence["CameraRun"]) -> str:
    """What came back of each camera, for people."""
    titles = ("sent", "masked", "dropped", "masks/s", "blind, s", "p50, ms", "p99, ms")
    lines = [f"{'camera':<16}" + "".join(f"{title:>10}" for title in titles)]
    for one in runs:
        masked = one.outcomes.get("masked", 0)
        times = "".join(f"{'-' if value is None else format(value, '.1f'):>10}" for value in (one.p50_ms, one.p99_ms))
        lines.append(
            f"{one.name:<16}{one.sent:>10}{masked:>10}{sum(one.outcomes.values()) - masked:>10}{one.masks_per_s:>10.1f}"
            f"{one.blind_s:>10.2f}{times}" + ("" if one.balanced else "  THE COUNTS DO NOT ADD UP")
        )
    return "\n".join(lines)


def camera_names(topics: Sequence[str]) -> list[str]:
    """Names for cameras after their topics: what tells them apart, such as ``front`` of ``/front/image/compressed``."""
    parts = [[part for part in topic.strip("/").split("/") if part != "compressed"] for topic in topics]
    first = ["".join(part[:1]) for part in parts]
    return first if len(set(first)) == len(first) else ["_".join(part) for part in parts]


def _drives(options: argparse.Namespace) -> dict[str, Drive]:
    if options.cameras:
        drive = load_drive(options, options.topic, None, options.start, options.duration, scratch=options.out)
        return dict.fromkeys(options.cameras, _cut(drive, options.frames))
    if options.video:
        raise UserError("--topics names topics of a bag: give it with --bag")
    return topic_drives(options.bag, options.topics, options.start, options.duration, options.frames)


def topic_drives(
    bag: Path | None,
    topics: Sequence[str],
    start: float = 0.0,
    duration: float | None = None,
    frames: int | None = None,
) -> dict[str, Drive]:
    """Topics of a bag, by the names of cameras that they are played as.

    Args:
        bag: see ``open_drive``, as for the next three.
        topics: image topics.
        start: seconds of the bag to skip.
        duration: seconds of the bag to take.
        frames: take only so many frames of each.

    Raises:
        UserError: no bag is given, a topic is there twice, or names cannot be made of them.
        BagError: see ``open_drive``.
    """
    from seg_node.ros.cameras.names import check_names

    if bag is None:
        raise UserError("--topics names topics of a bag: give it with --bag")
    if len(set(topics)) < len(topics):
        raise UserError(f"--topics has a topic more than once: {' '.join(topics)}")
    names = camera_names(topics)
    check_names(names)
    drives = [open_drive(bag, topic, None, start, duration) for topic in topics]
    return {name: _cut(drive, frames) for name, drive in zip(names, drives, strict=True)}


def longest(drives: Mapping[str, Drive]) -> float:
    """Seconds of the longest of several drives.

    Raises:
        UserError: none of them lasts any time.
    """
    seconds = max(drive.duration for drive in drives.values())
    if seconds <= 0:
        raise UserError(f"{', '.join(drives)}: all frames are of one instant; cameras are played by their times")
    return seconds


def _cut(drive: Drive, frames: int | None) -> Drive:
    return dataclasses.replace(drive, frames=drive.frames[:frames])
