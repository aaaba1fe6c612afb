"""What the finals say: means over processes with their intervals, and by how much the winner leads."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seg_node.compare.statistics import IouCounts, Units, blocks_of, miou_differences
from seg_node.core.statistics import mean_known, student_interval
from seg_node.tune.candidates import Candidate
from seg_node.tune.trial import score

LEVEL = 0.95
"""Confidence of each interval."""
BLOCK_S = 1.0
"""Seconds of a block of the drive."""


def columns_of(candidate: Candidate, run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Scored instants of the topic that a candidate is about."""
    return run["scored"]["mask_now" if candidate.propagate else "mask"]


def final_row(candidate: Candidate, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of a finalist.

    Args:
        candidate: whose processes they are.
        runs: of ``run_trial``, one for each process, at least one.

    Returns:
        ``candidate``, ``setting``, ``topic``; ``scores`` of each process, their mean ``score`` and its interval from
        ``low`` to ``high``, None of one process; means of ``age_ms``, ``use_ms``, ``masks_per_s``, ``cpu_cores`` and
        ``rss_mb``; ``inference_ms``, the least ``p05``, the mean ``p50`` and the greatest ``p95``.
    """
    scores = [score(columns_of(candidate, run)) or 0.0 for run in runs]
    low, high = student_interval(scores, LEVEL) if len(scores) > 1 else (None, None)
    inference = [run["inference_ms"] for run in runs if run["inference_ms"]]
    return {
        "candidate": candidate.key,
        "setting": candidate.setting.key,
        "topic": candidate.topic,
        "scores": [round(value, 2) for value in scores],
        "score": round(float(np.mean(scores)), 2),
        "low": None if low is None else round(low, 2),
        "high": None if high is None else round(high, 2),
        "age_ms": _mean((run["age_ms"] or {}).get("p95") for run in runs),
        "use_ms": _mean(columns_of(candidate, run)["use_ms"] for run in runs),
        "inference_ms": {
            "p05": min(one["p05"] for one in inference),
            "p50": _mean(one["p50"] for one in inference),
            "p95": max(one["p95"] for one in inference),
        },
        **{name: _mean(run[name] for run in runs) for name in ("masks_per_s", "cpu_cores", "rss_mb")},
    }


def behind(
    winner: tuple[Candidate, Sequence[Mapping[str, Any]]],
    other: tuple[Candidate, Sequence[Mapping[str, Any]]],
    times: Mapping[int, float],
) -> dict[str, float] | None:
    """By how many points another finalist is behind the winner, in pairs of processes that ran after each other.

    The interval is the wider one of two: over the pairs, and over blocks of the drive (see ``compare.statistics``).

    Args:
        winner, other: each with its runs, in the order of the repetitions.
        times: seconds of each frame by its stamp.

    Returns:
        ``points``, ``low`` and ``high``; None with fewer than two pairs.
    """
    pairs = list(zip(winner[1], other[1], strict=True))
    if len(pairs) < 2:
        return None
    columns = [(columns_of(winner[0], first), columns_of(other[0], second)) for first, second in pairs]
    differences = np.array([(score(first) or 0.0) - (score(second) or 0.0) for first, second in columns])
    stamps = sorted({stamp for pair in columns for one in pair for stamp in one["stamp"]})
    block = dict(zip(stamps, blocks_of(np.array([times[stamp] for stamp in stamps]), BLOCK_S).tolist(), strict=True))
    count = max(block.values()) + 1
    blocks = None
    if count > 1:
        a, b = (_counts([pair[i] for pair in columns], block) for i in (1, 0))
        blocks = miou_differences(a, b, count)
    # So few processes leave no degree of freedom to spare, and no winner is claimed for good.
    found = Units(differences, blocks).interval(LEVEL, spared=0)
    return {"points": round(found.estimate, 2), "low": round(found.low, 2), "high": round(found.high, 2)}


def _counts(columns: Sequence[Mapping[str, Any]], block: Mapping[int, int]) -> IouCounts:
    return IouCounts(
        hits=np.concatenate([np.array(one["hits"]) for one in columns]),
        unions=np.concatenate([np.array(one["unions"]) for one in columns]),
        block=np.array([block[stamp] for one in columns for stamp in one["stamp"]]),
    )


def _mean(values) -> float | None:
    found = mean_known(values)
    return None if found is None else round(found, 2)
