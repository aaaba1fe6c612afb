"""A frame's way through the node, from the camera's topic to the mask's: wiring between ROS 2 and ``seg_node.core``."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from seg_node.core.camera import CameraWatch
from seg_node.core.engines import Engine
from seg_node.core.health import Signs
from seg_node.core.images import to_bgr
from seg_node.core.segmenter import FramePort, Segmenter
from seg_node.core.timing import FAULTS, FrameRecord
from seg_node.ros.mask_of_now import MaskOfNow
from seg_node.ros.outputs import Outputs
from seg_node.ros.parameters import LIMITS, PROPAGATION
from seg_node.ros.qos_watch import QosWatch
from seg_node.ros.transfer.path import choose, receive
from seg_node.ros.transfer.plain import Receiving
from seg_node.ros.transfer.serialized_image import SerializedImage

CAMERA_QOS = QoSProfile(depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Some depth, so that frames that come while the processor is busy are counted as superseded instead of lost."""


class Masking(FramePort[SerializedImage]):
    """All that a configured node has: it lives from a configuration until it is cleaned up.

    Args:
        node: whose topics and parameters they are.
        qos: offers its publishers.
        engine: warmed up.
        gave_up: called once after each start when too many frames in a row have failed, by any thread.
    """

    def __init__(self, node: LifecycleNode, qos: QosWatch, engine: Engine, gave_up: Callable[[], None]):
        self._node, self._qos = node, qos
        self._gave_up = gave_up
        self._camera = CameraWatch()
        self._numbers = itertools.count(1)
        self._receiver: Receiving | None = None
        self._compressed = False
        self._activated = 0.0
        self.topic = ""
        """Resolved name of the camera's topic, once it was subscribed to."""
        limits = {attribute: node.get_parameter(name).value for name, attribute in LIMITS.items()}
        self.segmenter = Segmenter(engine, self, **limits)
        self._now = MaskOfNow(node, qos, lambda: self.segmenter.trouble)
        self._outputs = Outputs(node, qos)

    def start(self) -> bool:
        """Begin to work on frames; False while an inference of before has not returned."""
        return self.segmenter.start()

    def subscribe(self) -> None:
        """Begin to take the camera's frames."""
        self._compressed = self._node.get_parameter("image_transport").value == "compressed"
        self._now.start(self._compressed)
        kind, topic = (CompressedImage, "image/compressed") if self._compressed else (Image, "image")
        self._receiver = receive(self._node, kind, topic, self._on_image, CAMERA_QOS)
        self.topic, self._activated = self._receiver.topic, time.monotonic()

    def stop(self, timeout: float) -> bool:
        """Unsubscribe, and finish what is pending; returns whether the worker ended within ``timeout`` seconds."""
        if self._receiver is not None:
            self._receiver.stop()
            self._receiver = None
        ended = self.segmenter.stop(timeout)
        self._now.stop()
        return ended

    def destroy(self, timeout: float = 0.0) -> bool:
        """Stop where that was not done, and take the topics back; returns what ``stop`` does."""
        ended = self.stop(timeout)
        self._now.destroy()
        self._outputs.destroy()
        return ended

    def set(self, parameters: Mapping[str, Any]) -> None:
        """Take new values of those parameters that concern it."""
        for name in LIMITS.keys() & parameters.keys():
            setattr(self.segmenter, LIMITS[name], parameters[name])
        self._now.set(parameters)

    def refresh(self) -> None:
        """Take what was set while it was made."""
        self.set({name: self._node.get_parameter(name).value for name in (*LIMITS, *PROPAGATION)})

    def swap(self, engine: Engine) -> None:
        """Have another engine, which is warmed up, mask from the next frame on; from any thread."""
        self.segmenter.engine = engine
        self._now.reset(f"the model was swapped for {engine.bundle.name}")

    def signs(self, state: str, values: Mapping[str, str], trouble: str, warnings: Sequence[str]) -> Signs:
        """What the report of a node is judged by: its lifecycle state, and what else is known of it."""
        segmenter, camera, clock = self.segmenter, self._camera, self._node.get_clock()
        plain, receiver = choose(self._node), self._receiver
        qos, unfit = self._qos.look(self.topic, receiver and receiver.qos)
        about = {"model": segmenter.engine.bundle.name, "transfer": f"plain rclpy: {plain}" if plain else "fast"}
        about |= segmenter.status() | camera.status() | self._now.status()
        return Signs(
            state,
            values={**about, **values, **qos},
            trouble=trouble,
            warnings=[*warnings, *unfit],
            hardware=camera.frame_id or self.topic,
            topic=self.topic,
            publishers=self._node.count_publishers(self.topic) if self.topic else 0,
            silent=time.monotonic() - max(self._activated, camera.seen or 0.0),
            age=camera.age,
            sim_time=clock.now().nanoseconds / 1e9 if clock.ros_time_is_active else None,
        )

    def _on_image(self, data: np.ndarray, published: int) -> None:
        message = SerializedImage(data, next(self._numbers))
        self._camera.header(message.stamp, message.frame_id, self.age(message))
        self._now.submit(message)
        self.segmenter.submit(message)

    def decode(self, message: SerializedImage) -> np.ndarray:
        """See ``FramePort``."""
        bgr = to_bgr(message.encoded() if self._compressed else message.raw())
        self._camera.image(bgr)
        self._now.begin(message)
        return bgr

    def age(self, message: SerializedImage) -> float | None:
        """See ``FramePort``; on the ROS clock."""
        now = self._node.get_clock().now().nanoseconds
        # With use_sim_time the clock reads 0 until a time has come.
        return (now - message.stamp) / 1e6 if message.stamp and now else None

    def wants_confidence(self) -> bool:
        """See ``FramePort``."""
        return self._outputs.wants_confidence()

    def publish(self, message: SerializedImage, mask: np.ndarray, confidence: np.ndarray | None) -> None:
        """See ``FramePort``."""
        self._outputs.publish(message.header, mask, confidence)
        self._now.finish(message, mask, self.segmenter.engine.bundle.manifest.taxonomy.void)

    def report(self, message: SerializedImage, record: FrameRecord) -> None:
        """See ``FramePort``."""
        if not self._node.context.ok():
            return
        self._outputs.report(message.header, record)
        if record.outcome in FAULTS:
            reason = f"{self.topic}: frame {record.outcome.value}: {record.detail}"
            self._node.get_logger().warning(reason, throttle_duration_sec=1.0)

    def give_up(self, reason: str) -> None:
        """See ``FramePort``."""
        self._gave_up()
