"""How sure a difference between two backbones is: Student's interval over the units that are independent.

What a latency, a rate of masks or a streaming score varies with is the process: where its memory lies, which threads
met which cores, what else the machine did in that half minute. Frames of one process have all that in common, so that
thousands of them are one look at it. The unit is therefore the pair of processes, one of each backbone, that ran one
after the other, in an order that chance decides (see ``plan.turns``), so that what the machine does favours neither.

What depends on the scene alone is cut into blocks of the drive, because neighbouring frames show nearly the same street
(Künsch, "The jackknife and the bootstrap for general stationary observations", Annals of Statistics 17, 1989). A mean
IoU is no mean over blocks, so each block stands in by its pseudo-value: what the figure changes by when the block is
left out (Tukey 1958; Miller, "The jackknife: a review", Biometrika 61, 1974).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seg_node.core.statistics import holm, student_interval
from seg_node.core.taxonomy import EIGHT, Taxonomy

LEVEL = 0.99
"""Confidence of every question: five are asked, which together shall mislead at most once in twenty times."""
_SPARED = 1
"""Degrees of freedom that are not counted on. On a machine that slows down and recovers like a wave, differences of
pairs are not normal, and Student's own interval names a false winner in up to 2.6 % where 1 % is claimed; see
``benchmarks/verdict_simulation.py``."""


@dataclass(frozen=True)
class Interval:
    """A difference, second backbone minus first, and the interval in which it lies."""

    estimate: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval is above or below zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True)
class Units:
    """Values of independent units whose mean is a difference, and perhaps those of another kind of unit.

    A streaming score varies with the process and with the scene: its interval is the wider one of the two.
    """

    values: np.ndarray
    """float [N], N at least 2."""
    others: np.ndarray | None = None
    """float [M], M at least 2."""

    def interval(self, level: float, spared: int = _SPARED) -> Interval:
        """Student's interval around the mean of ``values``, of as many degrees of freedom fewer as are ``spared``."""
        estimate = float(np.mean(self.values))
        halves = []
        for values in (self.values, self.others):
            if values is not None:
                low, high = student_interval(values, level, spared)
                halves.append((high - low) / 2)
        return Interval(estimate, estimate - max(halves), estimate + max(halves))


@dataclass(frozen=True)
class IouCounts:
    """Pixels per frame and category from which IoU is made, with the block of each frame."""

    hits: np.ndarray
    """int [N, C], pixels of a category that were found."""
    unions: np.ndarray
    """int [N, C], pixels that are of the category in truth or prediction."""
    block: np.ndarray
    """int [N]."""

    def by_block(self, blocks: int) -> tuple[np.ndarray, np.ndarray]:
        """Hits and unions of each block, int [blocks, C]."""
        sums = np.zeros((2, blocks, self.hits.shape[1]), np.int64)
        np.add.at(sums[0], self.block, self.hits)
        np.add.at(sums[1], self.block, self.unions)
        return sums[0], sums[1]


def decided(differences: Sequence[Units], level: float) -> list[tuple[Interval, float]]:
    """Intervals of a family of differences after Holm, and the confidence of each; see ``core.statistics.holm``.

    Args:
        differences: of one question, one for each pair of backbones.
        level: confidence that none of them is decided by chance.
    """
    return holm([difference.interval for difference in differences], lambda found: found.sign != 0, level)


def pseudo_values(whole: float, without: np.ndarray) -> np.ndarray:
    """Pseudo-values of the jackknife: float [N], whose mean estimates the figure and whose spread its error.

    Args:
        whole: the figure of everything.
        without: float [N], the figure without each unit.
    """
    return len(without) * whole - (len(without) - 1) * without


def quantile_differences(a: Sequence[np.ndarray], b: Sequence[np.ndarray], q: float) -> np.ndarray:
    """Difference b - a of a quantile in each pair of processes, float [pairs].

    A high quantile of few values lies lower than one of many. Of the process with more values only as many are looked
    at, evenly over its run, as the other one has, so that neither gains by being slow.

    Args:
        a, b: values of each process of the two backbones in the order of time, float [..] each, in pairs; none empty.
        q: 0..1.
    """

    def of(values: np.ndarray, count: int) -> float:
        # np.quantile takes ten times as long for a few values, and the simulation of verdicts asks for millions.
        looked = np.sort(values[np.linspace(0, len(values) - 1, count).round().astype(int)])
        place = q * (count - 1)
        below, above = looked[int(place)], looked[min(int(place) + 1, count - 1)]
        return float(below + (place - int(place)) * (above - below))

    counts = [min(map(len, pair)) for pair in zip(a, b, strict=True)]
    return np.array([of(high, n) - of(low, n) for low, high, n in zip(a, b, counts, strict=True)])


