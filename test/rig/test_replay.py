import argparse
import json
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.blue_bundle import blue_bundle
from helpers.paths import ROOT
from helpers.settings import assert_says_where_it_is_of

from seg_node.__main__ import main
from seg_node.bags.drive import Drive, Frame, Masks
from seg_node.commands import replay as command
from seg_node.core.bundle import DEFAULT_MODEL
from seg_node.core.images import EncodedPixels, RawPixels
from seg_node.core.propagation.record import NowOutcome, NowRecord
from seg_node.core.taxonomy import PALETTE_RGB, Category
from seg_node.core.timing import DROPS, FrameRecord, Outcome, Stage
from seg_node.rig.frames import ArrivedMask, FrameObservation, NowObservation, Run
from seg_node.rig.node_process import NodeError, NodeProcess, default_profile_environment
from seg_node.rig.scoring import Distribution, score_masks, summarise

DRIVE = ROOT / "rosbags" / "synthetic_drive"
MS = 10**6


def record(outcome: Outcome, inference: float | None = None, late: bool = False) -> FrameRecord:
    stages = {Stage.WAIT: 1.0} if inference is None else {Stage.WAIT: 1.0, Stage.INFERENCE: inference}
    return FrameRecord(outcome, "model", stages, total=sum(stages.values()), late=late)


def counters(received: int, masked: int, pending: int = 0, **dropped: int) -> dict[str, int]:
    values = {"received": received, "masked": masked, "pending": pending}
    return values | {f"dropped.{reason.value}": dropped.get(reason.value, 0) for reason in DROPS}


def frame(stamp: int, end: FrameRecord | None, latency_ms: int | None) -> FrameObservation:
    """A frame of a drive at 10 Hz, and a mask that arrived so much later."""
    at = stamp * 100 * MS
    mask = None if latency_ms is None else ArrivedMask(at + latency_ms * MS, (1, 1), b"")
    return FrameObservation(stamp - 1, stamp - 1, stamp, at, at, end, end and at, mask)


# Five frames sent 100 ms apart: one lost on its way, two masked, one superseded, one failed.
FRAMES = [
    frame(1, record(Outcome.MASKED, 50.0), 60),
    frame(2, record(Outcome.SUPERSEDED), None),
    frame(3, None, None),
    frame(4, record(Outcome.FAILED), None),
    frame(5, record(Outcome.MASKED, 70.0, late=True), 80),
]
COUNTERS = counters(received=4, masked=2, superseded=1, failed=1)


def run_of(frames=FRAMES, counters=COUNTERS, **values) -> Run:
    return Run({}, frames, counters, **values)


def test_percentiles_interpolate_and_empty_is_none():
    assert Distribution.of(float(v) for v in range(101)) == Distribution(101, 50.0, 95.0, 99.0, 100.0)
    assert Distribution.of([4.0, 2.0]) == Distribution(2, 3.0, 3.9, 3.98, 4.0)
    assert Distribution.of([]) is None


def test_summary_of_a_replay_that_adds_up():
    result = summarise(run_of())

    assert result.faults == []
    assert (result.sent, result.received, result.lost, result.masked) == (5, 4, 1, 2)
    assert result.dropped == {"superseded": 1, "stale": 0, "undecodable": 0, "failed": 1}
    assert result.late == 1
    assert result.camera_to_mask == Distribution.of([60.0, 80.0])
    # Only masked frames count, and stages that no frame passed are left out.
    assert result.stages == {
        "wait": Distribution.of([1.0, 1.0]),
        "inference": Distribution.of([50.0, 70.0]),
        "total": Distribution.of([51.0, 71.0]),
    }


def test_a_replay_without_a_mask_has_a_report():
    from seg_node.compare.report import to_html, to_text

    frames = [frame(1, record(Outcome.SUPERSEDED), None), frame(2, record(Outcome.FAILED), None)]
    result = summarise(run_of(frames, counters(received=2, masked=0, superseded=1, failed=1)))
    result.setup = {"drive": "d", "frames": 2, "width": 96, "height": 64, "transport": "raw", "rate": "10"}
    result.setup |= {"rate_hz": 10.0, "model": "m", "engine": "e"}
    text, page = to_text(result), to_html(result, None)
    assert "the counts add up" in text and "milliseconds" not in text
    assert "0 of the 2 frames that reached the node were masked" in page and "<h2>Latency" not in page


