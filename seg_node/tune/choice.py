"""Which candidates go on, and which one wins: plain functions of figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
"""Figures of a candidate: ``score``, the streaming ``miou_7`` in percent, and ``age_ms``, within which 95 % of the
inferred masks that it rests on arrive."""


@dataclass(frozen=True)
class Asked:
    """What is asked of the winner."""

    deadline: float | None = None
    """Milliseconds within which 95 % of the inferred masks have to arrive."""
    minimum: float | None = None
    """Least streaming ``miou_7``, percent."""

    def shortfall(self, row: Row) -> float:
        """By how much a candidate misses what is asked, as a share of it; 0 where it meets that."""
        missed = 0.0
        if self.deadline is not None:
            missed += max(0.0, row["age_ms"] / self.deadline - 1)
        if self.minimum is not None:
            missed += max(0.0, 1 - row["score"] / self.minimum)
        return missed

    def order(self, row: Row) -> tuple[float, float, float]:
        """A key by which the best candidate comes first.

        Those that meet what is asked come before the others, of which the nearest comes first. The greater score wins;
        where a score is asked for and no deadline, the least age does.
        """
        by_age = self.minimum is not None and self.deadline is None
        wanted = (row["age_ms"], -row["score"]) if by_age else (-row["score"], row["age_ms"])
        return (self.shortfall(row), *wanted)

    def text(self) -> str:
        """What is asked, in words."""
        parts = []
        if self.deadline is not None:
            parts.append(f"masks within {self.deadline:g} ms")
        if self.minimum is not None:
            parts.append(f"a streaming miou_7 of at least {self.minimum:g}")
        return " and ".join(parts) or "the greatest streaming miou_7"


def fronts(points: Sequence[tuple[float, float]]) -> list[int]:
    """Number of the Pareto front of each point, 0 for those that no other point is better than.

    Fronts are peeled off one after the other (Deb et al., "A fast and elitist multiobjective genetic algorithm:
    NSGA-II", IEEE Transactions on Evolutionary Computation 6, 2002, section III.A).

    Args:
        points: a cost, of which less is better, and a value, of which more is better.
    """
    found = [-1] * len(points)
    left, number = set(range(len(points))), 0
    while left:
        front = {i for i in left if not any(_dominates(points[j], points[i]) for j in left)}
        for i in front:
            found[i] = number
        left -= front
        number += 1
    return found


def _dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


def entrants(points: Sequence[tuple[float, float]], count: int) -> list[int]:
    """Which points go on: whole fronts, the best first; of the last one some that are evenly spread over its costs.

    Args:
        points: see ``fronts``.
        count: how many, at most.

    Returns:
        Their places, in rising order.
    """
    numbers, chosen = fronts(points), []
    for number in range(max(numbers, default=-1) + 1):
        front = sorted((i for i in range(len(points)) if numbers[i] == number), key=lambda i: points[i])
        room = count - len(chosen)
        if len(front) > room:
            step = (len(front) - 1) / max(room - 1, 1)
            # The one of greatest value where there is room for one alone.
            front = [front[round(i * step)] for i in range(room)] if room > 1 else front[-1:] * room
        chosen += front
    return sorted(chosen)


def best(rows: Sequence[Row], asked: Asked, count: int) -> list[int]:
    """Places of the best rows, the best one first; of equals the one that came first."""
    return sorted(range(len(rows)), key=lambda i: asked.order(rows[i]))[:count]


def halving(entered: int, finalists: int) -> list[int]:
    """How many enter each round of successive halving, until no more than ``finalists`` are left.

    Karnin, Koren and Somekh, "Almost optimal exploration in multi-armed bandits", ICML 2013.
    """
    rounds = []
    while entered > finalists:
        rounds.append(entered)
        entered = max(finalists, -(-entered // 2))
    return rounds
