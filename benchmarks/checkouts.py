"""Two checkouts of this repository, one against the other: decoding of images, and reading of the shipped drive.

    python benchmarks/checkouts.py BEFORE AFTER [--pairs 25] [--only decode preload info label] [--label-pairs 2]

Both run in this environment. A process of each checkout waits beside that of the other, and they take turns, in an
order that chance decides. What is compared is the processor's time, all threads together, which other programs on the
machine change least; the quotient is the median over the pairs.
"""

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

DRIVE = "rosbags/synthetic_drive"
_FRAMES = 10
"""Images that are decoded in a turn."""

Turn = Callable[[], float]
"""Does its work and returns the seconds of the processor that it took."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="folder of a checkout")
    parser.add_argument("after", type=Path, help="folder of another one")
    parser.add_argument("--pairs", type=int, default=25, help="of decoding and reading (default: %(default)s)")
    parser.add_argument("--label-pairs", type=int, default=2, help="of labelling (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=_KINDS, default=list(_KINDS))
    options = parser.parse_args(arguments)
    print(f"{'':<18}{'before, ms':>12}{'after, ms':>12}{'after / before':>16}{'pairs':>7}", flush=True)
    for kind in options.only:
        pairs = options.label_pairs if kind == "label" else options.pairs
        before, after = measure(kind, options.before.resolve(), options.after.resolve(), pairs)
        print(line(kind, before, after), flush=True)
    return 0


def measure(kind: str, before: Path, after: Path, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of the processor of each turn before and after, pair by pair."""
    waiting = [_KINDS[kind](checkout) for checkout in (before, after)]
    taken: tuple[list[float], list[float]] = ([], [])
    try:
        if kind in _TASKS:
            # The first turn of a process imports and compiles; a command does so every time.
            for turn, _ in waiting:
                turn()
        for _ in range(pairs):
            for side in random.sample((0, 1), 2):
                taken[side].append(waiting[side][0]())
    finally:
        for _, end in waiting:
            end()
    return taken


def line(kind: str, before: list[float], after: list[float]) -> str:
    """What was measured of a kind, for people."""
    quotient = statistics.median(b / a for a, b in zip(before, after, strict=True))
    times = "".join(f"{1000 * statistics.median(seconds):12.1f}" for seconds in (before, after))
    return f"{kind:<18}{times}{quotient:16.3f}{len(before):7d}"


def _worker(task: str) -> Callable[[Path], tuple[Turn, Callable[[], Any]]]:
    """A process of a checkout that does a task of ``_TASKS`` whenever it is told to."""

    def start(checkout: Path) -> tuple[Turn, Callable[[], Any]]:
        process = subprocess.Popen(
            [sys.executable, __file__, "--worker", task],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def turn() -> float:
            process.stdin.write("\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                raise RuntimeError(f"the process of {checkout} has ended with status {process.wait()}")
            return float(answer)

        return turn, lambda: (process.stdin.close(), process.wait(), process.stdout.close())

    return start


def _command(*words: str) -> Callable[[Path], tuple[Turn, Callable[[], Any]]]:
    """A command of ``python -m seg_node`` in a checkout; ``OUT`` becomes a new folder."""

    def start(checkout: Path) -> tuple[Turn, Callable[[], Any]]:
        def turn() -> float:
            with tempfile.TemporaryDirectory() as folder:
                command = [word.replace("OUT", folder) for word in words]
                started = _children()
                subprocess.run(
                    [sys.executable, "-m", "seg_node", *command],
                    cwd=checkout,
                    env=os.environ | {"PYTHONPATH": str(checkout)},
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                return _children() - started

        return turn, lambda: None

    return start


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


_KINDS = {
    "decode": _worker("decode"),
    "preload": _worker("preload"),
    "info": _command("bag", "info", DRIVE),
    "label": _command("label", DRIVE, "--out", "OUT/labelled", "--model", "fpn_resnet50", "--engine", "openvino"),
}
"""What is compared. ``decode`` is of 1280x720 JPEG images, as many in a turn as ``_FRAMES``; ``preload`` is the shipped
drive in memory; the others are commands with it, the start of Python included."""


def _decoding() -> Callable[[], Any]:
    import cv2
    import numpy as np

    try:
        from seg_node.core.images import to_bgr
    except ImportError:
        # Its name in older checkouts.
        from seg_node.core.images import compressed_to_bgr as to_bgr

    coarse = np.random.default_rng(0).integers(0, 256, (45, 80, 3), np.uint8)
    noise = np.random.default_rng(1).integers(-8, 9, (720, 1280, 3))
    image = np.clip(cv2.resize(coarse, (1280, 720)).astype(int) + noise, 0, 255).astype(np.uint8)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    message = SimpleNamespace(format="jpeg", data=data)
    return lambda: [to_bgr(message) for _ in range(_FRAMES)]


def _preloading() -> Callable[[], Any]:
    try:
        from seg_node.bags.drive import open_drive
    except ImportError:
        from seg_node.replay.bag import open_drive

    return lambda: open_drive(DRIVE)


_TASKS = {"decode": _decoding, "preload": _preloading}


def _work(task: str) -> int:
    import time

    work = _TASKS[task]()
    for _ in sys.stdin:
        started = time.process_time()
        work()
        print(time.process_time() - started, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(_work(sys.argv[2]) if sys.argv[1:2] == ["--worker"] else main())
