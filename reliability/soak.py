"""Keeps the segmentation node at 30 Hz under faults and reports what grows: ``make soak MINUTES=30``, or

    python reliability/soak.py [--minutes 30] [--out FOLDER]

The exit status is 1 if the books do not balance or, from ``JUDGED_FROM_MIN`` on, if something grows.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from bundles import broken_bundles, constant_bundle
from now_books import NowBooks
from orders import Order
from rclpy.context import Context
from scene import NODE, Books, Scene, prepare, wait
from sensor_msgs.msg import Image
from supervisor import ACTIVATE, CLEAN_UP, CONFIGURE, DEACTIVATE, Supervisor
from tqdm import tqdm
from trend import fifths, slope

from seg_node.commands.options import exit_on_sigterm
from seg_node.core.machine import setting
from seg_node.rig.node_process import NodeProcess

SIZE = (360, 640)
RATE = 30.0
WARM_UP = 0.2
"""Share of the run that is left out of all trends."""
JUDGED_FROM_MIN = 10.0
"""A shorter run has no trend: allocators and caches still fill."""

MOST_MB_PER_H = 1.0
MOST_P99_RATIO = 1.1

_MAX_AGE_MS = 1000.0
"""The node's ``propagate_max_age_ms``."""
_PERIOD_S = 10.0
"""Between the beginnings of two faults."""
_QUIET_S = 2.0
"""So long after a fault has ended frames count as undisturbed."""


@dataclass(frozen=True)
class Sample:
    """The node's process at one instant."""

    at: int
    """``time.monotonic_ns``."""
    rss: int
    """Bytes of resident memory; the next two are parts of it, the rest is of files."""
    anonymous: int
    """Bytes that the process allocated."""
    shared: int
    """Bytes of shared memory, much of it allocated by others: their messages lie there."""
    handles: int
    """Open file descriptors."""
    threads: int


@dataclass(frozen=True)
class Struck:
    """One fault that was injected; times are ``time.monotonic_ns``."""

    name: str
    began: int
    ended: int
    """When a frame sent after it had been masked."""


