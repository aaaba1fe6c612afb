"""The projection node over DDS: what it publishes, what it refuses, and that it costs nothing unasked."""

import importlib.util
import re
import sys
import threading
import time
from collections import Counter
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import yaml
from helpers.blue_bundle import blue_bundle
from helpers.paths import ROOT
from helpers.peer import Peer

from seg_node.bags.drive import open_drive
from seg_node.core.projection.camera_model import Calibration
from seg_node.core.projection.cloud import FIELDS, POINT, POINT_STEP
from seg_node.core.projection.errors import Drop
from seg_node.core.projection.grid import GridSpec, class_table
from seg_node.core.projection.ground import Pose
from seg_node.core.projection.projector import Projector
from seg_node.core.taxonomy import CATEGORY_NAMES
from seg_node.ros.bringup import below_camera

HEIGHT, WIDTH = 60, 90
K = (80.0, 0.0, 45.5, 0.0, 82.0, 28.0, 0.0, 0.0, 1.0)
D = (-0.1, 0.02, 0.001, 0.0, 0.0)
CAMERA = Calibration(HEIGHT, WIDTH, "plumb_bob", D, K)
MOUNTED = {"camera_height": 1.2, "camera_pitch": 0.1}
POSE = Pose.of_mounting(1.2, 0.1)


@pytest.fixture
def peer(ros):
    """A node of the test's own."""
    made = Peer(ros)
    yield made
    made.close()


@pytest.fixture
def projection(ros):
    """Start the node in this process: ``projection(namespace, **parameters)``; it is spun by a thread of its own."""
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter

    from seg_node.ros.projection.node import ProjectionNode

    started = []

    def start(namespace: str, **parameters) -> ProjectionNode:
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        node = ProjectionNode(namespace=namespace, parameter_overrides=overrides)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        started.append((node, executor, thread))
        return node

    yield start
    for node, executor, thread in started:
        executor.shutdown()
        thread.join(10)
        node.destroy_node()


class Play:
    """The test as camera and segmentation node."""

    def __init__(self, peer: Peer, namespace: str, depth: bool = False, camera: str = ""):
        from diagnostic_msgs.msg import DiagnosticArray
        from nav_msgs.msg import OccupancyGrid
        from sensor_msgs.msg import CameraInfo, Image, PointCloud2

        self.peer, self.name = peer, f"{namespace}/projection"
        topics = {"segmentation/mask": Image, "segmentation/confidence": Image, "camera_info": CameraInfo}
        topics |= {"depth": Image} if depth else {}
        self.out = {
            topic: peer.publisher(kind, f"{namespace}/{below_camera(topic, camera)}") for topic, kind in topics.items()
        }
        peer.hear(DiagnosticArray, "/diagnostics")
        self.kinds = {"points": PointCloud2, "grid": OccupancyGrid, "autoware_mask": Image}
        self._stamp = 0

    def hear(self, *outputs: str) -> None:
        for output in outputs:
            self.peer.hear(self.kinds[output], f"{self.name}/{output}")
        self.peer.until(lambda: all(p.get_subscription_count() for p in self.out.values()), "the node listens")

    def heard(self, output: str) -> list:
        return self.peer.heard[f"{self.name}/{output}"]

    def info(self, **changes) -> None:
        from sensor_msgs.msg import CameraInfo

        values = {"height": HEIGHT, "width": WIDTH, "distortion_model": "plumb_bob", "d": list(D), "k": list(K)}
        self.out["camera_info"].publish(CameraInfo(**values | changes))

    def frame(self, mask: np.ndarray, confidence: np.ndarray | None = None, depth=None, encoding="mono8"):
        """Publish a frame; returns its header."""
        from builtin_interfaces.msg import Time
        from std_msgs.msg import Header

        from seg_node.ros.messages import mono8_image

        self._stamp += 1
        header = Header(stamp=Time(sec=self._stamp, nanosec=7), frame_id="front")
        if depth is not None:
            depth.header = header
            self.out["depth"].publish(depth)
        message = mono8_image(mask, header)
        message.encoding = encoding
        self.out["segmentation/mask"].publish(message)
        self.out["segmentation/confidence"].publish(mono8_image(mask if confidence is None else confidence, header))
        return header

    def counts(self) -> dict[str, str]:
        return self.peer.counts(self.name)

    def until_dropped(self, drop: Drop, act) -> None:
        """Do something until it is counted: a best-effort subscriber may not have had the message before it yet."""
        key = f"dropped.{drop.value}"
        before, deadline = int(self.counts().get(key, 0)), time.monotonic() + 60
        while int(self.counts().get(key, 0)) == before:
            assert time.monotonic() < deadline, (drop, self.counts())
            act()
            time.sleep(0.3)
        assert self.counts()["newest_fault"]

    def until_projected(self, act, *outputs: str):
        """Publish frames until the outputs of one have come; returns them and its header."""
        deadline, sent = time.monotonic() + 60, []
        while time.monotonic() < deadline:
            sent.append(act())
            wait = time.monotonic() + 2
            while time.monotonic() < wait:
                stamps = [{str(m.header.stamp): m for m in self.heard(output)} for output in outputs]
                for header in sent:
                    if all(str(header.stamp) in found for found in stamps):
                        return [found[str(header.stamp)] for found in stamps], header
                time.sleep(0.02)
        raise AssertionError(f"nothing comes: {self.counts()}")

    def until_balanced(self, projected: int = 0) -> Counter:
        """The books, once no frame is under way, of a report in which so many were projected."""

        def read() -> Counter:
            return Counter({k: int(v) for k, v in self.counts().items() if v.isdecimal()})

        def balanced() -> bool:
            found = read()
            return found["projected"] >= projected and found["received"] == found["projected"] + found["waiting"] + sum(
                count for name, count in found.items() if name.startswith("dropped.")
            )

        self.peer.until(balanced, "the books balance")
        return read()


def masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 8, (HEIGHT, WIDTH), dtype=np.uint8), rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)


def expected(mask, confidence, depth=None, pose=POSE) -> tuple[np.ndarray, np.ndarray]:
    projector = Projector(GridSpec(), class_table(CATEGORY_NAMES, ["flat"], ["void", "sky"]))
    points = np.empty(mask.size * POINT_STEP, np.uint8)
    projector.write_points(points, mask, confidence, CAMERA, pose, depth)
    return points, projector.grid(mask, CAMERA, pose, depth)


def check_cloud(cloud, header, points: np.ndarray) -> None:
    from sensor_msgs.msg import PointField

    assert cloud.header == header
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (HEIGHT, WIDTH, 16, 16 * WIDTH)
    assert not cloud.is_dense and bool(cloud.is_bigendian) == (sys.byteorder == "big")
    types = {"f4": PointField.FLOAT32, "u1": PointField.UINT8}
    assert [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields] == [
        (n, o, types[k], 1) for n, o, k in FIELDS
    ]
    found = np.frombuffer(cloud.data, POINT)
    for name in POINT.names:
        assert np.array_equal(found[name], points.view(POINT)[name], equal_nan=name in "xyz"), name


def test_flat_ground(projection, peer):
    """Cloud, grid and Autoware's mask; every refusal is counted, and none of them is the last word."""
    from seg_node.core.projection.autoware import OF_CATEGORIES, label_table, run_lengths

    projection("/j1", **MOUNTED)
    play = Play(peer, "/j1")
    peer.until(lambda: play.counts().get("") == "idle: nobody subscribes", "the node")
    assert not any(publisher.get_subscription_count() for publisher in play.out.values())

    play.hear("points")
    play.until_dropped(Drop.NO_CAMERA_INFO, lambda: play.frame(masks(1)[0]))
    mask, confidence = masks(2)

    def send():
        play.info()
        return play.frame(mask, confidence)

    (cloud,), header = play.until_projected(send, "points")
    points, grid = expected(mask, confidence)
    check_cloud(cloud, header, points)

    play.hear("grid", "autoware_mask")
    (cloud, found, runs), header = play.until_projected(send, "points", "grid", "autoware_mask")
    check_cloud(cloud, header, points)
    assert (found.header.stamp, found.header.frame_id) == (header.stamp, "base_footprint")
    assert (found.info.height, found.info.width) == grid.shape == GridSpec().shape
    assert found.info.resolution == pytest.approx(0.1) and found.info.origin.orientation.w == 1.0
    assert (found.info.origin.position.x, found.info.origin.position.y) == GridSpec().origin
    assert np.array_equal(np.reshape(found.data, grid.shape), grid)
    table = label_table(list(OF_CATEGORIES.values()))
    assert runs.header == header and (runs.height, runs.width) == mask.shape
    assert runs.data.tobytes() == run_lengths(mask, table).tobytes()

    def bad_info(**changes):
        play.info(**changes)
        play.frame(mask)

    play.until_dropped(Drop.CAMERA_INFO, lambda: bad_info(k=[0.0] * 9, d=[]))
    assert "not calibrated" in play.counts()["newest_fault"]
    play.until_dropped(Drop.CAMERA_INFO, lambda: bad_info(distortion_model="warped"))
    play.until_dropped(Drop.SIZE, lambda: bad_info(height=2 * HEIGHT, width=2 * WIDTH))
    play.until_dropped(Drop.UNREADABLE, lambda: play.frame(mask, encoding="bgr8"))
    play.until_dropped(Drop.UNREADABLE, lambda: play.frame(mask, confidence[:-1]))
    play.until_dropped(Drop.UNREADABLE, lambda: play.frame(np.full_like(mask, 9), confidence))
    assert "holds category 9, category_names has 8" in play.counts()["newest_fault"]
    (cloud,), header = play.until_projected(send, "points")
    check_cloud(cloud, header, points)
    assert play.until_balanced(projected=3)["dropped.camera_info"] >= 2

    for output in ("points", "grid", "autoware_mask"):
        peer.ignore(f"/j1/projection/{output}")
    peer.until(lambda: not any(p.get_subscription_count() for p in play.out.values()), "the node stops listening")
    assert play.until_balanced()["waiting"] == 0


