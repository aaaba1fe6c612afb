"""The mask of now from the real node: who listens, what is stamped with which time, and books that balance."""

import itertools
import struct
import time

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from helpers.blue_bundle import blue_bundle, blue_mask  # noqa: E402
from helpers.camera import Camera  # noqa: E402
from helpers.images import encode  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from rclpy.serialization import deserialize_message  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from seg_node.core.propagation.record import NowOutcome, NowRecord, NowStage  # noqa: E402
from seg_node.core.timing import stamp_ns  # noqa: E402
from seg_node.ros.mask_of_now import now_record, now_status  # noqa: E402
from seg_node.ros.messages import read_mono8, serialized_diagnostics  # noqa: E402
from seg_node.ros.transfer.serialized_image import header_at  # noqa: E402

pytestmark = pytest.mark.ros

SIZE = (96, 128)
PERIOD = 33_000_000
FIRST = 5_000_000_000


class Watcher(Camera):
    """A camera whose picture moves, and what the node says of now."""

    def __init__(self, listen=True, compressed=False):
        self.compressed = compressed
        topic, kind = ("image/compressed", CompressedImage) if compressed else ("image", Image)
        super().__init__(topic=topic, message_type=kind, reliable=True)
        self.nows, self.told = [], []
        rng = np.random.default_rng(1)
        blocks = rng.integers(0, 255, (12, 40, 3), np.uint8)
        self.wide = cv2.resize(blocks, (400, SIZE[0]), interpolation=cv2.INTER_NEAREST)
        self.count = 0
        if listen:
            self.listen()

    def listen(self):
        deep = QoSProfile(depth=1000)
        self.node.create_subscription(DiagnosticArray, f"{self.name}/timing_now", self._tell, deep)
        self.node.create_subscription(Image, f"{self.name}/mask_now", self.nows.append, deep)

    def _tell(self, message):
        self.told.append((stamp_ns(message.header), now_record(message.status[0])))

    def picture(self, number, size=SIZE):
        at = 2 * number
        return np.ascontiguousarray(self.wide[: size[0], at : at + size[1]])

    def frame(self, size=SIZE, stamp=None, told=True):
        """Send the next frame and wait until it is masked and, where that is so, told of; returns its stamp.

        One that is not told of yet would be superseded by the next.
        """
        bgr = self.picture(self.count, size)
        stamp = FIRST + self.count * PERIOD if stamp is None else stamp
        self.count += 1
        if self.compressed:
            message = CompressedImage(format="png", data=cv2.imencode(".png", bgr)[1].tobytes())
        else:
            message = encode(bgr, "bgr8")
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        message.header.frame_id = "front"
        self.publisher.publish(message)
        self.wait(lambda: divmod(stamp, 10**9) in self.records, "the frame is masked")
        if told:
            self.wait(lambda: any(of == stamp for of, _ in list(self.told)), "the frame is told of")
        return stamp

    def balanced(self):
        """Counts of the node once they have come to rest."""
        seen = len(self.diagnostics)
        self.wait(lambda: len(self.diagnostics) > seen, "new diagnostics")
        values = {key: value for key, value in self.diagnostics[-1].items() if key.startswith("propagation.")}
        counts = {key.removeprefix("propagation."): int(value) for key, value in values.items() if "fault" not in key}
        ends = counts["propagated"] + sum(count for key, count in counts.items() if key.startswith("dropped."))
        assert counts["received"] == ends and counts["pending"] == 0
        own = {key: int(value) for key, value in self.diagnostics[-1].items() if key in ("received", "masked")}
        assert own["received"] == self.count, "that of the inferred masks is as ever"
        return counts


@pytest.fixture
def bundle(tmp_path):
    blue_bundle(tmp_path)
    return str(tmp_path / "blue")


