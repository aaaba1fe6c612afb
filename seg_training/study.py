"""A grid of short runs that differ in one thing, over several seeds: what does it gain, and is that more than luck?"""

import contextlib
import dataclasses
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from seg_node.core.errors import UserError
from seg_node.core.metrics import scores
from seg_node.core.taxonomy import in_short
from seg_training.config import TrainingConfig, load_config, values_of
from seg_training.datasets import open_dataset
from seg_training.evaluate import Sample, evaluate, predictor
from seg_training.provenance import training_setting, with_roots
from seg_training.run import averaged_weights, network_of, run_folder
from seg_training.study_report import summarise, write_report
from seg_training.train import train


@dataclass
class Study:
    """A study's file; see ``config/studies``."""

    question: str
    """What it asks, for the head of its table."""
    base: dict[str, Any]
    """Values of ``TrainingConfig`` that all cells share, without ``name``, ``val``, ``seed`` and ``runs``."""
    variants: dict[str, dict[str, Any]]
    """Values in which each variant differs, by name; dots in keys lead into mappings and lists. All variants are
    compared with the first."""
    evaluate: dict[str, dict[str, Any]]
    """Data sets on which finished cells are scored, by name, see ``datasets.open_dataset``."""
    seeds: list[int]

    def __post_init__(self):
        for name in ("base", "variants", "evaluate", "seeds"):
            if not getattr(self, name):
                raise UserError(f"{name} is empty")


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    variant: str
    seed: int
    config: TrainingConfig

    @property
    def result(self) -> Path:
        """File that exists when the cell is finished."""
        return run_folder(self.config) / "result.json"


def load_study(
    path: Path,
    roots: Mapping[str, str] | None = None,
    variants: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> Study:
    """Read a study.

    Args:
        path: YAML file with the fields of ``Study``.
        roots: folder of each kind of data set, in place of the file's.
        variants: take these only.
        seeds: in place of the file's.

    Raises:
        UserError: a field is unknown, missing or empty, or there is no such variant.
        OSError: the file cannot be read.
    """
    values = yaml.safe_load(path.read_text())
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a YAML mapping")
    try:
        study = Study(**values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    if unknown := [name for name in variants or [] if name not in study.variants]:
        raise UserError(f"{path}: no variant {', '.join(unknown)}; there are {', '.join(study.variants)}")
    if variants:
        study.variants = {name: study.variants[name] for name in variants}
    study.base["train"] = with_roots(study.base["train"], roots or {})
    study.evaluate = {name: with_roots([spec], roots or {})[0] for name, spec in study.evaluate.items()}
    return dataclasses.replace(study, seeds=list(seeds or study.seeds))


def cells(study: Study, out: Path, overrides: Sequence[str] = ()) -> list[Cell]:
    """The grid, seed by seed, so that an unfinished one compares all variants already.

    Args:
        study: what to run.
        out: folder of the results.
        overrides: ``key=value`` for the base configuration.

    Raises:
        UserError: a variant's configuration is wrong; the message names the variant.
    """
    out.mkdir(parents=True, exist_ok=True)
    base = out / "base.yaml"
    base.write_text(yaml.safe_dump(study.base | {"name": "", "val": []}, sort_keys=False))
    grid = []
    for seed in study.seeds:
        for variant, changes in study.variants.items():
            own = changes | {"name": f"{variant}-{seed}", "seed": seed, "runs": str(out / "cells")}
            texts = [
                f"{key}={yaml.safe_dump(value, default_flow_style=True, width=10**6)}" for key, value in own.items()
            ]
            try:
                config = load_config(base, [*overrides, *texts])
            except ValueError as error:
                raise UserError(f"variant {variant}: {error}") from error
            if not config.categories.is_eight:
                names = in_short(config.categories.names)
                raise UserError(f"variant {variant}: a study compares miou_7, and the taxonomy has {names}")
            grid.append(Cell(variant, seed, config))
    return grid


def run_study(study: Study, out: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train and score the cells that are not finished, and report on all of them, after each one.

    A call that was interrupted goes on where it stopped, in the middle of a cell at its last checkpoint.

    Args:
        study: what to run.
        out: folder for ``results.json``, ``table.md``, plots, and a folder of each cell.
        overrides: ``key=value`` for the base configuration.

    Returns:
        What ``results.json`` holds, see ``study_report.summarise``.

    Raises:
        UserError: ``out`` holds cells of another study.
    """
    grid = cells(study, out, overrides)
    finished = [cell for cell in grid if cell.result.exists()]
    for cell in finished:
        if json.loads(cell.result.read_text())["config"] != values_of(cell.config):
            raise UserError(f"{cell.result} is of another configuration; give another --out or remove it")
    if len(finished) < len(grid):
        sets = {name: _samples(spec) for name, spec in study.evaluate.items()}
    steps = [sum(cell.config.steps for cell in some) for some in (grid, finished)]
    about = {
        "study": out.name,
        "question": study.question,
        "base": study.base,
        "overrides": list(overrides),
        "variants": study.variants,
        "evaluate": study.evaluate,
        "seeds": study.seeds,
    }
    with tqdm(total=steps[0], initial=steps[1], unit="step", disable=len(finished) == len(grid)) as progress:
        for cell in grid:
            if not cell.result.exists():
                progress.set_description(f"{cell.variant}, seed {cell.seed}")
                with _signals_restored():
                    train(cell.config, progress)
                _finish(cell, sets)
                write_report(out, about | summarise(_results(grid), list(study.variants), list(study.evaluate)))
    results = about | summarise(_results(grid), list(study.variants), list(study.evaluate))
    write_report(out, results)
    return results


def _samples(spec: dict[str, Any]) -> list[Sample]:
    data = open_dataset(spec, progress=False)
    return [data[i] for i in range(len(data))]


def _results(grid: list[Cell]) -> list[dict[str, Any]]:
    return [json.loads(cell.result.read_text()) for cell in grid if cell.result.exists()]


def _finish(cell: Cell, sets: Mapping[str, list[Sample]]) -> None:
    """Score a trained cell as a node would run it, write its result, and remove its checkpoint."""
    folder = run_folder(cell.config)
    network = network_of(cell.config)
    network.load_state_dict(averaged_weights(folder))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predict = predictor(network.to(device), cell.config.input_size)
    confusions = {name: evaluate(predict, samples, progress=False) for name, samples in sets.items()}
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    result = {
        "variant": cell.variant,
        "seed": cell.seed,
        "machine": training_setting(),
        "config": values_of(cell.config),
        "seconds": round(sum(record["seconds"] for record in log), 1),
        "figures": {
            name: scores(confusion) | {"confusion": confusion.tolist()} for name, confusion in confusions.items()
        },
    }
    temporary = cell.result.with_suffix(".tmp")
    temporary.write_text(json.dumps(result))
    os.replace(temporary, cell.result)
    (folder / "checkpoint.pt").unlink()


@contextlib.contextmanager
def _signals_restored() -> Iterator[None]:
    """``train`` ends itself between two steps; what follows it is to end at once again."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
