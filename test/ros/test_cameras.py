"""Several cameras in one node: topics, parameters, reports and books of each; and what their names may be."""

import time

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from helpers.blue_bundle import blue_bundle, blue_mask, blue_scene  # noqa: E402
from helpers.camera import Camera  # noqa: E402
from helpers.images import encode  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from rclpy import node as of_rclpy  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from seg_node.core.errors import UserError  # noqa: E402
from seg_node.ros.cameras.names import OF_ALL_CAMERAS, OF_ONE_CAMERA, SHARED, CameraName, camera_specs, check_names  # noqa: E402
from seg_node.ros.messages import read_mono8  # noqa: E402
from seg_node.ros.parameters import PARAMETERS, declare_parameters  # noqa: E402
from seg_node.web.live.live import Live  # noqa: E402
from seg_node.web.live.pictures import Pictures  # noqa: E402
from seg_node.web.live.watcher import Watcher  # noqa: E402

pytestmark = pytest.mark.ros

SIZES = {"front": (96, 128), "left": (64, 80), "rear": (48, 64)}
OWN = ("mask", "mask/compressed", "confidence", "timing", "mask_now", "timing_now")


@pytest.mark.parametrize(
    ("names", "wrong"),
    [
        ([""], "'': it is empty"),
        (["front", "rear", "front"], "'front' more than once"),
        (["a/b"], "'a/b': '/' cannot be part of it"),
        (["front-left"], "'front-left': '-' cannot be part"),
        (["~"], "'~'"),
        (["{node}"], "'{node}'"),
        (["ß"], "'ß'"),
        (["a b"], "' ' cannot be part"),
        (["a.b"], "'.' cannot be part"),
        (["1st"], "it begins with '1'"),
        (["_front"], "it begins with '_'"),
        (["a__b"], "two underscores"),
    ],
)
def test_names_that_no_topic_can_have_are_refused(names, wrong):
    with pytest.raises(UserError) as raised:
        check_names(names)
    assert wrong in str(raised.value) and str(raised.value).startswith("cameras has ")


@pytest.mark.parametrize("names", [[], ["front"], ["front_left", "Rear", "c3"], ["mask", "timing", "image"]])
def test_names_that_are_well(names):
    check_names(names)


def test_each_camera_has_parameters_of_its_own_that_begin_with_the_nodes(ros):
    given = ["cameras:=[front, left]", "max_age_ms:=300", "left.max_age_ms:=50", "left.priority:=3", "patience:=0.25"]
    node = Node("parameters_of_cameras", cli_args=["--ros-args", *(part for one in given for part in ("-p", one))])
    try:
        specs = declare_parameters(node, PARAMETERS, lambda: camera_specs(node))
        own = {f"{name}.{of}" for name in ("front", "left") for of in (*SHARED, *OF_ONE_CAMERA)}
        assert set(specs) == {*PARAMETERS, *OF_ALL_CAMERAS, *own}
        front, left = CameraName(node, "front"), CameraName(node, "left")
        assert [front.value("max_age_ms"), left.value("max_age_ms")] == [300.0, 50.0]
        assert [front.value("priority"), left.value("priority")] == [1, 3]
        assert left.value("patience") == 0.25 and list(left.value("warm_up_size")) == [720, 1280]
        assert all(answer.successful for answer in node.set_parameters([Parameter("left.deadline_ms", value=7)]))
        assert (left.value("deadline_ms"), front.value("deadline_ms")) == (7.0, 0.0)
        assert not node.set_parameters([Parameter("left.priority", value=0)])[0].successful
        changed = {"left.deadline_ms": 7.0, "front.deadline_ms": 1.0, "deadline_ms": 2.0}
        assert left.changes(changed, {"deadline_ms": "deadline"}) == {"deadline": 7.0}
    finally:
        node.destroy_node()


