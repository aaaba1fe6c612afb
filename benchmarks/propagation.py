"""What the mask of now gives to a decision module, and what it costs, in the real node.

    python benchmarks/propagation.py [--bag DRIVE ...] [--model BUNDLE] [--threads N] [--pairs N] --out FILE

Each drive is played at its recorded rate into a node of its own process, in pairs: once with nobody who listens to
``~/mask_now``, once with a listener and a forecast of one frame period, in the order A B B A. Drives need ground truth;
``seg_node bag from-images`` and ``python -m seg_training synthetic-bag`` make some.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from setting import REPOSITORY
from tqdm import tqdm

from seg_node.bags.drive import open_drive
from seg_node.core.bundle import DEFAULT_MODEL
from seg_node.core.machine import setting
from seg_node.core.statistics import student_interval


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bag", nargs="+", type=Path, default=[REPOSITORY / "rosbags" / "synthetic_drive"])
    parser.add_argument("--model", default=DEFAULT_MODEL, help="default: %(default)s")
    parser.add_argument("--engine", default="auto", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="for one inference (default: the engine's choice)")
    parser.add_argument("--pairs", type=int, default=3, help="processes without and with a listener; at least 2")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    if options.pairs < 2:
        parser.error(f"--pairs is {options.pairs}; an interval needs at least 2")
    rows = [measure(bag, options) for bag in options.bag]
    options.out.write_text(
        json.dumps({"machine": setting(), "model": options.model, "threads": options.threads, "rows": rows}, indent=1)
    )
    print("\n".join(text(row) for row in rows) + f"\n\nwritten: {options.out}")
    return 0


def measure(bag: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Play one drive in pairs.

    Returns:
        Name, rate in Hz, the two lists of results as ``replay`` writes them, and the ``gain`` of streaming ``miou_7``
        and of single categories in points, with a 99 % interval over the pairs.
    """
    rate = open_drive(bag).rate
    runs: dict[str, list[dict[str, Any]]] = {"alone": [], "listened": []}
    order = [kind for pair in range(options.pairs) for kind in list(runs)[:: -1 if pair % 2 else 1]]
    for kind in tqdm(order, bag.name, unit="run"):
        runs[kind].append(_replay(bag, options, 1000 / rate if kind == "listened" else None))
    gains = {name: _gain(runs, name) for name in ("miou_7", "human", "vehicle", "object")}
    return {"drive": bag.name, "rate_hz": rate, "gain": gains, **runs}


def _replay(bag: Path, options: argparse.Namespace, forecast: float | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "seg_node", "replay", "--bag", str(bag), "--no-video", "--out", folder]
        command += ["--model", options.model, "--engine", options.engine, "--threads", str(options.threads)]
        command += [] if forecast is None else ["--forecast", f"{forecast:.2f}"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        result = json.loads(Path(folder, "result.json").read_text())
    kept = ("sent", "received", "masked", "masks_per_second", "camera_to_mask", "stages", "usage", "streaming", "now")
    return {name: result[name] for name in kept} | {"offline": result["accuracy"]}


def _gain(runs: dict[str, list[dict[str, Any]]], name: str) -> dict[str, float | None]:
    """Difference of ``~/mask_now`` with a listener to ``~/mask`` without one, percent points, Student's interval."""
    before = [_score(run["streaming"]["mask"], name) for run in runs["alone"]]
    after = [_score(run["streaming"]["mask_now"], name) for run in runs["listened"]]
    known = [(a, b) for a, b in zip(after, before, strict=True) if a is not None and b is not None]
    differences = np.array([a - b for a, b in known])
    if len(differences) < 2:
        return {"mean": None, "low": None, "high": None}
    low, high = student_interval(differences, 0.99)
    return {"mean": float(differences.mean()), "low": low, "high": high}


def _score(scored: dict[str, Any], name: str) -> float | None:
    return scored[name] if name in scored else scored["iou"][name]


def text(row: dict[str, Any]) -> str:
    """One drive in a few lines."""
    alone, listened = row["alone"], row["listened"]

    def mean(runs: list[dict[str, Any]], *path: str) -> float:
        values = runs
        for key in path:
            values = [value[key] for value in values]
        return float(np.mean(values))

    gains = ", ".join(
        f"{name} {gain['mean']:+.1f} ({gain['low']:+.1f} to {gain['high']:+.1f})"
        for name, gain in row["gain"].items()
        if gain["mean"] is not None
    )
    return "; ".join(
        [
            f"{row['drive']}, {row['rate_hz']:.0f} Hz",
            f"streaming miou_7 of ~/mask alone {mean(alone, 'streaming', 'mask', 'miou_7'):.1f}, of ~/mask_now"
            f" {mean(listened, 'streaming', 'mask_now', 'miou_7'):.1f}, offline {mean(alone, 'offline', 'miou_7'):.1f}",
            f"masks/s {mean(alone, 'masks_per_second'):.1f} and {mean(listened, 'masks_per_second'):.1f}",
            f"inference {mean(alone, 'stages', 'inference', 'p50'):.0f} and"
            f" {mean(listened, 'stages', 'inference', 'p50'):.0f} ms",
            f"~/mask_now for {100 * mean(listened, 'now', 'covered'):.1f} % of the frames, after"
            f" {mean(listened, 'now', 'camera_to_mask', 'p50'):.1f} ms,"
            f" p99 {mean(listened, 'now', 'camera_to_mask', 'p99'):.1f}",
            f"gain {gains}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
