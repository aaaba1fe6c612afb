"""The segmentation node: wiring between ROS 2 and ``seg_node.core``."""

import sys

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from seg_node.core.bundle import load_bundle
from seg_node.core.engines import Engine, create_engine
from seg_node.core.segmenter import FramePort, Segmenter
from seg_node.core.timing import FAULTS, FrameRecord
from seg_node.ros.messages import (
    compressed_to_bgr,
    diagnostics,
    image_to_bgr,
    mono8_image,
    record_to_diagnostics,
)
from seg_node.ros.parameters import PARAMETERS, check, declare_parameters, refusal

CAMERA_QOS = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
MASK_QOS = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
TIMING_QOS = QoSProfile(depth=100, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)

STOP_TIMEOUT = 10.0
"""Seconds that deactivation waits for the frames that are pending."""


class SegmentationNode(LifecycleNode, FramePort):
    """Masks a camera topic; see the README for topics and parameters."""

    def __init__(self):
        super().__init__("segmentation")
        declare_parameters(self)
        self._segmenter: Segmenter | None = None
        self._subscription = None
        # Frames and diagnostics go on while a service of the default group loads a model.
        self._camera_group = MutuallyExclusiveCallbackGroup()
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # On a steady clock: with use_sim_time the others stand still while no bag plays.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        group = MutuallyExclusiveCallbackGroup()
        self.create_timer(1.0, self._publish_diagnostics, callback_group=group, clock=steady)
        initial = (check(self.get_parameter(name), "unconfigured") for name in PARAMETERS)
        if problems := [problem for problem in initial if problem]:
            raise ValueError("; ".join(problems))
        self.add_on_set_parameters_callback(self._on_parameters)
        # rclpy raises, and thereby ends the node, where a transition is asked for that the state does not have.
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state
        if self._value("autostart"):
            self._autostart = self.create_timer(0.0, self._start, clock=steady)

    def _value(self, name: str):
        return self.get_parameter(name).value

    @property
    def _state(self) -> str:
        return self._state_machine.current_state[1]

    def _start(self) -> None:
        self._autostart.cancel()
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _on_change_state(self, request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        try:
            return self._change_state(request, response)
        except RuntimeError as error:
            self.get_logger().warning(f"no such transition from {self._state}: {error}")
            response.success = False
            return response

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load, compile and warm up; FAILURE if the bundle or the engine refuses."""
        try:
            engine = self._load(self._value("model"), tuple(self._value("warm_up_size")))
        except Exception as error:
            # Whatever an engine's library raises, a supervisor may configure again with another model.
            self.get_logger().error(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        self._segmenter = Segmenter(engine, self, self._value("max_age_ms"), self._value("deadline_ms"))
        self._mask = self.create_lifecycle_publisher(Image, "~/mask", MASK_QOS)
        self._confidence = self.create_lifecycle_publisher(Image, "~/confidence", MASK_QOS)
        self._timing = self.create_lifecycle_publisher(DiagnosticArray, "~/timing", TIMING_QOS)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera."""
        super().on_activate(state)
        self._segmenter.start()
        compressed = self._value("image_transport") == "compressed"
        self._decode = compressed_to_bgr if compressed else image_to_bgr
        self._subscription = self.create_subscription(
            CompressedImage if compressed else Image,
            "image/compressed" if compressed else "image",
            self._segmenter.submit,
            CAMERA_QOS,
            callback_group=self._camera_group,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self.get_logger().info(f"active on {self._subscription.topic_name}")
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, then finish what is pending while the publishers are still active."""
        self.destroy_subscription(self._subscription)
        self._subscription = None
        if not self._segmenter.stop(STOP_TIMEOUT):
            self.get_logger().error(f"an inference has not ended for {STOP_TIMEOUT:g} s; its frame stays pending")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        if self._subscription is not None:
            self.on_deactivate(state)
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured after an unforeseen error, so that a supervisor can try again."""
        self.get_logger().error(f"an error in a transition from {state.label}; back to unconfigured")
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def _free(self) -> None:
        if self._segmenter is not None:
            self._segmenter = None
            for publisher in (self._mask, self._confidence, self._timing):
                self.destroy_publisher(publisher)

    def _load(self, model: str, size: tuple[int, int]) -> Engine:
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
                try:
                    size = self._segmenter.frame_size or tuple(self._value("warm_up_size"))
                    self._segmenter.engine = self._load(new["model"], size)
                except Exception as error:
                    # Whatever an engine's library raises, the model that runs is not touched.
                    return refusal(str(error))
            self._segmenter.max_age = new.get("max_age_ms", self._segmenter.max_age)
            self._segmenter.deadline = new.get("deadline_ms", self._segmenter.deadline)
        return refusal("")

    def decode(self, message: Image | CompressedImage) -> np.ndarray:
        """See ``FramePort``."""
        return self._decode(message)

    def age(self, message: Image | CompressedImage) -> float | None:
        """See ``FramePort``; on the ROS clock."""
        stamp = Time.from_msg(message.header.stamp, clock_type=self.get_clock().clock_type)
        return (self.get_clock().now() - stamp).nanoseconds / 1e6 if stamp.nanoseconds else None

    def wants_confidence(self) -> bool:
        """See ``FramePort``."""
        return self._confidence.get_subscription_count() > 0

    def publish(self, message: Image | CompressedImage, mask: np.ndarray, confidence: np.ndarray | None) -> None:
        """See ``FramePort``."""
        self._mask.publish(mono8_image(mask, message.header))
        if confidence is not None:
            self._confidence.publish(mono8_image(confidence, message.header))

    def report(self, message: Image | CompressedImage, record: FrameRecord) -> None:
        """See ``FramePort``."""
        if not self.context.ok():
            return
        self._timing.publish(record_to_diagnostics(record, message.header, self.get_fully_qualified_name()))
        if record.outcome in FAULTS:
            self.get_logger().warning(f"frame {record.outcome.value}: {record.detail}", throttle_duration_sec=1.0)

    def _publish_diagnostics(self) -> None:
        segmenter = self._segmenter
        values = segmenter.status() if segmenter else {}
        healthy = segmenter and all(values[f"dropped.{fault.value}"] == "0" for fault in FAULTS)
        self._diagnostics.publish(
            diagnostics(
                Header(stamp=self.get_clock().now().to_msg()),
                f"{self.get_fully_qualified_name()}: segmentation",
                DiagnosticStatus.OK if healthy else DiagnosticStatus.WARN,
                self._state,
                segmenter.engine.bundle.name if segmenter else "",
                values,
            )
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is interrupted; returns the exit status."""
    rclpy.init(args=sys.argv[1:] if arguments is None else arguments)
    try:
        node = SegmentationNode()
    except (ValueError, ParameterException) as error:
        rclpy.logging.get_logger("segmentation").fatal(str(error))
        rclpy.try_shutdown()
        return 2
    # One thread each for frames, for services and for diagnostics.
    executor = MultiThreadedExecutor(num_threads=3)
    executor.add_node(node)
    try:
        while rclpy.ok():
            try:
                executor.spin()
            except ExternalShutdownException:
                break
            except Exception as error:
                # A callback that fails, on a message that rclpy cannot read for instance, must not end the node.
                node.get_logger().error(f"{type(error).__name__} in a callback: {error}")
    except KeyboardInterrupt:
        pass
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