def test_depth_without_a_ground(projection, peer):
    """A cloud needs no ground where there is depth; the grid says that it does."""
    from sensor_msgs.msg import Image

    projection("/j2", depth=True)
    play = Play(peer, "/j2", depth=True)
    play.hear("points")
    mask, confidence = masks(3)
    metres = np.random.default_rng(3).uniform(1, 30, mask.shape).astype(np.float32)
    metres[5, 6] = 0

    def image(encoding="32FC1", rows=HEIGHT, big=False) -> Image:
        values = metres if encoding == "32FC1" else np.rint(metres * 1000).astype(">u2" if big else "<u2")
        message = Image(height=rows, width=WIDTH, encoding=encoding, step=WIDTH * values.itemsize, is_bigendian=big)
        message.data.frombytes(values[:rows].tobytes())
        return message

    def send(**options):
        play.info()
        return play.frame(mask, confidence, image(**options))

    (cloud,), header = play.until_projected(send, "points")
    measured = np.where(metres > 0, metres, np.nan).astype(np.float32)
    check_cloud(cloud, header, expected(mask, confidence, measured)[0])
    (cloud,), _ = play.until_projected(lambda: send(encoding="16UC1", big=True), "points")
    z = np.frombuffer(cloud.data, POINT)["z"].reshape(mask.shape)
    assert z[9, 9] == pytest.approx(metres[9, 9], abs=6e-4) and np.isnan(z[5, 6])
    play.until_dropped(Drop.DEPTH, lambda: send(rows=HEIGHT - 1))
    play.until_dropped(Drop.DEPTH, lambda: send(encoding="mono8"))
    play.until_dropped(Drop.INCOMPLETE, lambda: [play.frame(mask) for _ in range(40)])
    play.hear("grid")
    play.until_dropped(Drop.GROUND, send)
    assert "camera_height" in play.counts()["newest_fault"]
    play.until_balanced()


