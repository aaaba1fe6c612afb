"""Several cameras before one engine: whose turn it is, who waits how long, and what one camera's faults cost others."""

import math
import threading
import time
import types
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_node.core.errors import UndecodableError
from seg_node.core.scheduling.scheduler import EqualClaim, Scheduler
from seg_node.core.scheduling.turns import Turns
from seg_node.core.scheduling.worker import InferenceWorker
from seg_node.core.segmenter import FramePort, Segmenter
from seg_node.core.slot import Rhythm
from seg_node.core.timing import Outcome
from seg_node.core.upkeep.attempts import Attempts

PRIORITIES = st.lists(st.integers(1, 7), min_size=1, max_size=6)
EVENTS = st.lists(st.one_of(st.just("serve"), st.integers(0, 5)), max_size=120)
"""Turns, and who begins to wait."""
SURCHARGES = st.one_of(st.just(0.0), st.floats(0.0, 1.0))


def _reference(history, priorities):
    """Who is next, worked out from all that has happened: numbers begin to wait, (number, surcharge) have a turn."""
    now, last, waiting = Fraction(0), {}, {}
    for turn, event in enumerate(history):
        if isinstance(event, tuple):
            number, surcharge = event
            now = waiting.pop(number)
            last[number] = (now + Fraction(1000 + round(1000 * surcharge), 1000 * priorities[number]), turn)
        else:
            waiting.setdefault(event, max(now, last.get(event, (Fraction(0),))[0]))
    return min(waiting, key=lambda i: (waiting[i], last.get(i, (0, -1))[1], i), default=None)


@settings(deadline=None, max_examples=80)
@given(PRIORITIES, EVENTS, st.lists(SURCHARGES, min_size=120, max_size=120))
def test_turns_are_those_of_a_slow_reference(priorities, events, surcharges):
    turns, history = Turns(len(priorities)), []
    for event in events:
        if event != "serve":
            event %= len(priorities)
            turns.wait(event)
        else:
            number = turns.first()
            assert number == _reference(history, priorities) == next(iter(turns), None)
            if number is None:
                continue
            surcharge = surcharges[len(history)]
            turns.serve(number, priorities[number], surcharge)
            event = (number, surcharge)
        history.append(event)


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 6), EVENTS)
def test_of_equals_the_least_recently_served_is_next(count, events):
    turns, served, waiting = Turns(count), [-1] * count, set()
    for turn, event in enumerate(events):
        if event != "serve":
            turns.wait(event % count)
            waiting.add(event % count)
        elif waiting:
            number = turns.first()
            assert number == min(waiting, key=lambda i: (served[i], i))
            turns.serve(number, 1)
            waiting.remove(number)
            served[number] = turn


@settings(deadline=None, max_examples=150)
@given(PRIORITIES, EVENTS, st.lists(SURCHARGES, min_size=120, max_size=120))
def test_nobody_starves_beyond_the_bound(priorities, events, surcharges):
    turns, others, charged = Turns(len(priorities)), {}, Counter()
    for event, surcharge in zip(events, surcharges, strict=False):
        if event != "serve":
            turns.wait(event % len(priorities))
            others.setdefault(event % len(priorities), Counter())
        elif (number := turns.first()) is not None:
            turns.serve(number, priorities[number], surcharge)
            del others[number]
            charged[number] = round(1000 * surcharge)
            for waits, had in others.items():
                had[number] += 1
                longest = Fraction(1000 + charged[waits], 1000 * priorities[waits])
                assert had[number] <= math.ceil(priorities[number] * longest), (waits, number)


@given(PRIORITIES, st.integers(1, 4))
def test_while_all_wait_turns_are_shared_as_the_priorities_are(priorities, rounds):
    turns, had = Turns(len(priorities)), Counter()
    for number in range(len(priorities)):
        turns.wait(number)
    for _ in range(rounds * sum(priorities)):
        had[number := turns.first()] += 1
        turns.serve(number, priorities[number])
        turns.wait(number)
    assert had == {number: rounds * priority for number, priority in enumerate(priorities)}


