"""Result files of the training and replay tools, found by what they hold."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seg_node.compare.comparison import SCHEMA


@dataclass
class Results:
    """What some folders hold; names are paths below the folder that was searched, with its name in front."""

    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Records of each training run, one per step, in order: lines of its ``log.jsonl``."""
    studies: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What ``seg_training.study_report`` writes as ``results.json``."""
    comparisons: dict[str, Path] = field(default_factory=dict)
    """Files that ``seg_node compare`` wrote."""
    replays: dict[str, Path] = field(default_factory=dict)
    """Files ``result.json`` that ``seg_node replay`` wrote, the newest first."""
    tunings: dict[str, Path] = field(default_factory=dict)
    """Files ``tune.json`` that ``seg_node tune`` wrote."""
    calibrations: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What ``benchmarks/confidence_now.py`` writes."""


def find_results(folders: Iterable[Path]) -> Results:
    """Search folders and all folders in them; files that are none of ours are passed over."""
    found = Results()
    for folder in folders:
        for path in sorted(folder.rglob("*.json*")):
            name = (Path(folder.name) / path.relative_to(folder)).as_posix()
            if path.suffix == ".jsonl":
                if records := read_log(path):
                    found.runs[name.removesuffix(".jsonl").removesuffix("/log")] = records
            elif path.suffix == ".json" and isinstance(document := _read(path), dict):
                if document.get("schema") == SCHEMA:
                    found.comparisons[name] = path
                elif {"question", "variants", "summary"} <= document.keys():
                    found.studies[name] = document
                elif {"setup", "sent", "masks_arrived"} <= document.keys():
                    found.replays[name] = path
                elif {"screened", "trials", "finals", "winner"} <= document.keys():
                    found.tunings[name] = path
                elif {"learnt_on", "inference", "rows"} <= document.keys():
                    found.calibrations[name] = document
    found.replays = dict(sorted(found.replays.items(), key=lambda item: -item[1].stat().st_mtime_ns))
    return found


def read_log(path: Path) -> list[dict[str, Any]]:
    """Records of a training log by step.

    A run that was killed repeats the steps after its last checkpoint, and one that is running may just be writing its
    last line: the newest whole record of each step counts, and lines that are no records do not.
    """
    by_step = {}
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
            by_step[record["step"]] = record | {"loss": float(record["loss"])}
        except (ValueError, KeyError, TypeError):
            continue
    return [by_step[step] for step in sorted(by_step)]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
