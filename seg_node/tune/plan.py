"""How the minutes of a tuning are spent."""

from dataclasses import dataclass

from seg_node.tune.choice import halving

OVERHEAD_S = 7.0
"""What a trial takes besides its frames: a node that starts, who has to find whom, and the scoring."""
MOST_REPETITIONS = 8
VARIED = 2
"""Settings of the last round whose numbers of threads are varied."""

_FINALS, _ROUNDS, _SCREEN = 0.42, 0.33, 0.2
"""Shares of the time; the rest is for the start and the report."""
_PIECE_S, _GROWTH = 4.0, 1.5
"""Length of a piece of the first round, and by how much each round's is longer."""
_LEAST_FINAL_S = 10.0
_MOST_ENTRANTS = 24


@dataclass(frozen=True)
class Plan:
    """Numbers and lengths of what is done."""

    seconds: float
    """Time for everything."""
    screen_s: float
    """Time for bare inferences; what is not measured by then is left out."""
    entrants: int
    """Settings of the first round."""
    pieces: tuple[float, ...]
    """Seconds of the drive that each round plays."""
    finalists: int
    final_s: float
    """Seconds of the drive that the finals play: all of it, where there is time."""
    repetitions: int
    """Fresh processes of each finalist."""
    threads: int
    """Numbers of threads to try besides the engine's choice."""
    others: int
    """Candidates that are in the finals whatever happens."""

    @property
    def expected(self) -> float:
        """Seconds that the steps take if all goes as expected, for the progress bar."""
        rounds = zip(self.counts(self.entrants), self.pieces, strict=True)
        rounds_s = sum(count * (piece + OVERHEAD_S) for count, piece in rounds)
        varied = VARIED * self.threads * (self.pieces[-1] + OVERHEAD_S)
        finals = (self.finalists + self.others) * self.repetitions * (self.final_s + OVERHEAD_S)
        return self.screen_s + rounds_s + varied + finals

    def counts(self, entered: int) -> list[int]:
        """How many settings each round begins with."""
        return halving(entered, self.finalists) or [entered]


def make_plan(minutes: float, duration: float, threads: int, others: int = 0) -> Plan:
    """Plan a tuning.

    Args:
        minutes: for everything.
        duration: seconds of the drive.
        threads: numbers of threads to try besides the engine's choice.
        others: candidates that are in the finals whatever happens.
    """
    seconds = 60 * minutes
    final_s = min(duration, max(_LEAST_FINAL_S, _FINALS * seconds / 9 - OVERHEAD_S))
    affordable = int(_FINALS * seconds / (final_s + OVERHEAD_S))
    finalists = 3 if affordable >= 2 * (3 + others) else 2
    repetitions = min(max(affordable // (finalists + others), 2), MOST_REPETITIONS)

    def rounds(entered: int) -> list[tuple[int, float]]:
        counts = halving(entered, finalists) or [entered]
        pieces = [min(duration, _PIECE_S * _GROWTH**i) for i in range(len(counts))]
        counts[-1] += threads * VARIED
        return list(zip(counts, pieces, strict=True))

    entered = finalists
    while entered < _MOST_ENTRANTS:
        if sum(count * (piece + OVERHEAD_S) for count, piece in rounds(entered + 1)) > _ROUNDS * seconds:
            break
        entered += 1
    pieces = tuple(piece for _, piece in rounds(entered))
    return Plan(seconds, _SCREEN * seconds, entered, pieces, finalists, final_s, repetitions, threads, others)
