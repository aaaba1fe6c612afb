"""How sure a difference between two backbones is: a paired bootstrap over blocks of the drive and over repetitions.

Neighbouring frames show nearly the same scene to a machine in nearly the same state, so a bootstrap that draws single
frames takes 300 looks at one street for 300 streets, and its intervals are far too short. Here the drive is cut into
blocks of contiguous frames and whole blocks are drawn (Carlstein, "The use of subseries values for estimating the
variance of a general statistic from a stationary sequence", Annals of Statistics 14, 1986; Lahiri, "Resampling Methods
for Dependent Data", 2003, chapter 2). Repetitions are drawn independently of the blocks, because they cross them (Owen,
"The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007). Each draw serves both backbones: what a hard stretch
of road or a slow minute of the machine does to both cancels in their difference.
"""

from dataclasses import dataclass

import numpy as np

from seg_node.core.statistics import expanded_tail

LEVEL = 0.99
"""Confidence of every interval: five questions are asked, which together shall mislead at most once in twenty times."""


@dataclass(frozen=True)
class Interval:
    """A difference, second backbone minus first, and the interval in which it lies at ``LEVEL`` confidence."""

    estimate: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval is above or below zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)


class Draws:
    """Resamples of a drive's blocks and of the repetitions, the same for both backbones.

    Args:
        blocks: number of blocks, at least 2.
        repetitions: runs of each backbone; run i of one is paired with run i of the other.
        resamples: number of draws.
        seed: of the random generator: the same data give the same interval.
    """

    def __init__(self, blocks: int, repetitions: int = 1, resamples: int = 10000, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.blocks = blocks
        self.repetitions = repetitions
        self.of_blocks = rng.multinomial(blocks, np.full(blocks, 1 / blocks), resamples)
        """int [resamples, blocks], how often each draw holds a block."""
        self.of_repetitions = rng.multinomial(repetitions, np.full(repetitions, 1 / repetitions), resamples)
        """int [resamples, repetitions]."""

    def interval(self, estimate: float, resampled: np.ndarray) -> Interval:
        """Percentile interval of a statistic, widened for the small number of blocks, see ``expanded_tail``.

        Args:
            estimate: the statistic of the data itself.
            resampled: float [resamples], of each draw; NaN where a draw has no samples.
        """
        tail = expanded_tail(LEVEL, self.blocks)
        low, high = np.nanquantile(resampled, [tail, 1 - tail])
        return Interval(float(estimate), float(low), float(high))


@dataclass(frozen=True)
class Samples:
    """Durations with their places in the experiment, all [N]."""

    values: np.ndarray
    """float, milliseconds."""
    frame: np.ndarray
    """int, index of the frame in the drive."""
    block: np.ndarray
    """int, see ``blocks_of``."""
    repetition: np.ndarray
    """int, from 0."""


@dataclass(frozen=True)
class IouCounts:
    """Pixels per frame and category from which IoU is made, with their places in the experiment."""

    hits: np.ndarray
    """int [N, C], pixels of a category that were found."""
    unions: np.ndarray
    """int [N, C], pixels that are of the category in truth or prediction."""
    block: np.ndarray
    """int [N]."""
    repetition: np.ndarray
    """int [N]."""


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


def quantile_difference(a: Samples, b: Samples, q: float, draws: Draws) -> Interval:
    """Difference b - a of a quantile, linearly interpolated as ``np.quantile`` does it.

    All samples count, also of frames that only one backbone has masked: under overload the two rarely mask the same
    frame, and the blocks are what pairs them.
    """
    resampled = _quantiles(b, q, draws) - _quantiles(a, q, draws)
    return draws.interval(np.quantile(b.values, q) - np.quantile(a.values, q), resampled)


def paired_difference(a: Samples, b: Samples, draws: Draws) -> tuple[Interval, int] | None:
    """Median over frames of b - a, each averaged over the repetitions, of the frames that both have masked.

    Returns:
        The interval and the number of frames; None where no frame was masked by both.
    """
    frames = np.intersect1d(a.frame, b.frame)
    if not frames.size:
        return None
    mean_a, mean_b = (
        np.array([samples.values[samples.frame == frame].mean() for frame in frames]) for samples in (a, b)
    )
    block_of = dict(zip(a.frame.tolist(), a.block.tolist(), strict=True))
    block = np.array([block_of[frame] for frame in frames.tolist()])
    # The average has used the repetitions up.
    draws = Draws(draws.blocks, resamples=len(draws.of_blocks))
    pairs = Samples(mean_b - mean_a, frames, block, np.zeros(len(frames), int))
    return draws.interval(np.median(pairs.values), _quantiles(pairs, 0.5, draws)), len(frames)


def _quantiles(samples: Samples, q: float, draws: Draws) -> np.ndarray:
    order = np.argsort(samples.values)
    values, block, repetition = samples.values[order], samples.block[order], samples.repetition[order]
    found = np.full(len(draws.of_blocks), np.nan)
    for i, (blocks, repetitions) in enumerate(zip(draws.of_blocks, draws.of_repetitions, strict=True)):
        # Each sample as often as its block and its repetition were drawn, without making the copies.
        cumulative = np.cumsum(blocks[block] * repetitions[repetition])
        if total := cumulative[-1]:
            place = q * (total - 1)
            ranks = [int(place), min(int(place) + 1, total - 1)]
            below, above = values[np.searchsorted(cumulative, ranks, side="right")]
            found[i] = below + (above - below) * (place - int(place))
    return found


def miou_difference(a: IouCounts, b: IouCounts, draws: Draws) -> Interval:
    """Difference b - a of the mean IoU over categories, each of one sum over all frames, in percentage points."""
    estimate = mean_iou(b.hits.sum(0), b.unions.sum(0)) - mean_iou(a.hits.sum(0), a.unions.sum(0))
    return draws.interval(float(estimate), _mean_ious(b, draws) - _mean_ious(a, draws))


def _mean_ious(counts: IouCounts, draws: Draws) -> np.ndarray:
    def drawn(pixels: np.ndarray) -> np.ndarray:
        sums = np.zeros((draws.blocks, draws.repetitions, pixels.shape[1]))
        np.add.at(sums, (counts.block, counts.repetition), pixels)
        return np.einsum("sb,sr,brc->sc", draws.of_blocks, draws.of_repetitions, sums, optimize=True)

    return mean_iou(drawn(counts.hits), drawn(counts.unions))


def mean_iou(hits: np.ndarray, unions: np.ndarray) -> np.ndarray:
    """Mean over the last axis of hits / unions in percent; categories without a pixel are left out, NaN without any."""
    present = unions > 0
    iou = np.where(present, hits / np.maximum(unions, 1), 0.0)
    count = present.sum(-1)
    return np.where(count > 0, 100 * iou.sum(-1) / np.maximum(count, 1), np.nan)
