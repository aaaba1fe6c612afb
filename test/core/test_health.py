"""A report is judged by what comes out of the node, not only by what fails in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_node.core.health import Expected, Health, Level, Signs
from seg_node.core.timing import DROPS

EXPECTED = Expected(camera_timeout=2.0, rate=10.0, max_age=300.0, deadline=100.0)


class Node:
    """A node that is looked at once a second."""

    def __init__(self, expected=EXPECTED):
        self.health, self.expected, self.at = Health(), expected, 100.0
        self.counts = dict.fromkeys(["received", "masked", "pending", "late", "camera.black"], 0)
        self.counts |= {f"dropped.{drop.value}": 0 for drop in DROPS}

    def second(self, state="active", seconds=1.0, also=None, **grown):
        """Level and message after a second in which counts have grown."""
        self.at += seconds
        for name, count in grown.items():
            self.counts[name.replace("_", ".")] += count
        if "received" not in grown:
            self.counts["received"] += sum(
                count for name, count in grown.items() if name.startswith(("masked", "drop"))
            )
        values = {name: str(count) for name, count in self.counts.items()} | {
            "engine": "none",
            "fault": "no such device",
        }
        return self.health.judge(Signs(state, values, topic="/image", **(also or {})), self.expected, self.at)


def test_masks_in_time_are_ok():
    node = Node()
    assert [node.second(masked=30) for _ in range(5)] == [(Level.OK, "active")] * 5


def test_a_silent_camera_is_a_warning_then_an_error_and_forgotten():
    node = Node(Expected(camera_timeout=2.0))
    node.second(masked=30)
    silent = [node.second(also={"silent": s, "publishers": 1}) for s in (0.4, 1.0, 2.0)]
    assert silent == [
        (Level.OK, "active"),
        (Level.WARN, "active: no frames on /image for 1.0 s; publishers: 1"),
        (Level.ERROR, "active: no frames on /image for 2.0 s; publishers: 1"),
    ]
    assert node.second(masked=30) == (Level.OK, "active")
    quiet = Node(Expected())
    assert quiet.second(also={"silent": 1e6}) == (Level.OK, "active"), "0 is for never"


@pytest.mark.parametrize(
    ("dropped", "reason"),
    [
        ({"dropped_failed": 9}, "no mask of 9 frames: failed: no such device"),
        ({"dropped_undecodable": 9, "dropped_superseded": 20}, "no mask of 9 frames: undecodable: no such device"),
        ({"dropped_stale": 9, "dropped_failed": 1}, "no mask of 9 frames: stale, older than max_age_ms, which is 300"),
    ],
)
def test_frames_without_masks_are_an_error_with_the_main_reason(dropped, reason):
    node = Node()
    assert node.second(masked=30) == (Level.OK, "active")
    level, message = node.second(**dropped)
    assert level is Level.ERROR and message.startswith(f"active: {reason}")
    assert node.second(masked=30) == (Level.OK, "active")


def test_clocks_that_are_apart_are_named():
    node = Node()
    message = node.second(dropped_stale=9, also={"age": 1043.2})[1]
    assert message.endswith("the newest was 1043 ms old when it came: are the clocks synchronised?")
    assert "synchronised" not in node.second(dropped_stale=9, also={"age": 12.0})[1], "it waited too long"


def test_frames_that_only_supersede_each_other_are_an_error_in_the_end():
    node = Node(Expected(camera_timeout=2.0))
    node.second(masked=1)
    levels = [node.second(dropped_superseded=30)[0] for _ in range(12)]
    assert levels == [Level.OK] + [Level.WARN] * 8 + [Level.ERROR] * 3
    assert node.second(masked=1, dropped_superseded=30) == (Level.OK, "active")


def test_late_masks():
    node = Node()
    late = "masks late: more than deadline_ms, which is 100"
    assert node.second(masked=30, late=30) == (Level.ERROR, f"active: all 30 {late}")
    assert node.second(masked=30, late=1) == (Level.WARN, f"active: 1 of 30 {late}")
    assert node.second(masked=30) == (Level.OK, "active")


def test_rate_of_masks():
    node = Node()
    assert [node.second(masked=masked)[0] for masked in (10, 9, 10, 11, 9)] == [Level.OK] * 5, "it is cut somewhere"
    for _ in range(3):
        slow = node.second(masked=5)
    rates = "masks at 5.0 Hz, expected_rate_hz is 10"
    assert slow == (Level.WARN, f"active: {rates}; frames at 5.0 Hz: the camera is slow")
    for _ in range(3):
        slow = node.second(masked=5, dropped_superseded=25)
    assert slow == (Level.WARN, f"active: {rates}; frames at 30.0 Hz: inference is slow")
    assert [node.second(masked=12)[0] for _ in range(3)][-1] is Level.OK
    # A rate that is only a little too low is seen in three seconds.
    assert [node.second(masked=9)[0] for _ in range(5)][-1] is Level.WARN


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("inactive", "inactive: no masks come until it is activated"),
        ("unconfigured", "unconfigured: no model is loaded until it is configured"),
        ("configuring", "configuring: no masks come"),
    ],
)
def test_a_node_that_is_not_active_says_so(state, message):
    node = Node()
    node.second(masked=30)
    assert node.second(state) == (Level.WARN, message)
    assert node.second(state, also={"trouble": "it broke"}) == (Level.ERROR, f"{state}: it broke")
    assert node.second(masked=30) == (Level.OK, "active"), "the time between is not held against it"


def test_sim_time():
    node = Node()
    level, message = node.second(masked=30, also={"sim_time": 0.0})
    assert level is Level.ERROR and "no time has come on /clock" in message
    assert node.second(masked=30, also={"sim_time": 5.0}) == (Level.OK, "active")
    level, message = node.second(masked=30, also={"sim_time": 5.0})
    assert level is Level.WARN and "stands still" in message
    assert node.second(masked=30, also={"sim_time": 6.0}) == (Level.OK, "active")


def test_the_worst_comes_first_and_oddities_are_named():
    node = Node()
    level, message = node.second(dropped_failed=3, camera_black=2, also={"warnings": ["look here"]})
    assert level is Level.ERROR
    assert message == "active: no mask of 3 frames: failed: no such device; look here; camera.black +2"
    assert node.second(masked=30, dropped_failed=1) == (Level.WARN, "active: dropped.failed +1")


def test_counts_begin_anew_when_the_node_is_configured_again():
    node = Node()
    node.second(masked=30, camera_black=5)
    node.counts = dict.fromkeys(node.counts, 0)
    assert node.second(masked=10) == (Level.OK, "active")
    assert node.second(masked=10, camera_black=1)[1] == "active: camera.black +1"


_COUNT = st.integers(0, 40)


@given(
    st.lists(st.tuples(*[_COUNT] * 6), min_size=1, max_size=8),
    st.sampled_from(["active", "inactive", "unconfigured", "finalized"]),
)
def test_no_mask_in_time_is_never_ok(history, last_state):
    """Whatever happened before: a second in which frames end and none is masked in time is not OK."""
    node = Node(Expected(camera_timeout=2.0))
    for masked, *dropped in history:
        grown = {f"dropped_{drop.value}": count for drop, count in zip(DROPS, dropped, strict=False)}
        level, message = node.second(masked=masked, late=min(dropped[-1], masked), **grown)
        unfit = sum(count for name, count in grown.items() if "superseded" not in name)
        if (not masked and unfit) or 0 < masked <= dropped[-1]:
            assert level is Level.ERROR and len(message) > len("active: ")
    assert last_state == "active" or node.second(last_state)[0] is not Level.OK
    assert node.second(masked=30) == (Level.OK, "active")
