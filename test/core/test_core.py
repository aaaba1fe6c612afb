"""The core without ROS: metrics, slot, accounting, the path of a frame, bundles."""

import ast
import ctypes
import dataclasses
import datetime
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import types
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
import yaml
from helpers.paths import ROOT

from seg_node.core.bundle import (
    GRAPH,
    MANIFEST,
    RANGES,
    BundleError,
    Manifest,
    find_bundle,
    load_bundle,
    shipped_bundles,
    write_bundle,
)
from seg_node.core.errors import UndecodableError
from seg_node.core.image_header import ImageHeader, read_header
from seg_node.core.memory import steady_memory_environment
from seg_node.core.metrics import confusion_matrix, scores
from seg_node.core.scheduling.scheduler import EqualClaim, Scheduler
from seg_node.core.scheduling.worker import InferenceWorker
from seg_node.core.segmenter import FramePort, Segmenter
from seg_node.core.slot import Accounting, Rhythm
from seg_node.core.taxonomy import CATEGORY_NAMES, PALETTE_RGB, colorize
from seg_node.core.timing import Outcome, Stage


def test_core_imports_without_ros_and_torch():
    """Every core module but those that are torch imports where rclpy and torch cannot be imported."""
    program = """
import importlib, pkgutil, sys
for name in ("rclpy", "torch", "torchvision", "timm", "segmentation_models_pytorch"):
    sys.modules[name] = None
import seg_node.core
names = [m.name for m in pkgutil.walk_packages(seg_node.core.__path__, "seg_node.core.")]
needs_torch = {"seg_node.core.network", "seg_node.core.engines.torch_engine", "seg_node.core.engines.torch_gpu"}
assert needs_torch <= set(names), names
for name in sorted(set(names) - needs_torch):
    importlib.import_module(name)
from seg_node.core.engines import create_engine
from seg_node.core.bundle import load_bundle
import numpy
mask, _ = create_engine(load_bundle("fpn_resnet50"), "onnxruntime").infer(numpy.zeros((64, 64, 3), numpy.uint8))
assert mask.shape == (64, 64)
print("imported", len(names) - len(needs_torch))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("imported")


def test_iou_of_a_hand_computed_case():
    truth = np.array([[1, 1, 1, 2], [2, 2, 0, 255]], np.uint8)
    prediction = np.array([[1, 1, 2, 2], [2, 1, 1, 3]], np.uint8)
    result = scores(confusion_matrix(truth, prediction))
    # flat: 2 hits, 1 missed, 1 wrong on construction; the pixel on void does not count. construction: 2 of 4.
    assert result["iou"]["flat"] == pytest.approx(100 * 2 / 4)
    assert result["iou"]["construction"] == pytest.approx(100 * 2 / 4)
    assert result["miou_7"] == pytest.approx(50)
    # In miou_8 void counts: flat has one more wrong pixel, void is missed.
    assert result["miou_8"] == pytest.approx(100 * (0 + 2 / 5 + 2 / 4) / 3)
    assert result["pixel_accuracy"] == pytest.approx(100 * 4 / 6)
    assert result["iou"]["sky"] is None


def test_confusion_adds_up_over_images():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 8, (2, 4, 20, 30), np.uint8)
    parts = sum(confusion_matrix(t, p) for t, p in zip(truth, prediction, strict=True))
    assert np.array_equal(parts, confusion_matrix(truth, prediction))
    assert parts[3, 5] == np.count_nonzero((truth == 3) & (prediction == 5))


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), r"\(2, 3\).*\(3, 2\)"),
        (np.full((2, 2), 9, np.uint8), np.zeros((2, 2), np.uint8), "truth holds id 9"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 8, np.uint8), "prediction holds id 8"),
    ],
)
def test_confusion_refuses(truth, prediction, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(truth, prediction)


def test_colours_are_bgr():
    assert colorize(np.array([[1, 255]], np.uint8)).tolist() == [[[128, 64, 128], [255, 255, 255]]]
    assert colorize(np.array([[5]], np.uint8)).tolist() == [[[180, 130, 70]]]


def test_slot_hands_back_what_is_superseded():
    slot = Scheduler()
    assert slot.put(1) is None
    assert slot.put(2) == 1
    assert slot.take() == 2
    assert slot.done(2)
    slot.put(3)
    slot.close()
    assert slot.put(4) == 4
    assert slot.take() == 3
    assert slot.take() is None


def _rhythm(*beats: float) -> Rhythm:
    rhythm = Rhythm()
    for beat in beats:
        rhythm.beat(beat)
    return rhythm


def test_the_next_item_is_worth_waiting_for_if_it_is_due_soon():
    rhythm = _rhythm(10.0, 10.1, 10.2, 10.3, 10.4, 10.5)
    assert rhythm.worth_waiting(10.51, 0.5) == 0, "it has just come"
    assert rhythm.worth_waiting(10.56, 0.5) == 0, "40 ms are more than half of 60"
    # 30 ms are left, and the next may be 10 ms late.
    assert rhythm.worth_waiting(10.57, 0.5) == pytest.approx(0.04)
    assert rhythm.worth_waiting(10.57, 0.4) == 0
    assert rhythm.worth_waiting(10.599, 0.5) == pytest.approx(0.011)
    assert rhythm.worth_waiting(10.601, 0.5) == 0, "it is overdue"
    assert rhythm.worth_waiting(10.599, 0.0) == 0


def test_nothing_is_expected_of_irregular_items():
    assert _rhythm().worth_waiting(1.0, 1.0) == 0
    assert _rhythm(*np.arange(5)).worth_waiting(4.9, 1.0) == 0, "four intervals are too few"
    assert _rhythm(0, 1, 2, 4, 5, 6).worth_waiting(6.9, 1.0) == 0, "one was lost"
    assert _rhythm(0, 1, 2.15, 3, 4, 5).worth_waiting(5.9, 1.0) == 0, "one came late"
    assert _rhythm(0, 1, 2.09, 3, 4, 5).worth_waiting(5.9, 1.0) == pytest.approx(0.2), "hardly late"
    assert _rhythm(0, 2, 3, 4, 5, 6, 7).worth_waiting(7.9, 0.5) == pytest.approx(0.2), "the long interval is forgotten"


def _that_waits(rhythm: Rhythm, patience: float) -> Scheduler:
    """A scheduler of one camera of that rhythm, whose item, "old", waits."""
    scheduler = Scheduler([EqualClaim(patience=patience)])
    scheduler.put("old")
    scheduler._slots[0]._rhythm = rhythm
    return scheduler


@pytest.fixture
def steady_slot():
    """Makes one whose next item is due in an hour after that of an hour and a half ago; and that, which waits."""
    now = time.monotonic()
    return lambda patience=1.0: _that_waits(_rhythm(*(now - 5400 - 9000 * i for i in range(5, -1, -1))), patience)


def test_slot_waits_for_the_next_item(steady_slot):
    slot, got = steady_slot(), []
    worker = threading.Thread(target=lambda: got.append(slot.take()), daemon=True)
    worker.start()
    worker.join(0.1)
    assert worker.is_alive() and not got
    assert slot.put("new") == "old"
    worker.join(60)
    assert got == ["new"]


def test_slot_does_not_wait_without_patience(steady_slot):
    assert steady_slot(0.5).take() == "old"


def test_nothing_is_waited_for_that_comes_much_faster_than_it_is_worked_on():
    rhythm = _rhythm(*range(6))
    assert rhythm.worth_waiting(5.9, 1.0, work=1.5) == pytest.approx(0.2)
    assert rhythm.worth_waiting(5.9, 1.0, work=1.6) == 0


def test_slot_knows_how_long_the_work_takes(steady_slot):
    slot = steady_slot()
    slot._claims[0].patience = 0.0
    assert slot.take() == "old"
    slot._in_work[0].since -= 20_000
    assert slot.done("old")
    slot._claims[0].patience = 1.0
    slot.put("newer")
    slot._slots[0]._rhythm = rhythm = _rhythm(*(time.monotonic() - 5400 - 9000 * i for i in range(5, -1, -1)))
    assert rhythm.worth_waiting(time.monotonic(), 1.0) > 0
    assert slot.take() == "newer", "two of them come in the meantime"


def test_slot_gives_up_waiting_for_what_does_not_come():
    now = time.monotonic()
    assert _that_waits(_rhythm(*(now - 0.09 - 0.1 * i for i in range(5, -1, -1))), 1.0).take() == "old"


def test_slot_that_waits_can_be_closed_and_emptied(steady_slot):
    slot, got = steady_slot(), []
    worker = threading.Thread(target=lambda: got.append(slot.take()), daemon=True)
    worker.start()
    worker.join(0.1)
    assert slot.take_back() == ["old"]
    worker.join(0.1)
    assert worker.is_alive(), "there is nothing to take"
    slot.put("last")
    worker.join(60)
    assert got == ["last"]
    slot = steady_slot()
    worker = threading.Thread(target=lambda: got.append(slot.take()), daemon=True)
    worker.start()
    worker.join(0.1)
    slot.close()
    worker.join(60)
    assert got == ["last", "old"]


def test_accounting_identity():
    accounting = Accounting()
    for _ in range(4):
        accounting.receive()
    accounting.settle(Outcome.MASKED, late=True)
    accounting.settle(Outcome.STALE)
    accounting.settle(Outcome.SUPERSEDED)
    assert accounting.snapshot() == {
        "received": 4,
        "masked": 1,
        "dropped.superseded": 1,
        "dropped.stale": 1,
        "dropped.undecodable": 0,
        "dropped.failed": 0,
        "pending": 1,
        "late": 1,
    }


class _Bundle:
    manifest = types.SimpleNamespace(input_size=(4, 6))

    def __init__(self, name):
        self.name = name


class _Engine:
    """Fails on frames whose first pixel is 13 and waits for permission on 99."""

    device, precision, reason = "here", "int4", "it is a test"

    def __init__(self, name="one"):
        self.bundle = _Bundle(name)
        self.name = name
        self.permission = threading.Event()
        self.entered = threading.Event()

    def prepare(self, size, confidence=False):
        pass

    def infer(self, bgr, confidence=False):
        if bgr[0, 0, 0] == 13:
            raise RuntimeError("thirteen")
        if bgr[0, 0, 0] == 99:
            self.entered.set()
            assert self.permission.wait(60)
        return bgr[..., 0], bgr[..., 1] if confidence else None


class _Port(FramePort):
    """Messages are numbers: negative ones cannot be decoded, those above 100 are that many milliseconds old."""

    def __init__(self):
        self.masks, self.records = [], []
        self.listens = False

    def decode(self, message):
        if message < 0:
            raise UndecodableError(f"{message} is negative")
        return np.full((4, 6, 3), message, np.uint8)

    def age(self, message):
        return float(message) if message > 100 else 0.0

    def wants_confidence(self):
        return self.listens

    def publish(self, message, mask, confidence):
        self.masks.append((message, mask, confidence))

    def report(self, message, record):
        self.records.append((message, record))


def _wait(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.001)


def test_slot_takes_back_what_a_worker_does_not_return():
    slot = Scheduler()
    assert slot.take_back() == [] and not slot.blocked, "there is nothing to take"
    slot.put(1)
    assert slot.take() == 1
    slot.put(2)
    assert slot.take_back(2) == [] and not slot.blocked, "2 waits, it is not in work"
    assert slot.take_back(1) == [1, 2] and slot.blocked
    assert slot.put(3) == 3
    assert slot.take_back() == [] and slot.blocked
    assert not slot.done(1), "its result does not count"
    assert not slot.blocked and slot.put(4) is None
    assert slot.take() == 4
    assert slot.done(4)
    assert slot.take_back() == [] and not slot.blocked


def test_path_of_frames():
    engine, port = _Engine(), _Port()
    worker = InferenceWorker(engine)
    segmenter = Segmenter(worker, port, max_age=150)
    worker.start()
    for message in (1, -1, 13, 200, 120, 2):
        segmenter.submit(message)
        _wait(lambda: segmenter.accounting.snapshot()["pending"] == 0)
    assert worker.stop(10)
    assert [(m, r.outcome) for m, r in port.records] == [
        (1, Outcome.MASKED),
        (-1, Outcome.UNDECODABLE),
        (13, Outcome.FAILED),
        (200, Outcome.STALE),
        (120, Outcome.MASKED),
        (2, Outcome.MASKED),
    ]
    records = [record for _, record in port.records]
    assert set(records[0].stages) == set(Stage)
    assert sum(records[0].stages.values()) == pytest.approx(records[0].total, abs=5)
    assert set(records[1].stages) == {Stage.WAIT}
    assert records[1].detail == "UndecodableError: -1 is negative"
    assert set(records[2].stages) == {Stage.WAIT, Stage.DECODE}
    assert records[2].detail == "RuntimeError: thirteen"
    assert "200 ms old" in records[3].detail
    assert [message for message, _, _ in port.masks] == [1, 120, 2]
    status = segmenter.status()
    assert status["received"] == "6"
    assert float(status["rate.received"]) == pytest.approx(2 * float(status["rate.masked"]), abs=0.02)
    assert float(status["rate.masked"]) > 0
    assert (status["age"], status["fault"]) == ("0.000", "RuntimeError: thirteen")
    assert [status[key] for key in ("engine", "device", "precision")] == ["one", "here", "int4"]
    assert status["engine_reason"] == "it is a test"
    assert segmenter.status()["rate.received"] == "0.00"


def test_newest_frame_wins_and_the_swap_waits_for_the_next_frame():
    engine, port = _Engine(), _Port()
    worker = InferenceWorker(engine)
    segmenter = Segmenter(worker, port, deadline=1e-6)
    worker.start()
    segmenter.submit(99)
    assert engine.entered.wait(60)
    for message in (1, 2, 3):
        segmenter.submit(message)
    worker.engine = _Engine("two")
    assert segmenter.accounting.snapshot()["pending"] == 2
    port.listens = True
    engine.permission.set()
    assert worker.stop(10)
    ends = [(m, r.outcome, r.model, r.late) for m, r in port.records]
    assert ends == [
        (1, Outcome.SUPERSEDED, "one", False),
        (2, Outcome.SUPERSEDED, "one", False),
        (99, Outcome.MASKED, "one", True),
        (3, Outcome.MASKED, "two", True),
    ]
    assert port.masks[0][2] is None
    assert port.masks[1][2] is not None
    assert segmenter.accounting.snapshot() | {"late": 0} == {
        "received": 4,
        "masked": 2,
        "dropped.superseded": 2,
        "dropped.stale": 0,
        "dropped.undecodable": 0,
        "dropped.failed": 0,
        "pending": 0,
        "late": 0,
    }


def test_the_next_frame_is_masked_while_a_mask_is_published():
    class Slow(_Port):
        def __init__(self):
            super().__init__()
            self.permission = threading.Event()

        def publish(self, *mask):
            assert self.permission.wait(60)
            super().publish(*mask)

    engine, port, masked = _Engine(), Slow(), []
    engine.infer = lambda bgr, confidence=False: masked.append(bgr[0, 0, 0]) or (bgr[..., 0], None)
    worker = InferenceWorker(engine)
    segmenter = Segmenter(worker, port)
    worker.start()
    for message in (1, 2):
        segmenter.submit(message)
        _wait(lambda wanted=message: wanted in masked)
    for message in (3, 4):
        segmenter.submit(message)
    time.sleep(0.1)
    assert masked == [1, 2], "2 has to wait until 1 is published, and 3 and 4 for 2"
    assert segmenter.accounting.snapshot()["pending"] == 3
    port.permission.set()
    assert worker.stop(10)
    assert [message for message, _, _ in port.masks] == [1, 2, 4]
    ends = [(message, record.outcome) for message, record in port.records]
    assert ends == [(3, Outcome.SUPERSEDED), (1, Outcome.MASKED), (2, Outcome.MASKED), (4, Outcome.MASKED)]


def test_a_process_that_ends_in_an_inference_ends_quietly():
    work = """
        import atexit, sys, time
        sys.path[:0] = sys.argv[1:]
        from test_core import _Engine, _Port, _wait
        from seg_node.core.scheduling.worker import InferenceWorker
        from seg_node.core.segmenter import Segmenter

        engine = _Engine()
        worker = InferenceWorker(engine)
        segmenter = Segmenter(worker, _Port())
        worker.start()
        segmenter.submit(1)
        _wait(lambda: segmenter.accounting.snapshot()["masked"])
        segmenter.submit(99)
        assert engine.entered.wait(60)
        # By then no executor takes work any more.
        atexit.register(lambda: engine.permission.set() or time.sleep(0.2))
    """
    script = [sys.executable, "-c", textwrap.dedent(work), str(Path(__file__).parent), str(ROOT / "test")]
    ended = subprocess.run(script, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr == ""


def test_frames_after_the_stop_are_counted():
    port = _Port()
    worker = InferenceWorker(_Engine())
    segmenter = Segmenter(worker, port)
    worker.start()
    assert worker.stop(10)
    segmenter.submit(1)
    assert port.records[0][1].outcome is Outcome.STALE
    assert segmenter.accounting.snapshot()["pending"] == 0


SMALL_GRAPH = onnx.parser.parse_model(
    '<ir_version: 10, opset_import: ["": 20]>'
    " small (uint8[H, W] frame) => (uint8[H, W] mask) { mask = Identity (frame) }"
).SerializeToString()


@pytest.fixture
def bundle_copy(tmp_path):
    """A copy of a shipped bundle whose graph is small and whose hashes are right."""
    values = yaml.safe_load((find_bundle("fpn_resnet50") / MANIFEST).read_text())
    (tmp_path / GRAPH).write_bytes(SMALL_GRAPH)
    values["files"] = {GRAPH: hashlib.sha256(SMALL_GRAPH).hexdigest()}

    def write(**changes):
        text = {key: value for key, value in (values | changes).items() if value is not None}
        (tmp_path / MANIFEST).write_text(yaml.safe_dump(text))
        return tmp_path

    write()
    return write


def test_bundle_loads(bundle_copy):
    bundle = load_bundle(bundle_copy())
    assert bundle.graph == SMALL_GRAPH
    assert bundle.manifest.categories == CATEGORY_NAMES
    assert np.array_equal(bundle.manifest.palette, PALETTE_RGB)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema is 2"),
        ({"schema": None}, "schema is None"),
        ({"categories": ["void", "road"]}, "2 categories but 8 colours"),
        ({"categories": "road"}, "categories is 'road'"),
        ({"categories": []}, "there are 0 categories; expected 1 to 254"),
        ({"categories": [f"c{n}" for n in range(255)]}, "there are 255 categories; expected 1 to 254"),
        ({"categories": [*CATEGORY_NAMES[:7], "void"]}, "category 7 is 'void', and so is category 0"),
        ({"categories": [*CATEGORY_NAMES[:7], ""]}, "category 7 has the name ''"),
        ({"categories": [*CATEGORY_NAMES[:7], "a\nb"]}, "category 7 has the name"),
        ({"categories": [*CATEGORY_NAMES[:7], ["car"]]}, "category 7 has the name"),
        ({"categories": [*CATEGORY_NAMES[:7], True]}, "category 7 has the name True"),
        ({"palette": 7}, "palette is 7"),
        ({"palette": [[0, 0, n] for n in range(7)]}, "8 categories but 7 colours"),
        ({"palette": [[0, 0, 37 * n] for n in range(8)]}, r"category 7 has the colour \[0, 0, 259\]"),
        ({"palette": [[0, 0, n] for n in range(7)] + [[0, 0]]}, r"category 7 has the colour \[0, 0\]"),
        ({"palette": [[0, 0, n] for n in range(7)] + ["red"]}, "category 7 has the colour red"),
        ({"palette": [[0, 0, n] for n in range(7)] + [[0, 0, 0.5]]}, "category 7 has the colour"),
        ({"input_size": [0, 480]}, "input_size is"),
        ({"input_size": "big"}, "input_size is 'big'"),
        ({"input_size": [1.5, 2]}, "input_size is"),
        ({"input_size": [16385, 480]}, "input_size is"),
        ({"input_size": [480]}, "input_size is"),
        ({"input_size": [True, 480]}, "input_size is"),
        ({"mean": [0.5, 0.5, 10**15]}, "mean is"),
        ({"mean": [10**400, 0.5, 0.5]}, "mean is"),
        ({"mean": ["a", 0.5, 0.5]}, "mean is"),
        ({"std": [0.2, 0.2, -0.1]}, "std is"),
        ({"backbone": ""}, "backbone is ''"),
        ({"date": 2026}, "date is 2026"),
        ({"licence": 3}, "licence is 3"),
        ({"training_data_terms": ["a"]}, "training_data_terms is"),
        ({"commercial_use": True}, "commercial_use is True"),
        ({"decoder_options": {"pyramid": 48}}, "decoder_options is"),
        ({"decoder_options": {"pyramid": True}}, "decoder_options is"),
        ({"decoder_options": {"merge": "max"}}, "decoder_options is"),
        ({"decoder_options": {"depth": 4}}, "decoder_options is"),
        ({"decoder_options": [3]}, "decoder_options is"),
        ({"parameters": "many"}, "parameters is 'many'"),
        ({"gflops": True}, "gflops is True"),
        ({"parity": 1}, "parity is 1"),
        ({"quantisation": []}, "quantisation is"),
        ({"training": "x" * 1000}, "training is 'x{199}\\.\\.\\., which"),
        ({"metrics": 7}, "metrics is 7"),
        ({"files": {GRAPH: "0" * 63}}, "files is"),
        ({"files": {GRAPH: "g" * 64}}, "files is"),
        ({"files": {GRAPH: 7}}, "files is"),
        ({"files": {7: "0" * 64}}, "files is"),
        ({"mean": [0.5, 0.5]}, "mean is"),
        ({"std": [0.2, 0.2, 0]}, "std is"),
        ({"decoder": "unet"}, "decoder is 'unet'"),
        ({"precision": "int3"}, "precision is 'int3'"),
        ({"name": 7}, "name is 7"),
        ({"name": None}, "name"),
        ({"colour": "red"}, "colour"),
        ({"files": {}}, "files lists no model.onnx"),
        ({"files": ["model.onnx"]}, "files is"),
        ({"files": {GRAPH: "0" * 64}}, "model.onnx: sha256 is .* the manifest says 0000"),
        ({"files": {"../model.onnx": "0" * 64}}, "'../model.onnx' .* own folder"),
        ({"files": {"/etc/hostname": "0" * 64}}, "'/etc/hostname' .* own folder"),
        ({"files": {"weights.safetensors": "0" * 64}}, "weights.safetensors: cannot be read"),
    ],
)
def test_bundle_refusals(bundle_copy, changes, message):
    path = bundle_copy(**changes)
    with pytest.raises(BundleError, match=message):
        load_bundle(path)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"\xff\xfe\x00", b"a: [", b"!!python/object/apply:os.getpid []"])
def test_bundle_refuses_any_manifest_that_is_none(bundle_copy, content):
    path = bundle_copy()
    (path / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=MANIFEST):
        load_bundle(path)


def test_bundle_refuses_links(bundle_copy, tmp_path):
    path = bundle_copy()
    (path / GRAPH).rename(path / "elsewhere")
    (path / GRAPH).symlink_to(path / "elsewhere")
    with pytest.raises(BundleError, match="is a link"):
        load_bundle(path)


@pytest.mark.parametrize("name", ["", "nothing", "/nowhere", ".", "x" * 5000, "a\0b"])
def test_missing_bundle_names_those_there_are(name):
    with pytest.raises(BundleError, match="there are: fpn_convnextv2, fpn_lite, fpn_resnet50"):
        find_bundle(name)


@pytest.mark.parametrize("ranges", [b"", b"{}"])
def test_bundle_is_read_back_as_it_was_written(tmp_path, ranges):
    given = Manifest(
        name="mine",
        decoder="fpn",
        backbone="resnet18",
        input_size=(32, 48),
        mean=(0.5, 0.25, 0.125),
        std=(1.0, 2.0, 3.0),
        files={},
        date="2026-11-21",
        training={"data": ["camvid", {"split": ("train", "val")}], "steps": 7},
        metrics={"val": {"miou_7": 50.5}},
    )
    folder = tmp_path / "not" / "there" / "yet"
    for _ in range(2):
        written = write_bundle(folder, given, SMALL_GRAPH, ranges)
    assert written == load_bundle(folder)
    assert (written.path, written.name, written.graph, written.ranges) == (folder, "mine", SMALL_GRAPH, ranges)
    contents = {GRAPH: SMALL_GRAPH} | ({RANGES: ranges} if ranges else {})
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    training = {"data": ["camvid", {"split": ["train", "val"]}], "steps": 7}
    assert dataclasses.asdict(written.manifest) == dataclasses.asdict(given) | {"files": hashes, "training": training}
    text = yaml.safe_load((folder / MANIFEST).read_text())
    assert text["training"] == training
    assert text["palette"] == [list(map(int, rgb)) for rgb in PALETTE_RGB]
    # For people: in the order of the fields, and short lists on one line.
    assert list(text) == [field.name for field in dataclasses.fields(Manifest)]
    assert "\ninput_size: [32, 48]\n" in (folder / MANIFEST).read_text()


def test_shipped_bundles_are_whole():
    assert list(shipped_bundles()) == ["fpn_convnextv2", "fpn_lite", "fpn_resnet50"]
    for name in shipped_bundles():
        manifest = load_bundle(name).manifest
        assert manifest.name == name
        assert manifest.metrics["camvid_val"]["miou_7"] > 0
        assert manifest.training["data"]
        assert manifest.licence


_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\1\2\0\0\3\4"
_SOF = b"\xff\xc0\0\x0b\x08\1\2\3\4"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (_PNG, ImageHeader("image/png", 0x304, 0x102)),
        (_PNG + b"rest", ImageHeader("image/png", 0x304, 0x102)),
        (b"\xff\xd8" + _SOF, ImageHeader("image/jpeg", 0x102, 0x304)),
        (b"\xff\xd8\xff" + _SOF + b"rest", ImageHeader("image/jpeg", 0x102, 0x304)),
        (b"\xff\xd8\xff\xfe\0\x0b" + _SOF + _SOF[:5] + b"\5\6\7\x08", ImageHeader("image/jpeg", 0x506, 0x708)),
        (b"GIF89a" + bytes(50), None),
        (b"", None),
        (_PNG[:-1], "the PNG does not begin with its IHDR chunk"),
        (_PNG.replace(b"IHDR", b"IDAT"), "the PNG does not begin with its IHDR chunk"),
        (b"\xff\xd8" + _SOF[:-1], "the JPEG has no frame header with its size"),
        (b"\xff\xd8", "the JPEG has no frame header with its size"),
        (b"\xff\xd8\xff", "the JPEG has no frame header with its size"),
        (b"\xff\xd8\xff\xd9" + _SOF, "the JPEG has no frame header with its size"),
        (b"\xff\xd8\xff\xda" + _SOF, "the JPEG has no frame header with its size"),
    ],
)
def test_size_of_an_image_from_its_header(data, expected):
    if isinstance(expected, str):
        with pytest.raises(UndecodableError, match=f"^{expected}$"):
            read_header(data)
    else:
        assert read_header(data) == expected


def test_busy_cores_counts_what_other_programs_use():
    from seg_node.core.machine import busy_cores

    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinning:
        try:
            busy = busy_cores(0.5)
        finally:
            spinning.kill()
    assert 0.5 < busy <= os.cpu_count() + 0.1


def test_a_setting_says_machine_speed_time_and_commit():
    from seg_node.core.machine import setting
    from seg_node.core.report.tables import origin

    before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    found = setting()
    assert found["cpu"] and found["cores"] >= 1 and isinstance(found["instructions"], list)
    assert before <= datetime.datetime.fromisoformat(found["measured"]) <= datetime.datetime.now(datetime.timezone.utc)
    # A core of any year does more than a tenth of a GFLOP/s, and no machine does a million.
    assert 0.1 < found["gflops"] < 1e6
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert found["commit"] == (git.stdout.strip() if git.returncode == 0 else None)
    assert "gpu" not in found and setting("a card")["gpu"] == "a card"
    words = origin(found)
    assert found["measured"][:10] in words and f"{found['gflops']:.0f} GFLOP/s" in words
    assert origin({"cpu": "a", "cores": 2}) == (
        "a, 2 cores, instructions not recorded, date not recorded, commit not recorded"
    )
    assert origin({"gpu": "a card"}).startswith("a card, machine not recorded, ")


@pytest.mark.parametrize(
    ("held_to", "left"),
    [
        ("", "avx2 avx512f avx512_vnni amx_bf16"),
        ("DEFAULT", "avx2 avx512f avx512_vnni amx_bf16"),
        ("AVX512_CORE_VNNI", "avx2 avx512f avx512_vnni"),
        ("avx512_core", "avx2 avx512f"),
        ("AVX2", "avx2"),
    ],
)
def test_instructions_that_the_engine_is_kept_from_are_left_out(monkeypatch, held_to, left):
    from seg_node.core import machine

    monkeypatch.setattr(machine, "_cpuinfo", lambda *names: "avx2 avx512f avx512_vnni amx_bf16")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", held_to)
    assert machine.instructions() == left.split()
    assert machine.machine()["instructions"] == left.split()
    assert machine.has_fast_bf16() is ("amx_bf16" in left)


def test_the_code_of_a_checkout_is_told_from_that_of_another(tmp_path):
    """A copy that is installed below a repository which does not hold it has no commit; a changed one is dirty."""
    code = "from machine import commit; print(commit())"
    shutil.copy(ROOT / "seg_node" / "core" / "machine.py", tmp_path)

    def told() -> dict:
        said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        return ast.literal_eval(said.stdout)

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "other").touch()
    git("add", "other")
    git("commit", "-qm", "first")
    assert told() == {"commit": None, "dirty": None}
    git("add", "machine.py")
    git("commit", "-qm", "second")
    assert told() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "other").write_text("changed")
    assert told()["dirty"] is True


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="only Linux names them")
def test_instruction_sets_are_those_of_the_kernel():
    from seg_node.core.machine import instructions

    assert {"sse2", "asimd"} & set(instructions())


@pytest.mark.parametrize(
    ("names", "fast"),
    [(["sse2", "avx2"], True), (["asimd", "asimddp"], True), (["sse2", "avx"], False), (["asimd"], False), ([], False)],
)
def test_int8_is_fast_with_instructions_for_sums_of_products(monkeypatch, names, fast):
    from seg_node.core import machine

    monkeypatch.setattr(machine, "instructions", lambda: names)
    assert machine.has_fast_int8() is fast


@pytest.mark.parametrize(
    ("names", "vendor", "fast"),
    [
        (["avx512_bf16"], "AuthenticAMD", True),
        (["avx512_bf16"], "GenuineIntel", False),
        (["avx512_bf16", "amx_bf16"], "GenuineIntel", True),
        (["avx2"], "AuthenticAMD", False),
        (["bf16"], "", False),
    ],
)
def test_bf16_is_fast_with_amx_or_on_amd(monkeypatch, names, vendor, fast):
    from seg_node.core import machine

    monkeypatch.setattr(machine, "instructions", lambda: names)
    monkeypatch.setattr(machine, "_cpuinfo", lambda *_: vendor)
    assert machine.has_fast_bf16() is fast


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these options")
@pytest.mark.parametrize(("environment", "mapped"), [({}, 0), ({"MALLOC_MMAP_THRESHOLD_": "131072"}, 2**22)])
@pytest.mark.parametrize("inside", [True, False])
def test_frames_stay_on_the_heap_unless_the_user_wants_them_mapped(inside, environment, mapped, monkeypatch):
    """By mallinfo2(3), whose fifth field counts the bytes that are mapped by themselves."""
    script = """if True:
        import ctypes, sys
        from seg_node.core.memory import keep_memory_steady
        if sys.argv[1:]:
            keep_memory_steady()
        class Info(ctypes.Structure):
            _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]
        libc = ctypes.CDLL(None)
        libc.mallinfo2.restype = Info
        before = libc.mallinfo2().e
        frame = bytearray(2**22)
        print(libc.mallinfo2().e - before)
    """
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("glibc before 2.33 has no mallinfo2")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run(
        [sys.executable, "-c", script, *(["inside"] if inside else [])],
        cwd=ROOT,
        env={**os.environ, **({} if inside else steady_memory_environment())},
        capture_output=True,
        text=True,
        check=True,
    )
    assert mapped <= int(done.stdout) < mapped + 2**16


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these options")
def test_what_lies_free_between_what_stays_is_handed_back():
    script = """if True:
        from pathlib import Path
        from seg_node.core.memory import hand_back_free_memory, keep_memory_steady
        keep_memory_steady()
        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        held = [bytearray(2**20 if i % 2 else 1000) for i in range(100)]
        full = resident()
        held = held[::2]
        freed = resident()
        hand_back_free_memory()
        print(full - freed, freed - resident())
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    by_itself, handed_back = map(int, done.stdout.split())
    assert by_itself < 2**22 < 40 * 2**20 < handed_back
