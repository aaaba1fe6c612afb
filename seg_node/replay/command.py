"""``python -m seg_node replay``: play a recorded drive through the real node and report what came out."""

import argparse
import dataclasses
import importlib.util
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from seg_node.core.bundle import DEFAULT_MODEL, BundleError, load_bundle
from seg_node.core.engines import ENGINES, present_engines
from seg_node.core.share import shared_path
from seg_node.core.timing import Outcome
from seg_node.replay.bag import BagError, CompressedImage, Drive, Frame, RawImage, open_drive
from seg_node.replay.bag_command import from_video
from seg_node.replay.node_process import NodeError, NodeProcess, default_environment

_SHIPPED_DRIVE = "rosbags/synthetic_drive"
_DISCOVERY_S = 20.0
_SETTLE_S = 60.0
_IN_FLIGHT_S = 0.5


class ReplayError(ValueError):
    """What was asked for cannot be played; the message says why and what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--bag", type=Path, help="rosbag2 folder, or a .mcap, .db3 or ROS 1 .bag file (default: the shipped drive)"
    )
    source.add_argument("--video", type=Path, help="any video that OpenCV reads")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="shipped bundle, or path of one (default: %(default)s)")
    parser.add_argument("--engine", default="auto", choices=["auto", *ENGINES], help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="for one inference (default: the engine's choice)")
    parser.add_argument("--rate", type=_rate, default=None, metavar="recorded|HZ", help="default: recorded")
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder to write (default: %(default)s)")
    parser.add_argument(
        "--image-transport",
        default="auto",
        choices=["auto", "raw", "compressed"],
        help="auto plays what the bag holds, JPEG for a video; otherwise images are converted first",
    )
    parser.add_argument("--topic", help="image topic of the bag (default: the only one)")
    parser.add_argument("--mask-topic", help="ground truth topic of the bag (default: the only one named mask)")
    parser.add_argument("--frames", type=int, help="play only so many frames")
    parser.add_argument("--deadline-ms", type=float, default=0.0, help="count masks later than this as late (0: off)")
    parser.add_argument("--no-video", action="store_true", help="do not write the overlay video")


def run(options: argparse.Namespace) -> int:
    """Replay; returns the exit status: 0, 1 if the node failed or frames are unaccounted for, 2 for wrong input."""
    try:
        return _replay(options)
    except (ReplayError, BagError, BundleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NodeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def main(args: list[str] | None = None) -> int:
    """Entry point of the console script."""
    parser = argparse.ArgumentParser(prog="replay", description="Play a recorded drive through the real node.")
    add_arguments(parser)
    return run(parser.parse_args(args))


def _replay(options: argparse.Namespace) -> int:
    _check(options)
    model = load_bundle(options.model).name
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReplayError(f"{options.out} cannot be made: {error.strerror}") from error
    drive = _load(options)
    height, width = _size(drive)
    truth = next((drive.masks[frame.stamp] for frame in drive.frames if frame.stamp in drive.masks), None)
    if truth is not None and truth.shape != (height, width):
        found = f"{truth.shape[1]}x{truth.shape[0]}"
        raise ReplayError(f"{drive.path}: {drive.mask_topic} is {found} but the images are {width}x{height}")

    # Fast DDS reads its profile when the first participant is made.
    os.environ.update(default_environment())
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from seg_node.replay.monitor import Monitor
    from seg_node.replay.player import Player
    from seg_node.replay.report import to_text, write_report
    from seg_node.replay.scoring import score_masks, summarise

    transport = "raw" if drive.frames[0].kind == "image" else "compressed"
    # A namespace of its own: another segmentation node in this domain is neither heard nor fed.
    namespace = f"/replay_{os.getpid()}"
    process = NodeProcess(
        options.out / "node.log",
        namespace=namespace,
        parameters={
            "model": options.model if "/" not in options.model else str(Path(options.model).resolve()),
            "engine": options.engine,
            "threads": options.threads,
            "image_transport": transport,
            "deadline_ms": options.deadline_ms,
            "warm_up_size": [height, width],
            "autostart": True,
        },
    )
    # An end by SIGTERM must stop the node, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Without rclpy's signal handlers, so that Ctrl-C ends the replay and not only its context.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        with process:
            print(f"starting the node with {model}: loading, compiling, warming up", flush=True)
            process.wait_for("active")
            node = rclpy.create_node("replay", namespace=namespace, start_parameter_services=False)
            topic = f"{namespace}/image" + ("/compressed" if transport == "compressed" else "")
            player = Player(node, drive, topic)
            monitor = Monitor(node, process.full_name)
            _wait(lambda: player.matched and monitor.matched, process, _DISCOVERY_S, "did not connect")
            published = _play(player, monitor, process, options.rate, len(drive.frames))
            since = time.monotonic_ns() + round(_IN_FLIGHT_S * 1e9)
            try:
                _wait(lambda: monitor.settled(since), process, _SETTLE_S, "did not finish its frames")
            except TimeoutError as error:
                # Not an end: what is missing appears in the report, by name.
                print(f"warning: {error}", file=sys.stderr)
            monitor.close()
    except TimeoutError as error:
        raise NodeError(f"{error}; its last output ({process.log}):\n{process.last_output()}") from error
    finally:
        rclpy.try_shutdown()

    masks = monitor.masks
    result = summarise(
        published,
        monitor.records,
        {stamp: mask.arrived for stamp, mask in masks.items()},
        monitor.counters,
        monitor.repeated,
        score_masks((drive.masks[s], masks[s].decode()) for s in published if s in masks and s in drive.masks),
        {
            "drive": str(drive.path),
            "topic": drive.topic,
            "frames": len(drive.frames),
            "height": height,
            "width": width,
            "transport": transport,
            "rate": "recorded" if options.rate is None else "fixed",
            "rate_hz": options.rate or drive.rate,
            "model": model,
            "engine": monitor.counters.get("engine", options.engine),
        },
    )
    files = write_report(options.out, result, drive, published, masks, video=not options.no_video)
    print(f"\n{to_text(result)}\n\nwritten:")
    for file in [*files, process.log]:
        print(f"  {file}")
    return 1 if result.faults else 0


def _check(options: argparse.Namespace) -> None:
    if not importlib.util.find_spec("rclpy"):
        raise ReplayError(
            "a replay needs ROS 2: source an installation (. /opt/ros/jazzy/setup.bash), or install it from PyPI"
            " (pip install ros-jazzy-rclpy ros-jazzy-rmw-fastrtps-cpp ros-jazzy-common-interfaces)"
        )
    present = present_engines()
    if not present or options.engine not in ("auto", *present):
        raise ReplayError(f"engine {options.engine} is not installed; installed: {', '.join(present) or 'none'}")
    if options.frames is not None and options.frames < 1:
        raise ReplayError(f"--frames must be at least 1, not {options.frames}")


def _rate(text: str) -> float | None:
    if text == "recorded":
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not (math.isfinite(rate) and rate > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'recorded' nor a positive number of frames per second")
    return rate


def _load(options: argparse.Namespace) -> Drive:
    """The drive to play, in memory, cut and converted as asked for."""
    if options.video:
        with tempfile.TemporaryDirectory(dir=options.out) as folder:
            bag = Path(folder) / "drive"
            from_video(options.video, bag, raw=options.image_transport == "raw", progress=True)
            drive = dataclasses.replace(open_drive(bag), path=options.video)
    else:
        bag = options.bag or shared_path(_SHIPPED_DRIVE)
        if bag is None:
            raise ReplayError(f"the shipped drive {_SHIPPED_DRIVE} is missing; give one with --bag or --video")
        drive = open_drive(bag, options.topic, options.mask_topic)
    frames = drive.frames[: options.frames]
    if len({frame.stamp for frame in frames}) < len(frames):
        raise ReplayError(f"{drive.path}: header stamps of {drive.topic} repeat, so masks cannot be told apart by them")
    if options.image_transport == "raw":
        frames = [_as_raw(frame) for frame in frames]
    elif options.image_transport == "compressed":
        frames = [_as_jpeg(frame) for frame in frames]
    return dataclasses.replace(drive, frames=frames)


def _as_raw(frame: Frame) -> Frame:
    if frame.kind == "image":
        return frame
    bgr = _decoded(frame)
    height, width = bgr.shape[:2]
    return dataclasses.replace(frame, image=RawImage(height, width, "bgr8", 0, width * 3, bgr.ravel()))


def _as_jpeg(frame: Frame) -> Frame:
    if frame.kind == "compressed":
        return frame
    data = cv2.imencode(".jpg", _decoded(frame), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].ravel()
    return dataclasses.replace(frame, image=CompressedImage("bgr8; jpeg compressed bgr8", data))


def _decoded(frame: Frame) -> np.ndarray:
    from seg_node.replay.report import decode

    bgr = decode(frame)
    if bgr is None:
        raise ReplayError(f"the image stamped {frame.stamp} ns cannot be decoded, so it cannot be converted")
    return bgr


def _size(drive: Drive) -> tuple[int, int]:
    """Height and width in pixels of the first frame that can be read."""
    from seg_node.replay.report import decode

    for frame in drive.frames:
        bgr = decode(frame)
        if bgr is not None:
            return bgr.shape[:2]
    raise ReplayError(f"{drive.path}: no image of {drive.topic} can be decoded")


def _play(player, monitor, process: NodeProcess, rate: float | None, frames: int) -> dict[int, int]:
    with tqdm(total=frames, desc="playing", unit="frame") as bar:

        def show(sent: int) -> None:
            process.check()
            masked = monitor.outcomes[Outcome.MASKED]
            bar.set_postfix(masked=masked, dropped=len(monitor.records) - masked, refresh=False)
            bar.update(sent - bar.n)

        return player.play(rate, show)


def _wait(condition: Callable[[], bool], process: NodeProcess, timeout: float, problem: str) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        process.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"the node {process.full_name} {problem} within {timeout:.0f} s")
        time.sleep(0.02)