def test_without_names_there_is_no_list_and_nothing_else(ros):
    for number, given in enumerate(([], ["-p", "cameras:=[]"])):
        node = Node(f"parameters_of_one_{number}", cli_args=["--ros-args", *given])
        try:
            assert declare_parameters(node, PARAMETERS, lambda node=node: camera_specs(node)) == PARAMETERS
            parameter = node.get_parameter("cameras")
            assert (parameter.value, parameter.type_) == ([], Parameter.Type.STRING_ARRAY)
            assert not node.set_parameters([Parameter("cameras", value=["front"])])[0].successful
            one = CameraName(node)
            assert (one.topic("~/mask"), one.topic("image"), one.parameter("patience")) == (
                "~/mask",
                "image",
                "patience",
            )
            assert one.value("priority") == 1
        finally:
            node.destroy_node()


class OneOf(Camera):
    """One of a node's cameras."""

    def __init__(self, name, compressed=False):
        self.size, self.compressed = SIZES[name], compressed
        kind = CompressedImage if compressed else Image
        super().__init__(f"/segmentation/{name}", f"{name}/image" + "/compressed" * compressed, kind, reliable=True)

    def picture(self, seed):
        bgr = blue_scene(seed, self.size)
        if not self.compressed:
            return bgr, encode(bgr, "bgr8")
        return bgr, CompressedImage(format="png", data=cv2.imencode(".png", bgr)[1].tobytes())

    def masked(self, seed):
        """Whether a frame has the mask that is its."""
        bgr, message = self.picture(seed)
        record, mask = self.segment(message)
        assert record.status[0].name == f"{self.name}: frame"
        assert mask.header == message.header
        return record.status[0].message == "masked" and np.array_equal(read_mono8(mask), blue_mask(bgr))

    def counts(self):
        """Counts of its report once no frame is pending."""
        seen = len(self.diagnostics)
        sent = str(len(self.records))
        self.wait(
            lambda: len(self.diagnostics) > seen and self.diagnostics[-1].get("received") == sent, "its own diagnostics"
        )
        values = self.diagnostics[-1]
        ends = int(values["masked"]) + sum(int(v) for k, v in values.items() if k.startswith("dropped."))
        assert int(values["received"]) == ends + int(values["pending"]) and values["pending"] == "0"
        return values


def test_the_overlay_of_one_of_several_cameras(ros):
    from seg_node.ros.overlay_node import OverlayNode

    context = ros.context.Context()
    ros.init(args=["--ros-args", "-r", "__ns:=/car", "-p", "camera:=front"], context=context)
    original, of_rclpy.get_default_context = of_rclpy.get_default_context, lambda: context
    try:
        overlay = OverlayNode()
    finally:
        of_rclpy.get_default_context = original
    try:
        published = {publisher.topic_name for publisher in overlay.publishers}
        below = "/car/segmentation/front"
        assert {f"{below}/overlay", f"{below}/camera_info"} <= published
        overlay._source.want(True)
        heard = {subscription.topic_name for subscription in overlay.subscriptions}
        assert {"/car/front/image", f"{below}/mask", f"{below}/timing"} <= heard
    finally:
        overlay.destroy_node()
        context.shutdown()