def test_one_of_several_cameras(projection, peer):
    """Another camera of the same node has no say in it."""
    projection("/j8", camera="front", **MOUNTED)
    play, other = Play(peer, "/j8", camera="front"), peer.publisher(_image_type(), "/j8/segmentation/left/mask")
    play.hear("points")
    assert not other.get_subscription_count()
    mask, confidence = masks(2)

    def send():
        play.info()
        return play.frame(mask, confidence)

    (cloud,), header = play.until_projected(send, "points")
    check_cloud(cloud, header, expected(mask, confidence)[0])


def _image_type():
    from sensor_msgs.msg import Image

    return Image


def test_a_camera_above_the_horizon_is_told(projection, peer):
    projection("/j3", camera_height=1.0, camera_pitch=-1.4)
    play = Play(peer, "/j3")
    play.hear("grid")

    def send():
        play.info()
        play.frame(masks(4)[0])

    play.until_dropped(Drop.GROUND, send)
    assert "above the horizon" in play.counts()["newest_fault"]
    play.until_balanced()


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({}, "camera_height is 0.0"),
        (MOUNTED | {"drivable": ["road"]}, "'road' is no category"),
        (MOUNTED | {"category_names": ["a", "b", "a"]}, "a more than once"),
        (MOUNTED | {"category_names": ["a", " "]}, "an empty name"),
        (MOUNTED | {"category_names": ["a", "flat"]}, "autoware_labels are 8, category_names 2"),
        (MOUNTED | {"autoware_labels": ["TREE"] * 8}, "no label of Autoware"),
        (MOUNTED | {"grid_resolution": 0.01, "grid_length": 1000.0}, "cells"),
        (MOUNTED | {"ground": "sky"}, "ground is 'sky'"),
        (MOUNTED | {"obstacle_depth": float("nan")}, "obstacle_depth"),
    ],
)
def test_bad_parameters_at_start(projection, parameters, says):
    from rclpy.exceptions import ParameterException

    # Both end the process with a word and status 2.
    with pytest.raises((ValueError, ParameterException), match=says):
        projection("/j4", **parameters)


def test_command(node_process, peer):
    """The node in a process of its own, as people start it; without a ground it ends and says what is missing."""
    from diagnostic_msgs.msg import DiagnosticArray

    command = {"command": [sys.executable, "-m", "seg_node", "projection"], "name": "projection", "state": None}
    node_process(dict(MOUNTED), namespace="/j5", **command)
    refused = node_process({}, namespace="/j6", **command)
    peer.hear(DiagnosticArray, "/diagnostics")
    peer.until(lambda: peer.counts("/j5/projection").get("") == "idle: nobody subscribes", "the node")
    peer.until(lambda: refused.exit_code is not None, "the other one ends")
    assert refused.exit_code == 2 and "camera_height" in refused.last_output()
    assert "Traceback" not in refused.last_output(100)


class Consumer:
    """Stands in for Nav2's semantic costmap layer: sensor-data QoS, and equal stamps of mask, confidence and cloud.

    Where vision_msgs is installed it takes nothing before the names of the classes have come, as the layer does.
    """

    def __init__(self, peer: Peer, segmentation: str, projection: str):
        from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
        from sensor_msgs.msg import Image, PointCloud2

        try:
            from vision_msgs.msg import LabelInfo
        except ImportError:
            LabelInfo = None

        self.labelled = LabelInfo is not None
        self.triples: list[tuple] = []
        self._waiting: dict[str, dict] = {}
        topics = (
            (Image, f"{segmentation}/mask"),
            (Image, f"{segmentation}/confidence"),
            (PointCloud2, f"{projection}/points"),
        )
        self.names: dict[int, str] = {}
        self._kept = [
            peer.node.create_subscription(kind, name, lambda m, name=name: self._add(name, m), qos_profile_sensor_data)
            for kind, name in topics
        ]
        if LabelInfo is not None:
            latched = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            labels = peer.node.create_subscription(LabelInfo, f"{segmentation}/label_info", self._on_labels, latched)
            self._kept.append(labels)

    def _on_labels(self, message) -> None:
        self.names = {each.class_id: each.class_name for each in message.class_map}

    def _add(self, topic: str, message) -> None:
        if self.labelled and not self.names:
            return
        parts = self._waiting.setdefault(str(message.header.stamp), {})
        parts[topic] = message
        if len(parts) == 3:
            self.triples.append(tuple(parts[topic] for topic in sorted(parts)))
            del self._waiting[str(message.header.stamp)]


