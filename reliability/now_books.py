"""The books of the mask of now: what must hold of it on every day, however bad."""

from collections import Counter
from itertools import pairwise

from scene import NODE, Books, Scene

from seg_node.core.propagation.record import NOW_DROPS, NowOutcome
from seg_node.core.timing import Outcome

_MASKED = NowOutcome.PROPAGATED.value
_ENDS = (NowOutcome.PROPAGATED, *NOW_DROPS)


class NowBooks:
    """Balances the records of ``~/timing_now`` with masks, frames and the node's own counts.

    Args:
        scene: with an observer of the option ``--now``.
        max_age: the node's ``propagate_max_age_ms``.
        name: of the node.
    """

    def __init__(self, scene: Scene, max_age: float, name: str = NODE):
        self._scene, self._max_age, self._name = scene, max_age, name
        self._earlier = Counter()

    def end_of_life(self) -> None:
        """Note that the node's counts begin anew: call it when it has settled, before it is configured again."""
        self._earlier += self._counted()

    def balance(self) -> Books:
        """Balance; call it after ``Scene.balance``, when nothing is pending any more."""
        observer = self._scene.observer
        masks, records = observer.masks_now(self._name), observer.records_now(self._name)
        first = [record for record in records if record["values"]["again"] == "false"]
        counts = self._earlier + self._counted()
        books = Books(received=counts["received"], masks=len(masks))
        books.sent = len({sent.stamp for camera in self._scene.cameras for sent in camera.sent})
        books.outcomes = dict(Counter(record["outcome"] for record in first))
        stamps = Counter(_target(record) for record in records if record["outcome"] == _MASKED)
        arrived = Counter(mask["stamp"] for mask in masks)
        unbalanced = sum(not _adds_up(report["values"]) for report in observer.reports(self._name))
        for count, what in (
            (
                abs(counts["received"] - len(first)),
                "frames counted by the propagator, but not recorded, or the reverse",
            ),
            (
                sum(abs(counts[end.value] - books.outcomes.get(end.value, 0)) for end in _ENDS),
                "outcomes counted, but not recorded, or the reverse",
            ),
            ((stamps - arrived).total(), "masks of now recorded that did not come"),
            ((arrived - stamps).total(), "masks of now without a record"),
            (unbalanced, "reports whose counts of the mask of now do not add up"),
        ):
            if count:
                books.unaccounted += count
                books.faults.append(f"{count} {what}")
        return books

    def checks(self) -> dict[str, bool]:
        """What every mask of now must be, by what others have seen of its frame and its keyframe."""
        records = [r for r in self._scene.observer.records_now(self._name) if r["outcome"] == _MASKED]
        sent = {sent.stamp: sent for camera in self._scene.cameras for sent in camera.sent}
        makers = self.makers()
        keys = [int(record["values"]["keyframe"]) for record in records]
        pairs = [(sent[record["stamp"]], sent[key]) for record, key in zip(records, keys, strict=True)]
        ages = [(_target(record) - key) / 1e6 for record, key in zip(records, keys, strict=True)]
        return {
            "none older than propagate_max_age_ms": all(0 <= age <= self._max_age for age in ages),
            "each carried from a mask that was inferred": all(key in makers for key in keys),
            "none carried into another scene": all(frame.view == key.view for frame, key in pairs),
            "none from a frame that came later": all(frame.at >= key.at for frame, key in pairs),
        }

    def makers(self) -> dict[int, str]:
        """Model that inferred a mask, by the stamp of the frame."""
        records = self._scene.observer.records(self._name)
        return {r["stamp"]: r["model"] for r in records if r["outcome"] == Outcome.MASKED.value}

    def carried_after(self, moment: int, until: int | None = None) -> list[dict]:
        """Records of masks of now of frames sent after a moment (``time.monotonic_ns``), and before another."""
        sent = {s.stamp: s.at for camera in self._scene.cameras for s in camera.sent}
        return [
            record
            for record in self._scene.observer.records_now(self._name)
            if record["outcome"] == _MASKED
            and sent.get(record["stamp"], 0) > moment
            and (until is None or sent[record["stamp"]] < until)
        ]

    def longest_silence(self, since: int) -> float:
        """Greatest number of seconds between two masks of now after a moment."""
        times = [since] + [m["at"] for m in self._scene.observer.masks_now(self._name) if m["at"] > since]
        return max((b - a for a, b in pairwise(times)), default=0) / 1e9

    def _counted(self) -> Counter:
        reports = self._scene.observer.reports(self._name)
        values = reports[-1]["values"] if reports else {}
        names = {"received": "received"} | {end.value: f"dropped.{end.value}" for end in NOW_DROPS}
        names[_MASKED] = _MASKED
        return Counter({kind: int(values.get(f"propagation.{name}", 0)) for kind, name in names.items()})


def _target(record: dict) -> int:
    """Stamp of the mask that belongs to a record."""
    return record["stamp"] + round(1e6 * float(record["values"]["horizon_ms"]))


def _adds_up(values: dict[str, str]) -> bool:
    """The identity of the documents, with at most two frames pending; of a node that is not configured, nothing."""
    if "propagation.received" not in values:
        return True
    ends = sum(int(values[f"propagation.dropped.{drop.value}"]) for drop in NOW_DROPS)
    ends += int(values[f"propagation.{_MASKED}"])
    pending = int(values["propagation.pending"])
    return int(values["propagation.received"]) == ends + pending and 0 <= pending <= 2
