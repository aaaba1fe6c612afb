"""Painting, joining what belongs to one frame, and the overlay node over DDS."""

import copy
import dataclasses
import itertools
import json
import re
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import yaml
from helpers.blue_bundle import blue_bundle, blue_mask, blue_scene
from helpers.paths import ROOT
from helpers.peer import Peer

from seg_node.core.frame_join import FrameJoin, NowJoin
from seg_node.core.overlay import age_text, annotate, caption, paint
from seg_node.core.propagation.record import NowOutcome, NowRecord
from seg_node.core.taxonomy import CATEGORY_NAMES, PALETTE_RGB
from seg_node.core.timing import FrameRecord, Outcome

MASKED = FrameRecord(Outcome.MASKED, "fpn_x", {}, 20.0, 33.4)
SUPERSEDED = FrameRecord(Outcome.SUPERSEDED, "fpn_x", {}, 20.0)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_painting_mixes_colours_and_leaves_what_has_no_answer(alpha):
    rng = np.random.default_rng(1)
    bgr = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    mask = rng.integers(0, 9, (20, 30), dtype=np.uint8)
    mask[mask == 8] = 255
    painted = paint(bgr, mask, alpha)
    assert painted.dtype == np.uint8
    for row, column in np.ndindex(mask.shape):
        value, before = mask[row, column], bgr[row, column].astype(float)
        expected = before if value == 255 else (1 - alpha) * before + alpha * PALETTE_RGB[value][::-1]
        assert np.abs(painted[row, column] - expected).max() <= 1.0
    unanswered = mask == 255
    assert unanswered.any()
    assert np.array_equal(painted[unanswered], bgr[unanswered])


