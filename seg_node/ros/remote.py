"""Other nodes as seen from outside: topics, parameters and lifecycle, by public rclpy alone.

It does what the commands ``ros2 topic``, ``ros2 param`` and ``ros2 lifecycle`` do, which ROS 2 from PyPI lacks.
"""

import importlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import rclpy
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import ParameterType, ParameterValue
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter, get_parameter_value, parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from rclpy.topic_endpoint_info import TopicEndpointInfo

from seg_node.core.errors import RunError, UserError

DISCOVERY_S = 3.0
"""Seconds for which a look at the graph waits: others announce themselves every 3 s at the latest."""
_ANSWER_S = 10.0
"""Longest wait for a node that is asked something."""
_TRANSITION_S = 180.0
"""Longest wait for a transition, in which a model may be loaded and compiled."""
_SHOWN_VALUES = 16
"""Number of values up to which a sequence of numbers is shown."""


class Remote:
    """An unnamed observer of the ROS graph, made by ``remote``."""

    def __init__(self, context: Context):
        self._node = rclpy.create_node(
            f"remote_{os.getpid()}", context=context, start_parameter_services=False, enable_rosout=False
        )
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)

    def leave(self) -> None:
        """Be seen by others no longer."""
        self._executor.shutdown()
        self._node.destroy_node()

    def topics(self) -> dict[str, tuple[str, int, int]]:
        """Type, number of publishers and number of subscribers of each topic, by name."""
        self._spin(DISCOVERY_S)
        count = self._node.count_publishers, self._node.count_subscribers
        found = sorted(self._node.get_topic_names_and_types())
        return {name: (", ".join(types), *(of(name) for of in count)) for name, types in found}

    def endpoints(self, topic: str) -> tuple[list[TopicEndpointInfo], list[TopicEndpointInfo]]:
        """Publishers and subscribers of a topic."""
        self._spin(DISCOVERY_S)
        return self._endpoints(topic)

    def _endpoints(self, topic: str) -> tuple[list[TopicEndpointInfo], list[TopicEndpointInfo]]:
        return self._node.get_publishers_info_by_topic(topic), self._node.get_subscriptions_info_by_topic(topic)

    def next_message(self, topic: str, timeout: float) -> Any:
        """Next message of a topic, the latched one where there is one.

        Raises:
            UserError: nobody publishes the topic.
            RunError: no message came within ``timeout`` seconds, or its type is not installed.
        """
        until = time.monotonic() + timeout
        while not (publishers := self._endpoints(topic)[0]) and time.monotonic() < until:
            self._spin(0.1)
        if not publishers:
            raise UserError(f"nobody publishes {topic}; `seg_node topics` lists what there is")
        latched = all(found.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for found in publishers)
        # Best effort is satisfied by every publisher.
        profile = QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        came: Future = Future(executor=self._executor)
        subscription = self._node.create_subscription(
            _message_type(publishers[0].topic_type),
            topic,
            lambda message: came.done() or came.set_result(message),
            profile,
        )
        try:
            self._executor.spin_until_future_complete(came, timeout_sec=max(until - time.monotonic(), 0.1))
        finally:
            self._node.destroy_subscription(subscription)
        if not came.done():
            raise RunError(f"no message on {topic} within {timeout:g} s; publishers: {len(publishers)}")
        return came.result()

    def state(self, node: str) -> str:
        """Lifecycle state of a node.

        Raises:
            RunError: the node does not answer.
        """
        return self._call(GetState, f"{node}/get_state", GetState.Request(), _ANSWER_S).current_state.label

    def change_state(self, node: str, transition: str) -> str:
        """Lead a node through a transition; returns the state that it is in then.

        Raises:
            RunError: the node does not answer, or the transition failed; the message says in which state it is.
        """
        request = ChangeState.Request()
        request.transition.label = transition
        before = self.state(node)
        done = self._call(ChangeState, f"{node}/change_state", request, _TRANSITION_S).success
        state = self.state(node)
        if not done:
            raise RunError(
                f"{node} did not {transition}: it was {before} and is {state}; its log and /diagnostics say why"
            )
        return state

    def parameters(self, node: str) -> dict[str, Any]:
        """Values of all parameters of a node, by name.

        Raises:
            RunError: the node does not answer.
        """
        client = self._parameter_client(node)
        names = sorted(self._result(client.list_parameters(), node, _ANSWER_S).result.names)
        values = self._result(client.get_parameters(names), node, _ANSWER_S).values
        return {name: parameter_value_to_python(value) for name, value in zip(names, values, strict=True)}

    def set_parameter(self, node: str, name: str, text: str) -> None:
        """Set a parameter.

        Args:
            node: full name.
            name: name of the parameter.
            text: value as YAML; its type follows from it, but whole numbers become what the parameter has.

        Raises:
            UserError: the node refuses the value; the message is the node's reason.
            RunError: the node does not answer.
        """
        client = self._parameter_client(node)
        (now,) = self._result(client.get_parameters([name]), node, _ANSWER_S).values or [ParameterValue()]
        value = parameter_value_to_python(get_parameter_value(text))
        if type(value) is int and now.type == ParameterType.PARAMETER_DOUBLE:
            value = float(value)
        parameter = Parameter(name, value=value)
        (answer,) = self._result(client.set_parameters([parameter]), node, _TRANSITION_S).results
        if not answer.successful:
            raise UserError(f"{node} refuses {name} = {text}: {answer.reason}")

    def _parameter_client(self, node: str) -> AsyncParameterClient:
        client = AsyncParameterClient(self._node, node)
        if not client.wait_for_services(_ANSWER_S):
            raise _silent(node)
        return client

    def _call(self, kind: type, service: str, request: Any, timeout: float) -> Any:
        node = service.rpartition("/")[0]
        client = self._node.create_client(kind, service)
        if not client.wait_for_service(_ANSWER_S):
            raise _silent(node)
        return self._result(client.call_async(request), node, timeout)

    def _result(self, future: Future, node: str, timeout: float) -> Any:
        self._executor.spin_until_future_complete(future, timeout_sec=timeout)
        if not future.done():
            raise RunError(f"{node} has not answered within {timeout:g} s")
        return future.result()

    def _spin(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)


@contextmanager
def remote() -> Iterator[Remote]:
    """Join the ROS graph for a while, with a context that nobody shares."""
    context = Context()
    rclpy.init(args=[], context=context)
    try:
        graph = Remote(context)
        try:
            yield graph
        finally:
            graph.leave()
    finally:
        context.shutdown()


def shown(value: Any) -> Any:
    """A message as plain values for YAML: mappings, lists, numbers and text; many numbers by their count."""
    if hasattr(value, "get_fields_and_field_types"):
        return {name: shown(getattr(value, name)) for name in value.get_fields_and_field_types()}
    if isinstance(value, bytes):
        return value[0] if len(value) == 1 else f"{len(value)} bytes"
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {key: shown(item) for key, item in value.items()}
    values = value.tolist() if hasattr(value, "tolist") else list(value)
    many = len(values) > _SHOWN_VALUES and isinstance(values[0], (bool, int, float))
    return f"{len(values)} values" if many else [shown(item) for item in values]


def _message_type(name: str) -> type:
    """Class of a message, such as ``sensor_msgs/msg/Image``."""
    package, _, kind = name.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), kind)
    except (ImportError, AttributeError) as error:
        raise RunError(f"messages of type {name} cannot be read: {error}") from error


def _silent(node: str) -> RunError:
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    return RunError(f"{node} does not answer: is it running, under this name, with ROS_DOMAIN_ID={domain}?")