def without_record(index: int, latency_ms: int | None = None) -> list[FrameObservation]:
    return [*FRAMES[:index], frame(index + 1, None, latency_ms), *FRAMES[index + 1 :]]


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"frames": without_record(1)}, "counted 1 frames superseded, its timing records 0"),
        ({"counters": COUNTERS | {"received": 5}}, "received 5 frames, which is not 2 masked + 1 superseded"),
        ({"counters": COUNTERS | {"received": 5, "pending": 1}}, "1 frames were still pending"),
        ({"frames": FRAMES[:3]}, "received 4 frames but only 3 were sent"),
        ({"strangers": 1}, "1 records or masks bear a header stamp that was never sent"),
        (
            {"frames": [*FRAMES[:1], frame(2, record(Outcome.SUPERSEDED), 5), *FRAMES[2:]]},
            "1 masks arrived for frames that the node does not report as masked",
        ),
        ({"frames": without_record(0, 60)}, "1 masks arrived for frames that the node does not report as masked"),
        ({"repeated": 2}, "2 records or masks came twice"),
        ({"counters": {}}, "/diagnostics never arrived"),
    ],
)
def test_counts_that_do_not_add_up_are_named(changed, fault):
    result = summarise(run_of(**changed))

    assert any(fault in text for text in result.faults), result.faults


def test_accuracy_of_a_hand_worked_case():
    flat, sky, none = Category.FLAT, Category.SKY, 255
    truth = np.array([[flat, flat, sky, sky], [flat, none, sky, sky]], np.uint8)
    mask = np.array([[flat, sky, sky, sky], [flat, flat, sky, flat]], np.uint8)

    result = score_masks([(truth[:1], mask[:1]), (truth[1:], mask[1:])])

    # flat: 2 hits of 2 + 1 missed + 1 false; sky: 3 hits of 3 + 1 missed + 1 false.
    assert result["frames"] == 2
    assert result["iou"]["flat"] == pytest.approx(50.0)
    assert result["iou"]["sky"] == pytest.approx(60.0)
    assert result["miou_7"] == pytest.approx(55.0)
    assert score_masks([]) is None


def test_json_has_null_where_nothing_was_labelled():
    unlabelled = np.full((2, 2), 255, np.uint8)
    accuracy = score_masks([(unlabelled, np.zeros((2, 2), np.uint8))])

    values = json.loads(summarise(run_of(), accuracy).to_json())

    assert values["accuracy"]["miou_7"] is None
    assert values["camera_to_mask"]["p50"] == 70.0


def drive_of(images: list[np.ndarray], masks: dict[int, np.ndarray] | None = None) -> Drive:
    """A drive at 10 Hz whose header stamps are 1, 2, ... seconds."""
    frames = [
        Frame(
            i * 100 * MS, (i + 1) * 10**9, "camera", RawPixels(*bgr.shape[:2], "bgr8", 0, bgr.shape[1] * 3, bgr.ravel())
        )
        for i, bgr in enumerate(images)
    ]
    truth = {stamp: EncodedPixels("png", cv2.imencode(".png", m)[1].ravel()) for stamp, m in (masks or {}).items()}
    return Drive(Path("made_up"), "/camera/image", frames, None, None, Masks(truth))


def arrived_mask(category: int, arrived: int):
    return ArrivedMask(arrived, (64, 96), zlib.compress(np.full((64, 96), category, np.uint8).tobytes()))