def _turns_of(receptions, turns=300):
    """How many turns cameras have whose reception takes so many seconds from one turn of all to the next; work: 0.1."""
    claims, had = [EqualClaim() for _ in receptions], Counter()
    scheduler = Scheduler(claims)
    for slot in scheduler._slots:
        slot.work = 0.1
    for number in range(len(receptions)):
        scheduler.put(number, number)
    for _ in range(turns):
        for claim, reception in zip(claims, receptions, strict=True):
            claim.reception += reception / len(receptions)
        number = scheduler.take()
        had[number] += 1
        scheduler.put(number, number)
        scheduler.done(number)
        scheduler._slots[number].work = 0.1
    return [had[number] for number in range(len(receptions))]


def test_a_camera_pays_for_the_reception_of_a_flood_with_its_own_turns():
    # From one turn of its own to the next its reception comes to 0.49 of the work, and twice of the others' 0.03 is
    # free: for each turn of the others it has 1 / 1.43.
    had = _turns_of([0.0015, 0.0015, 0.0015, 0.018])
    assert had[:3] == pytest.approx([81] * 3, abs=2) and had[3] == pytest.approx(57, abs=3)
    had = _turns_of([0.003, 0.003, 0.003, 9.0])
    assert had[3] == pytest.approx(300 / 7, abs=3), "whatever it sends, it has half of a turn"


@given(st.lists(st.floats(0.001, 0.0019), min_size=2, max_size=6))
def test_cameras_whose_reception_is_about_alike_keep_their_order(receptions):
    had = _turns_of(receptions, 60 * len(receptions))
    assert had == [60] * len(receptions)


@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=1))
def test_the_only_camera_is_charged_nothing(receptions):
    assert _turns_of(receptions, 10) == [10]


def _gathering_of(crowds, between=0.1, rounds=3):
    """What cameras are asked to gather after turns with so many frames of each, so many seconds after those before."""
    scheduler = Scheduler([EqualClaim() for _ in crowds])
    for _ in range(rounds):
        for camera, crowd in enumerate(crowds):
            for number in range(crowd):
                scheduler.put((camera, number), camera)
            scheduler._served[camera] = time.monotonic() - between
        while scheduler.waiting:
            scheduler.done(scheduler.take())
    return [scheduler.gathering(camera) for camera in range(len(crowds))]


def test_the_frames_of_a_flood_gather_by_fours():
    assert _gathering_of([4, 4, 4, 40], 0.2) == [0.0, 0.0, 0.0, pytest.approx(0.02, abs=0.005)]
    at_a_kilohertz = _gathering_of([6, 6, 6, 200], 0.2)
    assert at_a_kilohertz == [0.0, 0.0, 0.0, pytest.approx(0.004, abs=0.002)], "no more than the queue can hold"
    assert _gathering_of([0, 0, 0, 10], 1.0)[3] == 0.02, "never longer, however slowly they come"


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 6))
def test_nothing_gathers_of_cameras_that_are_alike_nor_of_the_only_one(crowd, count):
    assert _gathering_of([crowd] * count) == [0.0] * count


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=5))
def test_nothing_gathers_where_hardly_more_come_than_are_taken(crowds):
    assert _gathering_of(crowds) == [0.0] * len(crowds)


def test_a_flood_that_ends_gathers_no_more():
    scheduler = Scheduler([EqualClaim(), EqualClaim()])
    for crowd, gathers in ((40, True), (3, False)):
        for number in range(crowd):
            scheduler.put(number, 1)
        assert scheduler.take() == crowd - 1
        scheduler.done(crowd - 1)
        assert bool(scheduler.gathering(1)) is gathers


def test_who_was_away_has_no_turns_saved_up():
    turns, had = Turns(2), []
    turns.wait(0)
    for turn in range(20):
        if turn >= 10:
            turns.wait(1)
        had.append(turns.first())
        turns.serve(had[-1], 1)
        turns.wait(0)
    assert had == [0] * 10 + [1, 0] * 5


ACTS = st.lists(
    st.tuples(st.sampled_from(["put"] * 4 + ["take", "done", "others", "back"]), st.integers(0, 4)), max_size=80
)


