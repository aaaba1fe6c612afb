"""Which candidates go on and which one wins, against slow references, and how the minutes are spent."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_node.tune.choice import Asked, best, entrants, fronts, halving
from seg_node.tune.plan import OVERHEAD_S, VARIED, make_plan

# Few values, so that there are equals.
POINTS = st.lists(st.tuples(st.integers(1, 9).map(float), st.integers(1, 9).map(float)), max_size=14)
ROWS = st.lists(
    st.builds(lambda age, score: {"age_ms": float(age), "score": float(score)}, st.integers(1, 99), st.integers(1, 99)),
    min_size=1,
    max_size=12,
)


def _better(a, b):
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@given(points=POINTS)
def test_fronts_are_what_is_left_after_peeling(points):
    found = fronts(points)
    assert len(found) == len(points)
    # The longest chain of points that each beat the next one, by brute force.
    depth = {}
    for point in sorted(set(points), key=lambda p: (p[0], -p[1])):
        depth[point] = 1 + max((depth[other] for other in depth if _better(other, point)), default=-1)
    assert found == [depth[point] for point in points]


@given(points=POINTS, count=st.integers(1, 14))
def test_entrants_are_whole_fronts_and_a_part_of_one(points, count):
    chosen, numbers = entrants(points, count), fronts(points)
    assert chosen == sorted(set(chosen)) and len(chosen) == min(count, len(points))
    worst = max((numbers[i] for i in chosen), default=0)
    for i, number in enumerate(numbers):
        assert number >= worst or i in chosen
    # The best of all is never thrown away.
    if points:
        assert max(value for _, value in points) == max(points[i][1] for i in chosen)


@given(points=POINTS, count=st.integers(2, 14))
def test_the_fastest_goes_on_too(points, count):
    chosen = entrants(points, count)
    if points:
        assert min(cost for cost, _ in points) == min(points[i][0] for i in chosen)


@given(
    rows=ROWS,
    deadline=st.none() | st.integers(1, 99).map(float),
    minimum=st.none() | st.integers(1, 99).map(float),
)
def test_the_winner_is_that_of_a_slow_reference(rows, deadline, minimum):
    asked = Asked(deadline, minimum)
    order = best(rows, asked, len(rows))
    assert sorted(order) == list(range(len(rows)))
    first = rows[order[0]]
    meeting = [
        row
        for row in rows
        if (deadline is None or row["age_ms"] <= deadline) and (minimum is None or row["score"] >= minimum)
    ]
    if meeting and minimum is not None and deadline is None:
        youngest = min(row["age_ms"] for row in meeting)
        assert first["age_ms"] == youngest
        assert first["score"] == max(row["score"] for row in meeting if row["age_ms"] == youngest)
    elif meeting:
        top = max(row["score"] for row in meeting)
        assert first["score"] == top
        assert first["age_ms"] == min(row["age_ms"] for row in meeting if row["score"] == top)
    else:
        missing = [
            (max(0.0, row["age_ms"] / deadline - 1) if deadline else 0.0)
            + (max(0.0, 1 - row["score"] / minimum) if minimum else 0.0)
            for row in rows
        ]
        assert math.isclose(asked.shortfall(first), min(missing)) and asked.shortfall(first) > 0


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (Asked(), "the greatest streaming miou_7"),
        (Asked(50.0), "masks within 50 ms"),
        (Asked(None, 70.5), "a streaming miou_7 of at least 70.5"),
        (Asked(50.0, 70.0), "masks within 50 ms and a streaming miou_7 of at least 70"),
    ],
)
def test_what_is_asked_is_told(asked, text):
    assert asked.text() == text


@given(entered=st.integers(1, 100), finalists=st.integers(1, 5))
def test_halving_halves_and_ends(entered, finalists):
    rounds = halving(entered, finalists)
    assert rounds[:1] == ([entered] if entered > finalists else [])
    for before, after in itertools.pairwise([*rounds, finalists] if rounds else []):
        assert after == max(finalists, math.ceil(before / 2))


@given(scores=st.lists(st.integers(0, 10**6), min_size=4, max_size=24, unique=True), finalists=st.integers(1, 3))
def test_without_noise_halving_finds_the_best_of_all(scores, finalists):
    left = [{"score": float(score), "age_ms": 1.0} for score in scores]
    for count in halving(len(left), finalists):
        left = left[:count]
        left = [left[i] for i in best(left, Asked(), len(left))]
    assert max(left[:finalists], key=lambda row: row["score"])["score"] == max(scores)


@pytest.mark.parametrize("minutes", [1.0, 3.0, 5.5, 20.0, 120.0])
@pytest.mark.parametrize("duration", [0.5, 9.97, 60.0, 3600.0])
@pytest.mark.parametrize(("threads", "others"), [(0, 0), (1, 0), (2, 1)])
def test_a_plan_keeps_to_its_minutes(minutes, duration, threads, others):
    plan = make_plan(minutes, duration, threads, others)
    counts = plan.counts(plan.entrants)
    assert len(counts) == len(plan.pieces) and plan.repetitions >= 2 and plan.finalists >= 2
    assert all(piece <= duration for piece in plan.pieces) and plan.final_s <= duration
    rounds = sum(count * (piece + OVERHEAD_S) for count, piece in zip(counts, plan.pieces, strict=True))
    finals = (plan.finalists + others) * plan.repetitions * (plan.final_s + OVERHEAD_S)
    varied = VARIED * threads * (plan.pieces[-1] + OVERHEAD_S)
    assert plan.expected == pytest.approx(plan.screen_s + rounds + varied + finals)
    # Where there is time for the least that can be done at all.
    if minutes >= 5:
        assert plan.expected <= 60 * minutes
