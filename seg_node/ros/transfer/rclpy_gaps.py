"""What rclpy does not offer: the one file that knows its private names and calls rcl beside it.

The functions of rcl are of its public interface (``rcl/subscription.h``, ``rcl/publisher.h``), and rclpy hands out the
addresses of what they work on (``pointer``).
"""

import ctypes
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import EventHandler
from rclpy.executors import MultiThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription

_OK, _NOTHING_TAKEN = 0, 401
"""``RCL_RET_OK`` and ``RCL_RET_SUBSCRIPTION_TAKE_FAILED`` of ``rcl/types.h``."""
_ERROR_BYTES = 1024
"""``RCUTILS_ERROR_MESSAGE_MAX_LENGTH``."""
_INFO_WORDS = 32
"""More than enough for an ``rmw_message_info_t``, which begins with ``source_timestamp``."""


class _Allocator(ctypes.Structure):
    """``rcutils_allocator_t``."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("allocate", "deallocate", "reallocate", "zero_allocate", "state")]


class SerializedMessage(ctypes.Structure):
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
_MESSAGE = ctypes.POINTER(SerializedMessage)
_rcutils.rcutils_get_default_allocator.restype = _Allocator
_rcutils.rcutils_get_error_string.restype = _ErrorString
_rcutils.rcutils_uint8_array_fini.argtypes = [_MESSAGE]
_rcl.rcl_take_serialized_message.argtypes = [ctypes.c_void_p, _MESSAGE, ctypes.c_void_p, ctypes.c_void_p]
_rcl.rcl_publish_serialized_message.argtypes = [ctypes.c_void_p, _MESSAGE, ctypes.c_void_p]
_rcl.rcl_subscription_set_on_new_message_callback.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
_ALLOCATOR = _rcutils.rcutils_get_default_allocator()

free_message: Callable[[SerializedMessage], int] = _rcutils.rcutils_uint8_array_fini
"""Frees the memory of a message that was taken."""


def message_of(address: int = 0, size: int = 0) -> SerializedMessage:
    """A message in memory of somebody else, or, without an address, one into which another can be taken."""
    return SerializedMessage(address, size, size, _ALLOCATOR)


def check_layout() -> None:
    """Try the structs on memory of the C library: a layout that has changed shows where rcl writes its fields.

    Raises:
        RuntimeError: a field is not where it is looked for.
    """
    message, sizes = message_of(), (24, 96)
    allocator = ctypes.byref(_ALLOCATOR)
    status = _rcutils.rcutils_uint8_array_init(ctypes.byref(message), ctypes.c_size_t(sizes[0]), allocator)
    _check(status, "make a message")
    found = [message.capacity]
    status = _rcutils.rcutils_uint8_array_resize(ctypes.byref(message), ctypes.c_size_t(sizes[1]))
    _check(status, "resize a message")
    found += [message.capacity]
    if tuple(found) != sizes or message.length or not message.buffer:
        raise RuntimeError(f"messages of rcl are laid out otherwise: capacities {found} instead of {list(sizes)}")
    _check(free_message(message), "free a message")


def take_message(subscription: Subscription, message: SerializedMessage) -> int | None:
    """Take the next message of a subscription.

    Args:
        subscription: what is taken from.
        message: takes up the bytes as they came; its memory grows where it is too small.

    Returns:
        When the message was published, in nanoseconds of the publisher's system clock, 0 where the middleware does not
        tell; None where there is no message.

    Raises:
        RuntimeError: the middleware cannot hand it over.
    """
    about = (ctypes.c_int64 * _INFO_WORDS)()
    with subscription.handle:
        status = _rcl.rcl_take_serialized_message(subscription.handle.pointer, message, about, None)
    if status == _NOTHING_TAKEN:
        _rcutils.rcutils_reset_error()
        return None
    _check(status, "take a message")
    return about[0]


def publish_message(publisher: Publisher, message: SerializedMessage) -> None:
    """Publish a message.

    Raises:
        RuntimeError: the middleware does not take it.
    """
    with publisher.handle:
        status = _rcl.rcl_publish_serialized_message(publisher.handle.pointer, message, None)
    _check(status, "publish")


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


def _check(status: int, what: str) -> None:
    if status != _OK:
        reason = _rcutils.rcutils_get_error_string().text.decode(errors="replace")
        _rcutils.rcutils_reset_error()
        raise RuntimeError(f"cannot {what}: rcl says {status}: {reason}")


def ready_events(node: Node, events: Iterable[EventHandler]) -> Iterator[EventHandler]:
    """Those of some events that have something to take; no executor may serve them."""
    events = list(events)
    with ExitStack() as in_use:
        for entity in (node.context.handle, *events):
            in_use.enter_context(entity)
        wait_set = _rclpy.WaitSet(0, 0, 0, 0, 0, len(events), node.context.handle)
        wait_set.clear_entities()
        for event in events:
            event.add_to_wait_set(wait_set)
        wait_set.wait(0)
        yield from (event for event in events if event.is_ready(wait_set))


def lifecycle_state(node: LifecycleNode) -> str:
    """Label of a node's lifecycle state, such as ``active``."""
    return node._state_machine.current_state[1]


def serve_transitions(
    node: LifecycleNode, group: CallbackGroup, transitions: threading.Lock, asked: Callable[[], None]
) -> None:
    """Have requests for a transition served beside everything else, and answered at once where there can be none.

    By default they are served in the node's default group, so that its clock stands still during a transition; and
    rclpy raises, and ends the node, where the state does not have the transition.

    Args:
        node: whose service it is.
        group: reentrant, so that a request is answered while a transition goes on.
        transitions: held during a transition; a request that finds it held is refused.
        asked: hears that somebody has led the node through a transition, or tried to.
    """
    service = node._service_change_state
    change_state = service.callback

    def refuse_or_change(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        if not transitions.acquire(blocking=False):
            node.get_logger().warning(f"no transition while the node is {lifecycle_state(node)}; ask again afterwards")
            response.success = False
            return response
        try:
            response = change_state(request, response)
            asked()
        except RuntimeError as error:
            node.get_logger().warning(f"no such transition from {lifecycle_state(node)}: {error}")
            response.success = False
        finally:
            transitions.release()
        return response

    service.callback, service.callback_group = refuse_or_change, group
    group.add_entity(service)


def set_read_only(node: Node, parameters: list[Parameter]) -> None:
    """Set parameters of a node that others may only read; they are told of it like of any change.

    Raises:
        RuntimeError: a callback of the node's refuses it.
    """
    descriptors = {parameter.name: node.describe_parameter(parameter.name) for parameter in parameters}
    result = node._set_parameters_atomically_common(parameters, descriptors)
    if not result.successful:
        raise RuntimeError(f"cannot set {', '.join(descriptors)}: {result.reason}")


def finish_callbacks(executor: MultiThreadedExecutor, timeout: float) -> bool:
    """Wait for the callbacks that an executor, which no longer spins, has begun: its own shutdown does not.

    Returns:
        Whether they ended within ``timeout`` seconds.
    """
    pool, until = executor._executor, time.monotonic() + timeout
    pool.shutdown(wait=False)
    for thread in pool._threads:
        thread.join(max(until - time.monotonic(), 0.0))
    return not any(thread.is_alive() for thread in pool._threads)
