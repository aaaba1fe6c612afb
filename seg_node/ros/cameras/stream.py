"""One camera's way through the node, from its topic to those of its masks: wiring between ROS 2 and the core."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from seg_node.core.camera import CameraWatch
from seg_node.core.health import Expected, Signs
from seg_node.core.images import to_bgr
from seg_node.core.propagation.budget import Budget
from seg_node.core.scheduling.worker import InferenceWorker
from seg_node.core.segmenter import FramePort, Segmenter
from seg_node.core.timing import FAULTS, FrameRecord
from seg_node.ros.cameras.names import CameraName
from seg_node.ros.mask_of_now import MaskOfNow
from seg_node.ros.outputs import Outputs
from seg_node.ros.parameters import LIMITS, PROPAGATION
from seg_node.ros.qos_watch import QosWatch
from seg_node.ros.transfer.path import choose, receive
from seg_node.ros.transfer.plain import Receiving
from seg_node.ros.transfer.serialized_image import SerializedImage

CAMERA_QOS = QoSProfile(depth=10, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Some depth, so that frames that come while the processor is busy, or while those of a flood gather, are counted as
superseded instead of lost."""


class CameraStream(FramePort[SerializedImage]):
    """All that a configured node has of one camera: it lives from a configuration until it is cleaned up.

    Args:
        name: whose topics and parameters they are.
        qos: offers its publishers.
        worker: masks its frames.
        budget: what the masks of now of all cameras may take of the cores; None for the only camera.

    Raises:
        UserError: see ``QosWatch.offer``.
    """

    def __init__(self, name: CameraName, qos: QosWatch, worker: InferenceWorker, budget: Budget | None = None):
        self.name = name
        self._node, self._qos, self._worker = name.node, qos, worker
        self._camera = CameraWatch()
        self._numbers = itertools.count(1)
        self._receiver: Receiving | None = None
        self._compressed = False
        self._activated = 0.0
        self.topic = ""
        """Resolved name of the camera's topic, once it was subscribed to."""
        self._segmenter = Segmenter(worker, self, **name.values(LIMITS))
        self._now = MaskOfNow(name, qos, lambda: self._segmenter.trouble, self._turns_in(budget))
        self._outputs = Outputs(name, qos)

    def _turns_in(self, budget: Budget | None) -> Callable[[], AbstractContextManager[None]]:
        segmenter = self._segmenter
        return nullcontext if budget is None else lambda: budget.turn(segmenter.number, segmenter.priority)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its frames, of those that it is to have before the first."""
        return self._segmenter.frame_size or tuple(self.name.value("warm_up_size"))

    def subscribe(self) -> None:
        """Begin to take the camera's frames."""
        self._compressed = self.name.value("image_transport") == "compressed"
        self._now.start(self._compressed)
        kind, topic = (CompressedImage, "image/compressed") if self._compressed else (Image, "image")
        wanted = kind, self.name.topic(topic), self._on_image, CAMERA_QOS
        self._receiver = receive(self._node, *wanted, gathering=self._gathering)
        self.topic, self._activated = self._receiver.topic, time.monotonic()

    def unsubscribe(self) -> None:
        """Take no more frames; those that were taken still have their ends."""
        if self._receiver is not None:
            self._receiver.stop()
            self._receiver = None

    def stop(self) -> None:
        """Stop what works beside the worker, once that has ended."""
        self._now.stop()

    def destroy(self) -> None:
        """Take the topics back."""
        self._now.destroy()
        self._outputs.destroy()

    def set(self, parameters: Mapping[str, Any]) -> None:
        """Take new values, by full name, of those parameters that concern it."""
        for attribute, value in self.name.changes(parameters, LIMITS).items():
            setattr(self._segmenter, attribute, value)
        self._now.set(self.name.changes(parameters, PROPAGATION))

    def counts(self) -> dict[str, int]:
        """Counts of its frames; see ``Accounting.snapshot``."""
        return self._segmenter.accounting.snapshot()

    def reset(self, reason: str) -> None:
        """Forget the masks that were made so far, for a reason that the records name."""
        self._now.reset(reason)

    def signs(self, state: str, values: Mapping[str, str], trouble: str, warnings: Sequence[str]) -> Signs:
        """What the report of it is judged by: the node's lifecycle state, and what else is known of the node."""
        camera, clock = self._camera, self._node.get_clock()
        plain, receiver = choose(self._node), self._receiver
        qos, unfit = self._qos.look(self.topic, receiver and receiver.qos)
        about = {"model": self._worker.engine.bundle.name, "transfer": f"plain rclpy: {plain}" if plain else "fast"}
        if self.name.name:
            about["topic"] = self.topic
        about |= self._segmenter.status() | camera.status() | self._now.status()
        return Signs(
            state,
            values={**about, **values, **qos},
            trouble="; ".join(filter(None, (trouble, self._segmenter.rest))),
            warnings=[*warnings, *unfit],
            hardware=camera.frame_id or self.topic,
            topic=self.topic,
            publishers=self._node.count_publishers(self.topic) if self.topic else 0,
            silent=time.monotonic() - max(self._activated, camera.seen or 0.0),
            age=camera.age,
            sim_time=clock.now().nanoseconds / 1e9 if clock.ros_time_is_active else None,
        )

    def _gathering(self) -> float:
        """See ``Segmenter.gathering``; 0 where ``qos_overrides`` leave no room for what gathers."""
        receiver = self._receiver
        roomy = receiver is not None and receiver.qos.depth >= CAMERA_QOS.depth
        return self._segmenter.gathering() if roomy else 0.0

    def _on_image(self, data: np.ndarray, published: int) -> None:
        message = SerializedImage(data, next(self._numbers))
        self._camera.header(message.stamp, message.frame_id, self.age(message))
        self._now.submit(message)
        self._segmenter.submit(message)

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

    def reception(self) -> float:
        """See ``FramePort``."""
        receiver = self._receiver
        return receiver.spent if receiver else 0.0

    def wants_confidence(self) -> bool:
        """See ``FramePort``."""
        return self._outputs.wants_confidence()

    def publish(self, message: SerializedImage, mask: np.ndarray, confidence: np.ndarray | None) -> None:
        """See ``FramePort``."""
        self._outputs.publish(message.header, mask, confidence)
        self._now.finish(message, mask, self._worker.engine.bundle.manifest.taxonomy.void)

    def report(self, message: SerializedImage, record: FrameRecord) -> None:
        """See ``FramePort``."""
        if not self._node.context.ok():
            return
        self._outputs.report(message.header, record)
        if record.outcome in FAULTS:
            reason = f"{self.topic}: frame {record.outcome.value}: {record.detail}"
            self._node.get_logger().warning(reason, throttle_duration_sec=1.0)


def expected(name: CameraName) -> Expected:
    """What the parameters of a camera ask for."""
    return Expected(
        camera_timeout=name.value("camera_timeout_ms") / 1e3,
        rate=name.value("expected_rate_hz"),
        max_age=name.value("max_age_ms"),
        deadline=name.value("deadline_ms"),
    )