@pytest.fixture
def watcher(ros, node_process, bundle):
    made = []

    def make(parameters=None, **options):
        compressed = options.get("compressed", False)
        transport = "compressed" if compressed else "raw"
        given = {"model": bundle, "engine": "onnxruntime", "warm_up_size": list(SIZE), "image_transport": transport}
        node_process(given | (parameters or {}))
        made.append(Watcher(**options))
        made[-1].connect()
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("compressed", [False, True])
def test_each_frame_has_a_mask_of_now_and_a_record(watcher, compressed):
    camera = watcher(compressed=compressed)
    stamps = [camera.frame() for _ in range(8)]

    def own_mask(stamp):
        return any(s == stamp and record.keyframe == stamp for s, record in camera.told)

    camera.wait(lambda: all(map(own_mask, stamps)), "the mask of each frame itself came, at first or again")
    first = {stamp: record for stamp, record in camera.told if not record.again}
    again = {stamp: record for stamp, record in camera.told if record.again}
    assert sorted(first) == stamps and len(camera.told) == len(first) + len(again)
    for stamp, record in first.items():
        if record.outcome is NowOutcome.PROPAGATED:
            # This engine is so quick that its mask may be there already.
            assert record.keyframe == stamp or (record.keyframe == stamp - PERIOD and stamp in again)
            assert record.keyframe_age == (stamp - record.keyframe) / 1e6 == 33.0 * record.frames
            assert record.horizon == 0 and set(record.stages) >= {NowStage.WAIT, NowStage.WARP, NowStage.PUBLISH}
        else:
            assert stamp == stamps[0] and record.outcome is NowOutcome.NO_KEYFRAME
    published = sum(record.outcome is NowOutcome.PROPAGATED for _, record in camera.told)
    camera.wait(lambda: len(camera.nows) == published, "a mask for each such record")
    by_stamp = {}
    for message in camera.nows:
        assert message.encoding == "mono8" and message.header.frame_id == "front"
        by_stamp.setdefault(stamp_ns(message.header), []).append(read_mono8(message))
    for number, stamp in enumerate(stamps):
        truth = blue_mask(camera.picture(number))
        *carried, inferred = by_stamp[stamp]
        assert (inferred == truth).all(), "after the inference it is that frame's own mask"
        assert all((mask[:, :-4] == truth[:, :-4]).mean() > 0.9 for mask in carried)
    counts = camera.balanced()
    assert counts["received"] == 8 and counts["propagated"] + counts["again"] == published


def test_without_a_subscriber_nothing_is_computed_and_the_masks_are_the_same(watcher):
    camera = watcher(listen=False)
    for _ in range(3):
        camera.frame(told=False)
    assert camera.balanced()["received"] == 0
    camera.listen()
    deadline = time.monotonic() + 60
    while not camera.nows:
        # The node learns by itself of those who listen.
        assert time.monotonic() < deadline, "a mask of now"
        camera.frame(told=False)
        time.sleep(0.2)
    assert camera.balanced()["received"] == len({stamp for stamp, _ in camera.told}) > 0
    assert all(stamp in camera.masks for stamp in camera.records)


def test_a_forecast_is_stamped_with_the_time_for_which_it_holds(watcher):
    camera = watcher({"forecast_ms": 33.0})
    stamps = [camera.frame() for _ in range(5)]
    ahead = {stamps[0], *(stamp + PERIOD for stamp in stamps[1:])}
    camera.wait(lambda: {stamp_ns(m.header) for m in camera.nows} == ahead, "of the first frame no speed is known")
    last = next(m for m in reversed(camera.nows) if stamp_ns(m.header) == stamps[-1] + PERIOD)
    truth = blue_mask(camera.picture(5))
    assert (read_mono8(last)[:, :-4] == truth[:, :-4]).mean() > 0.9
    assert {record.horizon for stamp, record in camera.told if stamp != stamps[0]} == {33.0}
    assert camera.set("forecast_ms", 0.0).successful
    stamp = camera.frame()
    camera.wait(lambda: camera.nows and stamp_ns(camera.nows[-1].header) == stamp, "no forecast any more")
    assert not camera.set("forecast_ms", 500.0).successful, "out of range"
    assert camera.set("propagate", False).successful
    before = camera.balanced()["received"]
    camera.frame(told=False)
    assert camera.balanced()["received"] == before


