"""Tables of a comparison."""

import numpy as np

from seg_node.compare.comparison import Comparison, Difference, Verdict
from seg_node.compare.statistics import LEVEL
from seg_node.core.report.tables import NONE, Table, interval, number
from seg_node.core.statistics import mean_known
from seg_node.core.timing import DROPS


def verdicts(comparison: Comparison) -> Table:
    """One row for each question that a comparison asked."""
    names = [model.name for model in comparison.models]
    rows = [
        [
            verdict.title,
            *(NONE if value is None else number(value) + _unit(verdict) for value in verdict.values),
            difference(verdict.difference),
            "no winner" if verdict.winner is None else names[verdict.winner],
        ]
        for verdict in comparison.verdicts
    ]
    return ["", *names, f"difference, {100 * LEVEL:.0f} % interval", "better"], rows


def difference(found: Difference | None) -> str:
    """A difference with its interval; a dash where the question could not be asked."""
    return NONE if found is None else interval(found.estimate, found.low, found.high)


def _unit(verdict: Verdict) -> str:
    return " %" if verdict.unit == "points" else f" {verdict.unit}"


def rates(comparison: Comparison) -> Table:
    """One row per rate and backbone; reasons for which no frame was dropped have no column."""
    reasons = [r for r in ("lost", *(d.value for d in DROPS)) if any(run.counts.get(r) for run in comparison.runs)]
    counted = ["sent", "masked", *reasons]
    header = ["rate", "backbone", "Hz", *counted, "masks/s", "p50 ms", "p99 ms", "max ms", "blind ms"]
    rows = []
    for rate in dict.fromkeys(run.rate for run in comparison.runs):
        for i, model in enumerate(comparison.models):
            runs = [run for run in comparison.runs if run.rate == rate and run.model == i]
            if not runs:
                continue
            latencies = np.concatenate([run.latencies()[0] for run in runs])
            percentiles = [*np.percentile(latencies, [50, 99, 100])] if latencies.size else [None] * 3
            counts = [str(sum(run.counts.get(key, 0) for run in runs)) for key in counted]
            rows.append(
                [
                    rate,
                    model.name,
                    f"{np.mean([run.hz for run in runs]):.1f}",
                    *counts,
                    number(mean_known(run.masks_per_second for run in runs)),
                    *(number(value, 0) for value in percentiles),
                    number(max(run.longest_blind_ms or 0.0 for run in runs), 0),
                ]
            )
    return header, rows


def setup(comparison: Comparison) -> Table:
    """What was compared, on what, with which options."""
    rows = [["drive", comparison.drive.path], ["drive hash", comparison.drive.hash], ["topic", comparison.drive.topic]]
    rows += [["ground truth", comparison.drive.truth or "none"]]
    for model in comparison.models:
        facts = [model.backbone, model.precision, model.engine, model.device, model.training, model.sha256[:12]]
        rows.append([model.name, ", ".join(fact for fact in facts if fact)])
    rows += [[key, str(value)] for key, value in comparison.machine.items()]
    rows.append(["versions", ", ".join(f"{key} {value}" for key, value in comparison.versions.items())])
    for key, value in comparison.configuration.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        rows.append([key, text])
    rows += [["created", comparison.created], ["took", f"{comparison.duration_s / 60:.1f} minutes"]]
    return ["", ""], rows
