"""The path of a message by public rclpy alone, for where the faster one does not work."""

import copy
import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np
from lifecycle_msgs.msg import TransitionEvent
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions

Handler = Callable[[np.ndarray, int], None]


class Receiving(Protocol):
    """A subscription that hands over bytes."""

    qos: QoSProfile
    """What it asks for."""
    topic: str
    """Resolved name of the topic."""
    spent: float
    """Seconds of a core that its messages have taken so far, their callbacks included; 0 where that is not known."""

    @property
    def publishers(self) -> int:
        """How many there are that it receives from."""

    def stop(self) -> None:
        """Unsubscribe; no callback is running or will run any more."""


class PlainReceiver:
    """A subscription served by an executor; what it is given and gives is that of ``Receiver``.

    The node's own executor serves it. A node without one, like the monitor of the harness, gets one of a thread for as
    long as this lives.
    """

    spent = 0.0
    """See ``Receiving``: the executor's threads have other work, too."""

    def __init__(self, node: Node, message_type: type, topic: str, callback: Handler, qos: QoSProfile):
        self._node = node
        self._callback = callback
        self._stopped = False
        self._running = threading.Lock()
        # A copy, for rclpy writes what overrides into the profile that it is given.
        self.qos = copy.copy(qos)
        self._subscription = node.create_subscription(
            message_type,
            topic,
            self._hand_over,
            self.qos,
            raw=True,
            callback_group=MutuallyExclusiveCallbackGroup(),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self.topic = self._subscription.topic_name
        self._executor: SingleThreadedExecutor | None = None
        if node.executor is None:
            self._executor = SingleThreadedExecutor(context=node.context)
            self._executor.add_node(node)
            self._thread = threading.Thread(target=self._spin, name="plain receiver", daemon=True)
            self._thread.start()

    @property
    def publishers(self) -> int:
        """See ``Receiving``."""
        return self._subscription.get_publisher_count()

    def stop(self) -> None:
        """See ``Receiving``."""
        with self._running:
            self._stopped = True
        self._node.destroy_subscription(self._subscription)
        if self._executor is not None:
            self._executor.shutdown()
            self._thread.join()

    def _hand_over(self, data: bytes, about: dict) -> None:
        with self._running:
            if self._stopped:
                return
            try:
                # A copy, for a message's memory may be written to.
                self._callback(np.array(np.frombuffer(data, np.uint8)), about["source_timestamp"])
            except Exception as error:
                self._node.get_logger().error(
                    f"{self.topic}: {type(error).__name__} at a message: {error}", throttle_duration_sec=1.0
                )

    def _spin(self) -> None:
        while not self._stopped and self._node.context.ok():
            try:
                self._executor.spin_once(timeout_sec=0.2)
            except ExternalShutdownException:
                return
            except Exception as error:
                # A message that rclpy cannot read must not end the thread.
                self._node.get_logger().error(f"{self.topic}: {type(error).__name__}: {error}")


class StateFollower:
    """Label of a lifecycle node's state, by what the node itself publishes of its transitions; called, it tells it."""

    def __init__(self, node: LifecycleNode):
        self._label = "unconfigured"
        # In a group of its own: those of the services are busy with the transition.
        group = MutuallyExclusiveCallbackGroup()
        node.create_subscription(TransitionEvent, "~/transition_event", self._follow, 10, callback_group=group)

    def __call__(self) -> str:
        return self._label

    def _follow(self, event: TransitionEvent) -> None:
        self._label = event.goal_state.label


def publish_plain(publisher: Publisher, data: np.ndarray) -> None:
    """Publish a serialised message, uint8 [size].

    Raises:
        RuntimeError: the middleware does not take it.
    """
    try:
        publisher.publish(data.tobytes())
    except Exception as error:
        raise RuntimeError(f"cannot publish: {error}") from error
