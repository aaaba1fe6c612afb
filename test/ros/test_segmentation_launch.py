"""The launch file started for real, by launch_testing: becomes active, masks a frame as it should, ends cleanly."""

import tempfile
import time
import unittest
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("launch_testing", reason="launch_testing is missing: it comes with a ROS 2 installation")
pytest.importorskip("launch_ros", reason="launch_ros is missing: it comes with a ROS 2 installation")

import launch_testing.actions  # noqa: E402
import launch_testing.asserts  # noqa: E402
import rclpy  # noqa: E402
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory  # noqa: E402
from launch import LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402
from rcl_interfaces.srv import GetParameters  # noqa: E402
from rclpy.parameter import parameter_value_to_python  # noqa: E402
from rclpy.qos import qos_profile_sensor_data  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from seg_node.core.bundle import DEFAULT_MODEL, load_bundle  # noqa: E402
from seg_node.core.engines import create_engine  # noqa: E402

NODE = "/front/segmentation"
CAMERA = "/front_camera/image_raw"
SIZE = (120, 160)
TIMEOUT = 180.0

PARAMETERS = f"""
/**/segmentation:
  ros__parameters:
    model: overridden by the argument
    threads: 1
    warm_up_size: {list(SIZE)}
    deadline_ms: 60000.0
"""
FOLDER = tempfile.TemporaryDirectory(prefix="segmentation_launch_")


@pytest.mark.launch_test
@launch_testing.parametrize("image_transport", ["raw", "compressed"])
def generate_test_description(image_transport):
    """The installed launch file, included as another launch file would."""
    try:
        share = get_package_share_directory("seg_node")
    except PackageNotFoundError:
        pytest.skip("seg_node is not installed: colcon build, and source install/setup.sh")
    parameters = Path(FOLDER.name, "parameters.yaml")
    parameters.write_text(PARAMETERS)
    arguments = {
        "namespace": "front",
        "image": CAMERA,
        "image_transport": image_transport,
        "params_file": str(parameters),
        "model": DEFAULT_MODEL,
        "engine": "onnxruntime",
        "autostart": "True",
        "use_sim_time": "false",
    }
    return LaunchDescription(
        [
            IncludeLaunchDescription(f"{share}/launch/segmentation.launch.py", launch_arguments=arguments.items()),
            launch_testing.actions.ReadyToTest(),
        ]
    )


def street() -> np.ndarray:
    """A frame with a sky, a road and two houses, uint8 [120, 160, 3]."""
    height, width = SIZE
    frame = np.full((height, width, 3), (235, 190, 150), np.uint8)
    cv2.fillPoly(frame, [np.array([(0, 119), (70, 60), (90, 60), (159, 119)])], (90, 90, 90))
    cv2.rectangle(frame, (0, 20), (45, 80), (60, 80, 140), -1)
    cv2.rectangle(frame, (115, 30), (159, 80), (110, 120, 130), -1)
    return frame


class TestRunningNode(unittest.TestCase):
    """While the launch file runs."""

    @classmethod
    def setUpClass(cls):
        rclpy.init()
        cls.node = rclpy.create_node("launch_test")

    @classmethod
    def tearDownClass(cls):
        cls.node.destroy_node()
        rclpy.shutdown()

    def call(self, service, name: str, request):
        """Answer of a service of the node."""
        client = self.node.create_client(service, f"{NODE}/{name}")
        self.assertTrue(client.wait_for_service(TIMEOUT), f"{NODE}/{name} does not appear")
        future = client.call_async(request)
        rclpy.spin_until_future_complete(self.node, future, timeout_sec=TIMEOUT)
        self.assertTrue(future.done(), f"{NODE}/{name} does not answer")
        return future.result()

    def wait_until_active(self):
        """Poll the lifecycle state, for the node loads its model while it is unconfigured."""
        deadline = time.monotonic() + TIMEOUT
        while (state := self.call(GetState, "get_state", GetState.Request()).current_state.label) != "active":
            self.assertLess(time.monotonic(), deadline, f"{NODE} is still {state}")
            time.sleep(0.2)

    def test_frame_is_masked(self, image_transport):
        self.wait_until_active()
        frame = street()
        if image_transport == "compressed":
            topic, message = f"{CAMERA}/compressed", CompressedImage(format="bgr8; png compressed bgr8")
            message.data = cv2.imencode(".png", frame)[1].tobytes()
        else:
            height, width = SIZE
            topic, message = CAMERA, Image(height=height, width=width, encoding="bgr8", step=3 * width)
            message.data = frame.tobytes()
        message.header.frame_id = "front_camera"
        masks: list[Image] = []
        self.node.create_subscription(Image, f"{NODE}/mask", masks.append, 1)
        publisher = self.node.create_publisher(type(message), topic, qos_profile_sensor_data)
        deadline = time.monotonic() + TIMEOUT
        while not masks:
            self.assertLess(time.monotonic(), deadline, "no mask comes")
            message.header.stamp = self.node.get_clock().now().to_msg()
            publisher.publish(message)
            rclpy.spin_once(self.node, timeout_sec=1.0)

        mask = masks[0]
        expected, _ = create_engine(load_bundle(DEFAULT_MODEL), "onnxruntime", threads=1).infer(frame)
        self.assertGreater(len(np.unique(expected)), 1, "a mask of one value proves nothing")
        self.assertEqual((mask.height, mask.width, mask.encoding), (*SIZE, "mono8"))
        self.assertEqual(mask.header.frame_id, "front_camera")
        np.testing.assert_array_equal(np.frombuffer(mask.data, np.uint8).reshape(SIZE), expected)

    def test_parameters_are_those_of_file_and_arguments(self, image_transport):
        expected = {
            "model": DEFAULT_MODEL,
            "engine": "onnxruntime",
            "image_transport": image_transport,
            "autostart": True,
            "threads": 1,
            "deadline_ms": 60000.0,
            "use_sim_time": False,
        }
        answer = self.call(GetParameters, "get_parameters", GetParameters.Request(names=list(expected)))
        values = [parameter_value_to_python(value) for value in answer.values]
        self.assertEqual(dict(zip(expected, values, strict=True)), expected)


@launch_testing.post_shutdown_test()
class TestStoppedNode(unittest.TestCase):
    """After the launch file was stopped."""

    def test_exit_code(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)
