"""One surface in a process of its own, so that what kills it is found by the process that started it.

Prints a line of JSON after each batch of inputs. Before each input its index and the time go into a file that the
parent maps, too: it knows which input has killed the process, or does not end.
"""

import argparse
import faulthandler
import json
import mmap
import os
import resource
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

from surfaces import make_surface

STATE = struct.Struct("<Qd")
"""Index of the input that is worked on, and ``time.monotonic`` at which that began."""

IDLE = 2**64 - 1
"""Index between two inputs."""

_MEMORY = 2 * 2**30
"""Bytes that the inputs may allocate at once; a bomb is found by what it asks for, not by what the machine bears."""


def generator(seed: int, index: int) -> Random:
    """The random generator of one input: the same for the same numbers, wherever it is drawn."""
    return Random(seed << 40 | index)


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Feed inputs; see the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("surface")
    parser.add_argument("folder", type=Path, help="scratch; holds the state")
    for name in ("seed", "start", "stop", "batch"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--skip", type=int, nargs="*", default=[], help="inputs that are known to kill")
    options = parser.parse_args()
    # Libraries of C write to the standard output, too: the reports get it for themselves.
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    faulthandler.enable((options.folder / "trace").open("w"))
    with (options.folder / "state").open("r+b") as file:
        state = mmap.mmap(file.fileno(), STATE.size)
    scratch = options.folder / "scratch"
    # The wheels of ROS 2 start the interpreter once more when rclpy is imported.
    scratch.mkdir(exist_ok=True)
    surface = make_surface(options.surface, scratch)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, resource.RLIM_INFINITY))
    for first in range(options.start, options.stop, options.batch):
        last = min(first + options.batch, options.stop)
        ends: Counter[str] = Counter()
        findings: list[dict[str, object]] = []
        slowest = (0.0, first)
        for index in sorted(set(range(first, last)) - set(options.skip)):
            case = surface.draw(generator(options.seed, index))
            started = time.monotonic()
            state[:] = STATE.pack(index, started)
            try:
                ends[surface.feed(case)] += 1
            except Exception as error:
                findings.append({"index": index, "kind": type(error).__name__, "detail": str(error)[:500]})
            slowest = max(slowest, (time.monotonic() - started, index))
            state[:] = STATE.pack(IDLE, 0.0)
        seconds, index = slowest
        batch = {
            "stop": last,
            "ends": ends,
            "findings": findings,
            "slowest": [1000 * seconds, index],
            "rss": resident(),
        }
        print(json.dumps(batch), file=reports)
    surface.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
