"""``seg_node compare --topics``: which model keeps up with several cameras at once."""

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from seg_node.bags.drive import Drive
from seg_node.commands import replay_cameras
from seg_node.commands.options import exit_on_sigterm, require_engine
from seg_node.compare.plan import Plan, turns
from seg_node.compare.statistics import LEVEL, Units
from seg_node.core.bundle import Bundle
from seg_node.core.errors import UserError
from seg_node.core.machine import busy_cores, setting
from seg_node.core.report.tables import aligned, interval, number
from seg_node.rig.schedule import RECORDED

_OF_ONE_CAMERA = {
    "attach": "--attach",
    "source": "--from",
    "video": "--video",
    "topic": "--topic",
    "mask_topic": "--mask-topic",
    "masks": "--masks",
    "truth_categories": "--truth-categories",
    "grouping": "--grouping",
    "rates": "--rates",
    "now": "--now",
    "forecast": "--forecast",
    "until_decided": "--until-decided",
}
"""Options of ``compare`` that make no sense with several cameras."""
_LEAST_PAIRS = 4
"""Fewest processes of each model from which a difference has an interval."""
_SEED = 20200824


def run(options: argparse.Namespace, bundles: Sequence[Bundle], names: Sequence[str]) -> int:
    """Compare; returns the exit status: 0, or 1 where a camera's books do not balance.

    Args:
        options: of ``compare``.
        bundles: the models.
        names: what each is called in the tables.

    Raises:
        UserError: options that are for one camera only, or topics that the bag does not have.
    """
    if given := [flag for name, flag in _OF_ONE_CAMERA.items() if getattr(options, name) is not None]:
        raise UserError(
            f"--topics compares how models keep up with several cameras at once, and takes no {', '.join(given)};"
            " accuracy is that of each camera by itself: compare --topic TOPIC"
        )
    require_engine(options.engine)
    drives = replay_cameras.topic_drives(options.bag, options.topics, frames=options.frames)
    replay_cameras.longest(drives)
    repetitions = options.repetitions or (1 if options.quick else Plan().repetitions)
    order = turns(len(bundles), repetitions, _SEED)
    found: dict[str, Any] = {
        "compared": "several cameras at once",
        "machine": setting() | {"busy_cores": busy_cores()},
        "engine": options.engine,
        "threads": options.threads,
        "topics": dict(zip(drives, options.topics, strict=True)),
        "models": list(names),
        "order": order,
        "rows": [],
    }
    exit_on_sigterm()
    for repetition, models in enumerate(order):
        for model in models:
            log = options.out / "logs" / f"{model + 1}_{repetition + 1}"
            row = {"model": model, "repetition": repetition} | _play(options, bundles[model], drives, log)
            found["rows"].append(row)
            print(_line(names[model], row), flush=True)
    file = options.out / "cameras.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\n{to_text(found)}\n\nwritten: {file}")
    return 0 if all(camera["balanced"] for row in found["rows"] for camera in row["cameras"]) else 1


def _play(options: argparse.Namespace, bundle: Bundle, drives: Mapping[str, Drive], log: Path) -> dict[str, Any]:
    """One process of a model, with all cameras."""
    from seg_node.rig.cameras import Traffic, in_all
    from seg_node.rig.node_process import NodeProcess, default_environment

    # Fast DDS reads its profile when the first participant of a process is made.
    os.environ.update(default_environment())
    namespace = f"/compare_{os.getpid()}_{log.name}"
    parameters = replay_cameras.node_parameters(drives) | {
        "model": str(bundle.path.resolve()),
        "engine": options.engine,
        "threads": options.threads,
        "on_give_up": "exit",
    }
    log.mkdir(parents=True, exist_ok=True)
    with NodeProcess(log / "node.log", parameters, namespace=namespace) as node:
        node.wait_for("active")
        feeds = replay_cameras.feeds(drives, namespace, node.full_name, RECORDED)
        with Traffic(feeds, check=node.check) as traffic:
            runs = traffic.play(replay_cameras.longest(drives))
    return {"in_all": in_all(runs), "cameras": [dataclasses.asdict(one) for one in runs]}


def to_text(found: Mapping[str, Any]) -> str:
    """Tables for people: what each model has, in all and by camera, and how sure the difference to the first one is.

    Args:
        found: what is written to ``cameras.json``.
    """
    by_model = [[row for row in found["rows"] if row["model"] == model] for model in range(len(found["models"]))]
    lines = []
    for name, rows in zip(found["models"], by_model, strict=True):
        whole = {of: mean(row["in_all"][of] for row in rows) for of in ("masks_per_s", "blind_s", "jain")}
        cells = [number(whole["masks_per_s"]), number(1e3 * whole["blind_s"], 0), "", "", number(whole["jain"], 3)]
        lines.append([name, "all", *cells])
        for number_of_camera, camera in enumerate(found["topics"]):
            own = [row["cameras"][number_of_camera] for row in rows]
            lines.append([name, camera, *_cells(own), ""])
    header = ["model", "camera", "masks/s", "longest blind, ms", "p50, ms", "p99, ms", "Jain"]
    text = aligned((header, lines), texts=2)
    differences = [
        f"{name} - {found['models'][0]}: {_difference(by_model[0], rows)}"
        for name, rows in zip(found["models"][1:], by_model[1:], strict=True)
    ]
    return "\n".join([text, "", *differences])


def _cells(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    def average(name: str) -> float | None:
        values = [run[name] for run in runs if run[name] is not None]
        return mean(values) if values else None

    blind = average("blind_s")
    times = [number(average(name), 0) for name in ("p50_ms", "p99_ms")]
    return [number(average("masks_per_s")), number(blind and 1e3 * blind, 0), *times]


def _difference(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> str:
    """Masks a second and longest blind time of all cameras, by pairs of processes."""
    if len(first) < _LEAST_PAIRS:
        return f"no interval of {len(first)} processes each; give --repetitions {_LEAST_PAIRS} or more"
    parts = []
    for name, factor, unit in (("masks_per_s", 1.0, "masks/s"), ("blind_s", 1e3, "ms longest blind")):
        values = [factor * (b["in_all"][name] - a["in_all"][name]) for a, b in zip(first, second, strict=True)]
        found = Units(np.array(values)).interval(LEVEL)
        parts.append(f"{interval(found.estimate, found.low, found.high)} {unit}")
    return ", ".join(parts) + f" ({100 * LEVEL:.0f} % intervals)"


def _line(name: str, row: Mapping[str, Any]) -> str:
    whole = row["in_all"]
    return (
        f"{name}, process {row['repetition'] + 1}: {whole['masks_per_s']:.1f} masks/s, {whole['blind_s']:.2f} s blind"
    )