def miou_differences(a: IouCounts, b: IouCounts, blocks: int) -> np.ndarray:
    """The difference b - a of the mean IoU, each from one sum over all frames, by pseudo-values of the blocks.

    Returns:
        float [blocks], percentage points.
    """
    whole, without = 0.0, np.zeros(blocks)
    for sign, counts in ((-1, a), (1, b)):
        hits, unions = counts.by_block(blocks)
        whole += sign * float(mean_iou(hits.sum(0), unions.sum(0)))
        without += sign * mean_iou(hits.sum(0) - hits, unions.sum(0) - unions)
    return pseudo_values(whole, without)


def hits_and_unions(confusion: np.ndarray, taxonomy: Taxonomy = EIGHT) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of each scored category that were found, and those that are of it in truth or prediction, int64 [S] each.

    Args:
        confusion: int [N, N] or [N, N + 1], see ``core.metrics.scores``.
        taxonomy: the N categories, S of them scored.
    """
    columns = list(taxonomy.scored)
    # Without the row of void: pixels of void are nobody's false positives.
    hits = np.diag(confusion)[columns]
    return hits, confusion[columns].sum(1) + confusion[columns][:, columns].sum(0) - hits


def mean_iou(hits: np.ndarray, unions: np.ndarray) -> np.ndarray:
    """Mean over the last axis of hits / unions in percent; categories without a pixel are left out, NaN without any."""
    present = unions > 0
    iou = np.where(present, hits / np.maximum(unions, 1), 0.0)
    count = present.sum(-1)
    return np.where(count > 0, 100 * iou.sum(-1) / np.maximum(count, 1), np.nan)


def blocks_of(times: np.ndarray, seconds: float) -> np.ndarray:
    """Cut a drive into contiguous blocks of equal duration.

    Args:
        times: float [N], seconds, of the frames.
        seconds: duration of a block; the drive's duration is divided by the nearest whole number of blocks.

    Returns:
        int [N], number of each frame's block, from 0.
    """
    elapsed = times - times.min()
    # A frame lasts until the next one: ten frames at 10 Hz are one second.
    whole = elapsed.max() * len(times) / max(len(times) - 1, 1)
    count = max(1, round(whole / seconds))
    return np.minimum((elapsed / max(whole, 1e-9) * count).astype(int), count - 1)


def block_length(series: np.ndarray) -> float:
    """Number of values that a block should hold, from the autocorrelation of a series.

    Politis and White, "Automatic block-length selection for the dependent bootstrap", Econometric Reviews 23, 2004,
    corrected by Patton, Politis and White, Econometric Reviews 28, 2009: their rule for blocks of fixed length, with
    the flat-top window and their choice of its bandwidth.

    Args:
        series: float [N], evenly spaced in time.

    Returns:
        At least 1; 1 for a series that is constant or shorter than ten values.
    """
    count = len(series)
    centred = series - series.mean()
    if count < 10 or not centred.any():
        return 1.0
    quiet = max(5, round(np.sqrt(np.log10(count))))
    most = min(count - 1, int(np.ceil(np.sqrt(count))) + quiet)
    covariance = np.array([centred[: count - k] @ centred[k:] for k in range(most + 1)]) / count
    significant = np.abs(covariance[1:] / covariance[0]) >= 2 * np.sqrt(np.log10(count) / count)
    # The first lag after which so many in a row are not significant; else the last one that is.
    after = next((m for m in range(most - quiet + 1) if not significant[m : m + quiet].any()), None)
    last = after if after is not None else int(np.flatnonzero(significant)[-1]) + 1
    bandwidth = min(2 * max(last, 1), most)
    lags = np.arange(1, bandwidth + 1)
    window = np.clip(2 * (1 - lags / bandwidth), 0, 1)
    spread = covariance[0] + 2 * (window @ covariance[lags])
    slope = 2 * (window @ (lags * covariance[lags]))
    if spread <= 0:
        return 1.0
    best = (2 * slope**2 / (4 / 3 * spread**2) * count) ** (1 / 3)
    return float(np.clip(best, 1.0, min(3 * np.sqrt(count), count / 3)))
