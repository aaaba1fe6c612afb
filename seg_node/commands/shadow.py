"""``python -m seg_node shadow``: a second model on the live topic of the first, and how the two agree."""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from seg_node.commands.options import (
    add_engine,
    add_ros_arguments,
    add_threads,
    full_name,
    interrupt_on_signals,
    require_ros,
)
from seg_node.core.bundle import Bundle, categories_of, load_bundle
from seg_node.core.errors import UserError, until_interrupted
from seg_node.rig.node_process import NodeProcess, default_environment
from seg_node.shadow.pairing import CHALLENGER, SIDES

_NAMESPACE = "/shadow"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--models",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="start nodes of these: shipped bundles, or paths of some",
    )
    parser.add_argument(
        "--attach", nargs="+", default=[], metavar="NODE", help="nodes that run already, e.g. /segmentation"
    )
    parser.add_argument(
        "--follow",
        metavar="TOPIC",
        help="give the second node of --attach the frames that the first has masked, on this topic, from which it has"
        " to take its images; without /compressed",
    )
    parser.add_argument(
        "--camera",
        default="",
        metavar="NAME",
        help="one of several cameras of the nodes of --attach: their topics below NAME, and NAME/image",
    )
    parser.epilog = (
        "Two of them are compared, the incumbent first: --models INCUMBENT CHALLENGER, --attach INCUMBENT --models"
        " CHALLENGER, or --attach INCUMBENT CHALLENGER. A challenger that is started here is given the frames that the"
        " incumbent has masked; one that runs already masks those that it comes to,"
        " unless --follow names the topic on which it is given frames."
    )
    parser.add_argument(
        "--image", help="camera topic, without /compressed (default: /image; with --camera NAME/image beside the node)"
    )
    parser.add_argument("--image-transport", default="raw", choices=["raw", "compressed"], help="default: %(default)s")
    add_engine(parser)
    add_threads(parser)
    add_ros_arguments(parser, "-r __node:=shadow")


def run(options: argparse.Namespace) -> int:
    """Compare until interrupted; returns the exit status: 0, 1 if a node failed, 2 for wrong input."""
    if len(options.attach) + len(options.models) != 2:
        raise UserError(
            f"two nodes are compared, and --attach and --models name {len(options.attach) + len(options.models)}; give"
            " two of one of them, or one of each"
        )
    if options.follow and len(options.attach) < 2:
        raise UserError("--follow is for two nodes of --attach; a challenger that is started here follows anyway")
    if options.camera and not options.attach:
        raise UserError(
            "--camera is for nodes of --attach; those that are started here have one, whose topic is --image"
        )
    require_ros("shadow mode")
    options.image = options.image or _image(options)
    interrupted = interrupt_on_signals()
    # Fast DDS reads its profile when the first participant is made.
    os.environ.update(default_environment())
    with until_interrupted():
        attached = ["/".join(filter(None, (full_name(node), options.camera))) for node in options.attach]
        with _started(options) as processes:
            nodes = [*attached, *(process.full_name for process in processes)]
            _compare(options, nodes, processes, interrupted)
    return 0


def _image(options: argparse.Namespace) -> str:
    """The camera's topic where none is given: that of a node without remapping."""
    if not options.camera:
        return "/image"
    namespace = full_name(options.attach[0]).rpartition("/")[0]
    return f"{namespace}/{options.camera}/image"


@contextlib.contextmanager
def _started(options: argparse.Namespace) -> Iterator[list[NodeProcess]]:
    """The nodes of ``--models``, active."""
    models = [load_bundle(model) for model in options.models]
    if len(models) == 2 and not models[0].manifest.taxonomy.same_categories(models[1].manifest.taxonomy):
        raise UserError(f"the models have different categories: {categories_of(models)}; their masks do not compare")
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="seg_node_shadow_")) if models else Path()
        processes = [
            stack.enter_context(_process(options, folder, side, model))
            for side, model in enumerate(models, start=len(options.attach))
        ]
        for process, model in zip(processes, models, strict=True):
            print(f"{process.full_name}: loading {model.name}, log in {process.log}", flush=True)
            process.wait_for("active")
        yield processes


def _process(options: argparse.Namespace, folder: Path, side: int, model: Bundle) -> NodeProcess:
    namespace = f"{_NAMESPACE}/{SIDES[side]}"
    parameters = {
        "model": str(model.path.resolve()),
        "engine": options.engine,
        "threads": options.threads,
        "image_transport": options.image_transport,
    }
    camera = full_name(options.image)
    if side == CHALLENGER:
        # One frame at a time, of which none may be lost: there is no other one to wait for.
        camera = f"{namespace}/image"
        topic = f"{camera}/compressed" if options.image_transport == "compressed" else camera
        parameters |= {"patience": 0.0, f"qos_overrides.{topic}.subscription.reliability": "reliable"}
    remaps = {"image": camera, "image/compressed": f"{camera}/compressed"}
    return NodeProcess(folder / f"{SIDES[side]}.log", parameters, remaps, namespace=namespace)


def _compare(
    options: argparse.Namespace, nodes: list[str], processes: list[NodeProcess], interrupted: Callable[[], bool]
) -> None:
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from seg_node.shadow.node import ShadowNode

    sides = zip(SIDES, nodes, strict=True)
    renamed = {f"{side}/{topic}": f"{node}/{topic}" for side, node in sides for topic in ("mask", "timing")}
    camera, given = full_name(options.image), full_name(options.follow or f"{_NAMESPACE}/{SIDES[CHALLENGER]}/image")
    for suffix in ("", "/compressed"):
        renamed |= {f"image{suffix}": f"{camera}{suffix}", f"{SIDES[CHALLENGER]}/image{suffix}": f"{given}{suffix}"}
    remaps = [argument for pair in renamed.items() for argument in ("-r", ":=".join(pair))]
    # The end is the KeyboardInterrupt of `run`; rclpy's own handlers take the context away while the executor uses it.
    rclpy.init(args=[*options.ros_arguments, "--ros-args", *remaps], signal_handler_options=SignalHandlerOptions.NO)
    node, executor = None, SingleThreadedExecutor()
    try:
        follows = options.follow or len(options.attach) < 2
        node = ShadowNode(options.image_transport if follows else None, partial(print, flush=True))
        executor.add_node(node)
        print(f"comparing {' and '.join(nodes)} on {node.get_fully_qualified_name()}/agreement", flush=True)
        while not interrupted():
            try:
                executor.spin_once(timeout_sec=0.5)
            except RuntimeError:
                # rclpy makes one of the KeyboardInterrupt that comes in the midst of its own work.
                if not interrupted():
                    raise
            for process in processes if not interrupted() else ():
                process.check()
    finally:
        if node is not None:
            print(f"in all: {node.end_line()}", flush=True)
            executor.shutdown()
            node.destroy_node()
        rclpy.try_shutdown()
