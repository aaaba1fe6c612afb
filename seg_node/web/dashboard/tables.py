"""Tables of single images and of what manifests report."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from seg_node.core.metrics import category_scores, confusion_matrix, scores
from seg_node.core.report.tables import Table, number
from seg_node.core.statistics import mean_known
from seg_node.core.taxonomy import CATEGORY_NAMES, SCORED_CATEGORIES, SCORED_NAMES


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
        for value in (scores(confusion)["miou_7"], mean_known(of["f1"][list(SCORED_CATEGORIES)]))
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
