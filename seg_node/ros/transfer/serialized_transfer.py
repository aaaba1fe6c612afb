"""Serialised messages by rcl's own functions: rclpy copies each once more on its way in and on its way out.

They are of rcl's public interface (``rcl/subscription.h``, ``rcl/publisher.h``), and rclpy hands out the addresses of
what they work on (``pointer``).
"""

import ctypes
from collections import deque
from collections.abc import Callable

import numpy as np
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription

_OK, _NOTHING_TAKEN = 0, 401
"""``RCL_RET_OK`` and ``RCL_RET_SUBSCRIPTION_TAKE_FAILED`` of ``rcl/types.h``."""
_ERROR_BYTES = 1024
"""``RCUTILS_ERROR_MESSAGE_MAX_LENGTH``."""
_KEPT = 4
"""So many messages' memory is kept for the next: a frame each in reception, in the slot, in work and in publication."""
_INFO_WORDS = 32
"""More than enough for an ``rmw_message_info_t``, which begins with ``source_timestamp``."""


class _Allocator(ctypes.Structure):
    """``rcutils_allocator_t``."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("allocate", "deallocate", "reallocate", "zero_allocate", "state")]


class _Array(ctypes.Structure):
    """``rcl_serialized_message_t``, which is ``rcutils_uint8_array_t``."""

    _fields_ = [
        ("buffer", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("capacity", ctypes.c_size_t),
        ("allocator", _Allocator),
    ]


class _ErrorString(ctypes.Structure):
    """``rcutils_error_string_t``."""

    _fields_ = [("text", ctypes.c_char * _ERROR_BYTES)]


_libc = ctypes.CDLL(None)
_rcl, _rcutils = ctypes.CDLL("librcl.so"), ctypes.CDLL("librcutils.so")
_rcutils.rcutils_get_default_allocator.restype = _Allocator
_rcutils.rcutils_get_error_string.restype = _ErrorString
_rcutils.rcutils_uint8_array_fini.argtypes = [ctypes.POINTER(_Array)]
_rcl.rcl_take_serialized_message.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Array), ctypes.c_void_p, ctypes.c_void_p]
_rcl.rcl_publish_serialized_message.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Array), ctypes.c_void_p]
_rcl.rcl_subscription_set_on_new_message_callback.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
_ALLOCATOR = _rcutils.rcutils_get_default_allocator()


class _Taken:
    """Memory of a message, kept for another one, or freed, with the last array that refers to it."""

    def __init__(self, spare: deque[_Array]):
        self._spare = spare
        try:
            self.message = spare.pop()
        except IndexError:
            self.message = _Array(allocator=_ALLOCATOR)

    # Bound here: at the end of the interpreter the module's names may be gone before the last message is.
    def __del__(self, free: Callable = _rcutils.rcutils_uint8_array_fini, kept: int = _KEPT):
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

    def __del__(self, free: Callable = _rcutils.rcutils_uint8_array_fini):
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
        taken, about = _Taken(self._spare), (ctypes.c_int64 * _INFO_WORDS)()
        with self._subscription.handle:
            status = _rcl.rcl_take_serialized_message(self._subscription.handle.pointer, taken.message, about, None)
        if status == _NOTHING_TAKEN:
            _rcutils.rcutils_reset_error()
            return None
        _check(status, "take a message")
        return np.asarray(taken), about[0]


def announce_messages(subscription: Subscription, eventfd: int | None) -> None:
    """Have the middleware write to an eventfd whenever messages have come, or, with None, no longer.

    Raises:
        RuntimeError: the middleware cannot.
    """
    # rcl calls back with what it was given and the number of messages: just the arguments of eventfd_write.
    write = ctypes.cast(_libc.eventfd_write, ctypes.c_void_p) if eventfd is not None else None
    with subscription.handle:
        status = _rcl.rcl_subscription_set_on_new_message_callback(subscription.handle.pointer, write, eventfd)
    _check(status, "announce messages")


def publish_serialized(publisher: Publisher, data: np.ndarray) -> None:
    """Publish a message.

    Args:
        publisher: of the message's type.
        data: the serialised message, uint8 [size], contiguous.

    Raises:
        RuntimeError: the middleware does not take it.
    """
    message = _Array(data.ctypes.data, data.size, data.size, _ALLOCATOR)
    with publisher.handle:
        status = _rcl.rcl_publish_serialized_message(publisher.handle.pointer, message, None)
    _check(status, "publish")


def _check(status: int, what: str) -> None:
    if status != _OK:
        reason = _rcutils.rcutils_get_error_string().text.decode(errors="replace")
        _rcutils.rcutils_reset_error()
        raise RuntimeError(f"cannot {what}: rcl says {status}: {reason}")
