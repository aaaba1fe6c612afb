"""The bare time of an inference and the offline accuracy of every setting, in this process and in seconds."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from seg_node.core.bundle import Bundle
from seg_node.core.engines import create_engine
from seg_node.core.errors import SegNodeError
from seg_node.core.metrics import confusion_matrix, scores
from seg_node.tune.candidates import EXACTNESS, Setting, input_sizes, settings_at_own_size

_INFERENCES = 5
_TIMED_S = 0.6
"""A setting is timed for so many inferences, or at least two of them in so many seconds."""
_HOPELESS = 2.0
"""Multiple of the time of an equal or better setting at which one inference tells enough."""

Sample = Sequence[tuple[np.ndarray, np.ndarray]]
"""Frames, uint8 [H, W, 3] BGR, with their ground truth, uint8 [H, W]."""


def measure(bundle: Bundle, setting: Setting, sample: Sample, beaten: float | None = None) -> dict[str, Any]:
    """Time a setting, and score its masks.

    Args:
        bundle: that of the setting.
        setting: what to make.
        sample: at least one frame.
        beaten: milliseconds of a setting whose masks are as good; one that is slower is not scored.

    Returns:
        ``inference_ms``, the median; ``miou_7`` of the sample, percent, or None where it was not scored; ``refusal``,
        why there is neither, or empty.
    """
    row: dict[str, Any] = {"setting": setting.key, "inference_ms": None, "miou_7": None, "refusal": ""}
    try:
        engine = create_engine(bundle, setting.engine, setting.threads, setting.precision, setting.input_size)
        engine.warm_up(sample[0][0].shape[:2])
        times: list[float] = []
        while len(times) < _INFERENCES and (sum(times) < 1e3 * _TIMED_S or len(times) < 2):
            since = time.perf_counter()
            engine.infer(sample[len(times) % len(sample)][0])
            times.append(1e3 * (time.perf_counter() - since))
            if beaten is not None and times[-1] > _HOPELESS * beaten:
                break
        row["inference_ms"] = round(float(np.median(times)), 2)
        if beaten is None or row["inference_ms"] < beaten:
            confusion = sum(confusion_matrix(truth, engine.infer(frame)[0]) for frame, truth in sample)
            row["miou_7"] = round(scores(confusion)["miou_7"], 2)
    except SegNodeError as error:
        row["refusal"] = str(error)
    return row


def screen(
    bundles: Mapping[str, Bundle],
    engines: Sequence[str],
    sample: Sample,
    remember: Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]],
    until: Callable[[], bool],
) -> Iterator[tuple[Setting, dict[str, Any]]]:
    """Measure every setting that could win, each bundle's own size first.

    An engine and precision that is slower than another one of the same bundle whose masks are as exact is not tried at
    other sizes: the order of two engines on one network does not depend on the number of its pixels. One that took
    twice as long on another bundle is not tried at all. The bundle with the least work comes first, so that this is
    found out where it costs least.

    Args:
        bundles: by the name or path that the node takes.
        engines: to try, those first that are likely to be fast.
        sample: see ``measure``.
        remember: gives the row of a key, made by a function where it is not known yet.
        until: whether the time is up; what is left then is not measured, but one setting of each bundle.

    Yields:
        Settings with their rows, see ``measure``.
    """
    rows: dict[Setting, dict[str, Any]] = {}
    lightest = sorted(bundles, key=lambda model: bundles[model].manifest.gflops)
    for setting in settings_at_own_size({model: bundles[model] for model in lightest}, engines):
        if until() and any(row["miou_7"] is not None for other, row in rows.items() if other.model == setting.model):
            continue
        if reason := _is_hopeless(setting, rows):
            row = {"setting": setting.key, "inference_ms": None, "miou_7": None, "refusal": reason}
        else:
            row = _row(bundles[setting.model], setting, sample, _fastest(setting, rows), remember)
        rows[setting] = row
        yield setting, row
    kept = [setting for setting in rows if rows[setting]["miou_7"] is not None and not _beaten(setting, rows)]
    for own in sorted(kept, key=lambda setting: rows[setting]["inference_ms"]):
        # All sizes of one, for the graph that is quantised for them is the same.
        for size in input_sizes(bundles[own.model])[1:]:
            if not until():
                setting = dataclasses.replace(own, input_size=size)
                yield setting, _row(bundles[own.model], setting, sample, None, remember)


def _row(bundle, setting, sample, beaten, remember) -> dict[str, Any]:
    return remember(f"bare {setting.key}", lambda: measure(bundle, setting, sample, beaten))


def _is_hopeless(setting: Setting, rows: Mapping[Setting, Mapping[str, Any]]) -> str:
    """On which other bundle an engine and precision took twice as long as another one, that is here too, or empty."""
    for other, row in rows.items():
        if (other.engine, other.precision) != (setting.engine, setting.precision) or row["inference_ms"] is None:
            continue
        fastest = _fastest(other, rows)
        here = _fastest(setting, rows)
        if fastest and here and row["inference_ms"] > _HOPELESS * fastest:
            factor = row["inference_ms"] / fastest
            return f"not measured: on {other.model} another one was as exact and {factor:.1f} times as fast"
    return ""


def _fastest(setting: Setting, rows: Mapping[Setting, Mapping[str, Any]]) -> float | None:
    """Least time of the same bundle's settings whose masks are at least as exact."""
    times = [
        row["inference_ms"]
        for other, row in rows.items()
        if other.model == setting.model and EXACTNESS[other.precision] >= EXACTNESS[setting.precision]
    ]
    return min((time for time in times if time is not None), default=None)


def _beaten(setting: Setting, rows: Mapping[Setting, Mapping[str, Any]]) -> bool:
    fastest = _fastest(setting, {other: row for other, row in rows.items() if other != setting})
    return fastest is not None and fastest <= rows[setting]["inference_ms"]
