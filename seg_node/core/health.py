"""How well a node does, as ``diagnostic_msgs/DiagnosticStatus`` puts it: judged by what comes out of it."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from seg_node.core.timing import DROPS, FAULTS, Outcome

_FAULTS = tuple(f"dropped.{fault.value}" for fault in FAULTS)
_WINDOW = 3
"""Number of reports over which the rate of masks is taken."""
_HOPELESS = 5.0
"""Multiple of the camera's timeout after which frames without a mask are an error, not a warning."""


class Level(IntEnum):
    """The values of ``DiagnosticStatus``."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Expected:
    """What is asked of a node; 0 stands for nothing."""

    camera_timeout: float = 0.0
    """Seconds without a frame after which that is an error; half of them are a warning."""
    rate: float = 0.0
    """Masks per second."""
    max_age: float = 0.0
    """Milliseconds after which a frame is stale, for the words of a report."""
    deadline: float = 0.0
    """Milliseconds after which a mask is late, for the words of a report."""


@dataclass(frozen=True)
class Signs:
    """What a node knows of itself at one instant."""

    state: str
    """Label of the lifecycle state."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Counts of ``Accounting.snapshot`` and ``CameraWatch.status``, which there are while a model is loaded, and
    whatever else a report shows."""
    trouble: str = ""
    """What keeps the node from masking; empty if nothing does."""
    warnings: Sequence[str] = ()
    """What a person should look at although masks come."""
    hardware: str = ""
    """``hardware_id`` of the report."""
    topic: str = ""
    """Name of the camera's topic."""
    publishers: int = 0
    """Number of publishers on that topic."""
    silent: float = 0.0
    """Seconds since the newest frame, or since the activation if that was later."""
    age: float | None = None
    """Milliseconds from the newest frame's stamp until it came; None where that is not known."""
    sim_time: float | None = None
    """Reading in seconds of the clock that comes as a topic, 0 before it has come; None on the system's clock."""


