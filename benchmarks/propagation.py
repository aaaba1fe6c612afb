"""What the mask of now gives to a decision module, and what it costs, in the real node.

    python benchmarks/propagation.py [--drive NAME ...] [--bag DRIVE ...] [--model BUNDLE] [--threads N] [--pairs N]
        --out FILE

Each drive is played at its recorded rate into a node of its own process, in pairs: once with nobody who listens to
``~/mask_now``, once with a listener and a forecast of one frame period, in the order A B B A. Without --drive and --bag
it plays all that ``drives.py`` knows: the shipped drive, CamVid val, and made-up drives at dusk, in rain, in fog and
with turns, on which nothing was tuned. Six drives of ten seconds and eight pairs take about forty minutes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import drives
import numpy as np
from setting import REPOSITORY
from tqdm import tqdm

from seg_node.bags.drive import open_drive
from seg_node.core.bundle import DEFAULT_MODEL
from seg_node.core.machine import busy_cores, setting
from seg_node.core.report.tables import aligned, interval, number
from seg_node.core.statistics import mean_known, student_interval
from seg_node.core.taxonomy import SCORED_NAMES

LEVEL = 0.99
"""Confidence of the intervals of gains."""
KINDS = ("alone", "listened")
"""Runs of a pair: nobody listens to ``~/mask_now``, somebody does."""
_SHOWN = ("miou_7", "human", "vehicle")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drive", nargs="+", choices=list(drives.known()), help="known drives")
    parser.add_argument("--bag", nargs="+", type=Path, help="other drives with ground truth")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of made-up drives (default: %(default)s)")
    parser.add_argument("--frames", type=int, metavar="N", help="play only so many frames of each drive")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="default: %(default)s")
    parser.add_argument("--engine", default="auto", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="for one inference (default: the engine's choice)")
    parser.add_argument("--pairs", type=int, default=8, help="pairs of processes, at least 2 (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    if options.pairs < 2:
        parser.error(f"--pairs is {options.pairs}; an interval needs at least 2")
    known = drives.known(options.seconds)
    names = options.drive or ([] if options.bag else list(known))
    found: dict[str, Any] = {
        "machine": setting() | {"busy_cores": busy_cores()},
        "level": LEVEL,
        "rows": [],
        "missing": [],
    }
    found |= {name: getattr(options, name) for name in ("model", "engine", "threads", "pairs", "frames")}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        bags = {name: known[name](Path(folder)) for name in names} | {bag.name: bag for bag in options.bag or ()}
        for name, bag in bags.items():
            if bag is None:
                found["missing"].append(name)
                print(f"{name}: left out, its data is not here (SEG_NODE_DATA)")
                continue
            found["rows"].append({"drive": name} | measure(bag, options))
            # What is measured is kept, however long the rest takes.
            options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{text(found['rows'])}\n\nwritten: {options.out}")
    return 0


def measure(bag: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Play one drive in pairs.

    Returns:
        ``rate_hz``; the two lists of ``runs``, see ``_replay``; and what ``summary`` makes of them.
    """
    rate = open_drive(bag).rate
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    order = [kind for pair in range(options.pairs) for kind in KINDS[:: -1 if pair % 2 else 1]]
    for kind in tqdm(order, bag.name, unit="run"):
        runs[kind].append(_replay(bag, options, 1000 / rate if kind == "listened" else None))
    return {"rate_hz": rate, **summary(runs), "runs": runs}