def test_three_cameras_of_other_sizes_and_transports(node_process, ros, tmp_path):
    blue_bundle(tmp_path)
    blue_bundle(tmp_path, "coarse", bits=2)
    warm = {f"{name}.warm_up_size": list(size) for name, size in SIZES.items()}
    node_process(
        {"model": str(tmp_path / "blue"), "engine": "onnxruntime", "cameras": list(SIZES), "patience": 0.0}
        | {"left.image_transport": "compressed", "rear.max_age_ms": 1.0, "camera_timeout_ms": 0.0}
        | warm
    )
    whole = Camera()
    cameras = [OneOf("front"), OneOf("left", compressed=True), OneOf("rear")]
    front, left, rear = cameras
    nows, nobody = [], []
    left.node.create_subscription(Image, "/segmentation/left/mask_now", nows.append, QoSProfile(depth=100))
    left.node.create_subscription(DiagnosticArray, "/segmentation/front/timing_now", nobody.append, 100)
    try:
        whole.wait(lambda: whole.diagnostics, "the node's own report")
        for one in cameras:
            one.connect()
        for name in SIZES:
            for topic in OWN:
                assert whole.node.count_publishers(f"/segmentation/{name}/{topic}") == 1, (name, topic)
        assert whole.node.count_publishers("/segmentation/mask") == 0
        assert whole.node.count_subscribers("/image") == whole.node.count_subscribers("/rear/image/compressed") == 0

        # Masks of each, and a stamp of 1970 is stale to the one that has a limit.
        for seed in range(3):
            assert front.masked(seed) and left.masked(10 + seed)
        assert rear.segment(rear.picture(1)[1])[0].status[0].message == "stale"
        left.wait(lambda: nows, "the mask of now of the camera whose it is listened to")
        assert read_mono8(nows[-1]).shape == SIZES["left"] and not nobody

        # Rubbish of one is its own.
        bad = front.picture(1)[1]
        bad.encoding = "no_such_encoding"
        assert front.segment(bad)[0].status[0].message == "undecodable"
        assert left.masked(20)
        found = {one.name.rpartition("/")[2]: one.counts() for one in cameras}
        assert {name: values["dropped.undecodable"] for name, values in found.items()} == {
            "front": "1",
            "left": "0",
            "rear": "0",
        }
        assert found["rear"]["dropped.stale"] == "1" and "fault" not in found["left"]
        assert int(found["left"]["propagation.received"]) > 0 == int(found["front"]["propagation.received"])
        assert {values["engine"] for values in found.values()} == {"onnxruntime"}
        whole.wait(
            lambda: whole.diagnostics[-1].get("total.received") == str(sum(len(one.records) for one in cameras)),
            "the totals",
        )
        assert "received" not in whole.diagnostics[-1]

        # Whoever looks at the node alone sees that a camera is ill.
        assert rear.segment(rear.picture(2)[1])[0].status[0].message == "stale"
        whole.wait(
            lambda: any("rear: no mask of 1 frames: stale" in report[""].message for report in whole.diagnostics),
            "the node says which camera has no masks",
        )
        assert all("stale" not in report[""].message for report in left.diagnostics)

        # Parameters of one are its own; those of the node were only the beginning.
        assert whole.set("rear.max_age_ms", 0.0).successful
        assert rear.masked(30)
        answer = whole.set("max_age_ms", 5.0)
        assert not answer.successful and "front.max_age_ms, left.max_age_ms, rear.max_age_ms" in answer.reason
        assert "rear.image_transport cannot change while" in whole.set("rear.image_transport", "compressed").reason
        assert whole.set("front.priority", 5).successful
        assert whole.set("propagate_share", 0.5).successful and not whole.set("propagate_share", 0.0).successful

        # The live page of one of them.
        live, pictures = Live(), {"mask": Pictures(), "mask_now": Pictures()}
        watcher = Watcher("/segmentation", live, pictures, starting=False, camera="left")
        executor = SingleThreadedExecutor()
        executor.add_node(watcher)
        try:
            deadline = time.monotonic() + 60
            while live.snapshot()["camera"] != "/left/image/compressed" or live.snapshot()["state"] != "active":
                assert time.monotonic() < deadline, live.snapshot()
                executor.spin_once(timeout_sec=0.1)
            assert live.snapshot()["node"] == "/segmentation/left"
        finally:
            executor.shutdown()
            watcher.destroy_node()

        # One model for all.
        assert whole.set("model", str(tmp_path / "coarse")).successful
        whole.wait(lambda: whole.diagnostics[-1].get("model") == "coarse", "the model is swapped", timeout=60)
        for one in cameras:
            assert one.segment(one.picture(40)[1])[0].status[0].hardware_id == "coarse"

        # All of them begin again with the node.
        assert whole.change_state(Transition.TRANSITION_DEACTIVATE)
        assert whole.node.count_subscribers("/front/image") == 0
        assert whole.change_state(Transition.TRANSITION_ACTIVATE)
        for one in cameras:
            one.wait(lambda one=one: one.publisher.get_subscription_count() > 0, "the node subscribes again")
            assert one.segment(one.picture(50)[1])[0].status[0].message == "masked"
    finally:
        for one in (whole, *cameras):
            one.close()
