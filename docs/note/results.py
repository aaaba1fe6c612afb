"""The result files that the note reads: which there are, where they lie, and which command makes each."""

import dataclasses
import functools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from seg_node.bags.reader import bag_hash
from seg_node.compare.comparison import SCHEMA, Comparison, load_comparison
from seg_node.compare.plots import figures
from seg_node.compare.verdict import judged
from seg_node.core.bundle import DEFAULT_MODEL, GRAPH, MANIFEST
from seg_node.core.profile.file import read_profile
from seg_node.core.report.charts import Figure
from seg_node.core.share import shared_path
from seg_node.web.dashboard.results import read_log
from seg_training.study_report import with_differences

FOLDER = Path("docs", "results")
MODELS = Path("seg_node", "models")
LOGS = FOLDER / "runs"
PROFILES = Path("config", "profiles")


@dataclass(frozen=True)
class Source:
    """A result file of one kind."""

    file: str
    """In ``FOLDER``."""
    command: str
    """That makes it."""
    output: str
    """What the command writes, for ``make_note.py --take``."""


STUDIES = ("loss", "augmentation", "backbone", "encoder", "decoder")
SOURCES = {
    "comparison": Source("comparison.json", "make compare", "compare_output/comparison.json"),
    "comparison_video": Source(
        "comparison_video.json", "make compare VIDEO=drive.mp4", "compare_output/comparison.json"
    ),
    **{
        f"{name}_study": Source(
            f"studies/{name}/results.json",
            f"python -m seg_training study {name} --root camvid=/data/camvid",
            f"studies/{name}/results.json",
        )
        for name in STUDIES
    },
    "bench": Source("bench.json", "make bench", "bench_output/bench.json"),
    "input_size": Source("input_size.json", "python benchmarks/input_size.py", "bench_output/input_size.json"),
    "serve_load": Source("serve_load.json", "python benchmarks/serve_load.py --out serve_load.json", "serve_load.json"),
    "gpu": Source("gpu.json", "make bench-gpu", "bench_output/gpu.json"),
    "verdict_simulation": Source(
        "verdict_simulation.json",
        "python benchmarks/verdict_simulation.py --out verdict_simulation.json",
        "verdict_simulation.json",
    ),
}
SHIPPED_DRIVE = Path("rosbags", "synthetic_drive")
PAGES = {
    "projection": Source("projection.json", "python benchmarks/projection.py --out projection.json", "projection.json"),
    "cameras": Source("cameras.json", "make cameras", "bench_output/cameras.json"),
    "mask_now": Source(
        "propagation.json",
        "python benchmarks/propagation.py --model fpn_resnet50 --pairs 6 --out propagation.json",
        "propagation.json",
    ),
    "ill_cameras": Source(
        "ill_cameras.json", "python benchmarks/ill_cameras.py --out ill_cameras.json", "ill_cameras.json"
    ),
    "node_checkouts": Source(
        "node_checkouts.json",
        "python benchmarks/node_checkouts.py --out node_checkouts.json BEFORE AFTER",
        "node_checkouts.json",
    ),
    "plain_path": Source("plain_path.json", "python benchmarks/plain_path.py", "plain_path.json"),
    "tune_exhaustive": Source(
        "tune_exhaustive.json",
        "python benchmarks/tune_exhaustive.py --tuned tune_output/tune.json --engines openvino --minutes 8",
        "bench_output/tune_exhaustive.json",
    ),
    "tune_exhaustive_video": Source(
        "tune_exhaustive_video.json",
        "python benchmarks/tune_exhaustive.py --tuned tune_output/tune.json --engines openvino --minutes 8 drive.mp4",
        "bench_output/tune_exhaustive.json",
    ),
    "chaos": Source("chaos.json", "make chaos", "chaos_output/chaos.json"),
    "soak": Source("soak.json", "make soak", "soak_output/soak.json"),
    "soak_cameras": Source("soak_cameras.json", "python reliability/soak_cameras.py", "soak_output/soak_cameras.json"),
}
"""Each is shown by one page of its own; the note does not use them."""