@settings(deadline=None, max_examples=150)
@given(PRIORITIES, ACTS, st.booleans())
def test_each_frame_ends_in_one_hand_and_only_the_newest_is_taken(priorities, acts, closes):
    """Against a plain list of what waits, whatever is done in whatever order."""
    scheduler = Scheduler([EqualClaim(priority) for priority in priorities])
    newest, in_work, lost, ends, number = {}, [], [], [], 0

    def taken(item):
        assert newest.pop(item[0]) == item, "an older frame than the newest was taken"
        in_work.append(item)

    for act, camera in acts:
        camera %= len(priorities)
        if act == "put":
            number += 1
            item = (camera, number)
            expected = item if lost else newest.get(camera)
            dropped = scheduler.put(item, camera)
            assert dropped == expected
            ends += [dropped] if dropped else []
            if dropped is not item:
                newest[camera] = item
        elif act == "take" and newest and not in_work and not lost:
            taken(scheduler.take())
        elif act == "others" and in_work:
            busy = {item[0] for item in in_work}
            wanted = {camera for camera in newest if camera not in busy}
            others = scheduler.take_others()
            assert {item[0] for item in others} == wanted, "one whose item is in work has no second one there"
            for item in others:
                taken(item)
        elif act == "done" and (in_work or lost):
            item = (in_work or lost).pop()
            assert scheduler.done(item) is (item not in ends)
            ends += [] if item in ends else [item]
        elif act == "back":
            held = [*in_work, *newest.values()]
            assert sorted(scheduler.take_back()) == sorted(held)
            ends += held
            lost += in_work
            in_work.clear()
            newest.clear()
        assert scheduler.blocked is bool(lost)
        assert scheduler.waiting == len(newest)
    if closes and not lost:
        for item in in_work:
            assert scheduler.done(item)
        ends += in_work
        scheduler.close()
        assert scheduler.put((0, number := number + 1)) == (0, number)
        ends.append((0, number))
        while (item := scheduler.take()) is not None:
            in_work.clear()
            taken(item)
            assert scheduler.done(item)
            ends.append(item)
        assert len(ends) == number, "every frame has an end"
    assert len(set(ends)) == len(ends), "no frame has two"


def test_no_worker_is_idle_while_another_camera_waits():
    """For the next frame of a camera it waits only where nothing else is to be done."""
    scheduler = Scheduler([EqualClaim(patience=1.0), EqualClaim()])
    scheduler.put("old", 0)
    rhythm, now = Rhythm(), time.monotonic()
    for i in range(6):
        # The next one is due in an hour.
        rhythm.beat(now - 5400 - 9000 * (5 - i))
    scheduler._slots[0]._rhythm = rhythm
    got = []
    worker = threading.Thread(target=lambda: got.append(scheduler.take()), daemon=True)
    worker.start()
    worker.join(0.1)
    assert not got
    scheduler.put("of another camera", 1)
    worker.join(60)
    assert got == ["old"], "it was there first, and nothing is waited for any more"
    assert scheduler.take() == "of another camera"


class _Bundle:
    name = "one"
    manifest = types.SimpleNamespace(input_size=(2, 2))


class Engine:
    """Calls messages, or fails on those that are errors; a message is the image that it was decoded to."""

    name = device = precision = reason = "test"
    bundle = _Bundle()

    def __init__(self, batches=False, streams=1):
        self.batches, self.streams, self.masked, self.groups = batches, streams, [], []

    def prepare(self, size, confidence=False):
        pass

    def infer(self, bgr, confidence=False):
        self.masked.append(bgr.message)
        if callable(bgr.message):
            bgr.message()
        if isinstance(bgr.message, Exception):
            raise bgr.message
        return bgr[..., 0], bgr[..., 0] if confidence else None

    def infer_batch(self, frames, confidence=False):
        self.groups.append([frame.message for frame in frames])
        if any(isinstance(frame.message, Exception) for frame in frames):
            raise RuntimeError("one of many")
        return [(frame[..., 0], frame[..., 0] if confidence else None) for frame in frames]


class Frame(np.ndarray):
    """An image that carries the message it was decoded from."""

    message: object


class Port(FramePort):
    """One camera."""

    def __init__(self, size=(2, 2)):
        self.size, self.masks, self.records, self.listens = size, [], [], False

    def decode(self, message):
        if message is None:
            raise UndecodableError("it is nothing")
        frame = np.zeros((*self.size, 3), np.uint8).view(Frame)
        frame.message = message
        return frame

    def age(self, message):
        return 0.0

    def wants_confidence(self):
        return self.listens

    def publish(self, message, mask, confidence):
        self.masks.append((message, mask.shape, confidence is not None))

    def report(self, message, record):
        self.records.append(record)


