"""Quality of masks beyond one confusion matrix: borders, confidence, and how sure the figures are.

Everything is counted per image or per level of confidence and summed up afterwards, in integers: torchmetrics, which
has most of the figures, keeps a float of every pixel for its calibration error, and its float32 counters stop at 16.7
million pixels, one in CamVid val's 17.5. The tests compare these figures with torchmetrics' where it has them.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from seg_node.core.metrics import category_scores, scores
from seg_node.core.statistics import expanded_tail
from seg_node.core.taxonomy import EIGHT, NO_LABEL, Taxonomy

BORDER_TOLERANCE = 0.0075
"""Share of the image's diagonal within which borders meet, as Csurka et al. chose: 4.5 pixels of a 480 x 360 image."""

CALIBRATION_BINS = 15
"""Number of bins, which Guo et al. chose; they divide the 255 steps of a confidence evenly."""

LEVEL = 0.95
"""Confidence of an interval."""

RESAMPLES = 4000
"""Bootstrap resamples of an interval."""

BLOCK = 10
"""Images that an interval's bootstrap draws together: two thirds of a second of CamVid val."""

MAX_LOSS = 1.0
"""``miou_7`` points that int8 may cost."""


@dataclass(frozen=True)
class Observations:
    """What an evaluation counts; N images in the order of the data set, C categories."""

    confusion: np.ndarray
    """int64 [N, C, C], see ``core.metrics``."""
    border_f1: np.ndarray
    """float [N, C], see ``border_f1``."""
    confidence: np.ndarray
    """int64 [256, 2], see ``confidence_counts``."""


def summarise(observations: Observations, block: int, taxonomy: Taxonomy = EIGHT) -> dict:
    """All figures of an evaluation, in percent with two decimals; None where a category occurs nowhere.

    Args:
        observations: of at least one image.
        block: see ``intervals``.
        taxonomy: categories, C of them.

    Returns:
        Plain values, fit for JSON and YAML: ``images``; ``miou_7``, ``miou_7_ci``, ``miou_8`` and ``pixel_accuracy``,
        of other categories than the eight ``miou`` and ``miou_ci``; ``mean_f1`` and ``mean_boundary_f1`` over the
        categories of the headline; ``ece``; by category ``iou``, ``iou_ci``, ``precision``, ``recall``, ``f1`` and
        ``boundary_f1``; ``intervals``, how those named ``_ci`` were made; ``confusion`` [C][C], pixels, rows are
        truth; ``reliability``, see there.
    """
    confusion = observations.confusion.sum(0)
    result = scores(confusion, taxonomy)
    rates = category_scores(confusion, taxonomy)
    scored, headline = list(taxonomy.scored), taxonomy.headline

    def by_category(values: np.ndarray) -> dict[str, float | None]:
        return {name: _rounded(value) for name, value in zip(taxonomy.names, values, strict=True)}

    border = _mean(observations.border_f1, 0)
    diagram = reliability(observations.confidence)
    miou_ci, iou_ci = intervals(observations.confusion, block, taxonomy)
    return {
        "images": len(observations.confusion),
        **{name: _rounded(value) for name, value in result.items() if name != "iou"},
        f"{headline}_ci": miou_ci,
        "mean_f1": _rounded(_mean(rates["f1"][scored], -1)),
        "mean_boundary_f1": _rounded(_mean(border[scored], -1)),
        "ece": _rounded(expected_calibration_error(diagram)),
        "iou": by_category(rates["iou"]),
        "iou_ci": dict(zip(taxonomy.names, iou_ci, strict=True)),
        **{name: by_category(rates[name]) for name in ("precision", "recall", "f1")},
        "boundary_f1": by_category(border),
        "intervals": {"level": LEVEL, "block": block, "resamples": RESAMPLES},
        "confusion": confusion.tolist(),
        "reliability": {
            "pixels": diagram["pixels"].tolist(),
            **{name: [_rounded(value) for value in diagram[name]] for name in ("confidence", "accuracy")},
        },
    }


def border_f1(truth: np.ndarray, prediction: np.ndarray, taxonomy: Taxonomy = EIGHT) -> np.ndarray:
    """Boundary F1 of one image: how well the borders of each category agree.

    Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013: precision is
    the share of the prediction's border pixels that lie within a tolerance of the truth's border, recall the share of
    the truth's within it of the prediction's; of both the harmonic mean. A border pixel of a category touches, by a
    side, a pixel of another one. Pixels without label and those whose truth is void of the eight are left out of both
    masks and make no border, nor does the edge of the image.

    Args:
        truth: uint8 [H, W], 255 where there is no label.
        prediction: uint8 [H, W].
        taxonomy: categories, C of them.

    Returns:
        float [C], percent; NaN for void of the eight, and for a category that has a border in neither mask.
    """
    tolerance = BORDER_TOLERANCE * np.hypot(*truth.shape)
    left_out = (truth == NO_LABEL) | (truth == taxonomy.left_out)
    truth, prediction = (np.where(left_out, NO_LABEL, mask) for mask in (truth, prediction))
    result = np.full(len(taxonomy), np.nan)
    for category in taxonomy.scored:
        there, found = _border(truth, category), _border(prediction, category)
        if there.any() and found.any():
            precision, recall = _share_near(found, there, tolerance), _share_near(there, found, tolerance)
            result[category] = 100 * 2 * precision * recall / max(precision + recall, 1e-9)
        elif there.any() or found.any():
            result[category] = 0.0
    return result


