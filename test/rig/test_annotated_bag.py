"""A run written as a bag is read back: what was played, what came of it, and when."""

import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from helpers.paths import DRIVE
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from seg_node.bags.drive import open_drive  # noqa: E402
from seg_node.bags.reader import BagError, BagReader, deserialize, list_topics  # noqa: E402
from seg_node.core.propagation.record import NowOutcome, NowRecord  # noqa: E402
from seg_node.core.taxonomy import PALETTE_RGB, Category  # noqa: E402
from seg_node.core.timing import FrameRecord, Outcome, Stage  # noqa: E402
from seg_node.rig.annotated import (  # noqa: E402
    MASK_NOW_TOPIC,
    MASK_TOPIC,
    OVERLAY_TOPIC,
    TIMING_NOW_TOPIC,
    TIMING_TOPIC,
    write_annotated_bag,
)
from seg_node.rig.frames import ArrivedMask, FrameObservation, NowObservation, Run  # noqa: E402
from seg_node.ros.messages import record_to_diagnostics  # noqa: E402

pytestmark = pytest.mark.ros

MS = 10**6
START = 5_000 * MS
"""Reading of the steady clock when the run began."""

MASKED = FrameRecord(
    Outcome.MASKED, "fpn_x", {Stage.WAIT: 0.5, Stage.DECODE: 2.25, Stage.INFERENCE: 30.125}, 33.0, 40.5, True
)
DROPPED = FrameRecord(Outcome.UNDECODABLE, "fpn_x", {Stage.WAIT: 0.25}, 0.75, None, False, "no image")


@pytest.fixture
def drive():
    whole = open_drive(DRIVE)
    return replace(whole, frames=whole.frames[20:24])


def observed(drive, index: int, record: FrameRecord | None, mask: np.ndarray | None) -> FrameObservation:
    """Frames at 10 Hz; masks come 35 ms later, records 40 ms."""
    sent = START + 100 * index * MS
    arrived = mask is not None and ArrivedMask(sent + 35 * MS, mask.shape, zlib.compress(mask.tobytes()))
    frame = index % len(drive.frames)
    stamp = drive.frames[frame].stamp
    return FrameObservation(
        index, frame, stamp, sent, sent, record, sent + 40 * MS if record else None, arrived or None
    )


@pytest.fixture
def run(drive):
    """Masked, dropped, lost, record lost, and the first frame once more."""
    masks = [np.full((360, 640), category, np.uint8) for category in (Category.SKY, Category.FLAT)]
    masks[0][100:] = Category.VEHICLE
    outcomes = [(MASKED, masks[0]), (DROPPED, None), (None, None), (None, masks[1]), (MASKED, masks[1])]
    return Run({}, [observed(drive, i, *outcome) for i, outcome in enumerate(outcomes)], {})


