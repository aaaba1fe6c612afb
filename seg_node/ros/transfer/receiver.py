"""A subscription served by a thread of its own instead of the node's executor."""

import copy
import os
import select
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions

from seg_node.ros.transfer.rclpy_gaps import announce_messages, ready_events
from seg_node.ros.transfer.serialized_transfer import SerializedTaker

Handler = Callable[[np.ndarray, int], None]

_EVENTS_S = 1.0
"""Seconds between two looks at the subscription's events, which are for the log."""


class Receiver:
    """Takes the messages of one topic the moment they come and hands each to a callback, as the bytes that came.

    rclpy's executors build a wait set of everything that the node has, in Python, three times for each message. Worse,
    the one of several threads waits again while a message is on its way to one of them, and with Fast DDS a wait
    returns at once while a subscription that has events holds a message: a busy loop that keeps Python's global lock
    from whoever would take it, for up to 300 ms beside inference on two cores (``benchmarks/receiving.py``). Here
    the middleware itself wakes the thread that takes the message, and there is no wait set at all.

    Args:
        node: that subscribes.
        message_type: of the topic.
        topic: relative, absolute or private.
        callback: called with what ``SerializedTaker.take`` returns of each message, in the receiver's thread. What it
            raises is logged.
        qos: overridable by the node's ``qos_overrides`` parameters.
        gathering: see ``seg_node.ros.transfer.path.receive``.

    Attributes:
        topic: resolved name of the topic.
        qos: what the subscription asks for.
        spent: seconds of a core that the thread has taken so far.
    """

    def __init__(
        self,
        node: Node,
        message_type: type,
        topic: str,
        callback: Handler,
        qos: QoSProfile,
        gathering: Callable[[], float] = lambda: 0.0,
    ):
        self._node = node
        self._gathering = gathering
        self._callback = callback
        self._stopped = False
        self.spent = 0.0
        # A copy, for rclpy writes what overrides into the profile that it is given.
        self.qos = copy.copy(qos)
        self._subscription = node.create_subscription(
            message_type,
            topic,
            callback,
            self.qos,
            raw=True,
            callback_group=_NoExecutor(),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self.topic = self._subscription.topic_name
        self._taker = SerializedTaker(self._subscription)
        self._news = os.eventfd(0)
        announce_messages(self._subscription, self._news)
        self._thread = threading.Thread(target=self._receive, name="receiver", daemon=True)
        self._thread.start()

    @property
    def publishers(self) -> int:
        """How many there are that it receives from."""
        return self._subscription.get_publisher_count()

    def stop(self) -> None:
        """Unsubscribe; no callback is running or will run any more."""
        self._stopped = True
        os.eventfd_write(self._news, 1)
        self._thread.join()
        announce_messages(self._subscription, None)
        os.close(self._news)
        self._node.destroy_subscription(self._subscription)

    def _receive(self) -> None:
        news = select.poll()
        news.register(self._news, select.POLLIN)
        looked = 0.0
        while not self._stopped:
            # Fewer than announced where a newer one took the place of an older one. Without news it looks all the same.
            come = os.eventfd_read(self._news) if news.poll(1e3 * _EVENTS_S) else sys.maxsize
            while come and not self._stopped and self._survive("a message", self._take):
                come -= 1
            self.spent = time.thread_time()
            if (seconds := self._gathering()) > 0:
                time.sleep(seconds)
            # A context that was shut down, by Ctrl-C for instance, has no wait sets any more.
            if time.monotonic() - looked > _EVENTS_S and self._node.context.ok():
                self._survive("an event", self._handle_events)
                looked = time.monotonic()

    def _take(self) -> bool:
        """Whether there was a message."""
        taken = self._taker.take()
        if taken is not None:
            self._callback(*taken)
        return taken is not None

    def _handle_events(self) -> None:
        """Hand those that there are, of QoS that do not fit for instance, to rclpy's callbacks, which log them."""
        for event in ready_events(self._node, self._subscription.event_handlers):
            self._survive("an event", lambda of=event: of.callback(of.take_data()))

    def _survive(self, what: str, work: Callable[[], bool | None]) -> bool | None:
        """Result of some work, True where it raises: a message that rclpy cannot read must not end the thread."""
        try:
            return work()
        except Exception as error:
            self._node.get_logger().error(
                f"{self.topic}: {type(error).__name__} at {what}: {error}", throttle_duration_sec=1.0
            )
            return True


class _NoExecutor(CallbackGroup):
    """Keeps a subscription and its events out of the wait sets of all executors."""

    def can_execute(self, entity: object) -> bool:
        return False