def _replay(bag: Path, options: argparse.Namespace, forecast: float | None) -> dict[str, Any]:
    """One process: what ``seg_node replay`` writes as its result, as far as it matters here."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "seg_node", "replay", "--bag", str(bag), "--no-video", "--out", folder]
        command += ["--model", options.model, "--engine", options.engine, "--threads", str(options.threads)]
        command += [] if forecast is None else ["--forecast", f"{forecast:.2f}"]
        command += [] if options.frames is None else ["--frames", str(options.frames)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        result = json.loads(Path(folder, "result.json").read_text())
    if result["streaming"] is None:
        raise RuntimeError(f"{bag} has no ground truth; `seg_node bag info` tells what it holds")
    kept = ("sent", "received", "masked", "masks_per_second", "camera_to_mask", "stages", "usage", "streaming", "now")
    return {name: result[name] for name in kept} | {"offline": result["accuracy"]}


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Figures of one drive.

    Args:
        runs: of ``KINDS``, those of one place in their lists are a pair.

    Returns:
        ``figures``: for ``miou_7`` and each category the means in percent of ``mask`` (alone), ``mask_listened``,
        ``mask_now`` and ``masked`` (frames against their own masks), and the ``gain`` of ``mask_now`` over ``mask`` in
        points with its interval; ``covered`` (0 to 1), ``dropped``, frames by the reason for which they have no mask of
        now, ``camera_to_mask_now`` with ``p50`` and ``p99`` in milliseconds, and ``masks_per_second``, ``inference_ms``
        and ``cpu_cores`` of both kinds: means over the runs.
    """
    alone, listened = runs["alone"], runs["listened"]
    figures = {}
    for name in ("miou_7", *SCORED_NAMES):
        scored = {
            "mask": [_score(run["streaming"]["mask"], name) for run in alone],
            "mask_listened": [_score(run["streaming"]["mask"], name) for run in listened],
            "mask_now": [_score(run["streaming"]["mask_now"], name) for run in listened],
            "masked": [_score(run["offline"], name) for run in alone if run["offline"]],
        }
        figures[name] = {kind: mean_known(values) for kind, values in scored.items()}
        figures[name]["gain"] = gain(scored["mask"], scored["mask_now"])
    nows = [run["now"] for run in listened]
    times = [now["camera_to_mask"] for now in nows if now["camera_to_mask"]]
    return {
        "figures": figures,
        "covered": mean_known(now["covered"] for now in nows),
        "dropped": {why: mean_known(now["dropped"][why] for now in nows) for why in nows[0]["dropped"]},
        "camera_to_mask_now": {quantile: mean_known(time[quantile] for time in times) for quantile in ("p50", "p99")},
        "masks_per_second": {kind: mean_known(run["masks_per_second"] for run in runs[kind]) for kind in KINDS},
        "inference_ms": {
            kind: mean_known(run["stages"]["inference"]["p50"] for run in runs[kind] if "inference" in run["stages"])
            for kind in KINDS
        },
        "cpu_cores": {kind: mean_known((run["usage"] or {}).get("cpu_cores") for run in runs[kind]) for kind in KINDS},
    }


def gain(before: list[float | None], after: list[float | None]) -> dict[str, float | None]:
    """Mean difference of pairs with Student's interval, percent points; None with fewer than two pairs."""
    differences = np.array([b - a for a, b in zip(before, after, strict=True) if a is not None and b is not None])
    if len(differences) < 2:
        return {"mean": None, "low": None, "high": None}
    low, high = student_interval(differences, LEVEL)
    return {"mean": float(differences.mean()), "low": low, "high": high}


def _score(scored: dict[str, Any], name: str) -> float | None:
    return scored[name] if name in scored else scored["iou"][name]


def text(rows: list[dict[str, Any]]) -> str:
    """All drives as a table."""
    header = ["drive", "Hz", "inference ms", "masks/s", "with", "covered %", "now p50 ms", "p99 ms"]
    header += [part for name in _SHOWN for part in (name, "now", f"gain, {100 * LEVEL:.0f} % interval")]
    lines = []
    for row in rows:
        pace, times = row["masks_per_second"], row["camera_to_mask_now"]
        cells = [row["drive"], number(row["rate_hz"], 0), number(row["inference_ms"]["alone"], 0)]
        cells += [number(pace[kind]) for kind in KINDS]
        cells += [number(None if row["covered"] is None else 100 * row["covered"])]
        cells += [number(times["p50"]), number(times["p99"])]
        for name in _SHOWN:
            figure = row["figures"][name]
            found = figure["gain"]
            shown = "-" if found["mean"] is None else interval(found["mean"], found["low"], found["high"])
            cells += [number(figure["mask"]), number(figure["mask_now"]), shown]
        lines.append(cells)
    return aligned((header, lines))


if __name__ == "__main__":
    sys.exit(main())
