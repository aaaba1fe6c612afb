"""What the fast way of messages brings: the node beside plain rclpy, on the shipped drive under load.

    python benchmarks/plain_path.py [--pairs 4] [--rate 1.5x] [--out plain_path.json]

Each run is a fresh `seg_node replay`, in the order A B B A: once as it is, once with ``SEG_NODE_PLAIN_RCLPY=1``, which
concerns player, node and monitor alike. The quotients are medians over the pairs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from setting import REPOSITORY
from tqdm import tqdm

from seg_node.core.bundle import DEFAULT_MODEL
from seg_node.core.machine import setting
from seg_node.core.report.tables import aligned, number

KINDS = ("fast", "plain")
FIGURES = {
    "masks/s": lambda run: run["masks_per_second"],
    "camera to mask, p50 ms": lambda run: run["camera_to_mask"]["p50"],
    "camera to mask, p99 ms": lambda run: run["camera_to_mask"]["p99"],
    "cores of the node": lambda run: (run["usage"] or {}).get("cpu_cores"),
}
"""What is compared, by name; of the result of a replay."""


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4, help="pairs of runs, at least 1 (default: %(default)s)")
    parser.add_argument("--rate", default="recorded", help="as `seg_node replay` takes it (default: %(default)s)")
    parser.add_argument("--frames", type=int, metavar="N", help="play only so many frames")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("plain_path.json"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.pairs < 1:
        parser.error(f"--pairs is {options.pairs}; at least 1 is needed")
    about = setting()
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    order = [kind for pair in range(options.pairs) for kind in KINDS[:: -1 if pair % 2 else 1]]
    for kind in tqdm(order, unit="run"):
        runs[kind].append(replay(kind, options))
    found = compared(runs)
    document = {"machine": about, "pairs": options.pairs, "rate": options.rate, "figures": found, "runs": runs}
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    rows = [
        [name, *(number(row[kind], 2) for kind in KINDS), number(row["plain / fast"], 3)] for name, row in found.items()
    ]
    print(f"{aligned((['', *KINDS, 'plain / fast'], rows))}\n\nwritten: {options.out}")
    return 0


def replay(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """One process: what ``seg_node replay`` writes as its result, as far as it matters here."""
    environment = os.environ | ({"SEG_NODE_PLAIN_RCLPY": "1"} if kind == "plain" else {})
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "seg_node", "replay", "--no-video", "--out", folder]
        command += ["--model", options.model, "--rate", options.rate]
        command += [] if options.frames is None else ["--frames", str(options.frames)]
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        result = json.loads(Path(folder, "result.json").read_text())
    return {name: result[name] for name in ("received", "masked", "masks_per_second", "camera_to_mask", "usage")}


def compared(runs: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float | None]]:
    """Medians of both kinds, and the median quotient of the pairs, by figure; None where nothing is known."""
    found = {}
    for name, of in FIGURES.items():
        values = {kind: [of(run) for run in runs[kind]] for kind in KINDS}
        known = [(a, b) for a, b in zip(*values.values(), strict=True) if a and b]
        row = {kind: median(pair[i] for pair in known) if known else None for i, kind in enumerate(KINDS)}
        found[name] = row | {"plain / fast": median(b / a for a, b in known) if known else None}
    return found


if __name__ == "__main__":
    sys.exit(main())
