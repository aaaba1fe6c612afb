"""Tables of the dashboard and of the technical note: a header and rows of text."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from seg_node.compare.comparison import Comparison, Verdict
from seg_node.compare.statistics import LEVEL
from seg_node.compare.tables import Table
from seg_node.core.metrics import category_scores, confusion_matrix, scores
from seg_node.core.taxonomy import CATEGORY_NAMES, SCORED_CATEGORIES

SCORED_NAMES = [CATEGORY_NAMES[category] for category in SCORED_CATEGORIES]
NONE = "-"


def image_scores(truth: np.ndarray, masks: Mapping[str, np.ndarray]) -> Table:
    """IoU and F1 of each category in one image, percent, for each of the named masks."""
    header = ["category", *(f"{name}, {rate}" for name in masks for rate in ("IoU", "F1"))]
    confusions = [confusion_matrix(truth, mask) for mask in masks.values()]
    rates = [category_scores(confusion) for confusion in confusions]
    rows = [
        [CATEGORY_NAMES[category], *(number(of[rate][category]) for of in rates for rate in ("iou", "f1"))]
        for category in SCORED_CATEGORIES
    ]
    means = [
        value
        for confusion, of in zip(confusions, rates, strict=True)
        for value in (scores(confusion)["miou_7"], _mean(of["f1"][list(SCORED_CATEGORIES)]))
    ]
    return header, [*rows, ["mean of those present", *map(number, means)]]


def quality(models: Mapping[str, Mapping[str, Any]], data: str) -> Table:
    """Scores that the manifests of some models report on a data set; models without any are left out.

    Args:
        models: ``backbone`` and ``metrics`` by name.
        data: key of ``metrics``.
    """
    header = ["bundle", "backbone", "miou_7", "miou_8", *SCORED_NAMES]
    rows = []
    for name, model in models.items():
        if figures := model["metrics"].get(data):
            means = (figures["miou_7"], figures["miou_8"])
            iou = (figures["iou"][category] for category in SCORED_NAMES)
            rows.append([name, model["backbone"], *map(number, (*means, *iou))])
    return header, rows


def verdicts(comparison: Comparison) -> Table:
    """One row for each question that a comparison asked."""
    names = [model.name for model in comparison.models]
    rows = [
        [
            verdict.title,
            *(NONE if value is None else _with_unit(value, verdict) for value in verdict.values),
            difference(verdict),
            "no winner" if verdict.winner is None else names[verdict.winner],
        ]
        for verdict in comparison.verdicts
    ]
    return ["", *names, f"difference, {100 * LEVEL:.0f} % interval", "better"], rows


def difference(verdict: Verdict) -> str:
    """Difference of the two values of a verdict, with its interval."""
    if verdict.difference is None:
        return NONE
    ends = ["unbounded" if end is None else f"{end:+.1f}" for end in (verdict.difference.low, verdict.difference.high)]
    return f"{verdict.difference.estimate:+.1f} ({ends[0]} to {ends[1]})"


def fates(comparison: Comparison) -> Table:
    """What became of the frames at each rate, of all repetitions together."""
    reasons = [reason for reason in comparison.runs[0].counts if any(run.counts.get(reason) for run in comparison.runs)]
    rows = []
    for rate in dict.fromkeys(run.rate for run in comparison.runs):
        for i, model in enumerate(comparison.models):
            runs = [run for run in comparison.runs if run.rate == rate and run.model == i]
            counts = [str(sum(run.counts.get(reason, 0) for run in runs)) for reason in reasons]
            latencies = np.concatenate([run.latencies()[0] for run in runs])
            percentiles = [number(np.percentile(latencies, q)) if latencies.size else NONE for q in (50, 99)]
            rows.append([rate, model.name, *counts, *percentiles])
    return ["rate", "bundle", *reasons, "p50, ms", "p99, ms"], rows


def study(results: Mapping[str, Any], data: str) -> Table:
    """Variants of a study on one of its data sets: mean and spread over seeds, difference to the first variant."""
    rows = []
    for variant, row in results["summary"][data].items():
        spread = "" if row["miou_7"]["sd"] is None else f" ± {row['miou_7']['sd']:.1f}"
        iou = [number(row["iou"][category]) for category in SCORED_NAMES]
        rows.append([variant, number(row["miou_7"]["mean"]) + spread, _paired(row["difference"]), *iou])
    return ["variant", "miou_7", f"difference, {100 * results['level']:.0f} % interval", *SCORED_NAMES], rows


def number(value: float | None) -> str:
    """A figure with one decimal, or a dash where there is none."""
    return NONE if value is None or np.isnan(value) else f"{value:.1f}"


def _with_unit(value: float, verdict: Verdict) -> str:
    return f"{value:.1f}" if verdict.unit == "points" else f"{value:.1f} {verdict.unit}"


def _paired(figure: Mapping[str, float | None] | None) -> str:
    if figure is None:
        return NONE
    ends = "" if figure["low"] is None else f" ({figure['low']:+.1f} to {figure['high']:+.1f})"
    return f"{figure['mean']:+.1f}{ends}"


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
