"""Which way messages take: rcl's own functions beside rclpy, or public rclpy where those do not work.

The fast path (``receiver``, ``serialized_transfer``) knows private names of rclpy and the layout of structs of rcl,
which another distribution or middleware may change. It is tried before it is used; what does not work is replaced by
``plain``, which costs copies and time (``benchmarks/receiving.py``), never a pixel.
"""

import itertools
import os
import queue
import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import rclpy
from rclpy.callback_groups import CallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from seg_node.ros.transfer.plain import Handler, PlainReceiver, Receiving, StateFollower, publish_plain

FORCED_BY = "SEG_NODE_PLAIN_RCLPY"
"""Environment variable that chooses plain rclpy where it is set to anything but 0 or nothing."""

_COST = "frames are copied more often and wait for rclpy's executor (docs/performance.md)"
_TRIAL_S = 5.0
"""Seconds within which the message of the trial has to come back; it takes milliseconds where it does."""
_TRIAL_SIZE = (96, 128)
_numbers = itertools.count(1)
_lock = threading.Lock()
_chosen: str | None = None
# Where nobody has chosen yet, nothing is known to work but what is public.
_publish: Callable[[Publisher, np.ndarray], None] = publish_plain


def choose(node: Node) -> str:
    """Choose the path for this process, once.

    Args:
        node: that says on its log when plain rclpy is taken, and why; its context carries the trial.

    Returns:
        Why messages go by plain rclpy; empty where they take the fast path.
    """
    global _chosen, _publish
    with _lock:
        if _chosen is None:
            forced = os.environ.get(FORCED_BY, "") not in ("", "0")
            _chosen = f"{FORCED_BY} is set" if forced else _trouble(node)
            if _chosen:
                node.get_logger().warning(f"messages go by plain rclpy: {_chosen}; {_COST}")
            else:
                from seg_node.ros.transfer.serialized_transfer import publish_serialized as publish_fast

                _publish = publish_fast
        return _chosen


def forget() -> None:
    """Have the next ``choose`` choose anew."""
    global _chosen, _publish
    with _lock:
        _chosen, _publish = None, publish_plain


def receive(
    node: Node,
    message_type: type,
    topic: str,
    callback: Handler,
    qos: QoSProfile,
    gathering: Callable[[], float] = lambda: 0.0,
) -> Receiving:
    """Subscribe, by a thread of its own or, on plain rclpy, by the node's executor.

    Args:
        node: that subscribes.
        message_type: of the topic.
        topic: relative, absolute or private.
        callback: called with the bytes of each message as they came, uint8 [size], writable memory of their own, and
            when it was published, in nanoseconds of the publisher's system clock, 0 where the middleware does not tell.
            What it raises is logged.
        qos: overridable by the node's ``qos_overrides`` parameters.
        gathering: seconds for which messages gather, in the depth of ``qos``, after those that came were handed over;
            asked each time. Plain rclpy hands each over when it comes.
    """
    if choose(node):
        return PlainReceiver(node, message_type, topic, callback, qos)
    from seg_node.ros.transfer.receiver import Receiver

    return Receiver(node, message_type, topic, callback, qos, gathering)


def publish_serialized(publisher: Publisher, data: np.ndarray) -> None:
    """Publish a message.

    Args:
        publisher: of the message's type.
        data: the serialised message, uint8 [size], contiguous.

    Raises:
        RuntimeError: the middleware does not take it.
    """
    _publish(publisher, data)


def state_reader(
    node: LifecycleNode, group: CallbackGroup, transitions: threading.Lock, asked: Callable[[], None]
) -> Callable[[], str]:
    """What tells the label of a node's lifecycle state, such as ``active``; requests for transitions are served anew.

    Where rclpy keeps the state elsewhere than is known, it is followed by the node's own ``~/transition_event``.

    Args:
        node: whose state it is.
        group: see ``rclpy_gaps.serve_transitions``, as for the others.
        transitions: held during a transition.
        asked: hears that somebody has led the node through a transition.
    """
    plain = choose(node)
    try:
        from seg_node.ros.transfer.rclpy_gaps import lifecycle_state, serve_transitions

        serve_transitions(node, group, transitions, asked)
        lifecycle_state(node)
    except Exception as error:
        node.get_logger().warning(f"a transition that the state lacks has no answer: {type(error).__name__}: {error}")
    else:
        if not plain:
            return partial(lifecycle_state, node)
    return StateFollower(node)


def _trouble(node: Node) -> str:
    """What does not work of the fast path; empty if all does."""
    try:
        from seg_node.ros.transfer.rclpy_gaps import check_layout

        check_layout()
        return _round_trip(node)
    except Exception as error:
        # Whatever a changed library raises, plain rclpy has to take over.
        return f"{type(error).__name__}: {error}"


def _round_trip(node: Node) -> str:
    """Send a picture to ourselves, and say in what it came back different; empty if it is the same."""
    from rclpy.serialization import deserialize_message

    from seg_node.ros.transfer.receiver import Receiver
    from seg_node.ros.transfer.serialized_image import SerializedImage, serialized_mono8
    from seg_node.ros.transfer.serialized_transfer import publish_serialized as publish_fast

    pixels = np.random.default_rng().integers(0, 256, _TRIAL_SIZE, np.uint8)
    sent = serialized_mono8(pixels, SerializedImage(b"\0\1\0\0" + bytes(16)).header)
    came: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
    # A node of its own: the parameters for overriding QoS stay with a node. And of its own name: whoever looks for the
    # node that -r __node names would find this one, which has none of its services.
    trial = rclpy.create_node(
        f"_seg_node_trial_{os.getpid()}_{next(_numbers)}",
        context=node.context,
        use_global_arguments=False,
        start_parameter_services=False,
    )
    try:
        topic = f"{trial.get_fully_qualified_name()}/picture"
        receiver = Receiver(trial, Image, topic, lambda data, _: came.put(data.copy()), QoSProfile(depth=1))
        try:
            publisher = trial.create_publisher(Image, topic, QoSProfile(depth=1))
            for _ in range(int(_TRIAL_S / 0.01)):
                if publisher.get_subscription_count():
                    break
                time.sleep(0.01)
            publish_fast(publisher, sent)
            got = came.get(timeout=_TRIAL_S)
        except queue.Empty:
            return f"a message to itself did not come back within {_TRIAL_S:g} s"
        finally:
            receiver.stop()
    finally:
        trial.destroy_node()
    if got.tobytes() != sent.tobytes():
        return f"a message to itself came back changed: {got.size} bytes instead of {sent.size}, or others"
    image = deserialize_message(got.tobytes(), Image)
    if (image.height, image.width, image.encoding) != (*_TRIAL_SIZE, "mono8") or bytes(image.data) != pixels.tobytes():
        return "rclpy reads another picture than was written"
    return ""
