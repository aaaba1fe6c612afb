"""Whether a quantity grows over a run, when single samples stray."""

import numpy as np

_MOST = 600
"""Samples of which the slope is taken: all pairs of them are looked at."""


def slope(times: np.ndarray, values: np.ndarray) -> float:
    """Growth per unit of time: the median of the slopes between all pairs of samples.

    Theil, "A rank-invariant method of linear and polynomial regression analysis", 1950; Sen, "Estimates of the
    regression coefficient based on Kendall's tau", JASA 63, 1968. Up to 29 % of the samples may be anything.

    Args:
        times: increasing, float [N], N of at least 2.
        values: float [N].
    """
    step = -(-len(times) // _MOST)
    times, values = np.asarray(times, float)[::step], np.asarray(values, float)[::step]
    first, second = np.triu_indices(len(times), 1)
    return float(np.median((values[second] - values[first]) / (times[second] - times[first])))


def fifths(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values in the first and in the last fifth of the time."""
    times, values = np.asarray(times, float), np.asarray(values, float)
    length = (times[-1] - times[0]) / 5
    return values[times <= times[0] + length], values[times >= times[-1] - length]
