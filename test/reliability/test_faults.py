"""Bad days: what the path of a frame, the engines and the real node do when something fails."""

import json
import re
import subprocess
import sys
import threading
import time
import types
from collections import Counter

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.settings import assert_says_where_it_is_of

from seg_node.core.camera import CameraWatch
from seg_node.core.engines import EngineError, create_engine, present_engines
from seg_node.core.scheduling.worker import InferenceWorker
from seg_node.core.segmenter import FramePort, Segmenter
from seg_node.core.timing import DROPS, Outcome, Stage

RELIABILITY = ROOT / "reliability"

from bundles import constant_bundle  # noqa: E402
from orders import Order  # noqa: E402
from trend import fifths, slope  # noqa: E402


def wait(condition, what="", timeout=60.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.002)


class Named:
    manifest = types.SimpleNamespace(input_size=(2, 2))

    def __init__(self, name):
        self.name = name


class ScriptedEngine:
    """Calls what a frame's message is, if that can be called, and remembers who was inside of it."""

    device, precision, reason = "here", "int4", "it is a test"

    def __init__(self, name="engine"):
        self.bundle, self.name = Named(name), name
        self.workers = set()
        self.inside = self.most_inside = 0
        self.entered = threading.Event()

    def prepare(self, size, confidence=False):
        pass

    def infer(self, frame, confidence=False):
        self.workers.add(threading.get_ident())
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.entered.set()
        try:
            if callable(frame.message):
                frame.message()
        finally:
            self.inside -= 1
        return np.zeros((2, 2), np.uint8), None


class Frame(np.ndarray):
    """An image that carries the message it was decoded from."""

    message: object


class Port(FramePort):
    """Counts how often each message ends."""

    def __init__(self):
        self.masks, self.records, self.reasons = [], [], []

    def decode(self, message):
        frame = np.zeros((2, 2, 3), np.uint8).view(Frame)
        frame.message = message
        return frame

    def age(self, message):
        return 0.0

    def wants_confidence(self):
        return False

    def publish(self, message, mask, confidence):
        self.masks.append(message)

    def report(self, message, record):
        self.records.append((message, record))

    def outcomes(self):
        return [(message, record.outcome) for message, record in self.records]


@pytest.fixture
def running():
    """Start segmenters that are stopped, and whose stuck inferences are released, after the test."""
    released, started = threading.Event(), []

    def start(**limits):
        engine, port = ScriptedEngine(), Port()
        of_worker = {name: limits.pop(name) for name in ("inference_timeout", "failure_limit") if name in limits}
        worker = InferenceWorker(engine, **of_worker, gave_up=port.reasons.append)
        segmenter = Segmenter(worker, port, **limits)
        assert worker.start()
        started.append(worker)
        return segmenter, worker, engine, port

    start.released = released
    yield start
    released.set()
    for worker in started:
        worker.stop(60)


def raise_error(error):
    raise error


def fail():
    raise RuntimeError("it broke")


def nothing_pending(segmenter):
    return segmenter.accounting.snapshot()["pending"] == 0


def test_stuck_inference_is_given_up_and_its_result_discarded(running):
    segmenter, worker, engine, port = running(inference_timeout=50.0)
    stuck = running.released.wait
    segmenter.submit(stuck)
    engine.entered.wait(60)
    segmenter.submit("waits")
    wait(lambda: len(port.records) == 2, "both fail")
    segmenter.submit("comes meanwhile")
    assert port.outcomes() == [(m, Outcome.FAILED) for m in (stuck, "waits", "comes meanwhile")]
    first = port.records[0][1]
    assert first.detail == "inference has not returned within 50 ms"
    assert set(first.stages) == {Stage.WAIT, Stage.DECODE} and first.total >= 50
    assert worker.stuck and segmenter.trouble.startswith("an inference has not returned for ")
    assert nothing_pending(segmenter)
    # On a busy machine a thread may wait longer than that for its turn.
    worker.inference_timeout = 0
    running.released.set()
    wait(lambda: not worker.stuck, "the inference returns")
    segmenter.submit("comes after")
    wait(lambda: port.masks, "masks come again")
    assert port.masks == ["comes after"], "the late result is discarded"
    assert len(port.records) == 4 and len(engine.workers) == 1
    assert segmenter.trouble == "" and segmenter.status()["fault"] == "an earlier inference has not returned"


