"""Attempts come less and less often while they fail, and anew after something has worked for long."""

from hypothesis import given
from hypothesis import strategies as st

from seg_node.core.upkeep.attempts import Attempts


class Time:
    now = 1000.0

    def __call__(self):
        return self.now


def _attempts(**options):
    clock = Time()
    return Attempts(clock=clock, **options), clock


def test_pauses_grow_up_to_the_longest():
    attempts, clock = _attempts()
    assert not attempts.failing and attempts.left() is None
    pauses = []
    for number in range(9):
        pauses.append(attempts.failed())
        assert attempts.failing and attempts.left() == pauses[-1]
        clock.now += pauses[-1] / 2
        assert attempts.left() == pauses[-1] / 2
        clock.now += pauses[-1]
        assert attempts.left() == 0.0, "an attempt goes on"
        attempts.begin()
        assert attempts.count == number + 1
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    attempts.succeeded()
    assert not attempts.failing and attempts.left() is None


def test_what_worked_for_a_moment_goes_on_where_it_was():
    attempts, clock = _attempts(first=1.0, longest=10.0)
    assert [attempts.failed(), attempts.failed()] == [1.0, 2.0]
    attempts.succeeded()
    clock.now += 9.9
    assert attempts.failed() == 4.0
    attempts.begin()
    attempts.succeeded()
    clock.now += 10.0
    assert (attempts.failed(), attempts.count) == (1.0, 0)


def test_whoever_stops_them_begins_anew():
    attempts, _ = _attempts()
    attempts.failed(), attempts.begin(), attempts.failed()
    attempts.stop()
    assert (attempts.failing, attempts.count, attempts.failed()) == (False, 0, 1.0)


@given(st.lists(st.tuples(st.floats(0, 200), st.booleans()), max_size=30))
def test_never_more_often_than_the_first_pause_nor_less_than_the_longest(history):
    attempts, clock = _attempts(first=1.0, longest=60.0)
    for seconds, works in history:
        assert 1.0 <= attempts.failed() <= 60.0
        clock.now += seconds
        if works:
            attempts.begin()
            attempts.succeeded()
            assert attempts.left() is None
