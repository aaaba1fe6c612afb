"""What an ill camera takes from the others of its node: masks a second, and the 99th percentile from camera to mask.

    python benchmarks/ill_cameras.py [--cycles 12] [--seconds 8] [--states STATE ...] [--out ill_cameras.json]

One node has four cameras, more than the processor masks. Three of them play the shipped drive at its recorded rate. In
turns the fourth does so too, and is ill in each way: it floods at 200 Hz, freezes, sends what is no image, comes and
goes. Every other cycle has its turns in reverse order. Each turn of an ill camera is held against that of the
well one in its cycle: the three others' sum of masks, and the mean of their percentiles. Quotients are medians over
the cycles, and the interval is Student's over their logarithms.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from setting import quotient
from tqdm import tqdm

from seg_node.bags.drive import Drive, open_drive
from seg_node.bags.images import frame_size
from seg_node.commands.options import exit_on_sigterm
from seg_node.commands.replay_cameras import node_parameters
from seg_node.core.bundle import DEFAULT_MODEL
from seg_node.core.images import EncodedPixels
from seg_node.core.machine import busy_cores, setting
from seg_node.core.report.tables import aligned, bounded, number
from seg_node.core.share import shared_path
from seg_node.rig.node_process import NodeProcess, default_environment
from seg_node.rig.schedule import RECORDED, Rate

NAMES = ("front", "left", "right", "rear")
FOURTH = "rear"
WELL = "well"
STATES = ("floods", "freezes", "sends rubbish", "comes and goes")
_FLOOD_HZ = 200.0
_AWAY_FROM_S = 0.5
"""Of each second."""


def fourths(drive: Drive) -> dict[str, tuple[Drive, Rate]]:
    """What the fourth camera plays, by how it is."""

    def sending(images: Sequence[EncodedPixels]) -> Drive:
        frames = [dataclasses.replace(frame, image=image) for frame, image in zip(drive.frames, images, strict=True)]
        return dataclasses.replace(drive, frames=frames)

    first, count = drive.frames[0], len(drive.frames)
    noise = np.random.default_rng(0).integers(0, 256, (count, 20_000), np.uint8)
    present = [f for f in drive.frames if (f.log_time - first.log_time) / 1e9 % 1.0 < _AWAY_FROM_S]
    ill = (
        (drive, Rate("hz", _FLOOD_HZ)),
        (sending([first.image] * count), RECORDED),
        (sending([dataclasses.replace(first.image, data=data) for data in noise]), RECORDED),
        (dataclasses.replace(drive, frames=present), RECORDED),
    )
    return {WELL: (drive, RECORDED)} | dict(zip(STATES, ill, strict=True))


def measure(drive: Drive, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All turns: ``state`` of the fourth camera, ``cycle``, and ``cameras``, as ``CameraRun`` has them."""
    from seg_node.rig.cameras import Feed, Traffic

    played = {state: of for state, of in fourths(drive).items() if state in (WELL, *options.states)}

    def feed(position: int, state: str) -> Feed:
        name = NAMES[position]
        one, rate = played[state if name == FOURTH else WELL]
        topic, target = f"{namespace}/{name}/image/compressed", f"{node.full_name}/{name}"
        return Feed(name, one, topic, target, position / len(NAMES) / drive.rate, rate)

    namespace = f"/ill_cameras_{os.getpid()}"
    parameters = {"model": options.model, "camera_timeout_ms": 0.0} | node_parameters(dict.fromkeys(NAMES, drive))
    turns = []
    with (
        tempfile.TemporaryDirectory(prefix="ill_cameras_") as folder,
        NodeProcess(Path(folder, "node.log"), parameters, namespace=namespace) as node,
    ):
        node.wait_for("active")
        order = [(cycle, state) for cycle in range(options.cycles) for state in list(played)[:: -1 if cycle % 2 else 1]]
        for cycle, state in tqdm(order, unit="turn"):
            feeds = [feed(position, state) for position in range(len(NAMES))]
            with Traffic(feeds, check=node.check) as traffic:
                runs = traffic.play(options.seconds, options.warm_up)
            turns.append({"state": state, "cycle": cycle, "cameras": [dataclasses.asdict(run) for run in runs]})
    return turns


def others(turn: dict[str, Any]) -> tuple[float, float]:
    """Masks a second of the three others, and the mean of their 99th percentiles in milliseconds."""
    runs = [run for run in turn["cameras"] if run["name"] != FOURTH]
    return sum(run["masks_per_s"] for run in runs), mean(run["p99_ms"] or math.inf for run in runs)


def compared(turns: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By how the fourth camera is: the others' masks a second and percentile, and their quotients to the well turns.

    Args:
        turns: two cycles or more, with a well turn in each.

    Returns:
        ``masks_per_s`` and ``p99_ms``, medians; but for the well state ``masks`` and ``p99``, each a quotient with
        ``median``, ``low`` and ``high``.
    """
    by_state: dict[str, dict[int, tuple[float, float]]] = {}
    for turn in turns:
        by_state.setdefault(turn["state"], {})[turn["cycle"]] = others(turn)
    found: dict[str, dict[str, Any]] = {}
    for state, of in by_state.items():
        rates, percentiles = zip(*of.values(), strict=True)
        found[state] = {"masks_per_s": median(rates), "p99_ms": median(percentiles)}
        if state != WELL:
            for place, name in enumerate(("masks", "p99")):
                found[state][name] = quotient([of[cycle][place] / by_state[WELL][cycle][place] for cycle in of])
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status: 1 where a camera's books do not balance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=12, help="at least 2 (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each turn (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, default=2.0, help="seconds before it (default: %(default)s)")
    parser.add_argument(
        "--states", nargs="+", choices=STATES, default=STATES, metavar="STATE", help=f"default: {', '.join(STATES)}"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("ill_cameras.json"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.cycles < 2 or options.seconds <= 0:
        parser.error("--cycles must be at least 2, --seconds more than 0")
    os.environ.update(default_environment())
    drive = open_drive(shared_path("rosbags/synthetic_drive"))
    height, width = frame_size(drive)
    machine = setting() | {"busy_cores": busy_cores()}
    turns = measure(drive, options)
    document = {
        "ill_cameras": compared(turns),
        "machine": machine,
        "model": options.model,
        "hz": drive.rate,
        "size": [height, width],
        "seconds": options.seconds,
        "cycles": options.cycles,
        "turns": turns,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"\n{table(document['ill_cameras'])}\n\nwritten: {options.out}")
    return 0 if all(camera["balanced"] for turn in turns for camera in turn["cameras"]) else 1


def table(found: dict[str, dict[str, Any]]) -> str:
    """All states of the fourth camera, for people."""
    header = ["fourth camera", "masks/s", "p99, ms", "masks, of the well turn's", "p99, of the well turn's"]
    lines = []
    for state, row in found.items():
        quotients = [
            bounded(of["median"], of["low"], of["high"], 3) if (of := row.get(name)) else ""
            for name in ("masks", "p99")
        ]
        lines.append([state, number(row["masks_per_s"], 2), number(row["p99_ms"], 0), *quotients])
    return aligned((header, lines))


if __name__ == "__main__":
    exit_on_sigterm()
    sys.exit(main())