class Cameras:
    """Cameras before one worker."""

    def __init__(self, count, engine=None, sizes=None, priorities=None, **limits):
        self.reasons, self.engine = [], engine or Engine()
        self.worker = InferenceWorker(self.engine, gave_up=self.reasons.append, **limits)
        self.ports = [Port(*([sizes[i]] if sizes else [])) for i in range(count)]
        self.segmenters = [
            Segmenter(self.worker, port, priority=priorities[i] if priorities else 1)
            for i, port in enumerate(self.ports)
        ]
        assert self.worker.start()

    def end(self, number, message):
        """Have a frame of a camera go its way to the end; returns its record."""
        before = len(self.ports[number].records)
        self.segmenters[number].submit(message)
        wait(lambda: len(self.ports[number].records) > before)
        return self.ports[number].records[-1]

    def hold(self):
        """Keep the worker busy with a frame of camera 0; returns what lets it go on."""
        entered, permission = threading.Event(), threading.Event()
        self.segmenters[0].submit(lambda: entered.set() or permission.wait(60))
        assert entered.wait(60)
        return permission.set


@pytest.fixture
def cameras():
    """Make cameras whose worker is stopped after the test."""
    made = []

    def make(*args, **options):
        made.append(Cameras(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.worker.stop(60)


def wait(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.001)


def counts(segmenter):
    return segmenter.accounting.snapshot()


def balanced(segmenter):
    snapshot = counts(segmenter)
    ends = sum(count for name, count in snapshot.items() if name == "masked" or name.startswith("dropped"))
    return snapshot["received"] == ends + snapshot["pending"]


def test_frames_are_masked_in_the_order_of_turns_and_counted_by_camera(cameras):
    found = cameras(3, priorities=[1, 2, 1])
    go_on = found.hold()
    for message in "abc":
        for number, segmenter in enumerate(found.segmenters):
            segmenter.submit(f"{message}{number}")
    go_on()
    assert found.worker.stop(60)
    assert found.engine.masked[1:] == ["c1", "c2", "c0"], "0 was served last, and the others were there"
    for segmenter, masked in zip(found.segmenters, (2, 1, 1), strict=True):
        assert balanced(segmenter)
        assert (counts(segmenter)["masked"], counts(segmenter)["dropped.superseded"]) == (masked, 2)


@pytest.mark.parametrize(("device", "lacks"), [("CPU", True), ("cpu", True), ("cuda", False), ("TensorRT", False)])
def test_cores_are_lacking_while_frames_wait_for_an_engine_on_the_processor(cameras, device, lacks):
    found = cameras(2)
    found.engine.device = device
    assert not found.worker.lacks_cores
    go_on = found.hold()
    assert not found.worker.lacks_cores, "the frame in work has what it needs"
    found.segmenters[1].submit("waits")
    assert found.worker.lacks_cores is lacks
    go_on()
    wait(lambda: found.ports[1].records)
    assert not found.worker.lacks_cores


def test_a_flood_of_one_camera_leaves_the_others_their_turns(cameras):
    found, stop = cameras(3), threading.Event()

    def flood():
        while not stop.is_set():
            found.segmenters[0].submit("flood")

    flooding = threading.Thread(target=flood, daemon=True)
    flooding.start()
    for number in range(20):
        port, segmenter = found.ports[1 + number % 2], found.segmenters[1 + number % 2]
        ended = len(port.records)
        segmenter.submit(number)
        since = len(found.engine.masked)
        wait(lambda port=port, ended=ended: len(port.records) > ended)
        # The one that was just taken, and one turn of the flood.
        assert found.engine.masked.index(number) - since <= 2
    stop.set()
    flooding.join(60)
    assert found.worker.stop(60)
    assert all(map(balanced, found.segmenters))
    assert sum(counts(segmenter)["masked"] for segmenter in found.segmenters[1:]) == 20


def test_rubbish_of_one_camera_is_its_own(cameras):
    found = cameras(2, failure_limit=3)
    for number in range(10):
        assert found.end(0, None).outcome is Outcome.UNDECODABLE
        assert found.end(1, number).outcome is Outcome.MASKED
    assert [counts(segmenter)["dropped.undecodable"] for segmenter in found.segmenters] == [10, 0]
    assert not found.reasons and not any(segmenter.trouble for segmenter in found.segmenters)
    assert "fault" not in found.segmenters[1].status()


def test_a_camera_whose_frames_fail_rests_while_others_are_masked(cameras):
    found, broken = cameras(2, failure_limit=3), RuntimeError("it broke")
    now = [0.0]
    found.segmenters[0]._attempts = Attempts(clock=lambda: now[0])
    assert found.end(1, "well").outcome is Outcome.MASKED
    for _ in range(3):
        assert found.end(0, broken).outcome is Outcome.FAILED
    wait(lambda: found.segmenters[0].trouble)
    tried = len(found.engine.masked)
    reason = "3 frames in a row failed, the last: RuntimeError: it broke; the next is tried in 1 s"
    for _ in range(5):
        record = found.end(0, broken)
        assert (record.outcome, record.detail) == (Outcome.FAILED, reason)
    assert len(found.engine.masked) == tried, "none takes a turn from the others"
    assert found.end(1, "well").outcome is Outcome.MASKED
    assert found.segmenters[0].trouble == reason and not found.segmenters[1].trouble and not found.worker.trouble
    now[0] = 1.5
    assert found.end(0, broken).detail == "RuntimeError: it broke"
    wait(lambda: found.segmenters[0].trouble.endswith("the next is tried in 2 s"))
    now[0] = 4.0
    assert found.end(0, "whole again").outcome is Outcome.MASKED
    wait(lambda: not found.segmenters[0].given_up)
    assert not found.reasons and all(map(balanced, found.segmenters))


def test_all_is_given_up_where_no_camera_has_masks(cameras):
    found, broken = cameras(2, failure_limit=3), RuntimeError("it broke")
    assert found.end(1, "well").outcome is Outcome.MASKED
    assert found.end(1, broken).outcome is Outcome.FAILED
    for _ in range(3):
        found.end(0, broken)
    wait(lambda: found.reasons)
    assert found.reasons == ["3 frames in a row failed, the last: RuntimeError: it broke"]
    assert [segmenter.trouble for segmenter in found.segmenters] == found.reasons * 2
    assert found.worker.stop(60) and found.worker.start()
    assert not found.worker.trouble and found.end(0, "well").outcome is Outcome.MASKED


def test_a_stuck_inference_is_the_trouble_of_all_cameras(cameras):
    found = cameras(3, inference_timeout=50.0, failure_limit=2)
    assert found.end(1, "well").outcome is Outcome.MASKED
    go_on = found.hold()
    found.segmenters[1].submit("waits")
    wait(lambda: found.worker.stuck)
    wait(lambda: len(found.ports[1].records) == 2)
    assert found.end(2, "comes").detail == "an earlier inference has not returned"
    assert all(segmenter.trouble.startswith("an inference has not returned for") for segmenter in found.segmenters)
    assert not found.reasons
    found.end(2, "comes")
    wait(lambda: found.reasons)
    go_on()
    wait(lambda: not found.worker.stuck)
    assert len(found.ports[0].records) == 1 and not found.ports[0].masks, "its late result is discarded"
    assert all(map(balanced, found.segmenters))


def test_frames_at_hand_are_masked_together_by_size(cameras):
    sizes = [(2, 2), (4, 6), (2, 2), (2, 2)]
    found = cameras(4, Engine(batches=True), sizes)
    found.ports[2].listens = True
    go_on = found.hold()
    for number in (1, 2, 3):
        found.segmenters[number].submit(str(number))
    go_on()
    assert found.worker.stop(60)
    assert found.engine.groups == [["2", "3"]] and found.engine.masked[1:] == ["1"]
    expected = [[("1", (4, 6), False)], [("2", (2, 2), True)], [("3", (2, 2), False)]]
    assert [port.masks for port in found.ports[1:]] == expected, "a confidence goes only to who asked for it"


def test_what_fails_in_a_batch_fails_by_itself(cameras):
    found = cameras(4, Engine(batches=True))
    go_on, broken = found.hold(), RuntimeError("it broke")
    for number, message in enumerate(("whole", broken, None), 1):
        found.segmenters[number].submit(message)
    go_on()
    assert found.worker.stop(60)
    assert [port.records[-1].outcome for port in found.ports[1:]] == [
        Outcome.MASKED,
        Outcome.FAILED,
        Outcome.UNDECODABLE,
    ]
    assert found.ports[2].records[-1].detail == "RuntimeError: it broke"


def test_a_batch_that_is_stuck_is_given_up_whole(cameras):
    engine, permission = Engine(batches=True), threading.Event()
    engine.infer_batch = lambda frames, confidence=False: (
        permission.wait(60) and [(frame[..., 0], None) for frame in frames]
    )
    found = cameras(4, engine, inference_timeout=50.0)
    go_on = found.hold()
    # Long before anything is given up.
    for number in (1, 2, 3):
        found.segmenters[number].submit(str(number))
    found.worker.inference_timeout = 0.0
    go_on()
    wait(lambda: found.ports[0].records)
    found.worker.inference_timeout = 50.0
    wait(lambda: all(port.records for port in found.ports))
    assert all(port.records[0].outcome is Outcome.FAILED for port in found.ports[1:])
    permission.set()
    wait(lambda: not found.worker.stuck)
    assert found.end(1, "again").outcome is Outcome.MASKED
    assert not any(port.masks for port in found.ports[2:]), "late results are discarded"


def test_an_engine_with_streams_masks_frames_of_several_cameras_at_once(cameras):
    found = cameras(3, Engine(streams=2))
    entered, permission = [threading.Event(), threading.Event()], threading.Event()
    for number in (0, 1):
        event = entered[number]
        found.segmenters[number].submit(lambda event=event: event.set() or permission.wait(60))
    assert all(event.wait(60) for event in entered), "both are in work"
    for number in (0, 1, 2):
        found.segmenters[number].submit(f"next {number}")
    assert len(found.engine.masked) == 2, "there are no more streams"
    permission.set()
    assert found.worker.stop(60)
    assert sorted(map(str, found.engine.masked[2:])) == ["next 0", "next 1", "next 2"]
    assert all(map(balanced, found.segmenters)) and [counts(each)["masked"] for each in found.segmenters] == [2, 2, 1]


def test_masks_of_a_camera_keep_their_order_whichever_thread_makes_them(cameras):
    found = cameras(3, Engine(streams=3))
    for number in range(60):
        for segmenter in found.segmenters:
            segmenter.submit(number)
        time.sleep(0.0005)
    assert found.worker.stop(60)
    for port, segmenter in zip(found.ports, found.segmenters, strict=True):
        masked = [message for message, _, _ in port.masks]
        assert masked == sorted(set(masked)) and masked[-1] == 59 and balanced(segmenter)


def test_one_of_two_inferences_that_is_stuck_is_the_trouble_of_all(cameras):
    found = cameras(3, Engine(streams=2), inference_timeout=50.0)
    go_on = found.hold()
    wait(lambda: found.worker.stuck)
    assert found.end(1, "comes").detail == "an earlier inference has not returned"
    assert all(segmenter.trouble.startswith("an inference has not returned for") for segmenter in found.segmenters)
    assert not found.worker.stop(0.1) and not found.worker.start(), "its thread is still there"
    go_on()
    wait(lambda: not found.worker.stuck)
    wait(found.worker.start)
    assert found.end(2, "again").outcome is Outcome.MASKED
    assert not found.ports[0].masks and all(map(balanced, found.segmenters))


def test_an_engine_of_one_stream_in_the_place_of_one_with_two_is_called_by_one_thread(cameras):
    inside, most = [], []

    def enter(message):
        inside.append(message)
        most.append(len(inside))
        time.sleep(0.01)
        inside.remove(message)

    found = cameras(2, Engine(streams=2))
    found.worker.engine = Engine()
    for number in range(10):
        for segmenter in found.segmenters:
            segmenter.submit(lambda number=number, of=segmenter: enter((number, of)))
        time.sleep(0.005)
    assert found.worker.stop(60)
    assert most and max(most) == 1
