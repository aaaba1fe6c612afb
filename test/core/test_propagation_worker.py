"""The propagating thread: which frames it takes, what it tells of each, and when it must be silent."""

import threading
import time
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from seg_node.core.errors import UndecodableError
from seg_node.core.propagation.picture import Picture
from seg_node.core.propagation.record import NowOutcome
from seg_node.core.propagation.worker import NowPort, PropagationWorker

MS = 10**6
SIZE = (64, 96)
GREY = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 9), np.uint8), SIZE[::-1])


def wait(condition):
    until = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < until, "timed out"
        time.sleep(0.001)


class Port(NowPort):
    """Frames are their numbers; what is published and told is kept."""

    def __init__(self):
        self.listening, self.trouble = True, ""
        self.masks, self.records = [], []
        self.hold, self.holding = threading.Event(), threading.Event()
        self.hold.set()
        self.undecodable, self.refuses = set(), False

    def wanted(self):
        return self.listening

    def picture(self, message):
        self.holding.set()
        assert self.hold.wait(90)
        if message in self.undecodable:
            raise UndecodableError("no image")
        return Picture(GREY, SIZE)

    def source_trouble(self):
        return self.trouble

    def publish(self, message, carried):
        if self.refuses:
            raise RuntimeError("the middleware refuses")
        self.masks.append((message, int(carried.mask[0, 0]), carried.keyframe))

    def report(self, message, record):
        self.records.append((message, record))


class Scene:
    """A worker with its port, and a clock of stamps."""

    def __init__(self, **options):
        self.port = Port()
        self.worker = PropagationWorker(self.port, **options)
        self.worker.start()
        self.count = 0

    def frame(self, settle=True):
        self.count += 1
        self.worker.submit(self.count, self.count, self.count * 33 * MS)
        if settle:
            self.settled()
        return self.count

    def settled(self):
        wait(lambda: self.worker.accounting.snapshot()["pending"] == 0 and not self.worker._events)

    def begin(self, number):
        self.worker.begin(number, number, number * 33 * MS)

    def infer(self, number, value):
        """A whole inference: the mask that it ends with is carried to the newest frame again."""
        self.begin(number)
        again = len([1 for _, record in self.port.records if record.again])
        self.worker.finish(number, np.full(SIZE, value, np.uint8))
        wait(lambda: len([1 for _, record in self.port.records if record.again]) > again)

    @property
    def last(self):
        return self.port.records[-1][1]

    def balanced(self):
        counts = self.worker.accounting.snapshot()
        outcomes = counts["propagated"] + sum(v for k, v in counts.items() if k.startswith("dropped."))
        assert counts["received"] == outcomes + counts["pending"]
        told = [record for _, record in self.port.records if not record.again]
        assert len(told) == outcomes
        return counts


class Clock:
    """The worker's steady clock, which goes on only when it is told to: however busy the machine is."""

    def __init__(self):
        self.now = time.monotonic_ns()

    def pass_ms(self, duration: float) -> None:
        self.now += round(duration * MS)


@pytest.fixture
def clock(monkeypatch):
    held = Clock()
    monkeypatch.setattr("seg_node.core.propagation.worker.time.monotonic_ns", lambda: held.now)
    return held


@pytest.fixture
def scene():
    scenes = []

    def make(**options):
        scenes.append(Scene(**options))
        return scenes[-1]

    yield make
    for one in scenes:
        one.port.hold.set()
        one.worker.stop()
        assert one.balanced()["pending"] == 0


def test_each_frame_has_the_newest_mask_and_a_record(scene):
    s = scene()
    s.frame()
    assert s.last.outcome is NowOutcome.NO_KEYFRAME and "no mask has been inferred" in s.last.detail
    s.infer(1, 5)
    assert s.last.again and s.port.masks == [(1, 5, 33 * MS)], "to the newest frame again, at once"
    s.frame()
    assert s.port.masks[-1] == (2, 5, 33 * MS)
    assert (s.last.outcome, s.last.frames, s.last.keyframe_age) == (NowOutcome.PROPAGATED, 1, 33.0)
    assert set(s.last.stages) == {"wait", "decode", "flow", "warp", "publish"} and s.last.residual == 0
    s.infer(2, 6)
    s.frame()
    assert s.port.masks[-1] == (3, 6, 66 * MS)
    counts = s.balanced()
    assert (counts["received"], counts["propagated"], counts["dropped.no_keyframe"]) == (3, 2, 1)
    assert s.worker.status()["propagation.again"] == "2"


