"""When each frame of a run is published: the arrival times that every compared backbone gets alike."""

import math
from dataclasses import dataclass
from typing import Literal

from seg_node.bags.drive import Drive


@dataclass(frozen=True)
class Rate:
    """How fast a drive is played."""

    kind: Literal["factor", "hz", "max"]
    """``factor`` times as fast as recorded, with the recorded irregularities; ``hz``, evenly; ``max``, back to back."""
    value: float = 1.0
    """The factor or the frames per second; nothing for ``max``."""

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read ``recorded``, ``HZ`` such as 10, ``FACTORx`` such as 1.5x, or ``max``.

        Raises:
            ValueError: the text is none of these, or not positive.
        """
        if text == "recorded":
            return RECORDED
        if text == "max":
            return cls("max")
        kind, number = ("factor", text[:-1]) if text.endswith("x") else ("hz", text)
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise ValueError(
                f"{text!r} is no rate; expected 'recorded', a positive number of frames per second such as 10,"
                " a factor such as 1.5x, or 'max'"
            )
        return cls(kind, value)

    def __str__(self) -> str:
        if self.kind == "max":
            return "max"
        if self == RECORDED:
            return "recorded"
        return f"{self.value:g}" + ("x" if self.kind == "factor" else "")


RECORDED = Rate("factor", 1.0)


@dataclass(frozen=True)
class Schedule:
    """What is published when."""

    rate: Rate
    frames: tuple[int, ...]
    """Index in ``Drive.frames`` of each frame to publish, in this order."""
    due: tuple[int, ...]
    """Nanoseconds after the start at which each is due, never falling; all 0 at ``max``."""
    loops: float = 1.0
    """How often the drive is played, the last time perhaps not to its end."""

    @property
    def hz(self) -> float:
        """Mean rate in frames per second; 0 where it is not given (``max``, or a single frame)."""
        return (len(self.due) - 1) / (self.due[-1] / 1e9) if self.due[-1] else 0.0


def make_schedule(drive: Drive, rate: Rate = RECORDED, loops: int = 1, frames: int | None = None) -> Schedule:
    """Plan a run.

    A drive that is looped starts again one mean period after its last frame; its header stamps then go backward.

    Args:
        drive: what to play.
        rate: how fast.
        loops: how often.
        frames: so many frames instead, looping the drive as needed.

    Raises:
        ValueError: there is nothing to play, or ``recorded`` or a factor is asked for of a drive whose frames were
            all recorded at one time.
    """
    count = len(drive.frames)
    total = count * loops if frames is None else frames
    if total < 1:
        raise ValueError(f"{total} frames cannot be played; expected at least 1")
    indices = tuple(i % count for i in range(total))
    if rate.kind == "max":
        due = [0] * total
    elif rate.kind == "hz":
        due = [round(i * 1e9 / rate.value) for i in range(total)]
    else:
        if drive.duration <= 0 and total > 1:
            raise ValueError(f"{drive.path} was recorded at one instant; give a rate in frames per second")
        first = drive.frames[0].log_time
        once = drive.duration * 1e9 + (1e9 / drive.rate if drive.rate else 0.0)
        due = [
            round((i // count * once + drive.frames[index].log_time - first) / rate.value)
            for i, index in enumerate(indices)
        ]
    return Schedule(rate, indices, tuple(due), total / count)