def test_stuck_engine_gets_no_second_worker(running):
    segmenter, worker, engine, port = running(inference_timeout=50.0)
    segmenter.submit(running.released.wait)
    wait(lambda: worker.stuck)
    began = time.monotonic()
    assert not worker.stop(3600)
    assert time.monotonic() - began < 600, "it does not wait for what has been given up"
    assert not worker.start()
    worker.inference_timeout = 0
    running.released.set()
    wait(worker.start, "the worker has ended")
    segmenter.submit("again")
    wait(lambda: port.masks == ["again"])
    assert engine.most_inside == 1


def test_stop_ends_what_does_not_end_in_time(running):
    segmenter, worker, engine, port = running()
    segmenter.submit(running.released.wait)
    engine.entered.wait(60)
    segmenter.submit("waits")
    assert not worker.stop(0.1)
    assert [record.detail for _, record in port.records] == ["inference has not ended 0.1 s after the stop"] * 2
    assert nothing_pending(segmenter)
    running.released.set()
    wait(lambda: not worker.stuck)
    assert len(port.records) == 2 and not port.masks


def test_limit_can_change_while_an_inference_is_stuck(running):
    segmenter, worker, _, port = running()
    segmenter.submit(running.released.wait)
    worker.inference_timeout = 10.0
    wait(lambda: port.records)
    assert port.records[0][1].outcome is Outcome.FAILED


def test_failures_in_a_row_are_too_many_once(running):
    segmenter, worker, _, port = running(failure_limit=3)

    def end(message):
        before = len(port.records)
        segmenter.submit(message)
        wait(lambda: len(port.records) > before)

    for message in (fail, fail, "a mask in between", fail, fail):
        end(message)
    assert port.reasons == []
    for _ in range(3):
        end(fail)
    # The worker reports a frame before it counts its failure; after the stop it has done both.
    assert worker.stop(60)
    assert port.reasons == ["3 frames in a row failed, the last: RuntimeError: it broke"]
    assert worker.given_up == segmenter.trouble == port.reasons[0]
    assert worker.start()
    assert worker.given_up == ""
    for _ in range(3):
        end(fail)
    assert worker.stop(60)
    assert len(port.reasons) == 2


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (MemoryError(), "MemoryError: in inference of 2x2 pixels"),
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (AssertionError(), "AssertionError: in inference of 2x2 pixels"),
    ],
)
def test_reason_of_a_failure(running, error, detail):
    segmenter, worker, _, port = running()
    segmenter.submit(lambda: raise_error(error))
    wait(lambda: port.records)
    assert port.records[0][1].detail == detail


@pytest.mark.parametrize("method", ["age", "decode", "wants_confidence", "publish", "report"])
def test_errors_around_the_inference_do_not_end_the_worker(running, method, monkeypatch):
    segmenter, worker, _, port = running(max_age=1000.0)
    with monkeypatch.context() as patched:
        patched.setattr(port, method, lambda *_: fail())
        segmenter.submit("broken")
        wait(lambda: nothing_pending(segmenter))
        wait(lambda: "it broke" in segmenter.status().get("fault", ""))
    segmenter.submit("whole")
    wait(lambda: "whole" in port.masks)


