"""Bags spread over a Ray cluster: one task for each bag, again for those that a lost worker held."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.exceptions import RayError

from seg_node.core.bundle import GRAPH, Bundle
from seg_node.label.labeller import BagResult, Labeller, LabelOptions

_RETRIES = 3
"""How often a bag is tried again whose worker was lost."""

_POLL_S = 0.5

_labellers: dict[tuple[str, LabelOptions], Labeller] = {}
"""Those of this worker process, so that the engine is made once and not for each bag."""


class _Progress:
    """Images done of each bag; an actor, which the workers tell and the driver asks."""

    def __init__(self):
        self._done: dict[str, int] = {}

    def tell(self, bag: str, frames: int) -> None:
        # A bag that is tried again begins again: told, not added.
        self._done[bag] = frames

    def done(self) -> dict[str, int]:
        return self._done


@contextmanager
def cluster(address: str, threads: int, gpus: float = 0.0, workers: int | None = None) -> Iterator[None]:
    """A connection to a Ray cluster.

    Args:
        address: ``local`` for a new cluster of this machine alone, else as ``ray.init`` takes it.
        threads: for each bag, which takes so many cores of the cluster.
        gpus: for each bag; Ray hides those that were not asked for.
        workers: size of a local cluster; None takes as many as there are cores for.

    Raises:
        ConnectionError: there is no cluster at the address.
        ValueError: no machine of the cluster has that many cores or GPUs.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    size = {}
    if address == "local":
        workers = workers or max(1, (os.cpu_count() or 1) // threads)
        size = {"num_cpus": threads * workers, "include_dashboard": False}
    ray.init(address=address, log_to_driver=False, logging_level="error", **size)
    try:
        for kind, wanted in (("CPU", threads), ("GPU", gpus)):
            # Ray would wait for such a machine for ever.
            most = max((node["Resources"].get(kind, 0) for node in ray.nodes() if node["Alive"]), default=0)
            if wanted > most:
                raise ValueError(f"no machine has {wanted:g} {kind}s for one bag, the largest has {most:g}")
        yield
    finally:
        ray.shutdown()


def label_all(
    bags: list[Path],
    out: Path,
    bundle: Bundle,
    options: LabelOptions,
    gpus: float,
    show: Callable[[int, BagResult | None], None],
) -> list[BagResult]:
    """Label bags on the connected cluster, whose machines all see ``bags`` and ``out`` at the same paths.

    Args:
        bags: see ``Labeller.label``.
        out: see ``Labeller.label``.
        bundle: sent to the workers, which need no copy on their disks.
        options: see ``LabelOptions``.
        gpus: see ``cluster``.
        show: called with the images done of all bags, twice a second, and with each result when it comes.

    Returns:
        Results in the order of the bags; a bag whose workers were lost every time has failed.
    """
    progress = ray.remote(num_cpus=0, max_restarts=-1)(_Progress).remote()
    task = ray.remote(num_cpus=options.threads, num_gpus=gpus, max_retries=_RETRIES)(_label)
    held = ray.put(bundle)
    bags = [bag.resolve() for bag in bags]
    pending = {task.remote(bag, out.resolve(), held, options, progress): bag for bag in bags}
    results: dict[Path, BagResult] = {}
    while pending:
        ready, _ = ray.wait(list(pending), timeout=_POLL_S)
        for reference in ready:
            bag = pending.pop(reference)
            try:
                results[bag] = ray.get(reference)
            except RayError as error:
                results[bag] = BagResult(str(bag), reason=f"its worker was lost: {str(error).splitlines()[0]}")
            show(_done(progress, results), results[bag])
        show(_done(progress, results), None)
    return [results[bag] for bag in bags]


def _label(bag: Path, out: Path, bundle: Bundle, options: LabelOptions, progress) -> BagResult:
    key = (bundle.manifest.files[GRAPH], options)
    if key not in _labellers:
        _labellers[key] = Labeller(bundle, options)
    told = 0.0

    def tell(frames: int) -> None:
        nonlocal told
        if time.monotonic() - told > _POLL_S:
            told = time.monotonic()
            progress.tell.remote(str(bag), frames)

    return _labellers[key].label(bag, out, tell)


def _done(progress, results: dict[Path, BagResult]) -> int:
    finished = {str(bag): result.frames for bag, result in results.items()}
    try:
        return sum((ray.get(progress.done.remote(), timeout=_POLL_S) | finished).values())
    except RayError:
        # Lost with its machine, or late; it starts anew.
        return sum(finished.values())
