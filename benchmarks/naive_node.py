"""The yardstick: the segmentation node that a competent user writes in an afternoon.

    python benchmarks/naive_node.py --ros-args -p model:=fpn_resnet50 -r image:=/camera/image

What is chosen, and why that is fair:

- rclpy, ``create_subscription(..., 10)`` and ``rclpy.spin``, as in every tutorial; Fast DDS without a profile.
- Inference in the callback. A node that is too slow finds the oldest of the last ten frames in its queue: at 10 Hz it
  is a second old before inference begins.
- The weights, the normalisation and the size at which a frame passes through the network are those of the bundle, so
  that the masks have the same accuracy; the image is scaled by OpenCV, which is the fastest way in Python.
- torch eager in fp32 with ``eval``, ``inference_mode`` and as many threads as there are cores.
- The argmax is NumPy's, on the network's size, and OpenCV enlarges the mask, not the logits: the cheap order.
- The message gets an ``array.array``, as cv_bridge does it. A list or bytes would cost rclpy's check of every byte.
"""

import array
import contextlib
import os
import sys

import cv2
import numpy as np
import rclpy
import torch
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from seg_node.core.bundle import DEFAULT_MODEL, load_bundle
from seg_node.core.engines.torch_engine import graph_weights
from seg_node.core.network import SegmentationNetwork, network_size


class NaiveNode(Node):
    """Masks ``image`` and ``image/compressed`` as ``~/mask``."""

    def __init__(self):
        super().__init__("segmentation")
        bundle = load_bundle(self.declare_parameter("model", DEFAULT_MODEL).value)
        self._input_size = bundle.manifest.input_size
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self._network = SegmentationNetwork(
            bundle.manifest.backbone,
            bundle.manifest.mean,
            bundle.manifest.std,
            decoder=bundle.manifest.decoder_options,
        )
        self._network.fpn.load_state_dict(graph_weights(bundle.graph, self._network.fpn))
        self._network.eval()
        self._masks = self.create_publisher(Image, "~/mask", 10)
        self.create_subscription(Image, "image", self.on_image, 10)
        self.create_subscription(CompressedImage, "image/compressed", self.on_compressed, 10)

    def on_image(self, message: Image) -> None:
        """Segment a bgr8 image."""
        frame = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        self._publish(self.segment(frame), message.header)

    def on_compressed(self, message: CompressedImage) -> None:
        """Segment a JPEG or PNG image."""
        frame = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        self._publish(self.segment(frame), message.header)

    def segment(self, frame: np.ndarray) -> np.ndarray:
        """Mask of a frame: uint8 [H, W, 3] BGR to uint8 [H, W]."""
        height, width = frame.shape[:2]
        rows, columns = network_size((height, width), self._input_size)
        small = cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_LINEAR)
        with torch.inference_mode():
            logits = self._network(torch.from_numpy(small).permute(2, 0, 1)[None].float())
        mask = np.argmax(logits[0].numpy(), axis=0).astype(np.uint8)
        return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)

    def _publish(self, mask: np.ndarray, header: Header) -> None:
        message = Image(header=header, height=mask.shape[0], width=mask.shape[1], encoding="mono8", step=mask.shape[1])
        message.data = array.array("B", mask.tobytes())
        self._masks.publish(message)


def main() -> None:
    """Run until interrupted."""
    rclpy.init(args=sys.argv)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(NaiveNode())
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
