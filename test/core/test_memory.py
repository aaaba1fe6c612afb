"""What nothing needs any more goes back, and what is there for good is never looked at again."""

import gc
import weakref

import pytest

from seg_node.core.memory import (
    hand_back_free_memory,
    keep_what_is_there,
    let_go_of_what_is_there,
    nothing_to_collect,
)


class Part:
    """Refers to another, as a worker does to its model."""

    other: "Part"


@pytest.fixture
def no_collection():
    """Python's collector finds nothing by itself, and has nothing set aside afterwards."""
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def circle():
    """A weak reference to one of two parts that hold each other."""
    one, two = Part(), Part()
    one.other, two.other = two, one
    return weakref.ref(one)


def test_circles_of_objects_are_handed_back(no_collection):
    part = circle()
    assert part() is not None
    hand_back_free_memory()
    assert part() is None


def test_what_was_there_frees_itself_once_it_is_let_go(no_collection):
    one, two = Part(), Part()
    one.other, two.other = two, one
    part = weakref.ref(one)
    keep_what_is_there()
    del one, two
    hand_back_free_memory()
    assert part() is not None
    let_go_of_what_is_there()
    hand_back_free_memory()
    assert part() is None


def test_what_is_there_is_kept_and_what_comes_later_is_collected(no_collection):
    before = circle()
    keep_what_is_there()
    assert before() is None and gc.get_freeze_count() > len(gc.get_objects())
    later = circle()
    hand_back_free_memory()
    assert later() is None


def test_while_it_is_measured_nothing_of_before_is_looked_at(no_collection):
    with pytest.raises(RuntimeError), nothing_to_collect():
        assert gc.get_freeze_count() > len(gc.get_objects())
        raise RuntimeError("a node that ended")
    assert not gc.get_freeze_count()
