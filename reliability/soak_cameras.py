"""Keeps one node with five cameras, four of them ill, at work; reports what grows, and whether the books balance:

    python reliability/soak_cameras.py [--minutes 30] [--out FOLDER]

One camera is well. Beside it one floods at 200 Hz, one freezes, one sends what is no image, and one comes and goes.
Somebody listens to all masks of now. The exit status is 1 if books do not balance, if the well camera has a fault, or,
from ``JUDGED_FROM_MIN`` on, if memory, handles or threads grow.
"""

import argparse
import json
import sys
import threading
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from bundles import constant_bundle
from camera_rows import HZ, SIZE, at, drive, noise
from scene import prepare
from soak import JUDGED_FROM_MIN, Sample, judge, sample
from tqdm import tqdm

from seg_node.commands.options import exit_on_sigterm
from seg_node.core.machine import setting
from seg_node.core.timing import FAULTS
from seg_node.rig.cameras import CameraRun, Feed, Traffic
from seg_node.rig.node_process import NodeProcess

NAMESPACE = "/soak"
WELL = "front"
_PIECE_S = 60.0
"""Books are balanced after each."""


def feeds(node: str) -> list[Feed]:
    """The cameras."""
    bursts = [instant for instant in at(HZ, 2.0) if instant % 1.0 < 0.5]
    drives = {
        WELL: drive(noise(30), at(HZ, 1.0)),
        "flooding": drive(noise(100), at(200.0, 0.5)),
        "frozen": drive(noise(1) * 30, at(HZ, 1.0)),
        "rubbish": drive(noise(30, "no_such_encoding"), at(HZ, 1.0)),
        "coming_and_going": drive(noise(len(bursts)), bursts),
    }
    return [Feed(name, one, f"{NAMESPACE}/{name}/image", f"{node}/{name}") for name, one in drives.items()]


def soak(minutes: float, folder: Path) -> dict[str, Any]:
    """Run; returns what the JSON holds."""
    names = [feed.name for feed in feeds("")]
    parameters = {"model": str(constant_bundle(folder, "one", 1).path), "engine": "onnxruntime", "cameras": names}
    parameters |= {f"{name}.warm_up_size": list(SIZE) for name in names}
    samples: list[Sample] = []
    rounds: list[list[CameraRun]] = []
    done = threading.Event()
    with NodeProcess(folder / "node.log", parameters, namespace=NAMESPACE) as node:
        node.wait_for("active")
        with Traffic(feeds(node.full_name), now=True, check=node.check) as traffic:

            def watch() -> None:
                while not done.wait(1.0):
                    samples.append(sample(node.pid))

            watcher = threading.Thread(target=watch)
            watcher.start()
            try:
                pieces = max(1, round(60 * minutes / _PIECE_S))
                for _ in tqdm(range(pieces), unit="piece"):
                    rounds.append(traffic.play(60 * minutes / pieces))
            finally:
                done.set()
                watcher.join()
    return report(minutes, samples, rounds)


def report(minutes: float, samples: list[Sample], rounds: list[list[CameraRun]]) -> dict[str, Any]:
    """Books of each camera over all pieces, trends and verdicts."""
    cameras = {}
    for runs in zip(*rounds, strict=True):
        outcomes = sum((Counter(run.outcomes) for run in runs), Counter())
        cameras[runs[0].name] = {
            "sent": sum(run.sent for run in runs),
            "outcomes": dict(outcomes),
            "unbalanced": sum(not run.balanced for run in runs),
            "masks_per_s": float(np.mean([run.masks_per_s for run in runs])),
            "nows_per_s": float(np.mean([run.nows_per_s for run in runs])),
            "p99_ms": None if runs[0].p99_ms is None else float(np.median([run.p99_ms or np.nan for run in runs])),
        }
    trends, verdicts = judge(samples)
    well = cameras[WELL]["outcomes"]
    checks = {
        "the books of each camera balance": not any(camera["unbalanced"] for camera in cameras.values()),
        "the well camera has no fault": not any(well.get(fault.value) for fault in FAULTS),
        "the well camera is masked": bool(well.get("masked")),
        "nothing that is no image is masked": {*cameras["rubbish"]["outcomes"]} <= {"undecodable", "superseded"},
    }
    judged = minutes >= JUDGED_FROM_MIN
    return {
        "minutes": minutes,
        "machine": setting(),
        "cameras": cameras,
        "checks": checks,
        "trends": trends,
        "verdicts": verdicts if judged else {},
        "holds": all(checks.values()) and (all(verdicts.values()) or not judged),
        "samples": [asdict(one) for one in samples],
    }


def main() -> int:
    """Run and write ``soak_cameras.json``; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("soak_output"), help="folder (default: %(default)s)")
    options = parser.parse_args()
    result = soak(options.minutes, prepare(options.out))
    file = options.out / "soak_cameras.json"
    file.write_text(json.dumps(result) + "\n")
    for name, camera in result["cameras"].items():
        print(f"{name}: {camera['sent']} sent, {camera['outcomes']}, {camera['masks_per_s']:.1f} masks/s")
    print(f"trends: {json.dumps(result['trends'])}")
    for verdict, holds in {**result["checks"], **result["verdicts"]}.items():
        print(f"{'ok ' if holds else 'NOT'} {verdict}")
    print(file)
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    exit_on_sigterm()
    sys.exit(main())