@dataclass
class Results:
    """Everything that was measured; None where a file is not there yet."""

    models: dict[str, dict[str, Any]]
    """Of the shipped bundles by name: ``backbone``, ``parameters``, ``gflops``, ``training``, ``metrics``, ``date``,
    ``quantisation`` and ``encoder_weights`` as their manifests say, and ``bytes`` of the graph."""
    comparison: Comparison | None = None
    comparison_video: Comparison | None = None
    loss_study: dict[str, Any] | None = None
    augmentation_study: dict[str, Any] | None = None
    backbone_study: dict[str, Any] | None = None
    encoder_study: dict[str, Any] | None = None
    decoder_study: dict[str, Any] | None = None
    bench: dict[str, Any] | None = None
    input_size: dict[str, Any] | None = None
    serve_load: dict[str, Any] | None = None
    gpu: dict[str, Any] | None = None
    verdict_simulation: dict[str, Any] | None = None
    pages: dict[str, dict[str, Any] | None] = field(default_factory=lambda: dict.fromkeys(PAGES))
    """What the pages of ``PAGES`` show."""
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of the machines that profiles are shipped of, by the name of the file; see ``seg_node.core.profile``."""
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Training logs by name."""

    @functools.cached_property
    def comparison_figures(self) -> list[Figure]:
        """Of ``comparison``."""
        return figures(self.comparison) if self.comparison else []

    def settings(self, name: str) -> list[dict[str, Any]]:
        """Where a result file is of, see ``core.machine.setting``; several for a study of several machines.

        Older files have some of it elsewhere, or not at all.
        """
        found = getattr(self, name)
        if isinstance(found, Comparison):
            return [{"measured": found.created} | found.machine]
        if name.endswith("_study"):
            return found.get("machines") or [_read_hardware(found["machine"]) | {"commit": found.get("commit")}]
        about = {"measured": found.get("created")} | found.get("machine", {})
        return [about | {"gpu": found["gpu"]}] if "gpu" in found else [about]


def load_results(root: Path) -> Results:
    """Read what there is.

    Args:
        root: of the repository.

    Raises:
        ValueError: a file that is there cannot be used; the message names it.
    """
    folders = sorted((path.parent for path in (root / MODELS).glob(f"*/{MANIFEST}")), key=lambda p: _place(p.name))
    results = Results({folder.name: _model(folder) for folder in folders})
    for name, source in SOURCES.items():
        path = root / FOLDER / source.file
        if path.exists():
            setattr(results, name, _load(name, path))
    for name, source in PAGES.items():
        if (path := root / FOLDER / source.file).exists():
            results.pages[name] = _json(path)
    results.profiles = {path.name: read_profile(path).values for path in sorted((root / PROFILES).glob("*.yaml"))}
    results.runs = {
        path.stem: read_log(path) for path in sorted((root / LOGS).glob("*.jsonl"), key=lambda p: _place(p.stem))
    }
    return results


def _load(name: str, path: Path) -> Any:
    if name.startswith("comparison"):
        comparison = judged(load_comparison(path))
        # Older files do not say who drew the drive.
        shipped = shared_path(SHIPPED_DRIVE)
        comparison.drive.made_up |= shipped is not None and comparison.drive.hash == bag_hash(shipped)
        return comparison
    if name.endswith("_study"):
        study = _json(path)
        variants = next((list(rows) for rows in study["summary"].values() if rows), [""])
        return with_differences(study, variants[0])
    return _json(path)


def _read_hardware(text: str) -> dict[str, Any]:
    """Processor and cores out of what older studies say of their machine."""
    found = re.fullmatch(r"(.+), (\d+) cores?", text)
    return {"cpu": found[1], "cores": int(found[2])} if found else {"cpu": text, "cores": "unknown"}


def _place(name: str) -> tuple[bool, str]:
    """The default model and its runs first, as in a comparison, so that it has the same colour everywhere."""
    return not name.startswith(DEFAULT_MODEL), name


def _model(folder: Path) -> dict[str, Any]:
    # Not ``load_bundle``, which hashes the weights: nothing here runs them.
    manifest = yaml.safe_load((folder / MANIFEST).read_text())
    shown = ("backbone", "parameters", "gflops", "training", "metrics", "encoder_weights", "date", "quantisation")
    return {name: manifest.get(name) for name in shown} | {"bytes": (folder / GRAPH).stat().st_size}


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error


