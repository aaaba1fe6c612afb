"""Which frame a mask or a timing record belongs to, where header stamps repeat or go backward, too."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from seg_node.core.propagation.record import NowOutcome, NowRecord
from seg_node.core.timing import FrameRecord, Outcome
from seg_node.rig.frames import ArrivedMask, FrameObservation, NowObservation


def match(
    published: Sequence[tuple[int, int, int, int]],
    masks: Iterable[tuple[int, ArrivedMask]],
    records: Iterable[tuple[int, int, FrameRecord]],
) -> tuple[list[FrameObservation], int, int]:
    """Match by header stamp, and by time among the frames of one stamp.

    A record belongs to the latest frame of its stamp that was published before the node received what the record speaks
    of, which is the record's arrival less its ``total``, and that has no record yet. A mask belongs to the frame of its
    stamp whose record says ``masked`` and arrived nearest to it, and that has no mask yet; where there is no such frame
    (its record was lost), to the latest one published before it arrived that has neither.

    The limit of the rule: frames of one stamp that are published closer together than a message takes (milliseconds)
    can be taken for each other. Their numbers stay right.

    Args:
        published: index in the drive, header stamp, due and sent time of each frame, in the order of publishing.
        masks: header stamp and mask, in the order of arrival.
        records: header stamp, time of arrival and record, in the order of arrival.

    Returns:
        The frames in the order of publishing; how many masks and records bear a stamp that was not published before
        they arrived; how many came for a frame that had one already.
    """
    by_stamp: dict[int, list[int]] = defaultdict(list)
    for index, (_, stamp, _, _) in enumerate(published):
        by_stamp[stamp].append(index)
    sent = [times[3] for times in published]
    found_records: dict[int, tuple[int, FrameRecord]] = {}
    found_masks: dict[int, ArrivedMask] = {}
    strangers = repeated = 0

    def latest(stamp: int, before: int, free: Callable[[int], bool]) -> int | None:
        return next((i for i in reversed(by_stamp[stamp]) if sent[i] < before and free(i)), None)

    def known(stamp: int, arrived: int) -> bool:
        return any(sent[i] < arrived for i in by_stamp.get(stamp, ()))

    for stamp, arrived, record in records:
        if not known(stamp, arrived):
            strangers += 1
            continue
        received = arrived - round(record.total * 1e6)
        index = latest(stamp, received, lambda i: i not in found_records)
        if index is None:
            index = latest(stamp, arrived, lambda i: i not in found_records)
        if index is None:
            repeated += 1
        else:
            found_records[index] = (arrived, record)

    for stamp, mask in masks:
        if not known(stamp, mask.arrived):
            strangers += 1
            continue
        masked = [
            i
            for i in by_stamp[stamp]
            if sent[i] < mask.arrived
            and i not in found_masks
            and i in found_records
            and found_records[i][1].outcome is Outcome.MASKED
        ]
        if masked:
            index = min(masked, key=lambda i: abs(found_records[i][0] - mask.arrived))
        else:
            index = latest(stamp, mask.arrived, lambda i: i not in found_masks and i not in found_records)
        if index is None:
            # A mask of a frame that the node says it dropped is a contradiction to be seen, not to be counted away.
            index = latest(stamp, mask.arrived, lambda i: i not in found_masks)
        if index is None:
            repeated += 1
        else:
            found_masks[index] = mask

    frames = []
    for index, (frame, stamp, due, at) in enumerate(published):
        recorded, record = found_records.get(index, (None, None))
        frames.append(FrameObservation(index, frame, stamp, due, at, record, recorded, found_masks.get(index)))
    return frames, strangers, repeated


def match_now(
    frames: Sequence[FrameObservation],
    masks: Sequence[tuple[int, ArrivedMask]],
    records: Sequence[tuple[int, int, NowRecord]],
) -> tuple[list[NowObservation], int]:
    """Match masks of now and their records with each other, and with frames.

    One thread of the node publishes a mask, then its record, and both topics keep their order. So the masks belong to
    the records that say ``propagated`` one by one, and a mask is of the time that its record names. A record belongs to
    the latest frame of its stamp that was published before the node received it.

    Args:
        frames: of ``match``.
        masks: header stamp and mask, in the order of arrival.
        records: header stamp, time of arrival and record, in the order of arrival.

    Returns:
        One observation for each record that has a frame; how many masks and records have no partner.
    """
    by_stamp: dict[int, list[FrameObservation]] = defaultdict(list)
    for frame in frames:
        by_stamp[frame.stamp].append(frame)
    found, strangers, at = [], 0, 0
    for stamp, arrived, record in records:
        mask = None
        if record.outcome is NowOutcome.PROPAGATED:
            if at < len(masks) and masks[at][0] == stamp + round(1e6 * record.horizon):
                mask = masks[at][1]
                at += 1
            else:
                strangers += 1
        received = arrived - round(record.total * 1e6)
        of = by_stamp.get(stamp, [])
        frame = next((f for when in (received, arrived) for f in reversed(of) if f.sent < when), None)
        if frame is None:
            strangers += 1
        else:
            found.append(NowObservation(frame.index, record, arrived, mask))
    return found, strangers + len(masks) - at
