"""Statistics that training, benchmarks and the comparison share."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from statistics import NormalDist
from typing import TypeVar

import numpy as np

Found = TypeVar("Found")


@functools.cache
def student_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t distribution, by bisection of its distribution function.

    Args:
        p: probability, 0.5 to 1.
        freedom: degrees of freedom, at least 1.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _within(middle, freedom) < 2 * p - 1:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """Probability that Student's t lies between -t and t, where t is ``sqrt(freedom) * tan(angle)``.

    Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, 26.7.3 and 26.7.4.
    """
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def student_interval(values: Sequence[float], level: float, spared: int = 0) -> tuple[float, float]:
    """Student's interval of the mean of independent values.

    Args:
        values: at least two.
        level: confidence, 0..1.
        spared: degrees of freedom not to count on, which makes the interval wider; one is left at least.
    """
    count, middle = len(values), float(np.mean(values))
    half = (
        student_quantile((1 + level) / 2, max(count - 1 - spared, 1)) * float(np.std(values, ddof=1)) / math.sqrt(count)
    )
    return middle - half, middle + half


def holm(
    intervals: Sequence[Callable[[float], Found]], decides: Callable[[Found], bool], level: float
) -> list[tuple[Found, float]]:
    """Intervals of a family of differences after Holm, and the confidence of each.

    Those that decide at the level of the whole family's Bonferroni correction are decided, the rest is looked at again
    as a smaller family (Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6, 1979). One difference has its plain interval.

    Args:
        intervals: for each difference, its interval at a confidence.
        decides: whether an interval decides: whether it leaves zero out.
        level: confidence that none of them is decided by chance.
    """
    found: dict[int, tuple[Found, float]] = {}
    while len(found) < len(intervals):
        each = 1 - (1 - level) / (len(intervals) - len(found))
        looked = {i: (interval(each), each) for i, interval in enumerate(intervals) if i not in found}
        found |= {i: one for i, one in looked.items() if decides(one[0])} or looked
    return [found[i] for i in range(len(intervals))]


def expanded_tail(level: float, count: int) -> float:
    """Tail of a bootstrap of ``count`` units at which its percentiles make an interval of confidence ``level``.

    The plain percentile interval is too short by sqrt((n - 1) / n) and by the ratio of the normal to Student's
    quantile; taking percentiles further out corrects both (Hesterberg, "What teachers should know about the bootstrap",
    The American Statistician 69, 2015, section 5.3, "expanded percentile interval").
    """
    return NormalDist().cdf(-math.sqrt(count / (count - 1)) * student_quantile((1 + level) / 2, count - 1))


def mean_known(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are numbers; None where there is none."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(known)) if known else None
