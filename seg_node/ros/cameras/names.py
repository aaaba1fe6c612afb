"""Names of a node's cameras, and the topics and parameters that are under each."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.validate_topic_name import validate_topic_name

from seg_node.core.errors import UserError
from seg_node.core.propagation.budget import SHARE
from seg_node.core.scheduling.turns import GREATEST_PRIORITY
from seg_node.ros.parameters import PARAMETERS, Spec

OF_ONE_CAMERA: dict[str, Spec] = {
    "priority": Spec(
        1, "Turns of this camera, while all wait, for each one of a camera of priority 1.", range=(1, GREATEST_PRIORITY)
    ),
}
"""Parameters that make sense only where there are several."""

OF_ALL_CAMERAS: dict[str, Spec] = {
    "propagate_share": Spec(
        SHARE,
        "Share of the cores that masks of now of all cameras may take together while frames wait for inference.",
        range=(0.01, 1.0),
    ),
}
"""Parameters of the node that it has only where there are several cameras."""

SHARED = (
    "warm_up_size",
    "image_transport",
    "max_age_ms",
    "deadline_ms",
    "camera_timeout_ms",
    "expected_rate_hz",
    "mask_deadline_ms",
    "patience",
    "propagate",
    "propagate_max_age_ms",
    "forecast_ms",
)
"""Parameters of the node that each camera has as its own, too; the node's are what they begin with."""


@dataclass(frozen=True)
class CameraName:
    """A camera's name; empty for the only one of a node whose parameter ``cameras`` is empty.

    Args:
        node: that the camera belongs to.
        name: without slashes.
    """

    node: Node
    name: str = ""

    def topic(self, topic: str) -> str:
        """Name of one of its topics: ``NAME/image`` of ``image``, ``~/NAME/mask`` of ``~/mask``."""
        private, below = ("~/", topic.removeprefix("~/")) if topic.startswith("~/") else ("", topic)
        return f"{private}{self.name}/{below}" if self.name else topic

    def parameter(self, parameter: str) -> str:
        """Full name of one of its parameters."""
        return f"{self.name}.{parameter}" if self.name else parameter

    def value(self, parameter: str) -> Any:
        """Value of one of its parameters; of one that only several cameras have, the default."""
        if not self.name and parameter in OF_ONE_CAMERA:
            return OF_ONE_CAMERA[parameter].default
        return self.node.get_parameter(self.parameter(parameter)).value

    def values(self, attributes: Mapping[str, str]) -> dict[str, Any]:
        """Values of parameters, by the attributes that they set."""
        return {attribute: self.value(name) for name, attribute in attributes.items()}

    def changes(self, parameters: Mapping[str, Any], attributes: Mapping[str, str]) -> dict[str, Any]:
        """What parameters that were set, by full name, say of attributes."""
        named = {self.parameter(name): attribute for name, attribute in attributes.items()}
        return {named[name]: value for name, value in parameters.items() if name in named}

    @property
    def full_name(self) -> str:
        """What its topics begin with, for people and for records."""
        return "/".join(filter(None, (self.node.get_fully_qualified_name(), self.name)))


def check_names(names: Sequence[str]) -> None:
    """See that cameras can be told apart, and can be part of topics and parameters.

    Raises:
        UserError: a name is no part of a ROS 2 name, or is there twice.
    """
    for name in names:
        if wrong := _what_is_wrong(name):
            raise UserError(
                f"cameras has {name!r}: {wrong}; expected a letter, then letters, digits and single underscores, "
                "such as front_left"
            )
        if list(names).count(name) > 1:
            raise UserError(f"cameras has {name!r} more than once; each camera needs a name of its own")


def _what_is_wrong(name: str) -> str:
    if not name:
        return "it is empty"
    if strange := re.search(r"[^A-Za-z0-9_]", name):
        return f"{strange[0]!r} cannot be part of it"
    if not name[0].isalpha():
        return f"it begins with {name[0]!r}"
    if "__" in name:
        return "it has two underscores in a row"
    try:
        validate_topic_name(f"{name}/image")
    except InvalidTopicNameException as error:
        return str(error)
    return ""


def camera_specs(node: Node) -> dict[str, Spec]:
    """Parameters of a node's cameras, by full name; what they share with the node begins with the node's values.

    Without cameras there are none, not even those of all.

    Raises:
        UserError: see ``check_names``.
    """
    names = node.get_parameter("cameras").value
    check_names(names)
    specs = OF_ONE_CAMERA | {
        name: replace(PARAMETERS[name], default=_like(PARAMETERS[name].default, node.get_parameter(name).value))
        for name in SHARED
    }
    of_each = {f"{camera}.{name}": spec for camera in names for name, spec in specs.items()}
    return OF_ALL_CAMERAS | of_each if names else {}


def _like(default: Any, value: Any) -> Any:
    """A value as the default has it: rclpy gives arrays back for lists."""
    return list(value) if isinstance(default, list) else value


def misplaced(parameter: str, names: Sequence[str]) -> str:
    """Why a parameter of the node cannot be set any more: each camera has its own. Empty if it can."""
    if not names or parameter not in SHARED:
        return ""
    own = ", ".join(f"{name}.{parameter}" for name in names)
    return f"{parameter} is what the cameras begin with, and they have; set {own}"