@pytest.mark.parametrize("size", [(360, 640), (720, 1280)])
def test_annotation_shows_every_colour_and_leaves_the_middle_alone(size):
    image = np.full((*size, 3), 200, np.uint8)
    annotate(image, "fpn_x   20 ms", np.zeros(image.shape[:2], np.uint8))
    height = size[0]
    assert np.array_equal(np.unique(image[height // 5 : -height // 5]), [200])
    legend = image[-height // 5 :].reshape(-1, 3)
    for rgb in PALETTE_RGB:
        assert (legend == rgb[::-1]).all(1).sum() > 50, rgb
    # Text is brighter than the bar that is darkened behind it.
    assert image[: height // 20].max() > 240 > image[0, -1].max()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (24, 32)])
def test_images_too_small_for_the_legend_are_survived(size):
    image = np.zeros((*size, 3), np.uint8)
    annotate(image, "a caption as long as it likes \N{SNOWMAN}", np.zeros(image.shape[:2], np.uint8))
    assert image.shape == (*size, 3)


def test_captions():
    assert caption(MASKED) == "fpn_x   20 ms   age 33 ms"
    assert caption(FrameRecord(Outcome.MASKED, "m", {}, 9.6, None, late=True)) == "m   10 ms   no stamp   LATE"
    assert [age_text(age) for age in (-3.0, 6e10, -6e10)] == [
        "age -3 ms",
        "stamped in the past",
        "stamped in the future",
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(("image", "mask", "record"))))
def test_frames_are_joined_in_whatever_order_their_parts_come(order):
    join: FrameJoin[str] = FrameJoin()
    for part in order:
        add: dict[str, Callable] = {
            "image": lambda: join.add_image(7, "image"),
            "mask": lambda: join.add_mask(7, "mask"),
            "record": lambda: join.add_record(7, MASKED),
        }
        frame = add[part]()
        assert (frame is not None) == (part == order[-1])
    assert (frame.image, frame.mask, frame.record) == ("image", "mask", MASKED)
    assert (join.waiting, join.incomplete) == (0, 0)


CARRIED = NowRecord(NowOutcome.PROPAGATED, total=8.4, keyframe=1, keyframe_age=120.4, frames=3, horizon=33.0)


@pytest.mark.parametrize("order", list(itertools.permutations(("image", "mask", "record"))))
def test_masks_of_now_are_joined_by_the_time_for_which_they_hold(order):
    join: NowJoin[str] = NowJoin()
    for part in order:
        add: dict[str, Callable] = {
            "image": lambda: join.add_image(7, "image"),
            "mask": lambda: join.add_mask(7 + 33_000_000, "mask"),
            "record": lambda: join.add_record(7, CARRIED),
        }
        frame = add[part]()
        assert (frame is not None) == (part == order[-1])
    assert (frame.image, frame.mask, frame.record) == ("image", "mask", CARRIED)
    again = dataclasses.replace(CARRIED, again=True)
    for first, second in itertools.permutations(
        [lambda: join.add_mask(7 + 33_000_000, "mask"), lambda: join.add_record(7, again)]
    ):
        assert first() is second() is None, "the frame has been shown"
    assert (join.waiting, join.incomplete) == (0, 0)


def test_frames_without_a_mask_of_now_do_not_wait():
    join: NowJoin[str] = NowJoin(capacity=4)
    for stamp in range(100):
        join.add_image(stamp, "image")
        join.add_record(stamp, NowRecord(NowOutcome.EXPIRED))
    assert (join.waiting, join.incomplete) == (0, 0)
    for stamp in range(100):
        join.add_mask(stamp, "a mask whose record is lost")
        join.add_record(10**9 + stamp, CARRIED)
    assert join.incomplete == 96
    assert caption(CARRIED) == "mask of now   inferred 120 ms before   33 ms ahead   8 ms"


def test_dropped_frames_do_not_wait():
    join: FrameJoin[str] = FrameJoin()
    for stamp in range(1000):
        join.add_image(stamp, "image")
        join.add_record(stamp, SUPERSEDED)
    assert (join.waiting, join.incomplete) == (0, 0)


def test_a_complete_frame_sends_those_before_it_away():
    join: FrameJoin[str] = FrameJoin()
    join.add_image(1, "its mask is lost")
    join.add_mask(2, "its image is lost")
    join.add_image(3, "whole")
    join.add_image(4, "still to be masked")
    join.add_mask(3, "mask")
    assert join.add_record(3, MASKED).image == "whole"
    assert (join.waiting, join.incomplete) == (1, 1)
    join.add_mask(4, "mask")
    assert join.add_record(4, MASKED).image == "still to be masked"


def test_a_silent_node_does_not_fill_the_memory():
    join: FrameJoin[str] = FrameJoin(capacity=3)
    for stamp in range(10):
        assert join.add_image(stamp, "image") is None
        assert join.waiting <= 3
    join.add_mask(9, "mask")
    assert join.add_record(9, MASKED).image == "image"


@pytest.fixture
def peer(ros):
    """A node of the test's own."""
    made = Peer(ros)
    yield made
    made.close()


def overlay_process(node_process, namespace: str, **parameters):
    """The overlay node as a process."""
    return node_process(
        parameters,
        command=[sys.executable, "-m", "seg_node", "overlay"],
        name="overlay",
        namespace=namespace,
        state=None,
    )


def pixels(message) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, -1)


def test_overlay_of_the_real_node(node_process, peer, tmp_path):
    """Mask and overlay of the same frame agree, and nothing is done that nobody asks for."""
    from diagnostic_msgs.msg import DiagnosticArray
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import CompressedImage, Image

    model = str(blue_bundle(tmp_path).path)
    parameters = {"model": model, "engine": "onnxruntime", "warm_up_size": [96, 128], "image_transport": "compressed"}
    overlay_process(node_process, "/o1", image_transport="compressed")
    node_process(parameters, namespace="/o1")
    peer.hear(DiagnosticArray, "/diagnostics")
    peer.hear(Image, "/o1/segmentation/mask")
    camera = peer.publisher(CompressedImage, "/o1/image/compressed")
    peer.until(lambda: peer.counts("/o1/overlay").get("") == "idle: nobody subscribes", "the overlay node")
    peer.until(lambda: peer.node.count_subscribers("/o1/image/compressed"), "the segmentation node subscribes")
    assert peer.node.count_subscribers("/o1/image/compressed") == 1, "the segmentation node's alone"

    def send(seed: int):
        """Send a frame until an overlay of it comes, which is returned: a best-effort subscriber may lose one."""
        message = CompressedImage(format="png", data=cv2.imencode(".png", blue_scene(seed))[1].tobytes())
        message.header.frame_id = f"camera_{seed}"
        sent = []
        for attempt in range(60):
            message.header.stamp.sec, message.header.stamp.nanosec = 1000 * seed + attempt, 77
            sent.append(copy.deepcopy(message.header))
            camera.publish(message)
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline:
                if found := [overlay for overlay in overlays if overlay.header in sent]:
                    return found[0]
                time.sleep(0.02)
        raise AssertionError("no overlay comes")

    peer.hear(Image, "/o1/segmentation/overlay")
    overlays = peer.heard["/o1/segmentation/overlay"]
    peer.until(lambda: peer.node.count_subscribers("/o1/image/compressed") == 2, "the overlay node listens")
    for seed in (1, 2):
        bgr, overlay = blue_scene(seed), send(seed)

        def masks(of=overlay.header):
            return [mask for mask in peer.heard["/o1/segmentation/mask"] if mask.header == of]

        peer.until(masks, "the mask")
        mask = pixels(masks()[0])[..., 0]
        assert np.array_equal(mask, blue_mask(bgr))
        assert overlay.encoding == "bgr8"
        middle = slice(15, 70)
        assert np.array_equal(pixels(overlay)[middle], paint(bgr, mask)[middle])
        assert not np.array_equal(pixels(overlay)[:10], paint(bgr, mask)[:10]), "the caption"

    client = peer.node.create_client(SetParameters, "/o1/overlay/set_parameters")
    assert client.wait_for_service(60)

    def set_value(name: str, value: float | str):
        future = client.call_async(SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()]))
        peer.until(future.done, "an answer")
        return future.result().results[0]

    assert set_value("alpha", 0.9).successful
    assert not set_value("alpha", 1.5).successful
    assert not set_value("alpha", float("nan")).successful
    assert not set_value("source", "confidence").successful
    bgr, overlay = blue_scene(3), send(3)
    assert np.array_equal(pixels(overlay)[middle], paint(bgr, blue_mask(bgr), 0.9)[middle])

    assert peer.node.count_subscribers("/o1/segmentation/mask_now") == 0, "nothing is computed that nobody asked for"
    assert set_value("source", "mask_now").successful
    peer.until(lambda: peer.node.count_subscribers("/o1/segmentation/mask_now") == 1, "the overlay node listens to it")
    message = CompressedImage(format="png", data=cv2.imencode(".png", bgr)[1].tobytes())
    sent = itertools.count(9000 * 10**9, 20_000_000)

    def carried() -> list:
        stamp = next(sent)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        camera.publish(message)
        return [overlay for overlay in overlays if overlay.header.stamp.sec >= 9000]

    peer.until(carried, "the overlay of a mask of now")
    # The scene stands still.
    same = pixels(carried()[-1])[middle] == paint(bgr, blue_mask(bgr), 0.9)[middle]
    assert same.mean() > 0.99

    peer.ignore("/o1/segmentation/overlay")
    peer.until(lambda: peer.node.count_subscribers("/o1/image/compressed") == 1, "the overlay node stops listening")

    def idle_again() -> bool:
        counts = peer.counts("/o1/overlay")
        return counts[""].startswith("idle") and int(counts["painted"]) >= 3

    peer.until(idle_again, "idle again")


def test_bad_messages_and_calibration(node_process, peer):
    """The test plays camera and segmentation node, so that it can send what these never would."""
    from builtin_interfaces.msg import Time
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
    from sensor_msgs.msg import CameraInfo, Image
    from std_msgs.msg import Header

    from seg_node.ros.messages import bgr8_image, mono8_image, record_to_diagnostics

    node = overlay_process(node_process, "/o2")
    camera, mask, timing = (
        peer.publisher(kind, f"/o2/{topic}")
        for kind, topic in ((Image, "image"), (Image, "segmentation/mask"), (DiagnosticArray, "segmentation/timing"))
    )
    peer.hear(DiagnosticArray, "/diagnostics")
    peer.hear(Image, "/o2/segmentation/overlay")
    heard = peer.heard["/o2/segmentation/overlay"]
    peer.until(lambda: all(p.get_subscription_count() for p in (camera, mask, timing)), "the overlay node listens")
    bgr = blue_scene(5)
    numbers = itertools.count(1)

    def play(encoding: str = "bgr8", rows: int = 96) -> None:
        header = Header(stamp=Time(sec=next(numbers)), frame_id="front")
        image = bgr8_image(bgr, header)
        image.encoding = encoding
        mask.publish(mono8_image(blue_mask(bgr)[:rows], header))
        camera.publish(image)
        timing.publish(record_to_diagnostics(MASKED, header, "/o2/segmentation"))

    def play_odd() -> None:
        odd = DiagnosticStatus(name="odd", message="masked")
        timing.publish(DiagnosticArray(header=Header(stamp=Time(sec=next(numbers))), status=[odd]))

    def unreadable() -> int:
        return int(peer.counts("/o2/overlay").get("unreadable", 0))

    # Each until it has come: the far end may not know of the test yet, and a best-effort subscriber may lose one.
    for act in (play_odd, lambda: play("no_such_encoding"), lambda: play(rows=95)):
        before = unreadable()
        deadline = time.monotonic() + 60
        while unreadable() == before:
            assert time.monotonic() < deadline, "it is not counted"
            act()
            time.sleep(0.5)
        # What is under way is not to be taken for the next one.
        reports = len(peer.heard["/diagnostics"])
        peer.until(lambda n=reports: len(peer.heard["/diagnostics"]) > n + 1, "another two reports")
    assert not heard
    for _ in range(36):
        play()
        if heard:
            break
        time.sleep(0.5)
    assert [message.header.frame_id for message in heard[:1]] == ["front"]
    assert np.array_equal(pixels(heard[0])[15:70], paint(bgr, blue_mask(bgr))[15:70])
    assert node.exit_code is None

    info = CameraInfo(height=96, width=128, distortion_model="plumb_bob", d=[0.1] * 5, k=[float(i) for i in range(9)])
    info.header = Header(stamp=Time(sec=5, nanosec=6), frame_id="front")
    source = peer.publisher(CameraInfo, "/o2/camera_info")
    assert source.get_subscription_count() == 0
    peer.hear(CameraInfo, "/o2/segmentation/camera_info")
    peer.until(lambda: source.get_subscription_count() == 1, "the calibration is asked for")
    deadline = time.monotonic() + 60
    while not peer.heard["/o2/segmentation/camera_info"] and time.monotonic() < deadline:
        source.publish(info)
        time.sleep(0.2)
    assert peer.heard["/o2/segmentation/camera_info"][0] == info


@pytest.mark.parametrize(("name", "value"), [("alpha", float("nan")), ("alpha", 2.0), ("image_transport", "smoke")])
def test_bad_parameters_at_start(node_process, name, value):
    node = overlay_process(node_process, "/o3", **{name: value})
    deadline = time.monotonic() + 90
    while node.exit_code is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert node.exit_code == 2
    assert name in node.last_output()
    assert "Traceback" not in node.last_output(100)


def rviz_topics() -> set[str]:
    displays = yaml.safe_load((ROOT / "config" / "segmentation.rviz").read_text())["Visualization Manager"]["Displays"]
    return {display["Topic"]["Value"] for display in displays}


def foxglove_topics() -> set[str]:
    layout = json.loads((ROOT / "config" / "foxglove_layout.json").read_text())
    panels, places = layout["configById"], []

    def walk(part) -> None:
        if isinstance(part, str):
            places.append(part)
        else:
            assert part["direction"] in ("row", "column")
            walk(part["first"])
            walk(part["second"])

    walk(layout["layout"])
    assert sorted(places) == sorted(panels), "each panel has its place"
    topics = re.findall(r'"(?:imageTopic|calibrationTopic|topicToRender|value)": "(/[\w/]+)', json.dumps(panels))
    return set(topics)


@pytest.mark.parametrize("topics", [rviz_topics, foxglove_topics])
def test_layouts_show_what_the_nodes_publish(topics):
    sources = [file.read_text() for file in (ROOT / "seg_node" / "ros").glob("*.py")]
    published = {f"/segmentation/{t}" for t in re.findall(r'"(?:~|segmentation)/(\w+)"', "".join(sources))}
    assert {"/segmentation/overlay", "/segmentation/mask"} <= topics()
    assert topics() <= published | {"/image", "/diagnostics"}


def test_documentation(ros):
    from seg_node.ros.overlay_node import PARAMETERS

    text = (ROOT / "docs" / "viewing.md").read_text()
    rows = {name: f"| `{name}` | `{spec.default}` | {spec.description} |" for name, spec in PARAMETERS.items()}
    assert all(row in text for row in rows.values())
    source = (ROOT / "seg_node" / "ros" / "overlay_node.py").read_text()
    topics = set(re.findall(r'"(segmentation/\w+|image(?:/compressed)?|camera_info|/diagnostics)"', source))
    assert len(topics) >= 6
    assert all(f"`{topic}`" in text for topic in topics)


def test_label_info(node_process, peer, tmp_path):
    pytest.importorskip("vision_msgs", reason="vision_msgs is missing: it comes with a ROS 2 installation")
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from vision_msgs.msg import LabelInfo

    node_process({"model": str(blue_bundle(tmp_path).path), "engine": "onnxruntime"}, namespace="/o4")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    heard: list[LabelInfo] = []
    peer.node.create_subscription(LabelInfo, "/o4/segmentation/label_info", heard.append, latched)
    peer.until(lambda: heard, "the categories")
    assert {label.class_id: label.class_name for label in heard[0].class_map} == dict(enumerate(CATEGORY_NAMES))
