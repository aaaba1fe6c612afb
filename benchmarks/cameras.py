"""Several cameras in one process against a process for each: who is served how often, who waits, what it costs.

    python benchmarks/cameras.py [--counts 1 2 4 8] [--seconds 30] [--rounds 2] [--model BUNDLE] --out FILE

Each camera plays the shipped drive at its recorded rate, a part of a frame period after the one before, so that all see
the same frames. Once a node with as many cameras masks them, once as many nodes with one camera each, in turns (A B B
A), with the same model, engine and machine. Nodes choose their threads themselves, as they do in a vehicle.

``one, now`` is the first with a listener on every ``~/NAME/mask_now``. Memory is the sum over the processes: resident
(RSS), in which each counts the pages that they share, and proportional (PSS), in which those count once.
"""

import argparse
import dataclasses
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from seg_node.bags.drive import Drive, open_drive
from seg_node.bags.images import frame_size
from seg_node.commands.options import exit_on_sigterm
from seg_node.commands.replay_cameras import node_parameters
from seg_node.core.bundle import DEFAULT_MODEL
from seg_node.core.machine import busy_cores, setting
from seg_node.core.report.tables import aligned, number
from seg_node.core.share import shared_path
from seg_node.rig.node_process import NodeProcess, default_environment
from seg_node.rig.usage import ProcessUsage

KINDS = ("one", "many")
NOW = "one, now"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status: 1 where a camera's books do not balance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8], help="cameras (default: 1 2 4 8)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each run (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds before it (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="of both kinds (default: %(default)s)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="default: %(default)s")
    parser.add_argument("--engine", default="auto", help="default: %(default)s")
    parser.add_argument("--no-now", action="store_true", help="leave out the run with listeners to the masks of now")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    if min(*options.counts, options.rounds, 1) < 1 or options.seconds <= 0:
        parser.error("--counts and --rounds must be at least 1, --seconds more than 0")
    os.environ.update(default_environment())
    drive = open_drive(shared_path("rosbags/synthetic_drive"))
    height, width = frame_size(drive)
    found: dict[str, Any] = {
        "cameras_of": "one process against many",
        "machine": setting() | {"busy_cores": busy_cores()},
        "model": options.model,
        "hz": drive.rate,
        "size": [height, width],
        "seconds": options.seconds,
        "rows": [],
    }
    for count in options.counts:
        for number_of_round in range(options.rounds):
            for kind in KINDS[:: -1 if number_of_round % 2 else 1]:
                found["rows"].append(measure(kind, count, drive, options))
                print(line(found["rows"][-1]), flush=True)
        if not options.no_now:
            found["rows"].append(measure(NOW, count, drive, options))
            print(line(found["rows"][-1]), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\n{table(found['rows'])}\n\nwritten: {options.out}")
    return 0 if all(camera["balanced"] for row in found["rows"] for camera in row["cameras"]) else 1


def measure(kind: str, count: int, drive: Drive, options: argparse.Namespace) -> dict[str, Any]:
    """One run of a kind: start the processes, play, measure, end them."""
    from seg_node.rig.cameras import Feed, Traffic, in_all

    names = [f"camera{number}" for number in range(count)]
    namespace = f"/cameras_{os.getpid()}"
    common = {"model": options.model, "engine": options.engine}
    with tempfile.TemporaryDirectory(prefix="cameras_") as folder, ExitStack() as stack:
        if kind == "many":
            nodes = [
                NodeProcess(
                    Path(folder, f"{name}.log"),
                    common | {"image_transport": "compressed", "warm_up_size": list(frame_size(drive))},
                    {"image/compressed": f"{name}/image/compressed"},
                    name=name,
                    namespace=namespace,
                )
                for name in names
            ]
        else:
            parameters = common | node_parameters(dict.fromkeys(names, drive))
            nodes = [NodeProcess(Path(folder, "node.log"), parameters, namespace=namespace)]
        for node in nodes:
            stack.enter_context(node)
        for node in nodes:
            node.wait_for("active")
        below = namespace if kind == "many" else nodes[0].full_name
        feeds = [
            Feed(
                name,
                drive,
                f"{namespace}/{name}/image/compressed",
                f"{below}/{name}",
                number_of_camera / count / drive.rate,
            )
            for number_of_camera, name in enumerate(names)
        ]
        usage = [ProcessUsage(node.pid) for node in nodes]
        traffic = stack.enter_context(
            Traffic(feeds, now=kind == NOW, check=lambda: [node.check() for node in nodes] and None)
        )
        before = [one.sample().cpu_s for one in usage]
        runs = traffic.play(options.seconds, options.warm_up)
        spent = sum(one.sample().cpu_s - was for one, was in zip(usage, before, strict=True))
        rss, pss = (sum(memory(node.pid)[what] for node in nodes) for what in ("Rss", "Pss"))
    inferences = [one.inference_ms for one in runs if one.inference_ms]
    return {
        "count": count,
        "kind": kind,
        "in_all": in_all(runs),
        "inference_ms": sum(inferences) / len(inferences) if inferences else None,
        "rss_mib": rss / 2**20,
        "pss_mib": pss / 2**20,
        "cpu_s_per_mask": spent / masked if (masked := sum(one.outcomes.get("masked", 0) for one in runs)) else None,
        "cameras": [dataclasses.asdict(one) for one in runs],
    }


def memory(pid: int) -> dict[str, int]:
    """Bytes of a process by name, as ``/proc/PID/smaps_rollup`` has them."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}


def line(row: dict[str, Any]) -> str:
    """A run in one line, for who waits; of the worst camera also what its longest time without a mask was spent on."""
    whole = row["in_all"]
    worst = max(row["cameras"], key=lambda camera: camera["blind_s"])
    spent = ", ".join(f"{what} {duration:.0f}" for what, duration in worst["blind_ms_by"].items())
    return (
        f"{row['count']} cameras, {row['kind']}: {whole['masks_per_s']:.2f} masks/s, blind {whole['blind_s']:.3f} s"
        f"{f' (ms: {spent})' if spent else ''}, inference {number(row['inference_ms'], 0)} ms, "
        f"Jain {whole['jain']:.4f}, {row['rss_mib']:.0f} MiB RSS, {row['pss_mib']:.0f} MiB PSS"
    )


def table(rows: Sequence[dict[str, Any]]) -> str:
    """All runs, for people."""
    header = ["cameras", "processes", "masks/s", "masks of now/s", "blind, s", "Jain", "RSS, MiB", "PSS, MiB"]
    lines = [
        [
            str(row["count"]),
            row["kind"],
            number(row["in_all"]["masks_per_s"], 2),
            number(row["in_all"]["nows_per_s"], 1),
            number(row["in_all"]["blind_s"], 2),
            number(row["in_all"]["jain"], 4),
            number(row["rss_mib"], 0),
            number(row["pss_mib"], 0),
        ]
        for row in rows
    ]
    return aligned((header, lines), texts=2)


if __name__ == "__main__":
    exit_on_sigterm()
    sys.exit(main())