class Health:
    """Judges one node, report after report."""

    def __init__(self):
        self._before: dict[str, int] = {}
        self._reports: deque[tuple[float, dict[str, int]]] = deque(maxlen=_WINDOW)
        self._masking = 0.0
        self._sim_time: float | None = None

    def judge(self, signs: Signs, expected: Expected, at: float) -> tuple[Level, str]:
        """Judge the node by what happened since the report before.

        Args:
            signs: of the node.
            expected: what is asked of it.
            at: seconds on a steady clock.

        Returns:
            The worst level of all that was found, ``OK`` if nothing was; and the state, followed by the reasons, the
            worst first.
        """
        counts = {name: int(value) for name, value in signs.values.items() if _is_count(name)}
        if counts.get("received", 0) < self._before.get("received", 0):
            # Counts begin anew when the node is configured again.
            self._before = {}
        if signs.state != "active" or not self._before:
            self._reports.clear()
        found = list(self._find(signs, expected, at, counts))
        if signs.state == "active":
            self._reports.append((at, counts))
        self._before, self._sim_time = counts, signs.sim_time
        level = max((level for level, _ in found), default=Level.OK)
        reasons = [reason for wanted in (Level.ERROR, Level.WARN) for level, reason in found if level is wanted]
        return level, ": ".join(filter(None, (signs.state, "; ".join(reasons))))

    def _find(self, signs: Signs, expected: Expected, at: float, counts: dict[str, int]) -> Iterator[tuple[Level, str]]:
        if signs.trouble:
            yield Level.ERROR, signs.trouble
        yield from ((Level.WARN, warning) for warning in signs.warnings)
        if signs.state != "active":
            if not signs.trouble:
                yield Level.WARN, _IDLE.get(signs.state, "no masks come")
            return
        yield from self._judge_clock(signs)
        yield from self._judge_silence(signs, expected)
        grown = {name: count - self._before.get(name, 0) for name, count in counts.items()}
        if grown.get("masked") or not grown.get("received") or not self._reports:
            self._masking = at
        unmasked = _unmasked(grown, signs, expected)
        if unmasked:
            yield Level.ERROR, unmasked
        elif 0 < expected.camera_timeout <= (waited := at - self._masking):
            hopeless = waited >= _HOPELESS * expected.camera_timeout
            text = f"no mask for {waited:.0f} s although frames come: an inference takes longer than that"
            yield Level.ERROR if hopeless else Level.WARN, text
        else:
            yield from _judge_lateness(grown, expected)
            yield from self._judge_rate(counts, expected, at)
        odd = [name for name in grown if name.startswith("camera.") or (name in _FAULTS and not unmasked)]
        if news := ", ".join(f"{name} +{grown[name]}" for name in odd if grown[name] > 0):
            yield Level.WARN, news

    def _judge_clock(self, signs: Signs) -> Iterator[tuple[Level, str]]:
        if signs.sim_time == 0:
            yield Level.ERROR, "use_sim_time is true, but no time has come on /clock: ages are unknown"
        elif signs.sim_time is not None and signs.sim_time == self._sim_time:
            yield Level.WARN, "use_sim_time is true, and the time on /clock stands still"

    def _judge_silence(self, signs: Signs, expected: Expected) -> Iterator[tuple[Level, str]]:
        if 0 < expected.camera_timeout <= 2 * signs.silent:
            level = Level.ERROR if signs.silent >= expected.camera_timeout else Level.WARN
            yield level, f"no frames on {signs.topic} for {signs.silent:.1f} s; publishers: {signs.publishers}"

    def _judge_rate(self, counts: dict[str, int], expected: Expected, at: float) -> Iterator[tuple[Level, str]]:
        if not expected.rate or not self._reports:
            return
        since, before = self._reports[0]
        masked, received = (counts[name] - before[name] for name in ("masked", "received"))
        # One mask more or less comes of where the interval is cut.
        if masked + 1 < expected.rate * (at - since):
            masks, frames = masked / (at - since), received / (at - since)
            slow = "the camera is slow" if frames < expected.rate else "inference is slow"
            text = f"masks at {masks:.1f} Hz, expected_rate_hz is {expected.rate:g}; frames at {frames:.1f} Hz"
            yield Level.WARN, f"{text}: {slow}"


_IDLE = {
    "unconfigured": "no model is loaded until it is configured",
    "inactive": "no masks come until it is activated",
}
"""What to say of a state that is no fault, but in which no mask comes."""


def _is_count(name: str) -> bool:
    return name in ("received", "masked", "late", "pending") or name.startswith(("dropped.", "camera."))


def _unmasked(grown: Mapping[str, int], signs: Signs, expected: Expected) -> str:
    """Why none of the frames that ended since the last report has a mask; empty if one has, or none ended."""
    drops = {drop: grown.get(f"dropped.{drop.value}", 0) for drop in DROPS if drop is not Outcome.SUPERSEDED}
    if grown.get("masked") or not any(count > 0 for count in drops.values()):
        return ""
    reason = max(drops, key=drops.get)
    text = f"no mask of {drops[reason]} frames: {reason.value}"
    if reason is Outcome.STALE:
        text += f", older than max_age_ms, which is {expected.max_age:g}"
        if signs.age is not None and signs.age > expected.max_age:
            text += f"; the newest was {signs.age:.0f} ms old when it came: are the clocks synchronised?"
    elif fault := signs.values.get("fault"):
        text += f": {fault}"
    return text


def _judge_lateness(grown: Mapping[str, int], expected: Expected) -> Iterator[tuple[Level, str]]:
    late, masked = grown.get("late", 0), grown.get("masked", 0)
    if late > 0:
        level = Level.ERROR if late >= masked else Level.WARN
        share = "all" if late >= masked else f"{late} of"
        yield level, f"{share} {masked} masks late: more than deadline_ms, which is {expected.deadline:g}"