def test_video_shows_on_every_frame_the_newest_mask_that_had_arrived(ros, tmp_path):
    from seg_node.compare.report import write_video

    black = np.zeros((64, 96, 3), np.uint8)
    drive = drive_of([black] * 4)
    published = {frame.stamp: frame.log_time for frame in drive.frames}
    stamps = list(published)
    masks = {
        # Arrives between frames 1 and 2.
        stamps[0]: arrived_mask(Category.SKY, published[stamps[1]] + 1),
        # Both arrive between frames 2 and 3, the older one last.
        stamps[1]: arrived_mask(Category.NATURE, published[stamps[2]] + 2),
        stamps[2]: arrived_mask(Category.HUMAN, published[stamps[2]] + 1),
    }

    assert write_video(tmp_path / "overlay.mp4", drive, published, masks, progress=False)

    capture = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10.0)
    corners = [capture.read()[1][-8:, -8:].mean((0, 1)) for _ in range(4)]
    assert not capture.read()[0]
    half = PALETTE_RGB[:, ::-1] / 2
    for corner, expected in zip(
        corners, [0 * half[0], 0 * half[0], half[Category.SKY], half[Category.HUMAN]], strict=True
    ):
        assert corner == pytest.approx(expected, abs=6), "lossy video, but not that lossy"


def test_video_of_use_has_a_panel_for_each_topic_and_the_truth(ros, tmp_path):
    from seg_node.compare.as_used import write_as_used

    drive = drive_of([np.zeros((64, 96, 3), np.uint8)] * 3, {3 * 10**9: np.full((64, 96), Category.NATURE, np.uint8)})
    at = [frame.log_time for frame in drive.frames]
    masks = [arrived_mask(Category.SKY, at[1] + 1), None, None]
    frames = [
        FrameObservation(i, i, drive.frames[i].stamp, at[i], at[i], None, None, mask) for i, mask in enumerate(masks)
    ]
    carried = NowRecord(NowOutcome.PROPAGATED, keyframe=10**9, keyframe_age=1000.0)
    nows = [NowObservation(1, carried, at[1] + 2, arrived_mask(Category.HUMAN, at[1] + 2))]
    half = PALETTE_RGB[:, ::-1] / 2
    black = half[Category.VOID]

    def centres(run, expected_height):
        """Of the panels of the last frame and of the first."""
        assert write_as_used(tmp_path / "as_used.webm", drive, run, progress=False)
        capture = cv2.VideoCapture(str(tmp_path / "as_used.webm"))
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10.0)
        pictures = [capture.read()[1] for _ in range(3)]
        assert not capture.read()[0] and pictures[0].shape[1] == 640 and pictures[0].shape[0] > expected_height
        middles = [(132, 160), (132, 480), (371, 160), (371, 480)]
        return [[picture[y - 9 : y + 9, x - 9 : x + 9].mean((0, 1)) for y, x in middles] for picture in pictures]

    first, _, last = centres(Run({}, frames, {}, nows=nows), 2 * 239)
    expected = [black, half[Category.SKY], half[Category.HUMAN], half[Category.NATURE]]
    for found, wanted in zip(last, expected, strict=True):
        assert found == pytest.approx(wanted, abs=8), "lossy video, but not that lossy"
    assert all(found == pytest.approx(black, abs=8) for found in first), "no mask and no truth yet"
    # Nobody listened: camera, mask, truth, and a white place.
    *_, last = centres(Run({}, frames, {}), 2 * 239)
    assert last[2] == pytest.approx(half[Category.NATURE], abs=8) and last[3] == pytest.approx([255] * 3, abs=8)
    assert not write_as_used(tmp_path / "none.webm", drive, Run({}, frames[1:], {}), progress=False)
    assert not (tmp_path / "none.webm").exists()