def read(path: Path, topic: str) -> list[tuple[int, object]]:
    """Log time, counted in milliseconds from the start, and message."""
    with BagReader(path) as bag:
        first = min(log_time for _, log_time, _ in bag.raw_messages())
        return [
            ((log_time - first) // MS, deserialize(connection, data))
            for connection, log_time, data in bag.raw_messages()
            if connection.topic == topic
        ]


def test_drive_is_written_again_as_it_was_played(drive, run, tmp_path):
    write_annotated_bag(tmp_path / "bag", drive, run)

    again = open_drive(tmp_path / "bag")
    assert (again.topic, again.mask_topic) == (drive.topic, drive.mask_topic), "outputs are no camera, no ground truth"
    played = [*drive.frames, drive.frames[0]]
    assert [frame.stamp for frame in again.frames] == [frame.stamp for frame in played]
    assert [frame.log_time - drive.frames[0].log_time for frame in again.frames] == [100 * i * MS for i in range(5)]
    for a, b in zip(again.frames, played, strict=True):
        assert (a.frame_id, a.image.format) == (b.frame_id, b.image.format)
        np.testing.assert_array_equal(a.image.data, b.image.data)
    for frame in drive.frames[1:]:
        np.testing.assert_array_equal(again.masks[frame.stamp], drive.masks[frame.stamp])
    np.testing.assert_array_equal(again.camera_info.k, drive.camera_info.k)
    np.testing.assert_array_equal(again.camera_info.p, drive.camera_info.p)


def test_masks_and_overlays_come_when_they_arrived(drive, run, tmp_path):
    write_annotated_bag(tmp_path / "bag", drive, run)

    masks, overlays = (read(tmp_path / "bag", topic) for topic in (MASK_TOPIC, OVERLAY_TOPIC))
    assert [time for time, _ in masks] == [time for time, _ in overlays] == [35, 335, 435]
    for (_, mask), (_, overlay), index in zip(masks, overlays, (0, 3, 4), strict=True):
        seen = run.frames[index]
        frame = drive.frames[seen.frame]
        for message in (mask, overlay):
            assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == frame.stamp
            assert message.header.frame_id == frame.frame_id
        pixels = cv2.imdecode(mask.data, cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(pixels, seen.mask.decode())
        camera = cv2.imdecode(frame.image.data, cv2.IMREAD_COLOR).astype(float)
        expected = (camera + PALETTE_RGB[pixels][..., ::-1]) / 2
        assert np.abs(cv2.imdecode(overlay.data, cv2.IMREAD_COLOR) - expected).mean() < 4, "lossy, but not that lossy"


def test_timing_is_what_the_node_published(drive, run, tmp_path):
    write_annotated_bag(tmp_path / "bag", drive, run)

    with BagReader(tmp_path / "bag") as bag:
        records = [
            deserialize_message(data, DiagnosticArray)
            for connection, _, data in bag.raw_messages()
            if connection.topic == TIMING_TOPIC
        ]
    assert [time for time, _ in read(tmp_path / "bag", TIMING_TOPIC)] == [40, 140, 440]
    for message, record in zip(records, (MASKED, DROPPED, MASKED), strict=True):
        expected = record_to_diagnostics(record, Header(), "/segmentation")
        assert serialize_message(message.status[0]) == serialize_message(expected.status[0])
    assert records[1].header.frame_id == drive.frames[1].frame_id
    values = {item.key: item.value for item in records[0].status[0].values}
    assert (values["inference"], values["age"], values["late"]) == ("30.125", "40.500", "true")


def test_masks_of_now_hold_for_the_time_that_their_stamp_says(drive, run, tmp_path):
    carried = NowRecord(NowOutcome.PROPAGATED, total=8.5, keyframe=7, keyframe_age=90.5, frames=2, horizon=33.25)
    carried.residual = 2.5
    missing = NowRecord(NowOutcome.EXPIRED, total=1.5, detail="too old")
    pixels = np.full((360, 640), Category.FLAT, np.uint8)
    mask = ArrivedMask(START + 9 * MS, pixels.shape, zlib.compress(pixels.tobytes()))
    run.nows = [NowObservation(0, carried, START + 10 * MS, mask), NowObservation(1, missing, START + 105 * MS, None)]
    write_annotated_bag(tmp_path / "bag", drive, run)

    ((time, message),) = read(tmp_path / "bag", MASK_NOW_TOPIC)
    stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    assert (time, stamp) == (9, drive.frames[0].stamp + 33_250_000)
    np.testing.assert_array_equal(cv2.imdecode(message.data, cv2.IMREAD_UNCHANGED), pixels)
    records = read(tmp_path / "bag", TIMING_NOW_TOPIC)
    assert [(time, message.status[0].message) for time, message in records] == [(10, "propagated"), (105, "expired")]
    stamps = [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for _, message in records]
    assert stamps == [frame.stamp for frame in drive.frames[:2]]
    values = {item.key: item.value for item in records[0][1].status[0].values}
    assert (values["keyframe_age"], values["horizon_ms"], values["residual"]) == ("90.500", "33.250000", "2.50")
    again = open_drive(tmp_path / "bag")
    assert (again.topic, again.mask_topic) == (drive.topic, drive.mask_topic), "it is no ground truth"


def test_raw_images_stay_raw_and_undecodable_ones_have_no_overlay(drive, run, tmp_path):
    from seg_node.bags.images import with_transport

    raw = with_transport(drive, "raw")
    raw = replace(raw, frames=[raw.frames[0], *[replace(f, image=replace(f.image, step=1)) for f in raw.frames[1:]]])
    write_annotated_bag(tmp_path / "bag", raw, run)
    topics = {topic.name: topic.type for topic in list_topics(tmp_path / "bag")}
    assert topics["/camera/image"] == "sensor_msgs/msg/Image"
    assert "/camera/image/compressed" not in topics
    again = open_drive(tmp_path / "bag")
    assert [frame.image.encoding for frame in again.frames] == ["bgr8"] * 5
    np.testing.assert_array_equal(again.frames[0].image.data, raw.frames[0].image.data)
    assert [time for time, _ in read(tmp_path / "bag", MASK_TOPIC)] == [35, 335, 435]
    assert [time for time, _ in read(tmp_path / "bag", OVERLAY_TOPIC)] == [35, 435]


def test_topics_of_converted_images_are_those_of_image_transport(drive):
    from seg_node.bags.images import with_transport

    assert with_transport(drive, "compressed").topic == "/camera/image/compressed"
    raw = with_transport(drive, "raw")
    assert (raw.topic, with_transport(raw, "raw").topic) == ("/camera/image", "/camera/image")
    assert with_transport(raw, "compressed").topic == "/camera/image/compressed"


def test_existing_folder_is_kept(drive, run, tmp_path):
    with pytest.raises(BagError, match="exists already"):
        write_annotated_bag(tmp_path, drive, run)
