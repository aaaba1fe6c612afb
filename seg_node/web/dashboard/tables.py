"""Tables of single images and of what manifests report."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from seg_node.core.metrics import category_scores, confusion_with_misses, scores
from seg_node.core.report.tables import Table, number
from seg_node.core.statistics import mean_known
from seg_node.core.taxonomy import SCORED_NAMES, Taxonomy

CONFIDENCES = ("as inferred", "with age", "with residual", "with both")
"""What a confidence of the mask of now can be made of, by which ``benchmarks/confidence_now.py`` names it."""


def image_scores(truth: np.ndarray, masks: Mapping[str, np.ndarray], taxonomy: Taxonomy) -> Table:
    """IoU and F1 of each category in one image, percent, for each of the named masks, which have these categories."""
    header = ["category", *(f"{name}, {rate}" for name in masks for rate in ("IoU", "F1"))]
    confusions = [confusion_with_misses(truth, mask, len(taxonomy)) for mask in masks.values()]
    rates = [category_scores(confusion, taxonomy) for confusion in confusions]
    rows = [
        [taxonomy.names[category], *(number(of[rate][category]) for of in rates for rate in ("iou", "f1"))]
        for category in taxonomy.scored
    ]
    means = [
        value
        for confusion, of in zip(confusions, rates, strict=True)
        for value in (scores(confusion, taxonomy)[taxonomy.headline], mean_known(of["f1"][list(taxonomy.scored)]))
    ]
    return header, [*rows, ["mean of those present", *map(number, means)]]


def quality(models: Mapping[str, Mapping[str, Any]], data: str) -> Table:
    """Scores that the manifests of some models of the eight report on a data set; models without any are left out.

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


def own_quality(figures: Mapping[str, Any]) -> Table:
    """Scores that the manifest of a model with other categories than the eight reports on a data set."""
    rows = [[name, number(value)] for name, value in figures["iou"].items()]
    return ["category", "IoU"], [["miou", number(figures["miou"])], *rows]


def calibration(row: Mapping[str, Any]) -> Table:
    """How well confidences of the mask of now tell right pixels from wrong ones on one drive.

    Args:
        row: one of those that ``benchmarks/confidence_now.py`` writes.
    """
    judged = {made_of: row[made_of] for made_of in CONFIDENCES}
    rows = [[made_of, number(100 * of["ece"]), number(of["auroc"], 3)] for made_of, of in judged.items()]
    return ["confidence", "ECE, %", "AUROC"], rows