def test_contact_sheet_has_a_ground_truth_column_only_with_ground_truth(ros):
    from seg_node.compare.report import contact_sheet

    images = [np.full((64, 96, 3), 90, np.uint8)] * 3
    masks = {2 * 10**9: arrived_mask(Category.FLAT, 0)}
    plain = contact_sheet(drive_of(images), masks)
    truth = contact_sheet(drive_of(images, {2 * 10**9: np.full((64, 96), Category.SKY, np.uint8)}), masks)

    assert truth.shape[1] == plain.shape[1] * 3 // 2
    assert contact_sheet(drive_of(images), {}) is None
    # One row: camera, mask and ground truth, each in its middle.
    y, width = 30 + 140, plain.shape[1] // 2
    found = [truth[y, width * i + width // 2] for i in range(3)]
    colors = PALETTE_RGB[:, ::-1]
    expected = [(90, 90, 90), (90 + colors[Category.FLAT].astype(int)) / 2, (90 + colors[Category.SKY].astype(int)) / 2]
    assert found == [pytest.approx(color, abs=1) for color in expected]


def test_message_keeps_header_and_payload(ros):
    from seg_node.rig.player import to_message

    bgr = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    frame = Frame(7, 12 * 10**9 + 34, "front", RawPixels(2, 3, "bgr8", 0, 9, bgr.ravel()))

    raw = to_message(frame)
    jpeg = to_message(Frame(7, 5, "front", EncodedPixels("jpeg", np.array([1, 2, 255], np.uint8))))

    assert (raw.header.stamp.sec, raw.header.stamp.nanosec, raw.header.frame_id) == (12, 34, "front")
    assert (raw.height, raw.width, raw.encoding, raw.step, raw.is_bigendian) == (2, 3, "bgr8", 9, 0)
    assert bytes(raw.data) == bgr.tobytes()
    assert (jpeg.format, bytes(jpeg.data), jpeg.header.stamp.nanosec) == ("jpeg", b"\x01\x02\xff", 5)


def test_node_that_dies_is_reported_with_its_last_output(ros, tmp_path):
    process = NodeProcess(
        tmp_path / "log", command=[sys.executable, "-c", "print('no such model'); raise SystemExit(3)"]
    )
    with process, pytest.raises(NodeError, match="(?s)exit code 3.*no such model"):
        process.wait_for("active", timeout=120)


def test_profile_of_the_user_wins(monkeypatch):
    for variable in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(variable, raising=False)
    shipped = default_profile_environment()
    assert set(shipped) == {"FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"}
    assert all(Path(file).is_file() for file in shipped.values())

    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "/mine.xml")
    assert default_profile_environment() == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bag", "nowhere"], "nowhere does not exist"),
        (["--bag", str(DRIVE), "--model", "fpn_resnet5000"], "no bundle 'fpn_resnet5000'"),
        (["--bag", str(DRIVE), "--topic", "/lidar"], "there is no topic /lidar"),
        (["--bag", str(DRIVE), "--frames", "0"], "--frames must be at least 1"),
        (["--bag", str(DRIVE), "--loop", "0"], "--loop must be at least 1"),
        (["--bag", str(DRIVE), "--start", "3600"], "no messages from 3600 s"),
        (["--bag", str(DRIVE), "--alongside", "/rear"], "there is no topic /rear"),
        (["--bag", str(DRIVE), "--attach", "segmentation"], "--attach needs the node's full name"),
        (["--video", __file__, "--start", "1"], "--start, --duration and --alongside are for bags"),
        (["--video", __file__], "cannot be decoded as a video"),
    ],
)
def test_wrong_input_is_named(ros, tmp_path, capsys, arguments, message):
    assert main(["replay", *arguments, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_missing_ros_is_named(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["replay", "--bag", str(DRIVE)]) == 2
    assert "pip install ros-jazzy-rclpy" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-3", "nan", "fast", "0x", "1.5y"])
def test_rate_is_positive(text):
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.add_arguments(parser)
    with pytest.raises(argparse.ArgumentError, match="is no rate; expected 'recorded', a positive number"):
        parser.parse_args(["--bag", "b", "--rate", text])


@pytest.mark.parametrize(
    ("frames", "options"),
    [
        (30, ["--forecast", "33.3"]),
        (
            8,
            ["--image-transport", "raw", "--rate", "4", "--model", "{blue}", "--engine", "onnxruntime"]
            + ["--loop", "2", "--clock", "--qos", "reliable"],
        ),
    ],
)
def test_drive_goes_through_the_real_node(ros, tmp_path, frames, options):
    options = [option.format(blue=blue_bundle(tmp_path).path) for option in options]
    sent = frames * (2 if "--loop" in options else 1)
    arguments = ["--bag", str(DRIVE), "--frames", str(frames), "--out", str(tmp_path), *options]
    run = subprocess.run(
        [sys.executable, "-m", "seg_node", "replay", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr

    result = json.loads((tmp_path / "result.json").read_text())
    assert_says_where_it_is_of(result)
    assert result["faults"] == []
    assert result["sent"] == sent == result["received"] + result["lost"]
    assert result["received"] == result["masked"] + sum(result["dropped"].values())
    assert 0 < result["masked"] == result["masks_arrived"]
    assert result["setup"]["transport"] == ("raw" if "raw" in options else "compressed")
    assert result["camera_to_mask"]["p50"] >= result["stages"]["inference"]["p50"]
    assert result["camera_to_mask"]["max"] >= result["age_at_publish"]["max"] > 0
    assert result["longest_blind"] > 0 and result["masks_per_second"] > 0
    assert result["usage"]["rss_peak_bytes"] > 2**26 and result["usage"]["cpu_cores"] > 0
    assert result["accuracy"]["frames"] == result["masked"]
    _check_masks_of_now(result, asked="--forecast" in options)
    ages = result["ages_at_use"]
    assert ages["frame"] == list(range(frames)) and any(ages["mask_ms"])
    assert ("mask_now_ms" in ages) == ("--forecast" in options)
    capture = cv2.VideoCapture(str(tmp_path / "as_used.webm"))
    assert sum(capture.read()[0] for _ in range(frames + 1)) == len(range(0, frames, 3))
    assert "received" in run.stdout and str(tmp_path / "contact_sheet.png") in run.stdout

    assert cv2.imread(str(tmp_path / "contact_sheet.png")).std() > 0
    capture = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    assert sum(capture.read()[0] for _ in range(frames + 1)) == frames
    page = (tmp_path / "report.html").read_text()
    assert "data:image/jpeg;base64," in page and "camera to mask" in page and 'href="as_used.webm"' in page


def _check_masks_of_now(result, asked):
    """What came on ``~/mask_now`` adds up by itself, and is scored at the instants of ``~/mask``."""
    now, streaming = result["now"], result["streaming"]
    assert (now is not None) == asked == ("mask_now" in streaming)
    if now is None:
        return
    assert now["received"] == now["propagated"] + sum(now["dropped"].values()) <= result["sent"]
    assert now["propagated"] > 0 and now["again"] <= result["masked"]
    assert 0 < now["covered"] <= 1
    assert now["horizon"]["max"] == pytest.approx(33.3, abs=0.1)
    assert streaming["mask"]["frames"] == streaming["mask_now"]["frames"] > 0
    by_age = streaming["mask_now_by_age"]
    assert by_age and all(one["to_ms"] - one["from_ms"] == 50 for one in by_age)
    assert sum(one["frames"] for one in by_age) <= streaming["mask_now"]["frames"]


def test_replay_into_a_node_that_runs_already(node_process, tmp_path):
    parameters = {"autostart": True, "image_transport": "compressed", "warm_up_size": [360, 640]}
    process = node_process(parameters, namespace="/car")
    arguments = ["--bag", str(DRIVE), "--frames", "4", "--rate", "2", "--out", str(tmp_path / "out"), "--no-video"]
    replay = [sys.executable, "-m", "seg_node", "replay", *arguments, "--attach", process.full_name]
    run = subprocess.run(replay, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr

    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["faults"], result["sent"], result["usage"]) == ([], 4, None)
    assert result["masked"] > 0 and result["setup"]["model"] == DEFAULT_MODEL and result["setup"]["attached"]
    assert process.exit_code is None

    raw = subprocess.run([*replay, "--image-transport", "raw"], cwd=ROOT, capture_output=True, text=True)
    assert raw.returncode == 1
    assert "subscribes to /car/image/compressed" in raw.stderr and "choose the other --image-transport" in raw.stderr


def test_node_process_fixture_reaches_each_wanted_state(node_process):
    process = node_process({"autostart": False}, namespace="/waiting", state="unconfigured")
    assert process.full_name == "/waiting/segmentation"
    assert process.stop(60) == 0
