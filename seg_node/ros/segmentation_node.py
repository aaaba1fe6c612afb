"""The segmentation node: wiring between ROS 2 and ``seg_node.core``."""

import itertools
import time

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from seg_node.core.bundle import load_bundle
from seg_node.core.camera import CameraWatch
from seg_node.core.engines import Engine, create_engine
from seg_node.core.health import Expected, Signs
from seg_node.core.images import to_bgr
from seg_node.core.memory import hand_back_free_memory
from seg_node.core.segmenter import FramePort, Segmenter
from seg_node.core.timing import FAULTS, FrameRecord
from seg_node.ros.label_info import publish_label_info
from seg_node.ros.mask_of_now import MaskOfNow
from seg_node.ros.outputs import Outputs
from seg_node.ros.parameters import LIMITS, PARAMETERS, check, declare_parameters, refusal
from seg_node.ros.process import run_node
from seg_node.ros.qos_watch import QosWatch
from seg_node.ros.reporter import Reporter
from seg_node.ros.transfer.path import choose, receive, state_reader
from seg_node.ros.transfer.plain import Receiving
from seg_node.ros.transfer.serialized_image import SerializedImage

CAMERA_QOS = QoSProfile(depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Some depth, so that frames that come while the processor is busy are counted as superseded instead of lost."""

STOP_TIMEOUT = 10.0
"""Seconds that deactivation waits for the frames that are pending."""
_INTERRUPT_TIMEOUT = 2.0
"""Seconds that an interrupted process waits for the inference that is under way."""


class SegmentationNode(LifecycleNode, FramePort):
    """Masks a camera topic; see the README for topics and parameters."""

    # Of the class: rclpy destroys a node whose constructor has raised, too.
    _receiver: Receiving | None = None
    _segmenter: Segmenter | None = None
    _outputs: Outputs | None = None
    _now: MaskOfNow | None = None

    def __init__(self):
        super().__init__("segmentation")
        declare_parameters(self)
        self._label_info = publish_label_info(self)
        self._camera, self._qos = CameraWatch(), QosWatch(self)
        self._topic = self._trouble = ""
        self._activated = 0.0
        self._numbers = itertools.count(1)
        self._reporter = Reporter(self, self._signs)
        # In the group of the services: no transition may come in between another one.
        self._gave_up = self.create_guard_condition(self._on_gave_up)
        initial = (check(self.get_parameter(name), "unconfigured") for name in PARAMETERS)
        if problems := [problem for problem in initial if problem]:
            raise ValueError("; ".join(problems))
        self.add_on_set_parameters_callback(self._on_parameters)
        self._state_reader = state_reader(self)
        if self._value("autostart"):
            self._autostart = self.create_timer(0.0, self._start, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _value(self, name: str):
        return self.get_parameter(name).value

    @property
    def _state(self) -> str:
        return self._state_reader()

    def _start(self) -> None:
        self._autostart.cancel()
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load, compile and warm up; FAILURE if the bundle or the engine refuses."""
        try:
            engine = self._load(self._value("model"), tuple(self._value("warm_up_size")))
            self._now = MaskOfNow(self, self._qos, lambda: self._segmenter.trouble)
            self._outputs = Outputs(self, self._qos)
        except Exception as error:
            # Whatever an engine's library raises, a supervisor may configure again with another model.
            self._trouble = f"cannot configure: {error}"
            self.get_logger().error(self._trouble)
            self._free()
            # Those of a part that was not made to its end.
            self._qos.withdraw()
            return TransitionCallbackReturn.FAILURE
        self._trouble, self._camera = "", CameraWatch()
        self._segmenter = Segmenter(engine, self, **{limit: self._value(name) for name, limit in LIMITS.items()})
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera; FAILURE while an inference of before has not returned."""
        if not self._segmenter.start():
            self.get_logger().error("an inference has not returned yet; clean up and configure to load the model anew")
            return TransitionCallbackReturn.FAILURE
        super().on_activate(state)
        self._compressed = self._value("image_transport") == "compressed"
        self._now.start(self._compressed)
        kind, topic = (CompressedImage, "image/compressed") if self._compressed else (Image, "image")
        self._receiver = receive(self, kind, topic, self._on_image, CAMERA_QOS)
        self._topic, self._activated = self._receiver.topic, time.monotonic()
        self.get_logger().info(f"active on {self._topic}")
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, then finish what is pending while the publishers are still active."""
        self._unsubscribe()
        if not self._segmenter.stop(STOP_TIMEOUT):
            self.get_logger().error("an inference has not returned; clean up and configure to load the model anew")
        self._now.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        if self._receiver is not None:
            self.on_deactivate(state)
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured after an unforeseen error, so that a supervisor can try again."""
        self.get_logger().error(f"an error in a transition from {state.label}; back to unconfigured")
        return self.on_shutdown(state)

    def destroy_node(self) -> None:
        """See ``rclpy.node.Node``; the process may be interrupted while the node is active.

        Threads that go on until the process ends keep the node's handle, and with it the participant: Fast DDS of
        Kilted then leaves its shared memory behind, 70 MB for each node that was interrupted.
        """
        self._unsubscribe()
        if self._segmenter is not None:
            self._segmenter.stop(_INTERRUPT_TIMEOUT)
        self._free()
        super().destroy_node()

    def _unsubscribe(self) -> None:
        if self._receiver is not None:
            self._receiver.stop()
            self._receiver = None

    def _free(self) -> None:
        if self._segmenter is not None:
            # Has no effect but after an error in a transition, which leaves the worker where it was.
            self._segmenter.stop(0.0)
            self._segmenter = None
        for part in (self._now, self._outputs):
            if part is not None:
                part.destroy()
        self._now = self._outputs = None

    def _on_gave_up(self) -> None:
        """Deactivate, so that a supervisor sees it; only a thread of the executor may do that."""
        if self._state == "active" and self._segmenter.given_up:
            self.get_logger().error(f"deactivating: {self._segmenter.given_up}")
            self.trigger_deactivate()

    def _load(self, model: str, size: tuple[int, int]) -> Engine:
        # Of the model that was replaced last: it lived on until its last frame was masked.
        hand_back_free_memory()
        settings = (self._value(name) for name in ("engine", "threads", "precision"))
        engine = create_engine(load_bundle(model), *settings)
        engine.warm_up(size)
        self.get_logger().info(f"{engine.bundle.name} on {engine.name} ({engine.device}): {engine.reason}")
        return engine

    def _on_parameters(self, parameters: list[Parameter]):
        for parameter in parameters:
            if reason := check(parameter, self._state):
                return refusal(reason)
        new = {parameter.name: parameter.value for parameter in parameters}
        if self._segmenter is not None:
            if "model" in new:
                if self._segmenter.stuck:
                    return refusal("the model is stuck in an inference; deactivate, clean up and configure anew")
                try:
                    size = self._segmenter.frame_size or tuple(self._value("warm_up_size"))
                    self._segmenter.engine = self._load(new["model"], size)
                    self._now.reset(f"the model was swapped for {new['model']}")
                except Exception as error:
                    # Whatever an engine's library raises, the model that runs is not touched.
                    return refusal(str(error))
            for name in LIMITS.keys() & new.keys():
                setattr(self._segmenter, LIMITS[name], new[name])
            self._now.set(new)
        return refusal("")

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
        now = self.get_clock().now().nanoseconds
        # With use_sim_time the clock reads 0 until a time has come.
        return (now - message.stamp) / 1e6 if message.stamp and now else None

    def wants_confidence(self) -> bool:
        """See ``FramePort``."""
        return self._outputs.wants_confidence()

    def publish(self, message: SerializedImage, mask: np.ndarray, confidence: np.ndarray | None) -> None:
        """See ``FramePort``."""
        self._outputs.publish(message.header, mask, confidence)
        self._now.finish(message, mask)

    def report(self, message: SerializedImage, record: FrameRecord) -> None:
        """See ``FramePort``."""
        if not self.context.ok():
            return
        self._outputs.report(message.header, record)
        if record.outcome in FAULTS:
            reason = f"{self._topic}: frame {record.outcome.value}: {record.detail}"
            self.get_logger().warning(reason, throttle_duration_sec=1.0)

    def give_up(self, reason: str) -> None:
        """See ``FramePort``."""
        self._gave_up.trigger()

    def _signs(self) -> tuple[Signs, Expected]:
        segmenter, camera, receiver, plain = self._segmenter, self._camera, self._receiver, choose(self)
        expected = Expected(
            camera_timeout=self._value("camera_timeout_ms") / 1e3,
            rate=self._value("expected_rate_hz"),
            max_age=self._value("max_age_ms"),
            deadline=self._value("deadline_ms"),
        )
        if segmenter is None:
            return Signs(self._state, trouble=self._trouble, hardware=self._topic), expected
        clock = self.get_clock()
        qos, warnings = self._qos.look(self._topic, receiver and receiver.qos)
        values = {"model": segmenter.engine.bundle.name, "transfer": f"plain rclpy: {plain}" if plain else "fast"}
        values |= segmenter.status() | camera.status() | self._now.status()
        signs = Signs(
            self._state,
            values=values | qos,
            trouble=segmenter.trouble,
            warnings=warnings,
            hardware=camera.frame_id or self._topic,
            topic=self._topic,
            publishers=self.count_publishers(self._topic) if self._topic else 0,
            silent=time.monotonic() - max(self._activated, camera.seen or 0.0),
            age=camera.age,
            sim_time=clock.now().nanoseconds / 1e9 if clock.ros_time_is_active else None,
        )
        return signs, expected


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is interrupted; returns the exit status."""
    # One thread for services, one for diagnostics; frames have their own.
    return run_node(SegmentationNode, "segmentation", 2, arguments)
