"""Waiting for the next frame instead of beginning with one that has waited long: what the node's ``patience`` brings.

    python benchmarks/patience.py [--model BUNDLE] [--patience 0 1] [--hz 10 30] [--seconds 12] [--repetitions 2]

The live node masks 1280x720 frames that come faster than it can; the values of ``patience`` take turns, A B A B, in a
fresh process each.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nodes import Played, played
from setting import HD, isolated, profile_environment, python_path, street

from seg_node.rig.bench import Bench
from seg_node.rig.node_process import NodeProcess
from seg_node.rig.schedule import Rate, make_schedule


def measure(model: str, patience: float, rates: Sequence[float], seconds: float) -> list[Played]:
    """One run for each rate, in Hz, with a node in a fresh process."""
    environment = profile_environment("shipped") | python_path()
    return isolated(_measure, model, patience, tuple(rates), seconds, environment=environment)


def _measure(model: str, patience: float, rates: tuple[float, ...], seconds: float) -> list[Played]:
    drive = street(HD, 30)
    with tempfile.TemporaryDirectory() as folder:
        parameters = {"model": model, "patience": patience}
        with NodeProcess(Path(folder, "node.log"), parameters, namespace="/ours") as node:
            node.wait_for("active")
            with Bench(drive, node, Path(folder)) as bench:
                return [
                    played(
                        f"{hz:g} Hz",
                        hz,
                        bench.play(make_schedule(drive, Rate("hz", hz), frames=round(hz * seconds)), warm_up=round(hz)),
                    )
                    for hz in rates
                ]


def row_text(patience: float, runs: Sequence[Played]) -> str:
    """Runs of one rate, of all repetitions, for people."""
    p50, p99 = np.percentile(np.concatenate([run.latency for run in runs]), [50, 99])
    masks = ", ".join(f"{run.masks_per_s:.2f}" for run in runs)
    return f"{runs[0].name:>6}, patience {patience:g}: camera to mask {p50:.0f} / {p99:.0f} ms; {masks} masks/s"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fpn_resnet50", metavar="BUNDLE", help="default: %(default)s")
    parser.add_argument("--patience", nargs="+", type=float, default=[0.0, 1.0], help="default: 0 and 1")
    parser.add_argument("--hz", nargs="+", type=float, default=[10.0, 30.0], help="default: 10 and 30")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each run, default: %(default)s")
    parser.add_argument("--repetitions", type=int, default=2, help="default: %(default)s")
    options = parser.parse_args()
    found: dict[float, list[list[Played]]] = {patience: [] for patience in options.patience}
    for _ in range(options.repetitions):
        for value in options.patience:
            found[value].append(measure(options.model, value, options.hz, options.seconds))
    for rate in range(len(options.hz)):
        for value, repetitions in found.items():
            print(row_text(value, [runs[rate] for runs in repetitions]))
