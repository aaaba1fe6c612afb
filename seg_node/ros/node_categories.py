"""The categories of another node's masks, as that node tells them in its parameters."""

import time

from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.task import Future

from seg_node.core.errors import UserError
from seg_node.core.taxonomy import EIGHT, Taxonomy

_EVERY_S = 1.0
"""Seconds between two questions: a model may be swapped, and a node started anew."""


class NodeCategories:
    """Asks a segmentation node for its categories, time and again.

    Args:
        node: that asks; its executor brings the answers.
        of: full name of the segmentation node, or the topic of its masks, whose publisher it is then.

    Attributes:
        taxonomy: what it told last; the eight before, and where a node tells none, such as a player of bags.
    """

    def __init__(self, node: Node, *, name: str = "", topic: str = ""):
        self.taxonomy: Taxonomy = EIGHT
        self.told = False
        """Whether the node has told them."""
        self._node, self._name, self._topic = node, name, topic
        self._client: Client | None = None
        self._answer: Future | None = None
        self._next = 0.0

    def ask(self) -> None:
        """Ask again if it is time; the answer comes later. To be called a few times a second."""
        if (now := time.monotonic()) < self._next or not (name := self._name or self._publisher()):
            return
        service = f"{name}/get_parameters"
        if self._client is None or self._client.srv_name != service:
            self.forget()
            self._client = self._node.create_client(GetParameters, service)
        if self._answer is not None and not self._answer.done():
            self._client.remove_pending_request(self._answer)
            self._answer = None
        if self._client.service_is_ready():
            self._next = now + _EVERY_S
            self._answer = self._client.call_async(GetParameters.Request(names=["category_names", "category_colors"]))
            self._answer.add_done_callback(self._on_answer)

    def forget(self) -> None:
        """Ask no longer."""
        if self._client is not None:
            self._node.destroy_client(self._client)
        self._client = self._answer = None

    def _publisher(self) -> str:
        """Full name of the node that publishes the topic; empty where there is none."""
        for info in self._node.get_publishers_info_by_topic(self._topic):
            # Before a participant has told its name, it has one that nobody can call.
            if info.node_name and not info.node_name.startswith("_NODE_"):
                return f"{info.node_namespace.rstrip('/')}/{info.node_name}"
        return ""

    def _on_answer(self, answer: Future) -> None:
        if answer is not self._answer or answer.exception() is not None:
            return
        values = answer.result().values
        kinds = [Parameter.Type(value.type) for value in values]
        if kinds != [Parameter.Type.STRING_ARRAY, Parameter.Type.INTEGER_ARRAY]:
            # Not one of ours: its masks are taken for the eight.
            self.taxonomy, self.told = EIGHT, False
            return
        names, colours = map(parameter_value_to_python, values)
        palette = tuple(tuple(map(int, colours[i : i + 3])) for i in range(0, len(colours), 3))
        try:
            taxonomy = Taxonomy(tuple(names), palette)
        except UserError as error:
            self._node.get_logger().warning(f"{self._client.srv_name}: {error}", throttle_duration_sec=10.0)
            return
        self.told = True
        # The same object as long as they are the same: a legend is drawn once.
        if taxonomy != self.taxonomy:
            self.taxonomy = taxonomy