def test_a_consumer_gets_a_triple_for_every_mask_of_the_shipped_drive(node_process, projection, peer, tmp_path):
    from builtin_interfaces.msg import Time
    from sensor_msgs.msg import CameraInfo, CompressedImage
    from std_msgs.msg import Header

    drive = open_drive(ROOT / "rosbags" / "synthetic_drive", duration=1.5)
    node_process(
        {"model": str(blue_bundle(tmp_path).path), "engine": "onnxruntime", "image_transport": "compressed"},
        namespace="/j7",
    )
    projection("/j7", camera_height=1.3)
    camera = peer.publisher(CompressedImage, "/j7/image/compressed")
    calibration = peer.publisher(CameraInfo, "/j7/camera_info")
    consumer = Consumer(peer, "/j7/segmentation", "/j7/projection")
    peer.until(lambda: camera.get_subscription_count() and calibration.get_subscription_count(), "both nodes listen")
    peer.until(lambda: peer.node.count_subscribers("/j7/segmentation/confidence") == 2, "the confidence is asked for")
    info = drive.camera_info
    sent = []

    def send(frame, stamp: int) -> Header:
        header = Header(stamp=Time(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id=frame.frame_id)
        calibration.publish(
            CameraInfo(header=header, height=info.height, width=info.width, distortion_model="plumb_bob",
                       d=info.d.tolist(), k=info.k.tolist())
        )  # fmt: skip
        camera.publish(CompressedImage(header=header, format=frame.image.format, data=frame.image.data.tobytes()))
        return header

    def triples() -> list[tuple]:
        """Those of the drive: what was sent before has stamps of nanoseconds."""
        return [triple for triple in consumer.triples if triple[0].header.stamp.sec]

    # Until all have found each other: a best-effort subscriber loses what comes before.
    deadline, warm_up = time.monotonic() + 60, 0
    while not consumer.triples:
        assert time.monotonic() < deadline, "no triple comes"
        warm_up += 1
        send(drive.frames[0], warm_up)
        time.sleep(0.5)
    for number, frame in enumerate(drive.frames[:45], 1):
        sent.append(send(frame, frame.stamp))
        # One after the other: how many frames the processor has time for is no matter here.
        peer.until(lambda n=number: len(triples()) >= n, f"the triple of frame {number}", 30)
    assert len(triples()) == len(sent) == 45
    assert not consumer.labelled or consumer.names == dict(enumerate(CATEGORY_NAMES))
    for header, (cloud, confidence, mask) in zip(sent, triples(), strict=True):
        assert mask.header == confidence.header == cloud.header == header
        assert (cloud.height, cloud.width) == (mask.height, mask.width) == (360, 640)
        found = np.frombuffer(cloud.data, POINT)
        assert np.array_equal(found["category"], np.frombuffer(mask.data, np.uint8))
        assert np.array_equal(found["confidence"], np.frombuffer(confidence.data, np.uint8))


def test_pose_from_tf(ros, projection, monkeypatch):
    """The transform of the frame's own stamp, into the base frame; what tf2 cannot say is a reason of its own."""
    from builtin_interfaces.msg import Time
    from std_msgs.msg import Header

    from seg_node.core.errors import UserError
    from seg_node.core.projection.errors import ProjectionError
    from seg_node.ros.projection.camera_pose import TransformedCamera

    class TransformException(Exception):
        pass

    class Buffer:
        def lookup_transform(self, target, source, stamp):
            if source != "front":
                raise TransformException(f"{source} does not exist")
            asked.append((target, source, stamp))
            x, y, z, w = POSE.quaternion
            turn, place = SimpleNamespace(x=x, y=y, z=z, w=w), SimpleNamespace(x=0.5, y=0.0, z=1.2)
            return SimpleNamespace(transform=SimpleNamespace(rotation=turn, translation=place))

    asked = []
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    with pytest.raises(UserError, match="tf2_ros is not installed"):
        projection("/j8", ground="tf")
    module = ModuleType("tf2_ros")
    module.Buffer, module.TransformException = Buffer, TransformException
    module.TransformListener = lambda buffer, node: (buffer, node)
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    camera = TransformedCamera(projection("/j8", ground="tf"), "base_link")
    header = Header(stamp=Time(sec=4, nanosec=5), frame_id="front")
    pose = camera.pose(header)
    assert asked == [("base_link", "front", header.stamp)]
    assert pose.rotation == pytest.approx(POSE.rotation) and pose.translation == (0.5, 0.0, 1.2)
    with pytest.raises(ProjectionError, match="'rear' to 'base_link': rear does not exist") as refused:
        camera.pose(Header(frame_id="rear"))
    assert refused.value.drop is Drop.GROUND


def test_documentation(ros):
    from seg_node.ros.projection.node import PARAMETERS

    text = (ROOT / "docs" / "planner.md").read_text()
    missing = [
        row
        for name, spec in PARAMETERS.items()
        if (row := f"| `{name}` | `{str(spec.default).replace(chr(39), chr(34))}` | {spec.description} |") not in text
    ]
    assert not missing, "\n".join(missing)
    source = (ROOT / "seg_node" / "ros" / "projection" / "node.py").read_text()
    topics = set(re.findall(r'"(segmentation/\w+|~/\w+|camera_info|depth|/diagnostics)"', source))
    assert len(topics) >= 8
    assert all(f"`{topic}`" in text for topic in topics)
    assert all(f"`dropped.{drop.value}`" in text for drop in Drop)


def test_nav2_configuration():
    """The layer wants every class in one of its lists; its topics are those of the nodes under their default names."""
    layer = yaml.safe_load((ROOT / "config" / "nav2_semantic_layer.yaml").read_text())
    layer = layer["local_costmap"]["local_costmap"]["ros__parameters"]["semantic_layer"]
    camera = layer[layer["observation_sources"]]
    listed = [name for kind in camera["class_types"] for name in camera[kind]["classes"]]
    assert sorted(listed) == sorted(CATEGORY_NAMES)
    topics = {camera[f"{name}_topic"] for name in ("segmentation", "confidence", "labels", "pointcloud")}
    assert topics == {*(f"/segmentation/{name}" for name in ("mask", "confidence", "label_info")), "/projection/points"}


def test_launch_file():
    pytest.importorskip("launch_ros", reason="launch_ros is missing: it comes with a ROS 2 installation")
    from launch import LaunchContext

    from seg_node.ros.projection.node import PARAMETERS

    spec = importlib.util.spec_from_file_location("nav2_launch", ROOT / "launch" / "nav2.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert set(module.PARAMETER_TYPES) <= set(PARAMETERS)
    assert [argument.name for argument in module.ARGUMENTS if len(argument.description) < 20] == []
    context = LaunchContext()
    given = {argument.name: "" for argument in module.ARGUMENTS} | {"image": "/front/image_raw", "ground": "tf"}
    given |= {
        "camera_height": "1.5",
        "camera_pitch": "0",
        "camera_roll": "0",
        "rectified": "True",
        "fastdds_profile": "",
    }
    context.launch_configurations.update(given)
    (node,) = module.start_projection(context)
    assert node.node_executable == "projection"