def test_every_frame_has_one_end_whatever_happens(running):
    segmenter, worker, engine, port = running(inference_timeout=30.0)
    rng = np.random.default_rng(1)
    acts = ["mask", fail, lambda: time.sleep(0.005), lambda: time.sleep(0.1)]
    messages = []
    for number in rng.choice(4, 300, p=[0.6, 0.2, 0.15, 0.05]):
        act = acts[number]
        # Messages are told apart by identity.
        message = (lambda a=act: a()) if callable(act) else Named(act)
        messages.append(message)
        segmenter.submit(message)
        time.sleep(0.002)
        counts = segmenter.accounting.snapshot()
        ends = counts["masked"] + sum(counts[f"dropped.{drop.value}"] for drop in DROPS)
        assert counts["received"] == ends + counts["pending"] == len(messages) and 0 <= counts["pending"] <= 3
    worker.stop(60)
    assert Counter(id(message) for message, _ in port.records) == Counter(map(id, messages))
    masked = [message for message, outcome in port.outcomes() if outcome is Outcome.MASKED]
    assert list(map(id, port.masks)) == list(map(id, masked))
    assert {Outcome.MASKED, Outcome.FAILED, Outcome.SUPERSEDED} == {outcome for _, outcome in port.outcomes()}
    assert engine.most_inside == 1


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_engines_refuse_what_is_no_segmentation(name, tmp_path):
    if name not in present_engines():
        pytest.skip(f"engine {name} is not installed")
    engine = create_engine(constant_bundle(tmp_path, "one", 1), name)
    frame = np.zeros((4, 6, 3), np.uint8)
    mask, confidence = engine.infer(frame, confidence=True)
    # OpenVINO divides by an approximate reciprocal.
    assert np.unique(mask) == [1] and np.abs(confidence.astype(int) - 200).max() <= 1
    frame[2, 3, 0] = Order.NAN
    with pytest.raises(EngineError, match="one: confidence is 0 of 255 .* not finite"):
        engine.infer(frame, confidence=True)
    with pytest.raises(EngineError, match="two: mask holds category 200; there are 0 to 7"):
        create_engine(constant_bundle(tmp_path, "two", 200), name).warm_up((4, 6))


def test_oddities_of_a_camera():
    watch = CameraWatch()
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 3, (32, 48, 3), np.uint8)
    bright = rng.integers(0, 255, (4, 32, 48, 3), np.uint8)
    for stamp, frame_id, age in ((5, "a", 3.0), (5, "a", 3.0), (4, "a", 3.0), (0, "a", None), (9, "b", -1e4)):
        watch.header(stamp, frame_id, age)
    for image in (bright[0], bright[0], bright[1], dark, bright[2][:16], bright[3][:16], bright[3][:16]):
        watch.image(image)
    assert watch.status() == {
        "camera.duplicate_stamp": "1",
        "camera.backward_stamp": "1",
        "camera.future_stamp": "1",
        "camera.frame_id_change": "1",
        "camera.size_change": "1",
        "camera.black": "1",
        "camera.frozen": "2",
    }


def test_frozen_frames_are_told_from_a_buffer_that_is_written_again():
    watch, buffer = CameraWatch(), np.zeros((16, 16, 3), np.uint8)
    for value in range(10, 15):
        buffer[:] = value
        watch.image(buffer)
    assert watch.status()["camera.frozen"] == "0"


def test_trends():
    rng = np.random.default_rng(0)
    times = np.linspace(0, 2, 1500)
    values = 3 * times + rng.normal(0, 0.1, 1500)
    # A fifth of the samples is far off.
    values[rng.choice(1500, 300, replace=False)] += 1000
    assert slope(times, values) == pytest.approx(3, abs=0.1)
    first, last = fifths(times, times)
    assert (first.max(), last.min()) == (pytest.approx(0.4, abs=0.01), pytest.approx(1.6, abs=0.01))


