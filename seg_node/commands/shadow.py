"""``python -m seg_node shadow``: a second model on the live topic of the first, and how the two agree."""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from seg_node.commands.options import add_engine, add_ros_arguments, add_threads, interrupt_on_signals, require_ros
from seg_node.core.bundle import load_bundle
from seg_node.rig.node_process import NodeProcess, default_environment
from seg_node.shadow.pairing import SIDES

_NAMESPACE = "/shadow"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--models", nargs=2, metavar="MODEL", help="incumbent and challenger: shipped bundles, or paths of some"
    )
    which.add_argument(
        "--attach", nargs=2, metavar="NODE", help="compare two nodes that run already, e.g. /segmentation"
    )
    parser.add_argument("--image", default="/image", help="camera topic, without /compressed (default: %(default)s)")
    parser.add_argument("--image-transport", default="raw", choices=["raw", "compressed"], help="default: %(default)s")
    add_engine(parser)
    add_threads(parser)
    add_ros_arguments(parser, "-r __node:=shadow")


def run(options: argparse.Namespace) -> int:
    """Compare until interrupted; returns the exit status: 0, 1 if a node failed, 2 for wrong input."""
    require_ros("shadow mode")
    interrupt_on_signals()
    # Fast DDS reads its profile when the first participant is made.
    os.environ.update(default_environment())
    with contextlib.suppress(KeyboardInterrupt):
        if options.attach:
            nodes = [node if node.startswith("/") else f"/{node}" for node in options.attach]
            _compare(nodes, [], options.ros_arguments)
        with _started(options) as processes:
            _compare([process.full_name for process in processes], processes, options.ros_arguments)
    return 0


@contextlib.contextmanager
def _started(options: argparse.Namespace) -> Iterator[list[NodeProcess]]:
    """Both nodes, active."""
    image = options.image if options.image.startswith("/") else f"/{options.image}"
    folder = Path(tempfile.mkdtemp(prefix="seg_node_shadow_"))
    models = [load_bundle(model) for model in options.models]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                NodeProcess(
                    folder / f"{side}.log",
                    namespace=f"{_NAMESPACE}/{side}",
                    remaps={"image": image, "image/compressed": f"{image}/compressed"},
                    parameters={
                        "model": str(model.path.resolve()),
                        "engine": options.engine,
                        "threads": options.threads,
                        "image_transport": options.image_transport,
                    },
                )
            )
            for side, model in zip(SIDES, models, strict=True)
        ]
        for process, model in zip(processes, models, strict=True):
            print(f"{process.full_name}: loading {model.name}, log in {process.log}", flush=True)
            process.wait_for("active")
        yield processes


def _compare(nodes: list[str], processes: list[NodeProcess], ros_arguments: list[str]) -> NoReturn:
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from seg_node.shadow.node import ShadowNode

    remaps = [
        argument
        for side, node in zip(SIDES, nodes, strict=True)
        for topic in ("mask", "timing")
        for argument in ("-r", f"{side}/{topic}:={node}/{topic}")
    ]
    # The end is the KeyboardInterrupt of `run`; rclpy's own handlers take the context away while the executor uses it.
    rclpy.init(args=[*ros_arguments, "--ros-args", *remaps], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = ShadowNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        print(f"comparing {' and '.join(nodes)} on {node.get_fully_qualified_name()}/agreement", flush=True)
        while True:
            executor.spin_once(timeout_sec=0.5)
            for process in processes:
                process.check()
    finally:
        rclpy.try_shutdown()
