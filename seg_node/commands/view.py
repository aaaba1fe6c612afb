"""``python -m seg_node view``: a web page that shows a node at work."""

import argparse
import contextlib
import os
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seg_node.bags.drive import Drive
from seg_node.commands.options import (
    add_drive,
    add_engine,
    add_model,
    interrupt_on_signals,
    load_drive,
    node_process,
    require_ros,
)
from seg_node.commands.replay_cameras import node_parameters
from seg_node.core.bundle import load_bundle
from seg_node.core.errors import UserError, until_interrupted
from seg_node.rig.node_process import NodeProcess, default_environment, default_profile_environment

if TYPE_CHECKING:
    from rclpy.node import Node


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    what = add_drive(parser)
    what.add_argument("--attach", metavar="NODE", help="only watch a node that runs already, such as /segmentation")
    parser.add_argument(
        "--camera",
        default="",
        metavar="NAME",
        help="with --attach: one of the node's several cameras (default: all of them on one page)",
    )
    parser.add_argument(
        "--cameras",
        nargs="+",
        default=[],
        metavar="NAME",
        help="play the drive as so many cameras of the node that is started",
    )
    parser.add_argument("--topic", help="image topic of the bag (default: the only one)")
    add_model(parser)
    add_engine(parser)
    parser.add_argument(
        "--namespace", help="of the node that is started, for RViz or Foxglove beside (default: one of its own)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8080, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name by which browsers may reach the page, besides localhost, this machine's and addresses; may be"
        " repeated, * allows all",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")


def run(options: argparse.Namespace) -> int:
    """Show the page until interrupted; returns the exit status: 0, 1 if the node failed, 2 for wrong input."""
    require_ros("the live page")
    if options.camera and not options.attach:
        raise UserError("--camera is for a node that runs already: name it with --attach")
    if options.cameras and options.attach:
        raise UserError("--cameras is for a node that is started here; all cameras of one that runs are shown anyway")
    interrupted = interrupt_on_signals()
    # Fast DDS reads its profile when the first participant is made. A node that runs already may be elsewhere.
    os.environ.update(default_profile_environment() if options.attach else default_environment())
    with until_interrupted():
        _view(options, interrupted)
    return 0


def _view(options: argparse.Namespace, interrupted: Callable[[], bool]) -> None:
    import rclpy
    from rclpy.exceptions import NameValidationException
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from seg_node.ros.cameras.names import check_names
    from seg_node.ros.frame_source import SOURCES
    from seg_node.web.live.live import Live
    from seg_node.web.live.pictures import Pictures
    from seg_node.web.live.server import LiveServer, View
    from seg_node.web.live.watcher import Watcher

    check_names(options.cameras)

    def view() -> View:
        return View(Live(), {source: Pictures() for source in SOURCES})

    whole = view()
    with contextlib.ExitStack() as stack:
        drive = None if options.attach else load_drive(options, options.topic)
        if drive:
            load_bundle(options.model)
        server = stack.enter_context(
            LiveServer(options.host, options.port, whole.live, whole.pictures, options.allowed_host)
        )
        process = stack.enter_context(_node(options, drive)) if drive else None
        target = process.full_name if process else f"/{options.attach.strip('/')}"
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        try:
            watcher = Watcher(target, whole.live, whole.pictures, process is not None, options.camera)
        except NameValidationException as error:
            raise UserError(f"{target} is no name of a node: {error}") from error
        stack.callback(watcher.destroy_node)
        threading.Thread(target=server.serve_forever, name="server", daemon=True).start()
        stack.callback(server.shutdown)
        shown = f"{target}, camera {options.camera}," if options.camera else target
        print(f"{shown} is shown at {server.url}; Ctrl-C ends it", flush=True)
        if not options.no_browser and _has_screen():
            webbrowser.open(server.url)
        if drive:
            _play(stack, watcher, drive, process, options.cameras)
        executor = SingleThreadedExecutor()
        executor.add_node(watcher)
        while not interrupted():
            for camera in watcher.cameras[len(server.cameras) :]:
                of = server.cameras[camera] = view()
                one = Watcher(target, of.live, of.pictures, process is not None, camera)
                stack.callback(one.destroy_node)
                executor.add_node(one)
            try:
                executor.spin_once(timeout_sec=0.5)
            except Exception as error:
                # A message that rclpy cannot read must not end the page.
                watcher.get_logger().error(f"{type(error).__name__} in a callback: {error}", throttle_duration_sec=1.0)
            if process and not interrupted():
                process.check()


@contextlib.contextmanager
def _node(options: argparse.Namespace, drive: Drive) -> Iterator[NodeProcess]:
    """The node that the drive is played into; it is not waited for."""
    # By default another node in this domain is neither heard nor fed.
    namespace = f"/view_{os.getpid()}" if options.namespace is None else f"/{options.namespace.strip('/')}"
    with tempfile.TemporaryDirectory(prefix="seg_node_view_") as folder:
        parameters = node_parameters(dict.fromkeys(options.cameras, drive)) if options.cameras else {}
        log = Path(folder) / "node.log"
        process = node_process(log, namespace.rstrip("/"), options.model, options.engine, drive, **parameters)
        with process:
            yield process


def _play(
    stack: contextlib.ExitStack, watcher: "Node", drive: Drive, process: NodeProcess, cameras: Sequence[str]
) -> None:
    """Play a drive as the only camera of a node, or as each of several, evenly offset, until the stack is left."""
    from seg_node.web.live.camera import LoopedCamera

    namespace = process.full_name.rpartition("/")[0]
    topics = [f"{namespace}/{name}/image" for name in cameras] or [f"{namespace}/image"]
    for number, topic in enumerate(topics):
        if drive.frames[0].kind != "image":
            topic += "/compressed"
        offset = number / len(topics) / drive.rate if drive.rate else 0.0
        try:
            stack.enter_context(LoopedCamera(watcher, drive, topic, offset))
        except ValueError as error:
            raise UserError(str(error)) from error


def _has_screen() -> bool:
    """Whether a browser can open a window; without one, a text browser would take the terminal."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{value} is not in 0..65535")
    return value
