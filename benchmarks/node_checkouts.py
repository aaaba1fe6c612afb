"""The node of two checkouts of this repository, one against the other, on the same drive under load, and idle.

    python benchmarks/node_checkouts.py BEFORE AFTER [--pairs 6] [--model fpn_resnet50] [--out node_checkouts.json]

Both run in this environment, in the order A B B A. Each turn is a fresh `seg_node replay` of that checkout, and a fresh
`seg_node node` that no camera talks to. The quotients are medians over the pairs, and the interval is Student's over
their logarithms.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from setting import REPOSITORY, quotient
from tqdm import tqdm

from seg_node.core.machine import setting
from seg_node.core.report.tables import aligned, number
from seg_node.rig.node_process import default_environment
from seg_node.rig.usage import ProcessUsage

DRIVE = Path("rosbags", "synthetic_drive")
_ACTIVE_S = 60.0
"""Longest time until a node is active."""


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="folder of a checkout")
    parser.add_argument("after", type=Path, help="folder of another one")
    parser.add_argument("--pairs", type=int, default=6, help="at least 2 (default: %(default)s)")
    parser.add_argument("--rate", default="recorded", help="as `seg_node replay` takes it (default: %(default)s)")
    parser.add_argument("--frames", type=int, metavar="N", help="play only so many frames")
    parser.add_argument(
        "--idle", type=float, default=10.0, metavar="S", help="seconds of idling (default: %(default)s)"
    )
    parser.add_argument("--model", default="fpn_resnet50", help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    if options.pairs < 2:
        parser.error(f"--pairs is {options.pairs}; at least 2 are needed")
    checkouts = {"before": options.before.resolve(), "after": options.after.resolve()}
    about = setting()
    turns: dict[str, list[dict[str, float]]] = {side: [] for side in checkouts}
    order = [side for pair in range(options.pairs) for side in list(checkouts)[:: -1 if pair % 2 else 1]]
    for side in tqdm(order, unit="turn"):
        turns[side].append(replay(checkouts[side], options) | {"idle, % of a core": idle(checkouts[side], options)})
    found = {
        name: compared([[turn[name] for turn in turns[side]] for side in checkouts]) for name in turns["before"][0]
    }
    rows = [[name, *(number(row[part], 3) for part in row)] for name, row in found.items()]
    print(aligned((["", *found["masks/s"]], rows)))
    if options.out:
        commits = {side: _commit(path) for side, path in checkouts.items()}
        document = {"machine": about, "commits": commits, "model": options.model, "pairs": options.pairs}
        document |= {"figures": found, "turns": turns}
        options.out.write_text(json.dumps(document, indent=1) + "\n")
        print(f"\nwritten: {options.out}")
    return 0


def replay(checkout: Path, options: argparse.Namespace) -> dict[str, float]:
    """What a replay in a checkout reports."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["replay", "--bag", str(REPOSITORY / DRIVE), "--no-video", "--out", folder, "--model", options.model]
        command += ["--rate", options.rate] + ([] if options.frames is None else ["--frames", str(options.frames)])
        done = subprocess.run(
            [sys.executable, "-m", "seg_node", *command],
            cwd=checkout,
            env=_environment(checkout),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{checkout}: {' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        result = json.loads(Path(folder, "result.json").read_text())
    return {
        "masks/s": result["masks_per_second"],
        "camera to mask, p50 ms": result["camera_to_mask"]["p50"],
        "camera to mask, p99 ms": result["camera_to_mask"]["p99"],
        "cores of the node": result["usage"]["cpu_cores"],
    }


def idle(checkout: Path, options: argparse.Namespace) -> float:
    """Percent of a core that an active node takes which has no camera."""
    command = [sys.executable, "-m", "seg_node", "node", "--ros-args", "-p", f"model:={options.model}"]
    with tempfile.TemporaryFile("w+") as log:
        node = subprocess.Popen(command, cwd=checkout, env=_environment(checkout), stdout=log, stderr=log)
        try:
            began = time.monotonic()
            while "active" not in _read(log):
                if node.poll() is not None or time.monotonic() - began > _ACTIVE_S:
                    raise RuntimeError(f"{checkout}: the node did not become active:\n{_read(log)}")
                time.sleep(0.2)
            # What follows the start is not idling.
            time.sleep(2.0)
            usage = ProcessUsage(node.pid)
            first = usage.sample()
            time.sleep(options.idle)
            last = usage.sample()
            return 100 * (last.cpu_s - first.cpu_s) / ((last.time - first.time) / 1e9)
        finally:
            node.send_signal(signal.SIGINT)
            node.wait(20)


def compared(values: list[list[float]]) -> dict[str, float]:
    """Medians of both sides, the median quotient of the pairs, and its interval."""
    before, after = np.array(values, float)
    found = quotient(after / before)
    found["after / before"] = found.pop("median")
    return {"before": float(np.median(before)), "after": float(np.median(after)), **found}


def _environment(checkout: Path) -> dict[str, str]:
    return os.environ | default_environment() | {"PYTHONPATH": str(checkout)}


def _read(log: Any) -> str:
    log.seek(0)
    return log.read()


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
