"""Serialised messages in memory that is used again: rclpy copies each once more on its way in and on its way out."""

from collections import deque
from collections.abc import Callable

import numpy as np
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription

from seg_node.ros.transfer.rclpy_gaps import SerializedMessage, free_message, message_of, publish_message, take_message

_KEPT = 4
"""Number of messages whose memory is kept for the next: one each in reception, in the slot, in work, in publication."""


class _Taken:
    """Memory of a message, kept for another one, or freed, with the last array that refers to it."""

    def __init__(self, spare: deque[SerializedMessage]):
        self._spare = spare
        try:
            self.message = spare.pop()
        except IndexError:
            self.message = message_of()

    # Bound here: at the end of the interpreter the module's names may be gone before the last message is.
    def __del__(self, free: Callable = free_message, kept: int = _KEPT):
        if len(self._spare) < kept:
            self._spare.append(self.message)
        else:
            free(self.message)

    @property
    def __array_interface__(self) -> dict:
        address = self.message.buffer or 0
        return {"version": 3, "typestr": "|u1", "shape": (self.message.length,), "data": (address, False)}


class _Spare(deque):
    """Memory for messages, freed with the last one."""

    def __del__(self, free: Callable = free_message):
        for message in self:
            free(message)


class SerializedTaker:
    """Takes the messages of a subscription.

    The memory of a message that nobody refers to any more takes up the next: it is still in the processor's cache, and
    the process does not grow by what comes to lie between messages.
    """

    def __init__(self, subscription: Subscription):
        self._subscription = subscription
        self._spare = _Spare()

    def take(self) -> tuple[np.ndarray, int] | None:
        """Take the next message.

        Returns:
            Its bytes as they came, uint8 [size], writable memory of their own, and when it was published, in
            nanoseconds of the publisher's system clock, 0 where the middleware does not tell; None where there is no
            message.

        Raises:
            RuntimeError: the middleware cannot hand it over.
        """
        taken = _Taken(self._spare)
        published = take_message(self._subscription, taken.message)
        return None if published is None else (np.asarray(taken), published)


def publish_serialized(publisher: Publisher, data: np.ndarray) -> None:
    """Publish a message.

    Args:
        publisher: of the message's type.
        data: the serialised message, uint8 [size], contiguous.

    Raises:
        RuntimeError: the middleware does not take it.
    """
    publish_message(publisher, message_of(data.ctypes.data, data.size))
