"""The highest rate that a node keeps up with, and the rate of its masks when it cannot keep up."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seg_node.core.timing import Outcome, Stage
from seg_node.rig.frames import Run
from seg_node.rig.schedule import Rate, make_schedule

if TYPE_CHECKING:
    from seg_node.rig.bench import Bench

_SERVICE = (Stage.DECODE, Stage.INFERENCE, Stage.PUBLISH)


@dataclass(frozen=True)
class Probe:
    """One short run at one rate."""

    rate: float
    """Frames per second that were asked for."""
    achieved: float
    """Frames per second that the player published."""
    sent: int
    received: int
    masked: int
    """Frames whose mask arrived."""
    passed: bool
    """Whether few enough were dropped."""

    @property
    def dropped(self) -> float:
        """Share of the frames sent that got no mask, whether lost in transport or dropped by the node; 0..1."""
        return 1.0 - self.masked / self.sent


@dataclass(frozen=True)
class HighestRate:
    """Result of the search."""

    hz: float | None
    """Highest rate that passed; None where none did."""
    bounded: bool
    """Whether a rate at most ``precision`` above it failed; otherwise the search ended before it was that close."""
    max_dropped: float
    """Share of dropped frames that still passes, 0..1."""
    probes: list[Probe]
    """In the order in which they were made."""

    @property
    def ceiling(self) -> float | None:
        """Lowest rate above ``hz`` that failed; None where none did."""
        failed = [probe.rate for probe in self.probes if not probe.passed and probe.rate > (self.hz or 0.0)]
        return min(failed, default=None)


def highest_rate(
    bench: "Bench",
    max_dropped: float = 0.01,
    seconds: float = 5.0,
    min_frames: int = 60,
    precision: float = 0.05,
    max_probes: int = 8,
    start: float | None = None,
    progress: Callable[[Probe], None] | None = None,
) -> HighestRate:
    """Search by bisection on the rate for the highest one at which the node drops at most a share of the frames.

    Args:
        bench: a live node; the drive is looped as needed.
        max_dropped: share of the frames sent that may be without a mask, 0..1.
        seconds: length of a probe.
        min_frames: of a probe, however long that takes.
        precision: the search ends when a failed rate is at most so much above a passed one, relative.
        max_probes: at most so many, besides the one that measures the time of a frame where ``start`` is None.
        start: rate to begin with in Hz; None begins with what the node's own time for one frame allows.
        progress: called after each probe.

    Raises:
        NodeError, MonitorError: see ``Bench.play``.
    """
    start = start or service_rate(bench.play(make_schedule(bench.drive, Rate("hz", 5.0), frames=10)))
    probes: list[Probe] = []
    low, high = 0.0, math.inf
    rate = start
    while len(probes) < max_probes and high > low * (1 + precision):
        run = bench.play(make_schedule(bench.drive, Rate("hz", rate), frames=max(min_frames, round(rate * seconds))))
        probes.append(probe_of(run, rate, max_dropped))
        if progress:
            progress(probes[-1])
        if probes[-1].passed:
            low = rate
        else:
            high = rate
        # Without both ends yet: a step that a good first guess makes small and a bad one makes up for.
        step = 1.15**2 ** min(len(probes) - 1, 3)
        rate = math.sqrt(low * high) if low and high < math.inf else (low * step if low else high / step)
    return HighestRate(low or None, high <= low * (1 + precision), max_dropped, probes)


def probe_of(run: Run, rate: float, max_dropped: float) -> Probe:
    """Judge one run: it passes where few enough frames lack a mask and the player itself kept the rate within 2 %."""
    frames = run.frames
    masked = sum(frame.mask is not None for frame in frames)
    took = (frames[-1].sent - frames[0].sent) / 1e9
    achieved = (len(frames) - 1) / took if took > 0 else math.inf
    passed = len(frames) - masked <= max_dropped * len(frames) and achieved >= 0.98 * rate
    return Probe(rate, achieved, len(frames), sum(f.record is not None for f in frames), masked, passed)


def service_rate(run: Run) -> float:
    """Frames per second that the node's median time for decoding, inference and publishing of one frame allows.

    5 Hz where it masked nothing.
    """
    times = sorted(
        sum(frame.record.stages.get(stage, 0.0) for stage in _SERVICE)
        for frame in run.frames
        if frame.record is not None and frame.record.outcome is Outcome.MASKED
    )
    return 1e3 / max(times[len(times) // 2], 0.1) if times else 5.0


def saturated_rate(run: Run) -> float | None:
    """Masks per second of a run in which more frames came than could be masked, from the time between masks.

    Masks of the warm-up are left out, and those that came after the last frame was sent: without frames to come the
    node is not saturated any more.

    Returns:
        None with fewer than three masks.
    """
    end = run.frames[-1].sent
    arrived = sorted(f.mask.arrived for f in run.frames[run.warm_up :] if f.mask and f.mask.arrived <= end)
    if len(arrived) < 3:
        return None
    return (len(arrived) - 1) / ((arrived[-1] - arrived[0]) / 1e9)
