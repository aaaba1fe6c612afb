"""Segmentation quality from one confusion matrix: of the eight as Cityscapes' category protocol defines it."""

import numpy as np

from seg_node.core.taxonomy import EIGHT, NO_LABEL, Taxonomy


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, count: int = len(EIGHT)) -> np.ndarray:
    """Count pixels by (truth, prediction).

    Args:
        truth: uint8, any shape, category ids; 255 (``NO_LABEL``) is left out.
        prediction: uint8, same shape, category ids.
        count: number of categories, N.

    Returns:
        int64 [N, N], rows are truth, columns prediction. Matrices of several images add up.

    Raises:
        ValueError: shapes differ, or an id has no category.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth is {truth.shape} but prediction is {prediction.shape}")
    labelled = truth != NO_LABEL
    truth, prediction = truth[labelled], prediction[labelled]
    for name, ids in (("truth", truth), ("prediction", prediction)):
        if ids.size and ids.max() >= count:
            raise ValueError(f"{name} holds id {ids.max()}, which is no category (0..{count - 1})")
    return np.bincount(truth.astype(np.int64) * count + prediction, minlength=count * count).reshape(count, count)


def confusion_with_misses(truth: np.ndarray, prediction: np.ndarray, count: int = len(EIGHT)) -> np.ndarray:
    """Count pixels by (truth, prediction), no answer among the predictions.

    Before the first mask there is no answer. It is wrong everywhere, as a decision module would find it, and is no
    false positive of any category; leaving these pixels out would reward the backbone that starts late.

    Args:
        truth: uint8, any shape, category ids; 255 is left out.
        prediction: uint8, same shape, category ids; 255 is no answer.
        count: number of categories, N.

    Returns:
        int64 [N, N + 1], which ``scores`` takes: rows are truth, columns prediction, the last one no answer.
    """
    answered = prediction != NO_LABEL
    confusion = np.empty((count, count + 1), np.int64)
    answers = np.where(answered, prediction, 0)
    confusion[:, :-1] = confusion_matrix(np.where(answered, truth, NO_LABEL), answers, count)
    confusion[:, -1] = np.bincount(truth[~answered & (truth != NO_LABEL)], minlength=count)
    return confusion


def scores(confusion: np.ndarray, taxonomy: Taxonomy = EIGHT) -> dict[str, float | dict[str, float | None]]:
    """Summarise a confusion matrix, in percent.

    Intersection over union is TP / (TP + FP + FN) per category (Everingham et al., "The Pascal Visual
    Object Classes Challenge", IJCV 2015). As in Cityscapes' category evaluation, pixels whose truth is void
    do not count in ``miou_7``, not even as false positives of another category; in ``miou_8`` void is one
    category like the others. Of other categories than the eight all count alike, in ``miou``. A category that occurs
    in neither truth nor prediction has no score (None) and does not enter the mean.

    Args:
        confusion: int64 [N, N] as ``confusion_matrix`` returns it, or [N, N + 1] where a last column counts the pixels
            of each truth that got no answer: misses of their category and false positives of none.
        taxonomy: the N categories.

    Returns:
        ``miou_7`` and ``miou_8``, or ``miou`` where the categories are not the eight; ``pixel_accuracy`` and ``iou``, a
        dict from category name (void of the eight is scored by the rule of ``miou_8``, the rest by that of
        ``miou_7``). NaN where nothing was labelled.
    """
    iou = category_scores(confusion, taxonomy)["iou"]
    counted = confusion[list(taxonomy.scored)]
    known, hit = counted.sum(), np.diagonal(confusion)[list(taxonomy.scored)].sum()
    return {
        taxonomy.headline: _mean(iou[list(taxonomy.scored)]),
        **({"miou_8": _mean(_iou(confusion))} if taxonomy.is_eight else {}),
        "pixel_accuracy": float(100 * hit / known) if known else float("nan"),
        "iou": {name: None if np.isnan(v) else float(v) for name, v in zip(taxonomy.names, iou, strict=True)},
    }


def category_scores(confusion: np.ndarray, taxonomy: Taxonomy = EIGHT) -> dict[str, np.ndarray]:
    """Rates of each category, in percent, by the rules of ``scores``.

    Precision is TP / (TP + FP), recall TP / (TP + FN), F1 (which is the Dice coefficient of hard masks) 2 TP / (2 TP +
    FP + FN).

    Args:
        confusion: int64 [..., N, N] or [..., N, N + 1], see ``scores``; leading axes are those of the results.
        taxonomy: the N categories.

    Returns:
        ``iou``, ``precision``, ``recall`` and ``f1``, each float64 [..., N]; NaN where the denominator is zero.
    """
    hit = np.diagonal(confusion, axis1=-2, axis2=-1)
    truth = confusion.sum(-1)
    prediction = confusion[..., list(taxonomy.scored), : len(taxonomy)].sum(-2)
    if taxonomy.is_eight:
        # Pixels whose truth is void are false positives of nothing but void.
        prediction[..., taxonomy.void] = confusion[..., taxonomy.void].sum(-1)
    return {
        "iou": _percent(hit, truth + prediction - hit),
        "precision": _percent(hit, prediction),
        "recall": _percent(hit, truth),
        "f1": _percent(2 * hit, truth + prediction),
    }


def _iou(confusion: np.ndarray) -> np.ndarray:
    hit = np.diag(confusion)
    return _percent(hit, confusion.sum(0)[: len(hit)] + confusion.sum(1) - hit)


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, 100 * part / np.maximum(whole, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