class Soak:
    """A running node and the faults that strike it.

    Args:
        scene: with an observer.
        folder: for the bundles.
    """

    def __init__(self, scene: Scene, folder: Path, supervisor: Supervisor):
        self._scene, self._supervisor = scene, supervisor
        self._bundles = [str(constant_bundle(folder, name, number).path) for number, name in enumerate(("one", "two"))]
        self._broken = list(broken_bundles(folder / "broken"))
        self._swaps = 0
        self.now = NowBooks(scene, _MAX_AGE_MS)
        self.node: NodeProcess = scene.start_node(
            self._bundles[0],
            warm_up_size=list(SIZE),
            inference_timeout_ms=300.0,
            failure_limit=100,
            # The supervisor leads it.
            on_give_up="stay",
            propagate_max_age_ms=_MAX_AGE_MS,
        )
        self._camera = self._start_camera()
        self.faults: dict[str, Callable[[], None]] = {
            "exception": lambda: self._order(Order.RAISE),
            "out of memory": lambda: self._order(Order.MEMORY),
            "wrong output": lambda: self._order(Order.SHAPE),
            "slow inference": lambda: self._order(Order.NAP),
            "undecodable frames": self._undecodable,
            "another size": self._another_size,
            "model swap": self._swap,
            "broken bundle": lambda: self._supervisor.set("model", random.choice(self._broken)),
            "guest": self._guest,
            "camera restart": self._restart_camera,
            "reload": self._reload,
            "vanished device": self._vanish,
        }
        """All by name; each returns at once or when the supervisor has done its part."""

    def strike(self, name: str) -> Struck:
        """Inject a fault and wait until masks come again."""
        began = time.monotonic_ns()
        self.faults[name]()
        self._scene.mask_after(time.monotonic_ns())
        return Struck(name, began, time.monotonic_ns())

    def _start_camera(self):
        camera = self._scene.start_camera("--moving", rate=RATE)
        camera.command(size=SIZE)
        return camera

    def _order(self, order: Order) -> None:
        self._scene.ordered(self._camera, order)

    def _undecodable(self) -> None:
        self._camera.command(encoding="nonsense")
        time.sleep(0.2)
        self._camera.command(encoding="bgr8")

    def _another_size(self) -> None:
        self._camera.command(size=[SIZE[0] // 2, SIZE[1] // 2])
        self._scene.mask_after(time.monotonic_ns())
        self._camera.command(size=SIZE)

    def _swap(self) -> None:
        self._swaps += 1
        self._supervisor.set("model", self._bundles[self._swaps % 2])

    def _guest(self) -> None:
        context = Context()
        rclpy.init(args=[], context=context)
        node = rclpy.create_node(f"guest_{time.monotonic_ns()}", context=context)
        node.create_subscription(Image, f"{NODE}/mask", lambda _: None, 1)
        context.shutdown()

    def _restart_camera(self) -> None:
        self._camera.kill()
        self._camera = self._start_camera()

    def _reload(self) -> None:
        self._supervisor.change(DEACTIVATE)
        self._load_anew()

    def _vanish(self) -> None:
        self._order(Order.VANISH)
        wait(lambda: self._supervisor.state() == "inactive", "the node deactivates itself")
        self._load_anew()

    def _load_anew(self) -> None:
        self._scene.settle()
        self._scene.end_of_life()
        self.now.end_of_life()
        for transition in (CLEAN_UP, CONFIGURE, ACTIVATE):
            self._supervisor.change(transition)


def sample(pid: int) -> Sample:
    """Look at a process; see proc(5)."""
    proc = Path("/proc", str(pid))
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    return Sample(
        time.monotonic_ns(),
        *(1024 * int(status[name].split()[0]) for name in ("VmRSS", "RssAnon", "RssShmem")),
        len(list((proc / "fd").iterdir())),
        len(list((proc / "task").iterdir())),
    )


def soak(minutes: float, folder: Path) -> dict:
    """Run; returns what the JSON holds."""
    samples: list[Sample] = []
    struck: list[Struck] = []
    done = threading.Event()
    # Somebody listens to the mask of now all the time: what it needs must hold as well.
    with Scene(folder, options=["--now"]) as scene, scene.supervisor() as supervisor:
        run = Soak(scene, folder, supervisor)
        names = list(run.faults)
        scene.mask_after(time.monotonic_ns())
        began = time.monotonic()

        def watch() -> None:
            with tqdm(total=60 * minutes, unit="s", bar_format="{desc:20} {percentage:3.0f}%|{bar}| {elapsed}") as bar:
                while not done.wait(1.0):
                    samples.append(sample(run.node.pid))
                    bar.set_description_str(struck[-1].name if struck else "", refresh=False)
                    bar.n = min(time.monotonic() - began, bar.total)
                    bar.refresh()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            # In short runs, too, every fault has its turn once, as far as the time goes.
            period = min(_PERIOD_S, 60 * minutes / len(names))
            while time.monotonic() - began < 60 * minutes:
                if not len(struck) % len(names):
                    random.shuffle(names)
                due = began + len(struck) * period
                time.sleep(max(0.0, due - time.monotonic()))
                struck.append(run.strike(names[len(struck) % len(names)]))
                run.node.check()
        finally:
            done.set()
            watcher.join()
        books, now = scene.balance(), run.now.balance()
        latency = _undisturbed(scene, struck)
        checks = run.now.checks()
    return report(minutes, samples, struck, latency, books, now, checks)


def _undisturbed(scene: Scene, struck: list[Struck]) -> np.ndarray:
    """Moment (``time.monotonic_ns``) and milliseconds from camera to mask of frames between faults, [N, 2]."""
    sent = {frame.stamp: frame.at for camera in scene.cameras for frame in camera.sent}
    found = np.array([(sent[m["stamp"]], (m["at"] - sent[m["stamp"]]) / 1e6) for m in scene.observer.masks()])
    quiet = np.ones(len(found), bool)
    for fault in struck:
        quiet &= (found[:, 0] < fault.began) | (found[:, 0] > fault.ended + _QUIET_S * 1e9)
    return found[quiet]


def judge(samples: list[Sample]) -> tuple[dict[str, Any], dict[str, bool]]:
    """Trends of a process without its warm-up: memory, handles, threads; and whether any of them grows."""
    begin = samples[0].at + WARM_UP * (samples[-1].at - samples[0].at)
    kept = [s for s in samples if s.at >= begin]
    hours = np.array([(s.at - samples[0].at) / 3.6e12 for s in kept])
    trends: dict[str, Any] = {
        f"{kind}_mb_per_h": slope(hours, np.array([getattr(s, kind) / 2**20 for s in kept]))
        for kind in ("rss", "anonymous", "shared")
    }
    verdicts = {f"memory grows by less than {MOST_MB_PER_H:g} MB/h": trends["rss_mb_per_h"] < MOST_MB_PER_H}
    for name in ("handles", "threads"):
        first, last = (float(np.median(part)) for part in fifths(hours, [getattr(s, name) for s in kept]))
        trends[name] = {"first_fifth": first, "last_fifth": last}
        verdicts[f"no more {name} than before"] = last <= first
    return trends, verdicts


def report(
    minutes: float,
    samples: list[Sample],
    struck: list[Struck],
    latency: np.ndarray,
    books: Books,
    now: Books,
    checks: dict[str, bool],
) -> dict:
    """Trends and verdicts of a run; ``now`` and ``checks`` are those of the mask of now."""
    begin = samples[0].at + WARM_UP * (samples[-1].at - samples[0].at)
    latency = latency[latency[:, 0] >= begin]
    trends, verdicts = judge(samples)
    if len(latency) > 1:
        first, last = (float(np.percentile(part, 99)) for part in fifths(latency[:, 0], latency[:, 1]))
        trends["p99_ms"] = {"first_fifth": first, "last_fifth": last}
        verdicts["p99 of the last fifth within 10 % of the first"] = last <= MOST_P99_RATIO * first
    judged = minutes >= JUDGED_FROM_MIN
    return {
        "minutes": minutes,
        "rate": RATE,
        "size": SIZE,
        "machine": setting(),
        "faults": dict(Counter(fault.name for fault in struck)),
        "books": asdict(books) | {"lost": books.lost},
        "books_now": asdict(now) | {"lost": now.lost},
        "checks_now": checks,
        "trends": trends,
        "verdicts": verdicts if judged else {},
        "holds": not books.unaccounted
        and not now.unaccounted
        and all(checks.values())
        and (all(verdicts.values()) or not judged),
        "samples": [asdict(s) for s in samples],
        "struck": [asdict(fault) for fault in struck],
        "latency": [[int(at), round(ms, 3)] for at, ms in latency],
    }


def plot(result: dict, file: Path) -> None:
    """Memory, handles, threads and latency over the run, with the faults as grey lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    start = result["samples"][0]["at"]
    minutes = [(s["at"] - start) / 6e10 for s in result["samples"]]
    figure, axes = plt.subplots(3, 1, figsize=(9, 8), sharex=True, layout="constrained")
    for kind in ("rss", "anonymous", "shared"):
        axes[0].plot(minutes, [s[kind] / 2**20 for s in result["samples"]], label=kind)
    axes[0].legend()
    axes[0].set_ylabel("resident memory, MB")
    axes[0].set_title(f"slope after warm-up: {result['trends']['rss_mb_per_h']:+.2f} MB/h", fontsize="medium")
    for name in ("handles", "threads"):
        axes[1].plot(minutes, [s[name] for s in result["samples"]], label=name)
    axes[1].legend()
    axes[2].plot([(at - start) / 6e10 for at, _ in result["latency"]], [ms for _, ms in result["latency"]], ".", ms=2)
    axes[2].set_ylabel("camera to mask, ms")
    axes[2].set_xlabel("minutes")
    for axis in axes:
        for fault in result["struck"]:
            axis.axvline((fault["began"] - start) / 6e10, color="0.85", linewidth=0.5, zorder=0)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def main() -> int:
    """Run and write ``soak.json`` and ``soak.png``; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("soak_output"), help="folder (default: %(default)s)")
    options = parser.parse_args()
    result = soak(options.minutes, prepare(options.out))
    (options.out / "soak.json").write_text(json.dumps(result) + "\n")
    plot(result, options.out / "soak.png")
    print(f"faults: {', '.join(f'{count} x {name}' for name, count in result['faults'].items())}")
    books = result["books"]
    print(f"frames: {books['sent']} sent, {books['received']} received, {books['outcomes']}")
    print(f"unaccounted: {books['unaccounted']} {'; '.join(books['faults'])}")
    now = result["books_now"]
    print(f"masks of now: {now['masks']}, {now['outcomes']}")
    print(f"unaccounted: {now['unaccounted']} {'; '.join(now['faults'])}")
    for check, holds in result["checks_now"].items():
        print(f"{'ok ' if holds else 'NOT'} masks of now: {check}")
    print(f"trends: {json.dumps(result['trends'])}")
    for verdict, holds in result["verdicts"].items():
        print(f"{'ok ' if holds else 'NOT'} {verdict}")
    if not result["verdicts"]:
        print(f"too short to judge trends: they need {JUDGED_FROM_MIN:g} minutes")
    print(options.out / "soak.json")
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    exit_on_sigterm()
    sys.exit(main())