def test_a_newer_frame_supersedes_one_that_waits(scene):
    s = scene()
    s.port.hold.clear()
    s.frame(settle=False)
    assert s.port.holding.wait(90)
    for _ in range(3):
        s.frame(settle=False)
    s.port.hold.set()
    s.settled()
    assert [message for message, record in s.port.records if record.outcome is NowOutcome.SUPERSEDED] == [2, 3]
    assert s.balanced()["dropped.superseded"] == 2


def test_a_frame_that_was_superseded_here_can_be_a_keyframe(scene):
    s = scene()
    s.port.hold.clear()
    s.frame(settle=False)
    assert s.port.holding.wait(90)
    skipped = s.frame(settle=False)
    s.begin(skipped)
    s.frame(settle=False)
    s.port.hold.set()
    s.settled()
    s.worker.finish(skipped, np.full(SIZE, 4, np.uint8))
    s.frame()
    assert s.port.masks[-1] == (4, 4, skipped * 33 * MS) and s.last.frames == 2


def test_frames_that_come_before_its_turn_supersede_each_other_and_the_books_balance(scene):
    """As where several cameras share the cores: see ``Budget``."""
    his, asked = threading.Event(), threading.Event()
    his.set()

    @contextmanager
    def turn():
        asked.set()
        assert his.wait(90)
        yield

    s = scene(turn=turn)
    s.frame()
    s.infer(1, 5)
    his.clear()
    asked.clear()
    s.frame(settle=False)
    assert asked.wait(90)
    s.begin(2)
    for _ in range(3):
        s.frame(settle=False)
    told = [record.outcome for _, record in s.port.records if not record.again]
    assert told[1:] == [NowOutcome.SUPERSEDED] * 3 and s.balanced()["pending"] == 1
    s.worker.finish(2, np.full(SIZE, 6, np.uint8))
    his.set()
    s.settled()
    # The inference that began and ended meanwhile counts, though the frame itself had no mask of now.
    assert s.port.masks[-1] == (5, 6, 66 * MS) and (s.last.outcome, s.last.frames) == (NowOutcome.PROPAGATED, 1)
    counts = s.balanced()
    assert (counts["received"], counts["propagated"], counts["dropped.superseded"]) == (5, 1, 3)


def test_where_turns_are_dear_an_older_frame_has_no_second_mask(scene):
    his = threading.Event()
    his.set()

    @contextmanager
    def turn():
        assert his.wait(90)
        yield

    s = scene(turn=turn)
    s.begin(s.frame())
    s.settled()
    his.clear()
    s.frame(settle=False)
    s.worker.finish(1, np.full(SIZE, 5, np.uint8))
    his.set()
    s.settled()
    assert s.port.masks == [(2, 5, 33 * MS)] and s.worker.again == 0
    s.infer(2, 6)
    assert s.port.masks[-1] == (2, 6, 66 * MS) and s.worker.again == 1, "no newer one waits"


def test_nothing_is_computed_while_nobody_listens(scene):
    s = scene()
    s.port.listening = False
    for _ in range(3):
        s.begin(s.frame())
    assert not s.port.holding.is_set() and s.balanced()["received"] == 0 and not s.port.records
    s.port.listening = True
    s.frame()
    s.infer(s.count, 2)
    s.port.listening = False
    s.frame()
    s.worker.finish(s.count, np.full(SIZE, 3, np.uint8))
    s.port.listening = True
    s.frame()
    assert s.last.outcome is NowOutcome.NO_KEYFRAME, "pictures were missed, so there is no way from the keyframe"


def test_propagate_off_is_like_nobody_listening(scene):
    s = scene(enabled=False)
    s.frame()
    assert s.balanced()["received"] == 0


@pytest.mark.parametrize("what", ["trouble", "reset"])
def test_an_engine_in_trouble_ends_it_until_the_next_inference(scene, what):
    s = scene()
    s.frame()
    s.infer(1, 5)
    s.begin(s.frame())
    if what == "trouble":
        s.port.trouble = "an inference has not returned for 10 s"
    else:
        s.worker.reset("the model was swapped")
    masks = len(s.port.masks)
    for _ in range(2):
        s.frame()
        assert s.last.outcome is NowOutcome.NO_KEYFRAME
        assert s.last.detail in ("an inference has not returned for 10 s", "the model was swapped")
    s.port.trouble = ""
    s.worker.finish(2, np.full(SIZE, 6, np.uint8))
    s.frame()
    assert len(s.port.masks) == masks, "a mask of an inference that began before does not count"
    s.infer(s.count, 7)
    assert s.port.masks[-1][1] == 7


