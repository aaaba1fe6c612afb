"""``python -m seg_node label``: write recorded drives again with masks as lossless topics."""

import argparse
import contextlib
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from seg_node.bags.drive import only_image_topic
from seg_node.bags.reader import BagError, BagReader
from seg_node.commands.options import add_engine, add_model, make_folder
from seg_node.core.bundle import load_bundle
from seg_node.core.engines import PRECISIONS, create_engine
from seg_node.core.errors import NoResultError, UserError

INTERRUPTED = "interrupted; the same command goes on with the bags that are not finished"

_SHOWN = 10
"""Undecodable images that are named for each bag; its manifest names all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="rosbag2 folder, .mcap, .db3 or ROS 1 .bag")
    parser.add_argument("--out", type=Path, required=True, help="folder for the labelled bags, one folder each")
    parser.add_argument(
        "--png",
        type=Path,
        metavar="FOLDER",
        help="write the masks as PNG files, too: one folder for each bag, files named by the stamp of their image",
    )
    add_model(parser)
    add_engine(parser)
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="default: %(default)s")
    parser.add_argument("--threads", type=int, help="for one inference (default: the cores of this machine)")
    parser.add_argument("--confidence", action="store_true", help="write the confidence of each mask, too")
    parser.add_argument(
        "--topic", action="append", default=[], help="image topic, may be repeated (default: a bag's only one)"
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="one task for each bag on a Ray cluster; without an address on a new one of this machine alone",
    )
    parser.add_argument(
        "--gpus", type=float, default=0.0, help="of the cluster for each bag, e.g. 0.5 for two at a time on one"
    )
    parser.add_argument(
        "--workers", type=int, help="bags at a time on that new cluster (default: cores divided by threads)"
    )


def run(options: argparse.Namespace) -> int:
    """Label; returns the exit status: 0, 1 if a bag failed, 2 for wrong input, 3 if nothing of a bag was masked."""
    _check(options)
    from seg_node.label.labeller import LabelOptions, remove_partial

    bundle = load_bundle(options.model)
    threads = options.threads or os.cpu_count() or 1
    # Made here also where others do the work: what is wrong with it is wrong for every bag, and `auto` is settled.
    engine = create_engine(bundle, options.engine, threads, options.precision)
    settings = LabelOptions(engine.name, threads, options.precision, options.confidence, tuple(options.topic))
    make_folder(options.out)
    print(f"{bundle.name} on {engine.name}, threads: {threads}, bags: {len(options.bags)}", flush=True)
    try:
        results = (_distributed if options.ray else _serial)(options, bundle, settings)
    finally:
        for bag in options.bags:
            remove_partial(options.out, bag)
    written = [Path(result.out) for result in results if result.out]
    print("\n".join([*_summary(results), *(f"written: {path}" for path in written)]))
    if options.png:
        _write_pngs(written, options.png)
    states = {result.state for result in results}
    return 1 if "failed" in states else NoResultError.exit_status if "nothing masked" in states else 0


def _write_pngs(bags: list[Path], folder: Path) -> None:
    from seg_node.label.png import write_pngs

    for bag in bags:
        count = write_pngs(bag, folder / bag.name)
        print(f"written: {folder / bag.name}: {count} masks as PNG; low values look black, they are categories")


def _check(options: argparse.Namespace) -> None:
    if not importlib.util.find_spec("sensor_msgs"):
        raise UserError("images are decoded as the node does it, which needs the message packages of ROS 2")
    if options.threads is not None and options.threads < 1:
        raise UserError(f"--threads must be at least 1, not {options.threads}")
    if options.workers is not None and (options.ray != "local" or options.workers < 1):
        raise UserError("--workers must be at least 1, and goes with --ray without an address")
    if options.gpus < 0 or (options.gpus and not options.ray):
        raise UserError("--gpus must not be negative, and goes with --ray")
    if options.ray and not importlib.util.find_spec("ray"):
        raise UserError("--ray needs Ray, which is not installed: pip install ray")
    if options.ray and Path(options.ray).exists():
        raise UserError(f"--ray took {options.ray} for the address of a cluster; put --ray behind the bags")
    from seg_node.label.labeller import output_name

    names: dict[str, Path] = {}
    for bag in options.bags:
        if other := names.get(output_name(bag)):
            raise UserError(f"{other} and {bag} would both become {options.out / output_name(bag)}; label them apart")
        names[output_name(bag)] = bag
        if options.out.resolve() == bag.resolve().parent and bag.is_dir():
            raise UserError(f"--out {options.out} is the folder that {bag} lies in; choose another")


def _serial(options: argparse.Namespace, bundle, settings) -> list:
    from seg_node.label.labeller import Labeller

    labeller = Labeller(bundle, settings)
    results = []
    with _Bar(options.bags, settings.topics) as bar:
        for bag in options.bags:
            before = sum(result.frames for result in results)
            result = labeller.label(bag, options.out, lambda frames, before=before: bar.show(before + frames))
            results.append(result)
            bar.show(before + result.frames, result)
    return results


def _distributed(options: argparse.Namespace, bundle, settings) -> list:
    from seg_node.label.ray import cluster, label_all

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(cluster(options.ray, settings.threads, options.gpus, options.workers))
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"the Ray cluster {options.ray!r} cannot be used: {error}") from error
        bar = stack.enter_context(_Bar(options.bags, settings.topics))
        return label_all(options.bags, options.out, bundle, settings, options.gpus, bar.show)


class _Bar:
    """Progress over images and bags."""

    def __init__(self, bags: list[Path], topics: tuple[str, ...]):
        self._bar = tqdm(total=sum(_frames(bag, topics) for bag in bags), desc="labelling", unit="frame")
        self._bags, self._ended, self._failed = len(bags), 0, 0

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, frames: int, result=None) -> None:
        if result:
            self._ended += 1
            self._failed += result.state == "failed"
        self._bar.set_postfix(bags=f"{self._ended}/{self._bags}", failed=self._failed, refresh=False)
        self._bar.update(frames - self._bar.n)


def _frames(bag: Path, topics: tuple[str, ...]) -> int:
    """Images to label; 0 for a bag that cannot be read."""
    try:
        with BagReader(bag) as reader:
            if not topics:
                return only_image_topic(reader).count
            return sum(topic.count for topic in reader.topics if topic.is_image and topic.name in topics)
    except BagError:
        return 0


def _summary(results: Iterable) -> list[str]:
    rows = [("bag", "frames", "masked", "undecodable", "seconds", "state")]
    for r in results:
        counts = (str(r.frames), str(r.masked), str(len(r.undecodable)), f"{r.seconds:.1f}")
        rows.append((r.bag, *counts, r.state))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = []
    for bag, *counts, state in rows:
        cells = [bag.ljust(widths[0]), *(count.rjust(width) for count, width in zip(counts, widths[1:], strict=True))]
        lines.append("  ".join([*cells, state]))
    for r in results:
        # What cannot be read at all names the bag itself.
        lines += [f"{r.state}: {r.bag}: {r.reason.removeprefix(f'{r.bag}: ')}"] * bool(r.reason)
        lines += [f"  {r.bag}: {line}" for line in (*r.balance, *r.notes)]
        lines += [f"undecodable: {r.bag} {fault}" for fault in r.undecodable[:_SHOWN]]
        if len(r.undecodable) > _SHOWN:
            lines.append(f"undecodable: {r.bag} and {len(r.undecodable) - _SHOWN} more")
    return lines
