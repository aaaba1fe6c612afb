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
        confusion: int64 [8, 8] as ``confusion_matrix`` returns it.

    Returns:
        ``miou_7``, ``miou_8``, ``pixel_accuracy`` and ``iou``, a dict from category name (void is scored by
        the rule of ``miou_8``, the rest by that of ``miou_7``). NaN where nothing was labelled.
    """
    without_void = confusion.copy()
    without_void[Category.VOID] = 0
    iou_7 = _iou(without_void)
    iou_8 = _iou(confusion)
    iou = np.concatenate([iou_8[:1], iou_7[1:]])
    total = without_void.sum()
    return {
        "miou_7": _mean(iou_7[list(SCORED_CATEGORIES)]),
        "miou_8": _mean(iou_8),
        "pixel_accuracy": float(100 * np.trace(without_void) / total) if total else float("nan"),
        "iou": {name: None if np.isnan(v) else float(v) for name, v in zip(CATEGORY_NAMES, iou, strict=True)},
    }


def _iou(confusion: np.ndarray) -> np.ndarray:
    hit = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hit
    return np.where(union > 0, 100 * hit / np.maximum(union, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
