"""What a comparison measures, and for how long."""

from dataclasses import dataclass

from seg_node.bags.drive import Drive

_SETTLE_S = 1.5
"""What a run takes besides its frames."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long. Chosen so that two backbones at 3 masks per second take seven minutes."""

    repetitions: int = 2
    rates: tuple[float, ...] = (10.0, 20.0, 30.0)
    """Hz."""
    overloads: tuple[float, ...] = (1.5, 3.0)
    """Multiples of each backbone's own sustained rate."""
    recorded_s: float = 20.0
    """At the recorded rate; the drive is looped a whole number of times, at least once."""
    rate_s: float = 4.0
    """At each other rate."""
    probe_s: float = 4.0
    probe_frames: int = 20
    """At least, of each probe of the highest rate: fewer would hardly see one drop."""
    max_probes: int = 4
    idle_s: float = 2.0
    warm_up_s: float = 1.0
    """At the start of each run: counted, but in no latency and no accuracy."""
    offline_s: float = 30.0
    """For all frames offline, both backbones together; decides how many frames there are."""

    def loops(self, drive: Drive) -> int:
        """How often the drive is played at the recorded rate."""
        return max(1, round(self.recorded_s / max(drive.duration, 1e-3)))

    def seconds(self, drive: Drive, masks_per_s: float = 3.0) -> dict[str, float]:
        """Expected seconds of each step, for the progress bar."""
        probe = max(self.probe_s, self.probe_frames / masks_per_s) + _SETTLE_S
        return {
            "self-test": 14.0,
            "start": 8.0,
            "idle": self.idle_s,
            "search": 2 + _SETTLE_S + self.max_probes * probe,
            "rate": self.rate_s + _SETTLE_S,
            "recorded": self.loops(drive) * drive.duration + _SETTLE_S,
            "offline": self.offline_s + 10,
        }

    def total(self, drive: Drive) -> float:
        """Expected seconds of everything that is measured with nodes."""
        steps = self.seconds(drive)
        one = steps["start"] + steps["idle"] + steps["search"] + steps["recorded"]
        one += steps["rate"] * (len(self.rates) + len(self.overloads))
        return steps["self-test"] + 2 * self.repetitions * one


QUICK = Plan(
    repetitions=1,
    rates=(10.0,),
    overloads=(3.0,),
    recorded_s=0.0,
    rate_s=2.0,
    probe_s=2.0,
    probe_frames=6,
    max_probes=2,
    idle_s=1.0,
    warm_up_s=0.5,
    offline_s=5.0,
)
"""Shows that everything works; far too short for a verdict."""
