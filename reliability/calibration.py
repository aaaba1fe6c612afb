"""Calibration and depth camera beside ``camera.py``, as a process: CameraInfo and, on request, depth of each image.

    python reliability/calibration.py --image /image [--depth] [--zeros]

Publishes ``camera_info`` and ``depth`` beside the image's topic, with the header of each image. Lines of stdin are
commands in JSON: ``{"zeros": true}`` for an uncalibrated camera, ``{"scale": 0.5}`` for the size of depth images as a
share of the image's. It ends with stdin.
"""

import argparse
import array
import contextlib
import json
import os
import sys
import threading

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

_METRES = 5.0
"""Distance of everything in the depth images."""
_BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


class Calibration(Node):
    """Publishes for each image what is known of its camera.

    Args:
        image: topic of the images.
        depth: publish depth images, too.
        zeros: begin as a camera that is not calibrated.
    """

    def __init__(self, image: str, depth: bool, zeros: bool):
        super().__init__(f"calibration_{os.getpid()}", start_parameter_services=False)
        beside = image.rpartition("/")[0]
        self._info = self.create_publisher(CameraInfo, f"{beside}/camera_info", 5)
        self._depth = self.create_publisher(Image, f"{beside}/depth", _BEST_EFFORT) if depth else None
        self._zeros, self._scale = zeros, 1.0
        self.create_subscription(Image, image, self._on_image, _BEST_EFFORT)

    def obey(self, command: dict) -> None:
        """Do what a line of stdin says."""
        self._zeros = command.get("zeros", self._zeros)
        self._scale = command.get("scale", self._scale)

    def _on_image(self, image: Image) -> None:
        height, width = image.height, image.width
        k = [float(width), 0.0, width / 2, 0.0, float(width), height / 2, 0.0, 0.0, 1.0]
        message = CameraInfo(header=image.header, height=height, width=width, distortion_model="plumb_bob")
        message.k, message.d = ([0.0] * 9, []) if self._zeros else (k, [0.0] * 5)
        self._info.publish(message)
        if self._depth:
            height, width = (round(side * self._scale) for side in (height, width))
            depth = Image(header=image.header, height=height, width=width, encoding="32FC1", step=4 * width)
            depth.data = array.array("B", np.full((height, width), _METRES, np.float32).tobytes())
            self._depth.publish(depth)


def main() -> None:
    """Publish until stdin is closed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True, help="topic of the images")
    parser.add_argument("--depth", action="store_true", help="publish depth images, too")
    parser.add_argument("--zeros", action="store_true", help="begin without a calibration")
    options = parser.parse_args()
    rclpy.init(args=[])
    calibration = Calibration(options.image, options.depth, options.zeros)
    executor = SingleThreadedExecutor()
    executor.add_node(calibration)

    def listen() -> None:
        for line in sys.stdin:
            calibration.obey(json.loads(line))
        rclpy.try_shutdown()

    threading.Thread(target=listen, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        executor.spin()


if __name__ == "__main__":
    main()