def confidence_counts(
    truth: np.ndarray, prediction: np.ndarray, confidence: np.ndarray, left_out: int = EIGHT.left_out
) -> np.ndarray:
    """Count pixels by confidence and by whether they are right, over the pixels of ``pixel_accuracy``.

    Args:
        truth: uint8 [H, W], 255 where there is no label.
        prediction: uint8 [H, W].
        confidence: uint8 [H, W], the greatest softmax in 0..255.
        left_out: see ``Taxonomy.left_out``.

    Returns:
        int64 [256, 2]: wrong and right pixels at each confidence. Counts of several images add up.
    """
    counted = (truth != NO_LABEL) & (truth != left_out)
    right = (truth == prediction)[counted]
    return np.bincount(confidence[counted].astype(np.int64) * 2 + right, minlength=512).reshape(256, 2)


def reliability(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy by confidence, in equally wide bins, open below and closed above.

    Args:
        counts: see ``confidence_counts``.

    Returns:
        ``pixels`` int64 [15], and in percent ``confidence``, the mean, and ``accuracy``, float [15]; NaN in empty bins.
    """
    level = np.arange(256)
    bin_of = np.maximum((level * CALIBRATION_BINS + 254) // 255 - 1, 0)
    pixels, right, total = (
        np.bincount(bin_of, weights, CALIBRATION_BINS)
        for weights in (counts.sum(1), counts[:, 1], counts.sum(1) * level)
    )
    with np.errstate(invalid="ignore"):
        return {
            "pixels": pixels.astype(np.int64),
            "confidence": 100 * total / 255 / pixels,
            "accuracy": 100 * right / pixels,
        }


def expected_calibration_error(diagram: dict[str, np.ndarray]) -> float:
    """Mean distance of confidence from accuracy, weighted by pixels: ECE, percent.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. A confidence comes in steps of 1/255, 0.4 points,
    rounded to the nearest: that error averages out within a bin, and is at most 0.2 points of the result.

    Args:
        diagram: see ``reliability``.
    """
    pixels = diagram["pixels"]
    if not pixels.any():
        return float("nan")
    gap = np.nan_to_num(np.abs(diagram["confidence"] - diagram["accuracy"]))
    return float((gap * pixels).sum() / pixels.sum())


def intervals(
    confusion: np.ndarray, block: int, taxonomy: Taxonomy = EIGHT
) -> tuple[list[float] | None, list[list[float] | None]]:
    """Bootstrap intervals of the headline, such as ``miou_7``, and of the IoU of each category, over the images.

    Each resample is scored by the sum of its images' confusion matrices, exactly as the set itself is. Neighbouring
    frames of a drive show one scene: drawn one by one they promise more than they know, so the drive is cut into
    contiguous blocks, which are drawn (Carlstein, "The use of subseries values for estimating the variance of a general
    statistic from a stationary sequence", Annals of Statistics 14, 1986). The percentiles are those
    of ``expanded_tail``, which corrects for the small number of blocks.

    Args:
        confusion: int64 [N, C, C], in the order in which the images were taken.
        block: images of a block; 1 where the images are independent of each other.
        taxonomy: the C categories.

    Returns:
        [low, high] in percent of the headline, and of each category; None where there are fewer than two blocks, or no
        pixel of the category.
    """
    count = round(len(confusion) / block)
    if count < 2:
        return None, [None] * len(taxonomy)
    sums = np.zeros((count, len(taxonomy) ** 2), np.int64)
    np.add.at(sums, np.arange(len(confusion)) * count // len(confusion), confusion.reshape(len(confusion), -1))
    drawn = draws(count) @ sums
    iou = category_scores(drawn.reshape(-1, len(taxonomy), len(taxonomy)), taxonomy)["iou"]
    tail = expanded_tail(LEVEL, count)

    def interval(values: np.ndarray) -> list[float] | None:
        if np.isnan(values).all():
            return None
        return [round(float(bound), 2) for bound in np.nanquantile(values, [tail, 1 - tail])]

    headline = _mean(iou[:, list(taxonomy.scored)], -1)
    return interval(headline), [interval(iou[:, category]) for category in range(len(taxonomy))]


def draws(count: int) -> np.ndarray:
    """How often each resample of ``count`` blocks holds each of them, int [RESAMPLES, count]; always the same ones."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)


def image_scores(confusion: np.ndarray, taxonomy: Taxonomy = EIGHT) -> np.ndarray:
    """Headline of each image alone, such as ``miou_7``, float [N], percent; NaN where nothing is labelled."""
    return _mean(category_scores(confusion, taxonomy)["iou"][:, list(taxonomy.scored)], -1)


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """``np.nanmean`` that takes it quietly where all is NaN."""
    count = np.isfinite(values).sum(axis)
    return np.where(count > 0, np.nansum(values, axis) / np.maximum(count, 1), np.nan)


_SIDES = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def _border(mask: np.ndarray, category: int) -> np.ndarray:
    """Pixels of a category that touch another one by a side, bool [H, W]."""
    inside = mask == category
    other = ~inside & (mask != NO_LABEL)
    return inside & cv2.dilate(other.astype(np.uint8), _SIDES).astype(bool)


def _share_near(border: np.ndarray, other: np.ndarray, tolerance: float) -> float:
    """Share of one border's pixels that are nearer to another border than the tolerance."""
    distance = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((distance[border] < tolerance).mean())


def _rounded(value: float) -> float | None:
    return round(float(value), 2) if np.isfinite(value) else None