def test_what_ends_it_is_told_and_the_next_mask_begins_it_anew(watcher, bundle):
    camera = watcher()

    def outcome(**options):
        stamp = camera.frame(**options)
        camera.wait(lambda: any(s == stamp and not r.again for s, r in camera.told), "a record")
        return next(record for s, record in camera.told if s == stamp and not record.again)

    def begins(record, why="", ended=NowOutcome.NO_KEYFRAME):
        """Nothing is carried over: there is no keyframe, or the engine was faster and it is this very frame's."""
        if record.outcome is NowOutcome.PROPAGATED:
            return record.frames == 0 and record.keyframe_age == 0
        return record.outcome is ended and why in record.detail

    assert begins(outcome())
    assert outcome().outcome is NowOutcome.PROPAGATED
    assert begins(outcome(size=(64, 128)), "size changed from 128x96 to 128x64")
    assert outcome(size=(64, 128)).outcome is NowOutcome.PROPAGATED
    outcome()
    assert outcome().outcome is NowOutcome.PROPAGATED
    assert begins(outcome(stamp=FIRST + 1_000_000), "went back")
    assert outcome(stamp=FIRST + 2_000_000).outcome is NowOutcome.PROPAGATED
    late = outcome(stamp=FIRST + 2_000_000_000)
    assert begins(late, "propagate_max_age_ms is 1000", NowOutcome.EXPIRED)
    assert outcome(stamp=FIRST + 2_033_000_000).outcome is NowOutcome.PROPAGATED
    # Frames go on until the swap, which is beside them.
    assert camera.set("model", bundle).successful
    reports, told, stamps = len(camera.diagnostics), len(camera.told), itertools.count(FIRST + 2_066_000_000, PERIOD)

    def swapped():
        time.sleep(0.1)
        outcome(stamp=next(stamps))
        return any(report["load.state"] == "loaded" for report in camera.diagnostics[reports + 1 :])

    camera.wait(swapped, "the model is swapped")
    assert any(begins(r, "the model was swapped") for _, r in camera.told[told:] if not r.again)
    assert outcome(stamp=next(stamps)).outcome is NowOutcome.PROPAGATED
    time.sleep(1.2)
    assert begins(outcome(stamp=next(stamps)), "no frame came for")
    counts = camera.balanced()
    assert counts["dropped.failed"] == counts["dropped.undecodable"] == 0


def test_a_record_is_read_as_it_was_written():
    for record in (
        NowRecord(
            NowOutcome.PROPAGATED,
            again=True,
            stages={NowStage.WAIT: 0.5, NowStage.FLOW: 2.25},
            total=3.5,
            keyframe=1_700_000_000_000_000_001,
            keyframe_age=99.5,
            frames=3,
            horizon=33.0,
            residual=4.25,
        ),
        NowRecord(NowOutcome.NO_KEYFRAME, total=0.25, detail="the model was swapped"),
    ):
        header = struct.pack("=BBBBiII", 0, 1, 0, 0, 1, 2, 1) + b"\0"
        data = serialized_diagnostics(header, *now_status(record, "/segmentation"))
        message = deserialize_message(data.tobytes(), DiagnosticArray)
        assert now_record(message.status[0]) == record
    message.status[0].values = []
    with pytest.raises(ValueError, match="without total"):
        now_record(message.status[0])


def test_a_header_at_another_time():
    header = struct.pack("=BBBBiII", 0, 1, 0, 0, 5, 6, 4) + b"cam\0"
    for stamp in (7_000_000_008, -1):
        message = deserialize_message(header_at(header, stamp), Header)
        assert stamp_ns(message) == stamp and message.frame_id == "cam"
    with pytest.raises(ValueError, match="does not fit"):
        header_at(header, 2**31 * 10**9)
