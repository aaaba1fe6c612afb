"""What a comparison on a live topic has seen: values for diagnostics, and a line for people."""

from seg_node.core.timing import FrameRecord, Stage
from seg_node.shadow.pairing import SIDES, Agreement, Pairing


class Seen:
    """Collects what came of the pairs; not thread-safe.

    Args:
        pairing: where the frames are counted.

    Attributes:
        incomparable: pairs whose masks cannot be compared.
        spoken: whether each side has said anything.
    """

    def __init__(self, pairing: Pairing):
        self.incomparable = 0
        self.spoken = [False, False]
        self._pairing = pairing
        self._all = _Pairs()
        self._new = _Pairs()

    def add(self, agreement: Agreement, records: tuple[FrameRecord, FrameRecord]) -> None:
        """Take in a pair."""
        for pairs in (self._all, self._new):
            pairs.add(agreement, records)

    def values(self, waiting: int) -> dict[str, str]:
        """Values for diagnostics: counts since the start, the others of the pairs since ``forget_new``.

        Args:
            waiting: frames that wait elsewhere than in the pairing.
        """
        pairing = self._pairing
        counts = {"pairs": pairing.pairs, "waiting": pairing.waiting + waiting, "incomparable": self.incomparable}
        counts |= {f"unpaired.{reason}": count for reason, count in sorted(pairing.unpaired.items())}
        return {name: str(count) for name, count in counts.items()} | self._new.values()

    @property
    def new(self) -> int:
        """Pairs that were compared since ``forget_new``."""
        return self._new.count

    def forget_new(self) -> None:
        """Begin with the next summary."""
        self._new = _Pairs()

    def line(self) -> str:
        """Counts since the start; agreement and latencies of the pairs since ``forget_new``."""
        fresh = self._new.text() or ("none new" if self._pairing.pairs else "")
        return self._line(fresh)

    def end_line(self) -> str:
        """The same of all pairs."""
        return self._line(self._all.text())

    def _line(self, text: str) -> str:
        pairs = f"{self._pairing.pairs} pair{'' if self._pairing.pairs == 1 else 's'}"
        if self.incomparable:
            pairs += f" ({self.incomparable} of them not comparable)"
        counts = sorted(self._pairing.unpaired.items(), key=lambda item: -item[1])
        without = ", ".join(f"{reason} {count}" for reason, count in counts)
        return "; ".join(filter(None, [pairs, text, f"unpaired: {without}" if without else ""]))


class _Pairs:
    """Agreement and latencies of some pairs, in no more memory for many than for few."""

    def __init__(self):
        self.count = 0
        self._agreement = 0.0
        self._least = 100.0
        self._models: tuple[str, ...] = ()
        self._totals = [0.0, 0.0]
        self._longest = [0.0, 0.0]
        self._inference = [0.0, 0.0]

    def add(self, agreement: Agreement, records: tuple[FrameRecord, FrameRecord]) -> None:
        self.count += 1
        self._agreement += agreement.pixels
        self._least = min(self._least, agreement.pixels)
        self._models = tuple(record.model for record in records)
        for side, record in enumerate(records):
            self._totals[side] += record.total
            self._longest[side] = max(self._longest[side], record.total)
            self._inference[side] += record.stages.get(Stage.INFERENCE, 0.0)

    def values(self) -> dict[str, str]:
        if not self.count:
            return {}
        values = {"agreement.mean": f"{self._agreement / self.count:.3f}", "agreement.min": f"{self._least:.3f}"}
        for side, total, longest in zip(SIDES, self._totals, self._longest, strict=True):
            values |= {f"{side}.total.mean": f"{total / self.count:.3f}", f"{side}.total.max": f"{longest:.3f}"}
        return values

    def text(self) -> str:
        if not self.count:
            return ""
        latencies = " and ".join(
            f"{model} {inference / self.count:.0f} ms (in all {total / self.count:.0f} ms)"
            for model, inference, total in zip(self._models, self._inference, self._totals, strict=True)
        )
        equal = f"{self._agreement / self.count:.1f} % of the pixels equal, at least {self._least:.1f} %"
        return f"{equal}; inference of {latencies}"
