"""Accuracy as the decision module has it: ground truth at time t against the newest mask available at t.

After Li, Wang and Ramanan, "Towards Streaming Perception", ECCV 2020, with segmentation in place of boxes: a mask that
arrives late is compared with the scene that has moved on, so one figure (``miou_7`` over all instants) holds accuracy
and latency. Courdier and Fleuret, "Real-Time Segmentation Networks should be Latency Aware", ACCV 2020, ask the same of
segmentation, at the instants at which a mask is finished; here the instants are those at which the camera published its
frames, so that frames which are dropped cost something, too.

A drive that is looped has a seam, at which no road goes on. From there to the first mask of the new round nothing is
scored.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from seg_node.core.grouping import IN_THE_EIGHT, Scoring
from seg_node.core.metrics import confusion_with_misses
from seg_node.core.taxonomy import NO_LABEL
from seg_node.rig.frames import FrameObservation, NowObservation, Run


@dataclass(frozen=True)
class Instant:
    """What a decision module had when one frame was published."""

    now: FrameObservation
    """The frame that was published: the world as it is."""
    newest: FrameObservation | None
    """The latest frame whose mask had arrived by then; None before the first mask."""
    across_seam: bool = False
    """Whether the drive has begun anew since that frame: the end of a drive says nothing about its beginning."""

    @property
    def age_ms(self) -> float | None:
        """Time from the frame of that mask to the frame that was published, by their stamps; None without a mask."""
        return (self.now.stamp - self.newest.stamp) / 1e6 if self.newest else None


def instants(run: Run) -> Iterator[Instant]:
    """The instants of a run after its warm-up, in order.

    Of the masks that have arrived, the newest is the one of the latest frame: a mask that overtook a newer one does
    not replace it. Masks of warm-up frames count as masks: they are what there was.
    """
    arrivals = sorted((frame.mask.arrived, frame.index) for frame in run.frames if frame.mask)
    ordered = sorted(run.frames, key=lambda frame: frame.index)
    rounds = _rounds([frame.frame for frame in ordered])
    newest, arrived = -1, 0
    for now in ordered[run.warm_up :]:
        while arrived < len(arrivals) and arrivals[arrived][0] <= now.sent:
            newest = max(newest, arrivals[arrived][1])
            arrived += 1
        if newest < 0:
            yield Instant(now, None)
        else:
            yield Instant(now, ordered[newest], rounds[newest] < rounds[now.index])


def _rounds(frames: list[int]) -> list[int]:
    """How often the drive had begun anew when each frame was published, by their places in the drive."""
    begun = [0]
    for before, now in zip(frames, frames[1:], strict=False):
        begun.append(begun[-1] + (now <= before))
    return begun


def streaming_confusions(
    run: Run, truth_of: Callable[[FrameObservation], np.ndarray | None], scoring: Scoring = IN_THE_EIGHT
) -> Iterator[tuple[Instant, np.ndarray]]:
    """Score every instant whose frame has ground truth and whose newest mask is of the same round of the drive.

    Args:
        run: what was seen.
        truth_of: ground truth of a frame, uint8 [H, W]; None where it has none.
        scoring: in which categories; the truth has these already.

    Yields:
        The instant and its confusion matrix, see ``confusion_with_misses``.
    """
    held: tuple[int, np.ndarray] | None = None
    count = len(scoring.taxonomy)
    for instant in instants(run):
        truth = None if instant.across_seam else truth_of(instant.now)
        if truth is None:
            continue
        newest = instant.newest
        if newest is None:
            yield instant, confusion_with_misses(truth, np.full_like(truth, NO_LABEL), count)
            continue
        if held is None or held[0] != newest.index:
            held = newest.index, scoring.of_mask(newest.mask.decode())
        yield instant, confusion_with_misses(truth, held[1], count)


@dataclass(frozen=True)
class NowInstant:
    """The same with the masks of now."""

    now: FrameObservation
    """The frame that was published."""
    newest: NowObservation | None
    """The mask of now that had arrived last by then; None before the first."""

    @property
    def age_ms(self) -> float | None:
        """Time from the keyframe of that mask to the frame that was published, by their stamps; None without a mask."""
        return (self.now.stamp - self.newest.record.keyframe) / 1e6 if self.newest else None


def now_instants(run: Run) -> Iterator[NowInstant]:
    """The instants of a run after its warm-up, in order, with what came on ``~/mask_now``.

    The node publishes these masks in the order of the times for which they hold: the last that arrived is the newest.
    """
    arrived = sorted((now for now in run.nows or () if now.mask), key=lambda now: now.mask.arrived)
    at = 0
    for frame in sorted(run.frames, key=lambda frame: frame.index)[run.warm_up :]:
        while at < len(arrived) and arrived[at].mask.arrived <= frame.sent:
            at += 1
        yield NowInstant(frame, arrived[at - 1] if at else None)


def now_confusions(
    run: Run, truth_of: Callable[[FrameObservation], np.ndarray | None], scoring: Scoring = IN_THE_EIGHT
) -> Iterator[tuple[NowInstant, np.ndarray]]:
    """What ``streaming_confusions`` gives, of the masks of now and at the same instants."""
    across_seam = {instant.now.index for instant in instants(run) if instant.across_seam}
    for instant in now_instants(run):
        truth = None if instant.now.index in across_seam else truth_of(instant.now)
        if truth is not None:
            newest = instant.newest
            mask = scoring.of_mask(newest.mask.decode()) if newest else np.full_like(truth, NO_LABEL)
            yield instant, confusion_with_misses(truth, mask, len(scoring.taxonomy))


def first_round(run: Run) -> list[tuple[Instant, NowInstant]]:
    """The instants of the first time that the drive is played, with what came on either topic; none of warm-up."""
    found: list[tuple[Instant, NowInstant]] = []
    for pair in zip(instants(run), now_instants(run), strict=True):
        if found and pair[0].now.frame <= found[-1][0].now.frame:
            break
        found.append(pair)
    return found


def ages_at_use(run: Run) -> dict[str, list]:
    """How old what was inferred is at the moment of use, frame by frame, while the drive is played for the first time.

    Returns:
        ``frame``, places in the drive; ``mask_ms``, milliseconds by the stamps from the frame of the newest mask at
        hand; and, where somebody listened to it, ``mask_now_ms``, those from the frame from which the newest mask of
        now was carried. None where there was no mask yet.
    """
    pairs = first_round(run)
    ages: dict[str, list] = {
        "frame": [instant.now.frame for instant, _ in pairs],
        "mask_ms": [instant.age_ms for instant, _ in pairs],
    }
    if run.nows is not None:
        ages["mask_now_ms"] = [now.age_ms for _, now in pairs]
    return ages
