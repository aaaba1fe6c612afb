"""Segmentation quality from one confusion matrix, as Cityscapes' category protocol defines it."""

import numpy as np

from seg_node.core.taxonomy import CATEGORY_NAMES, NO_LABEL, SCORED_CATEGORIES, Category

_N = len(Category)


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Count pixels by (truth, prediction).

    Args:
        truth: uint8, any shape, category ids; 255 (``NO_LABEL``) is left out.
        prediction: uint8, same shape, category ids 0..7.

    Returns:
        int64 [8, 8], rows are truth, columns prediction. Matrices of several images add up.

    Raises:
        ValueError: shapes differ, or an id has no category.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth is {truth.shape} but prediction is {prediction.shape}")
    labelled = truth != NO_LABEL
    truth, prediction = truth[labelled], prediction[labelled]
    for name, ids in (("truth", truth), ("prediction", prediction)):
        if ids.size and ids.max() >= _N:
            raise ValueError(f"{name} holds id {ids.max()}, which is no category (0..{_N - 1})")
    return np.bincount(truth.astype(np.int64) * _N + prediction, minlength=_N * _N).reshape(_N, _N)


def scores(confusion: np.ndarray) -> dict[str, float | dict[str, float | None]]:
    """Summarise a confusion matrix, in percent.

    Intersection over union is TP / (TP + FP + FN) per category (Everingham et al., "The Pascal Visual
    Object Classes Challenge", IJCV 2015). As in Cityscapes' category evaluation, pixels whose truth is void
    do not count in ``miou_7``, not even as false positives of another category; in ``miou_8`` void is one
    category like the others. A category that occurs in neither truth nor prediction has no score (None) and
    does not enter the mean.

    Args:
        confusion: int64 [8, 8] as ``confusion_matrix`` returns it, or [8, 9] where a last column counts the pixels of
            each truth that got no answer: misses of their category and false positives of none.

    Returns:
        ``miou_7``, ``miou_8``, ``pixel_accuracy`` and ``iou``, a dict from category name (void is scored by
        the rule of ``miou_8``, the rest by that of ``miou_7``). NaN where nothing was labelled.
    """
    rates = category_scores(confusion)
    iou = rates["iou"]
    without_void = confusion[1:].sum()
    return {
        "miou_7": _mean(iou[list(SCORED_CATEGORIES)]),
        "miou_8": _mean(_iou(confusion)),
        "pixel_accuracy": float(100 * np.trace(confusion[1:, 1:]) / without_void) if without_void else float("nan"),
        "iou": {name: None if np.isnan(v) else float(v) for name, v in zip(CATEGORY_NAMES, iou, strict=True)},
    }


def category_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Rates of each category, in percent, by the rules of ``scores``.

    Precision is TP / (TP + FP), recall TP / (TP + FN), F1 (which is the Dice coefficient of hard masks) 2 TP / (2 TP +
    FP + FN).

    Args:
        confusion: int64 [..., 8, 8] or [..., 8, 9], see ``scores``; leading axes are those of the results.

    Returns:
        ``iou``, ``precision``, ``recall`` and ``f1``, each float64 [..., 8]; NaN where the denominator is zero.
    """
    hit = np.diagonal(confusion, axis1=-2, axis2=-1)
    truth = confusion.sum(-1)
    # Pixels whose truth is void are false positives of nothing but void.
    prediction = confusion[..., 1:, :_N].sum(-2)
    prediction[..., Category.VOID] = confusion[..., Category.VOID].sum(-1)
    return {
        "iou": _percent(hit, truth + prediction - hit),
        "precision": _percent(hit, prediction),
        "recall": _percent(hit, truth),
        "f1": _percent(2 * hit, truth + prediction),
    }


def _iou(confusion: np.ndarray) -> np.ndarray:
    hit = np.diag(confusion)
    return _percent(hit, confusion.sum(0)[:_N] + confusion.sum(1) - hit)


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, 100 * part / np.maximum(whole, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
