"""What a comparison measures, in which order, and for how long."""

from dataclasses import dataclass

import numpy as np

from seg_node.bags.drive import Drive

_SETTLE_S = 1.5
"""What a run takes besides its frames."""
_CONNECT_S = 2.0
"""Until the harness and a running node know each other."""
_DRAWS = 1000
"""Most draws of an order; of many backbones and few repetitions the most even one of them is taken."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long. Chosen so that two backbones at 3 masks per second take ten minutes, and a
    minute and a half more with the mask of now of the first.

    Every process plays the recorded drive and is saturated: those are the figures that decide. The first process of
    each backbone does the rest, too, which is shown and decides nothing.
    """

    repetitions: int = 8
    """Processes of each backbone."""
    now_repetitions: int = 5
    """Processes of a backbone in which the mask of now is measured: as many as an interval needs."""
    rates: tuple[float, ...] = (10.0, 20.0, 30.0)
    """Fixed rates in Hz, in the first process of each backbone."""
    overloads: tuple[float, ...] = (1.5,)
    """Multiples of each backbone's own sustained rate, in its first process."""
    saturation: float = 3.0
    """Multiple of the rate that the node's time for one frame allows, at which every process is saturated."""
    saturation_s: float = 6.0
    recorded_s: float = 10.0
    """At the recorded rate; the drive is looped a whole number of times, at least once."""
    rate_s: float = 4.0
    """At each other rate."""
    probe_s: float = 4.0
    probe_frames: int = 20
    """Fewest frames of each probe of the highest rate: fewer would hardly see one drop."""
    max_probes: int = 4
    idle_s: float = 2.0
    warm_up_s: float = 1.0
    """Start of each run that is counted, but in no latency and no accuracy."""
    offline_s: float = 30.0
    """For all frames offline, all backbones together; decides how many frames there are."""

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
            "search": _SETTLE_S + self.max_probes * probe,
            "rate": self.rate_s + _SETTLE_S,
            "recorded": self.loops(drive) * drive.duration + _SETTLE_S,
            # The harness connects anew, with a listener and without one.
            "now": self.loops(drive) * drive.duration + _SETTLE_S + 2 * _CONNECT_S,
            "saturation": self.saturation_s + _SETTLE_S,
            "offline": self.offline_s + 10,
        }

    def total(self, drive: Drive, models: int, listened: int = 0) -> float:
        """Expected seconds of everything that is measured with nodes; ``listened`` backbones with the mask of now."""
        steps = self.seconds(drive)
        each = steps["start"] + steps["recorded"] + steps["saturation"]
        first = steps["idle"] + steps["search"] + steps["rate"] * (len(self.rates) + len(self.overloads))
        now = listened * min(self.repetitions, self.now_repetitions) * steps["now"]
        return steps["self-test"] + models * (self.repetitions * each + first) + now


QUICK = Plan(
    repetitions=1,
    rates=(10.0,),
    overloads=(),
    saturation_s=2.0,
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


def turns(models: int, repetitions: int, seed: int) -> list[list[int]]:
    """In which order the backbones run in each repetition.

    Each repetition has a random order of its own, so that no rhythm of the machine keeps step with the order, even
    where processes have no spread that would hide it. Draws in which one backbone never runs before another are drawn
    anew: a machine that grows slower or faster would favour the same one in every repetition. Orders that are balanced
    exactly would be too few: of eight pairs there are 70, and one in 35 fits a given rhythm.

    Args:
        models: number of backbones.
        repetitions: number of processes of each.
        seed: of the random generator.

    Returns:
        Places of the backbones, in the order in which they run, for each repetition.
    """
    rng = np.random.default_rng(seed)
    best, rarest = [], -1
    for _ in range(_DRAWS):
        orders = np.array([rng.permutation(models) for _ in range(repetitions)], int).reshape(repetitions, models)
        places = orders.argsort(1)
        before = (places[:, :, None] < places[:, None, :]).sum(0)
        fewest = int(before[~np.eye(models, dtype=bool)].min(initial=repetitions))
        if fewest > rarest:
            best, rarest = orders.tolist(), fewest
        if rarest >= min(1, repetitions - 1):
            break
    return best