def test_odd_frames_are_masked_and_reported(node_process, ros, tmp_path):
    from helpers.camera import Camera
    from helpers.images import encode

    bundle = constant_bundle(tmp_path, "one", 1)
    parameters = {"model": str(bundle.path), "engine": "onnxruntime", "warm_up_size": [16, 24]}
    # The pauses between these frames are no oddities.
    node = node_process(parameters | {"camera_timeout_ms": 0.0}, {"image": "odd/image"})
    camera = Camera(topic="odd/image")
    try:
        camera.connect()
        pixels = np.random.default_rng(0).integers(0, 200, (16, 24, 3), np.uint8)
        for image in (pixels, pixels, pixels[:8] // 255):
            record, mask = camera.segment(encode(image, "bgr8"))
            assert (record.status[0].message, set(mask.data)) == ("masked", {1})
        before_1970 = encode(pixels, "bgr8")
        before_1970.header.stamp.sec = -5

        def masked():
            # Again and again, each with a stamp of its own: best effort may lose one.
            before_1970.header.stamp.nanosec += 1
            camera.publisher.publish(before_1970)
            time.sleep(0.2)
            return any(sec == -5 for sec, _ in list(camera.masks))

        camera.wait(masked, "a frame of 1969 is masked")
        names = ("black", "frozen", "size_change", "backward_stamp", "frame_id_change")
        camera.wait(
            lambda: camera.diagnostics and all(camera.diagnostics[-1].get(f"camera.{n}", "0") != "0" for n in names),
            "the oddities are reported",
        )
        for name in ("frozen", "black"):
            assert any(f"camera.{name} +" in values[""].message for values in camera.diagnostics)
        camera.wait(lambda: camera.diagnostics[-1][""].level == b"\0", "OK again")
        # The first report of an oddity is logged, and then one in ten seconds.
        assert re.search(r"/odd/image: active: camera\.\w+ \+\d", node.last_output(100))
    finally:
        camera.close()


@pytest.mark.parametrize(
    "row",
    ["stuck_inference", "hot_swap", "pulled_camera", "clocks_apart", "now_stuck_inference", "camera_sends_rubbish"],
)
def test_bad_day(ros, row, tmp_path):
    import camera_rows  # noqa: F401
    import diagnosis_rows  # noqa: F401
    import engine_rows  # noqa: F401
    import now_rows  # noqa: F401
    from rows import FAULTS, Stage

    seen = FAULTS[row].act(Stage(tmp_path, quick=True))
    assert seen.holds, seen.text()
    # A camera that sends rubbish has no mask.
    assert seen.next_mask_s > 0 and sum(not books.masks for books in seen.books) == (row == "camera_sends_rubbish")


def test_soak_of_several_cameras(ros, tmp_path):
    from scene import environment

    command = [sys.executable, str(RELIABILITY / "soak_cameras.py"), "--minutes", "0.1", "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "soak_cameras.json").read_text())
    assert_says_where_it_is_of(result)
    assert len(result["cameras"]) == 5 and all(result["checks"].values()) and result["holds"]
    assert result["verdicts"] == {}, "too short for trends"
    for name, camera in result["cameras"].items():
        assert 0 < sum(camera["outcomes"].values()) <= camera["sent"], name
    assert result["cameras"]["frozen"]["masks_per_s"] > 0 and result["cameras"]["rubbish"]["masks_per_s"] == 0


@pytest.mark.parametrize(
    ("script", "options", "file"),
    [
        ("chaos.py", ["--quick", "--only", "camera_killed"], "chaos.json"),
        ("soak.py", ["--minutes", "0.2"], "soak.json"),
    ],
)
def test_command(ros, script, options, file, tmp_path):
    from scene import environment

    command = [sys.executable, str(RELIABILITY / script), *options, "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert (tmp_path / file).is_file(), done.stdout + done.stderr
    result = json.loads((tmp_path / file).read_text())
    assert_says_where_it_is_of(result)
    for row in result["rows"] if script == "chaos.py" else [result]:
        for books in row["books"] if script == "chaos.py" else [row["books"]]:
            assert books["unaccounted"] == 0 and books["masks"] > 0, books
    if script == "soak.py":
        now = result["books_now"]
        assert now["unaccounted"] == 0 and now["masks"] > 0 and all(result["checks_now"].values()), done.stdout
    assert "unaccounted" in done.stdout
