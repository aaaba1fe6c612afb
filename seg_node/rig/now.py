"""What a run measured of the mask of now: counts that must add up, how soon it came, how right it was by its age."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from seg_node.core.grouping import IN_THE_EIGHT, Scoring
from seg_node.core.metrics import scores
from seg_node.core.propagation.record import NOW_DROPS, NowOutcome, NowStage
from seg_node.core.taxonomy import Taxonomy
from seg_node.rig.frames import FrameObservation, Run
from seg_node.rig.scoring import Distribution
from seg_node.rig.streaming import Instant, NowInstant, now_confusions, now_instants, streaming_confusions

AGE_STEP_MS = 50
"""Width of the classes of age in which masks are scored."""


@dataclass
class NowResult:
    """The mask of now in one run. Durations are in milliseconds, scores in percent; warm-up only in the counts."""

    received: int
    """Frames that reached the propagator."""
    propagated: int
    again: int
    """Frames whose mask came once more, when an inference had ended."""
    dropped: dict[str, int]
    """Frames without a mask of now, by reason."""
    covered: float | None
    """Share, 0 to 1, of the frames sent that had a mask of now."""
    camera_to_mask: Distribution | None
    """From publishing a frame until its first mask of now arrived."""
    stages: dict[str, Distribution]
    """Durations of the stages of the first mask of each frame, as the node measured them; ``total`` among them."""
    keyframe_age: Distribution | None
    """From the keyframe to the frame that was published, by their stamps, of the mask that was the newest then."""
    horizon: Distribution | None
    """Time ahead of its frame for which a mask held."""
    residual: Distribution | None
    """Mean grey difference of a frame to its keyframe's picture as flow carries it, 0 to 255."""
    faults: list[str]
    """Where the counts do not add up; empty when all is well."""


def summarise_now(run: Run) -> NowResult | None:
    """Count and summarise; None where nobody listened to the mask of now."""
    if run.nows is None:
        return None
    first = [now for now in run.nows if not now.record.again]
    outcomes = Counter(now.record.outcome for now in first)
    sent = {frame.index: frame.sent for frame in run.frames}
    counted = [now for now in first if now.index >= run.warm_up]
    masked = [now for now in counted if now.mask]
    stages = {
        stage.value: Distribution.of(now.record.stages[stage] for now in masked if stage in now.record.stages)
        for stage in NowStage
    }
    stages["total"] = Distribution.of(now.record.total for now in masked)
    frames = len(run.frames) - run.warm_up
    return NowResult(
        received=run.now_counters.get("received", len(first)),
        propagated=outcomes[NowOutcome.PROPAGATED],
        again=sum(now.record.again for now in run.nows),
        dropped={outcome.value: outcomes[outcome] for outcome in NOW_DROPS},
        covered=len({now.index for now in masked}) / frames if frames else None,
        camera_to_mask=Distribution.of((now.mask.arrived - sent[now.index]) / 1e6 for now in masked),
        stages={name: distribution for name, distribution in stages.items() if distribution},
        keyframe_age=Distribution.of(i.age_ms for i in now_instants(run) if i.age_ms is not None),
        horizon=Distribution.of(now.record.horizon for now in masked),
        residual=Distribution.of(now.record.residual for now in masked),
        faults=_faults(run, outcomes),
    )


def _faults(run: Run, outcomes: Mapping[NowOutcome, int]) -> list[str]:
    found = []
    if run.now_strangers:
        found.append(f"{run.now_strangers} masks of now and their records have no partner, or no frame")
    if not run.now_counters:
        return [*found, "the node's /diagnostics never arrived, so the counts of masks of now cannot be checked"]
    counts = {outcome: run.now_counters[f"dropped.{outcome.value}"] for outcome in NOW_DROPS}
    counts[NowOutcome.PROPAGATED] = run.now_counters["propagated"]
    received, pending = run.now_counters["received"], run.now_counters["pending"]
    if pending:
        found.append(f"{pending} frames were still pending in the propagator at the end")
    if received != sum(counts.values()) + pending:
        found.append(f"the propagator received {received} frames, but {sum(counts.values())} have an end")
    for outcome, count in counts.items():
        if outcomes[outcome] != count:
            found.append(f"the propagator counted {count} frames {outcome.value}, its records {outcomes[outcome]}")
    return found


def score_streaming(
    run: Run, truth_of: Callable[[FrameObservation], np.ndarray | None], scoring: Scoring = IN_THE_EIGHT
) -> dict[str, Any] | None:
    """Streaming accuracy of ``~/mask`` and of ``~/mask_now``, at the same instants.

    Args:
        run: what was seen.
        truth_of: ground truth of a frame, uint8 [H, W]; None where it has none.
        scoring: in which categories; the truth has these already.

    Returns:
        ``mask`` and, where somebody listened to it, ``mask_now``: ``core.metrics.scores`` and ``frames``, the number of
        instants; ``mask_by_age`` and ``mask_now_by_age``: the same for each class of age of the inferred mask, with
        ``from_ms`` and ``to_ms``. None without ground truth.
    """
    of_topic = {"mask": list(streaming_confusions(run, truth_of, scoring))}
    if not of_topic["mask"]:
        return None
    if run.nows is not None:
        of_topic["mask_now"] = list(now_confusions(run, truth_of, scoring))
    found: dict[str, Any] = {}
    for topic, pairs in of_topic.items():
        found[topic] = _scored((confusion for _, confusion in pairs), scoring.taxonomy)
        found[f"{topic}_by_age"] = [
            {"from_ms": age, "to_ms": age + AGE_STEP_MS, **_scored(confusions, scoring.taxonomy)}
            for age, confusions in by_age(pairs).items()
        ]
    return found


def by_age(scored: Iterable[tuple[Instant | NowInstant, np.ndarray]]) -> dict[int, list[np.ndarray]]:
    """Confusion matrices of instants by the age of the inferred mask that a decision module had, moved or not.

    Args:
        scored: of ``streaming_confusions`` or ``now_confusions``.

    Returns:
        From the least age of a class in milliseconds, a multiple of ``AGE_STEP_MS``, to the matrices of its instants;
        instants before the first mask are in none.
    """
    found = defaultdict(list)
    for instant, confusion in scored:
        if instant.age_ms is not None:
            found[int(max(instant.age_ms, 0.0) // AGE_STEP_MS) * AGE_STEP_MS].append(confusion)
    return dict(sorted(found.items()))


def _scored(confusions: Iterable[np.ndarray], taxonomy: Taxonomy) -> dict[str, Any]:
    confusions = list(confusions)
    return {**scores(sum(confusions[1:], confusions[0]), taxonomy), "frames": len(confusions)}
