"""A subscription served by a thread of its own instead of the node's executor."""

import threading
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription


class Receiver:
    """Takes the messages of one topic the moment they come and hands each to a callback.

    rclpy's executors build a wait set of everything that the node has, in Python, three times for each message: 15 ms
    of a processor that is busy with inference, during which the next camera frame overwrites one that nobody has
    taken. A wait set of one subscription, built once, costs nothing to speak of. It is what
    ``rclpy.wait_for_message`` does, in a loop.

    Args:
        node: that subscribes.
        message_type: of the topic.
        topic: relative, absolute or private.
        callback: called with each message, in the receiver's thread. What it raises is logged.
        qos: overridable by the node's ``qos_overrides`` parameters.
    """

    def __init__(self, node: Node, message_type: type, topic: str, callback: Callable[[Any], None], qos: QoSProfile):
        self._node = node
        self._callback = callback
        self._stopped = False
        self._subscription = node.create_subscription(
            message_type,
            topic,
            callback,
            qos,
            callback_group=_EventsOnly(),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._wake = GuardCondition(callback=None, callback_group=None, context=node.context)
        self._thread = threading.Thread(target=self._receive, name="receiver", daemon=True)
        self._thread.start()

    @property
    def topic(self) -> str:
        """Resolved name of the topic."""
        return self._subscription.topic_name

    def stop(self) -> None:
        """Unsubscribe; no callback is running or will run any more."""
        self._stopped = True
        self._wake.trigger()
        self._thread.join()
        self._wake.destroy()
        self._node.destroy_subscription(self._subscription)

    def _receive(self) -> None:
        subscription, wake = self._subscription, self._wake
        with subscription.handle, wake.handle, self._node.context.handle:
            wait_set = _rclpy.WaitSet(1, 1, 0, 0, 0, 0, self._node.context.handle)
            while not self._stopped:
                wait_set.clear_entities()
                wait_set.add_subscription(subscription.handle)
                wait_set.add_guard_condition(wake.handle)
                wait_set.wait(-1)
                while not self._stopped and self._take():
                    pass

    def _take(self) -> bool:
        """Whether there was a message."""
        try:
            taken = self._subscription.handle.take_message(self._subscription.msg_type, self._subscription.raw)
            if taken is not None:
                self._callback(taken[0])
        except Exception as error:
            # A message that rclpy cannot read, for instance: it must not end the thread.
            self._node.get_logger().error(
                f"{self.topic}: {type(error).__name__} at a message: {error}", throttle_duration_sec=1.0
            )
            return True
        return taken is not None


class _EventsOnly(ReentrantCallbackGroup):
    """Keeps a subscription out of the executors' wait sets, but not its events: QoS that do not fit are logged."""

    def can_execute(self, entity: object) -> bool:
        return not isinstance(entity, Subscription)