def test_a_mask_of_a_frame_that_the_old_model_had_taken_is_not_carried(scene):
    """The swap comes between the moment in which a frame is taken and that in which its inference begins."""
    s = scene()
    s.frame()
    s.infer(1, 5)
    taken = s.frame()
    s.worker.reset("the model was swapped")
    s.begin(taken)
    s.worker.finish(taken, np.full(SIZE, 6, np.uint8))
    s.frame()
    assert s.last.outcome is NowOutcome.NO_KEYFRAME and s.last.detail == "the model was swapped"
    s.infer(s.count, 7)
    assert s.port.masks[-1][1] == 7


def test_an_engine_that_is_given_up_while_a_mask_is_carried_has_no_mask_published(scene):
    s = scene()
    s.frame()
    s.infer(1, 5)
    answers = iter(["", "given up"])
    s.port.source_trouble = lambda: next(answers)
    masks = len(s.port.masks)
    s.frame()
    assert len(s.port.masks) == masks and s.last.detail == "given up"


def test_a_mask_that_is_too_old_expires_by_its_stamp(scene, clock):
    s = scene(max_age=100.0)
    s.frame()
    s.infer(1, 5)
    outcomes = []
    for _ in range(5):
        s.frame()
        outcomes.append(s.last.outcome)
    assert outcomes == [NowOutcome.PROPAGATED] * 3 + [NowOutcome.EXPIRED] * 2
    assert "132 ms old, propagate_max_age_ms is 100" in s.port.records[-2][1].detail
    assert [message for message, *_ in s.port.masks] == [1, 2, 3, 4]


def test_a_forecast_counts_into_the_age(scene, clock):
    s = scene(max_age=100.0, horizon=33.0)
    s.frame()
    s.frame()
    s.infer(2, 5)
    for _ in range(3):
        s.frame()
    assert [record.horizon for _, record in s.port.records[-3:]] == [33.0] * 3
    assert s.last.outcome is NowOutcome.EXPIRED and s.port.records[-2][1].keyframe_age == 99.0


def test_a_camera_whose_clock_stands_still_does_not_keep_a_mask_alive(scene, clock):
    s = scene(max_age=100.0)
    s.frame()
    s.infer(1, 5)
    clock.pass_ms(90)
    s.worker.submit(2, 2, 33 * MS)
    s.settled()
    assert s.last.outcome is NowOutcome.PROPAGATED
    clock.pass_ms(90)
    s.worker.submit(3, 3, 33 * MS)
    s.settled()
    assert s.last.outcome is NowOutcome.EXPIRED


def test_a_camera_that_was_silent_for_long_starts_anew(scene, clock):
    s = scene(max_age=100.0)
    s.frame()
    s.infer(1, 5)
    clock.pass_ms(2000)
    s.frame()
    assert s.last.outcome is NowOutcome.NO_KEYFRAME and "no frame came for 2000 ms" in s.last.detail


def test_faults_have_their_record_and_leave_the_thread_alive(scene):
    s = scene()
    s.frame()
    s.infer(1, 5)
    s.port.undecodable.add(2)
    s.frame()
    assert s.last.outcome is NowOutcome.UNDECODABLE and "no image" in s.last.detail
    s.port.refuses = True
    s.frame()
    assert s.last.outcome is NowOutcome.FAILED and "refuses" in s.last.detail
    assert "refuses" in s.worker.status()["propagation.fault"]
    s.port.refuses = False
    s.frame()
    assert s.last.outcome is NowOutcome.PROPAGATED, "a frame without a picture breaks no chain"


def test_a_report_that_fails_is_counted_all_the_same(scene):
    s = scene()
    report, s.port.report = s.port.report, lambda message, record: 1 / 0
    s.frame()
    assert s.worker.accounting.snapshot()["dropped.no_keyframe"] == 1
    assert "division" in s.worker.status()["propagation.fault"]
    s.port.report = report
    s.worker.accounting = type(s.worker.accounting)(NowOutcome.PROPAGATED, tuple(NowOutcome)[1:])
    s.frame()
    assert s.last.outcome is NowOutcome.NO_KEYFRAME


def test_a_stopped_worker_takes_no_frames_and_can_start_again(scene):
    s = scene()
    s.frame()
    s.infer(1, 5)
    s.worker.stop()
    s.worker.submit(2, 2, 66 * MS)
    assert s.balanced()["received"] == 1
    s.worker.start()
    s.count = 2
    s.frame()
    assert s.last.outcome is NowOutcome.NO_KEYFRAME
    s.infer(3, 6)
    assert s.port.masks[-1] == (3, 6, 99 * MS)