def take(file: Path, root: Path) -> Path:
    """Put a result file where the note finds it, without what the note does not use.

    Args:
        file: comparison, study, benchmarks, load of the API, or a run's ``log.jsonl``, named after the run's folder.
        root: of the repository.

    Returns:
        Where it lies now.

    Raises:
        ValueError: the file cannot be read or is of no such kind.
    """
    if not file.is_file():
        raise ValueError(f"{file} does not exist; give one that compare, study, train, a benchmark or serve_load wrote")
    if file.suffix == ".jsonl":
        return _take_log(file, root / LOGS / f"{file.absolute().parent.name}.jsonl")
    document = _json(file)
    if document.get("schema") == SCHEMA:
        return _take_comparison(load_comparison(file), root)
    if {"study", "summary", "seeds"} <= document.keys():
        if (name := f"{document['study']}_study") not in SOURCES:
            raise ValueError(f"{file} is of a study named {document['study']!r}; the note shows {', '.join(STUDIES)}")
        return _write(root / FOLDER / SOURCES[name].file, document | {"cells": []})
    if {"lines", "engines", "command"} <= document.keys():
        return _write(root / FOLDER / SOURCES["bench"].file, document)
    if "input_sizes" in document:
        return _write(root / FOLDER / SOURCES["input_size"].file, document)
    if {"kinds", "memory_mib", "queue"} <= document.keys():
        return _write(root / FOLDER / SOURCES["serve_load"].file, document)
    if {"gpu", "rows", "nodes"} <= document.keys():
        return _write(root / FOLDER / SOURCES["gpu"].file, document)
    if document.get("simulated") == "verdict":
        return _write(root / FOLDER / SOURCES["verdict_simulation"].file, document)
    if (page := _page(document)) is not None:
        return _write(root / FOLDER / PAGES[page].file, document)
    raise ValueError(f"{file} is no result of compare, study, train, a benchmark or serve_load")


def _page(document: dict[str, Any]) -> str | None:
    """Which page of ``PAGES`` shows a document, if any; it loses the single runs, of which means are shown."""
    if "cameras_of" in document:
        return "cameras"
    if "costs" in document:
        return "projection"
    if {"level", "pairs", "rows", "missing"} <= document.keys():
        document["rows"] = [{name: row[name] for name in row if name != "runs"} for row in document["rows"]]
        return "mask_now"
    if {"pairs", "rate", "figures", "runs"} <= document.keys():
        del document["runs"]
        return "plain_path"
    if {"winner", "best", "kept", "trials"} <= document.keys():
        return "tune_exhaustive" if document["drive"]["path"] == str(SHIPPED_DRIVE) else "tune_exhaustive_video"
    if "ill_cameras" in document:
        del document["turns"]
        return "ill_cameras"
    if {"commits", "figures", "turns"} <= document.keys():
        del document["turns"]
        return "node_checkouts"
    if {"quick", "rows"} <= document.keys():
        shown = ("name", "fault", "expected", "seen", "holds", "next_mask_s", "unaccounted")
        document["rows"] = [{name: row[name] for name in shown} for row in document["rows"]]
        return "chaos"
    if {"struck", "samples", "latency"} <= document.keys():
        for name in ("struck", "samples", "latency"):
            del document[name]
        return "soak"
    if {"cameras", "samples", "trends"} <= document.keys():
        del document["samples"]
        return "soak_cameras"
    return None


def _take_comparison(comparison: Comparison, root: Path) -> Path:
    """Without pictures, single frames of scores, and stages of runs that no figure draws; judged before that."""
    comparison = judged(comparison)
    name = "comparison" if comparison.drive.truth else "comparison_video"
    source = SOURCES[name]
    if "made_by" not in comparison.configuration:
        comparison.configuration["made_by"] = f"`{source.command}`, reduced by `docs/make_note.py --take`"
    comparison.pictures = []
    listened = (*comparison.streaming_listened, *comparison.streaming_now)
    for scored in (*comparison.streaming, *listened, *comparison.offline):
        scored.frame, scored.hits, scored.unions = [], [], []
    for run in comparison.runs:
        if run.purpose != "recorded":
            run.frames = dataclasses.replace(run.frames, due=[], sent=[], stages={})
    path = root / FOLDER / source.file
    path.parent.mkdir(parents=True, exist_ok=True)
    comparison.save(path)
    return path


def _take_log(file: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = [
        {"step": record["step"], "loss": round(record["loss"], 4)}
        | ({"val_few": record["val_few"]} if "val_few" in record else {})
        for record in read_log(file)
    ]
    target.write_text("".join(json.dumps(record, separators=(",", ":")) + "\n" for record in kept))
    return target


def _write(path: Path, document: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n")
    return path
