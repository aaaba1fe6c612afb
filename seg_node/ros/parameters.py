"""The node's parameters: the one table from which they are declared, checked and documented."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node
from rclpy.parameter import Parameter

from seg_node.core.bundle import DEFAULT_MODEL
from seg_node.core.bundle.input_size import GREATEST_SIDE, LEAST_SIDE
from seg_node.core.engines import ENGINES, PRECISIONS
from seg_node.core.taxonomy import CATEGORY_NAMES, PALETTE_RGB

TRANSPORTS = ("raw", "compressed")
GIVE_UP = ("retry", "exit", "stay")
SETTLED = ("unconfigured", "inactive", "active", "finalized")
"""Lifecycle states in which no transition goes on."""


@dataclass(frozen=True)
class Spec:
    """One parameter."""

    default: Any
    description: str
    choices: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    read_only: bool = False
    when: str = "any"
    """In which lifecycle states it can be changed: ``any``, ``settled`` (not in a transition), ``inactive`` (nor while
    active) or ``unconfigured``."""


PARAMETERS: dict[str, Spec] = {
    "profile": Spec(
        "",
        "File that `seg_node tune` wrote: defaults of model, engine, precision, input_size, threads, propagate and"
        " forecast_ms; empty for none.",
        read_only=True,
    ),
    "model": Spec(
        DEFAULT_MODEL,
        "Bundle: name of a shipped one or path of a folder. Setting it swaps the model.",
        when="settled",
    ),
    "engine": Spec(
        "auto", "What runs the model; auto picks the fastest.", choices=("auto", *ENGINES), when="unconfigured"
    ),
    "threads": Spec(
        0, "Processor threads for one inference; 0 leaves it to the engine.", range=(0, 1024), when="unconfigured"
    ),
    "precision": Spec(
        "auto",
        "Precision of the computation; auto takes int8 or bf16 where that is faster and the mask is as good.",
        choices=PRECISIONS,
        when="unconfigured",
    ),
    "input_size": Spec(
        [0, 0],
        "Height and width in pixels of a frame in the network: fewer are faster and see less; 0, 0: the bundle's own.",
        when="unconfigured",
    ),
    "warm_up_size": Spec(
        [720, 1280], "Height and width in pixels of the camera, compiled for in advance.", when="unconfigured"
    ),
    "cameras": Spec(
        [], "Names of several cameras, each with topics and parameters of its own; empty for one.", read_only=True
    ),
    "image_transport": Spec("raw", "Subscribe to image or image/compressed.", choices=TRANSPORTS, when="inactive"),
    "max_age_ms": Spec(
        0.0, "Frames older than this by their stamp are dropped as stale; 0 for no limit.", range=(0.0, 3.6e6)
    ),
    "deadline_ms": Spec(
        0.0, "Masks that come later than this after their frame are marked late; 0 for never.", range=(0.0, 3.6e6)
    ),
    "inference_timeout_ms": Spec(
        10_000.0,
        "An inference that has not returned after this is given up: its frame has failed; 0 to wait for ever.",
        range=(0.0, 3.6e6),
    ),
    "failure_limit": Spec(
        30, "Number of failed frames in a row that deactivates the node; 0 for no limit.", range=(0, 1_000_000)
    ),
    "camera_timeout_ms": Spec(
        2000.0,
        "Time without a frame after which /diagnostics says ERROR, and WARN after half of it; 0 for never.",
        range=(0.0, 3.6e6),
    ),
    "expected_rate_hz": Spec(
        0.0, "Masks per second below which /diagnostics says WARN; 0 for any.", range=(0.0, 1000.0)
    ),
    "mask_deadline_ms": Spec(
        0.0,
        "Deadline that ~/mask offers, for subscribers that ask for one of at least that; 0 for none.",
        range=(0.0, 3.6e6),
        read_only=True,
    ),
    "patience": Spec(
        1.0,
        "Share of a waiting frame's age within which the next one must be due to be waited for; 0 to begin at once.",
        range=(0.0, 1.0),
    ),
    "propagate": Spec(
        True, "Carry the newest mask along to each frame, for ~/mask_now, while somebody subscribes to that topic."
    ),
    "propagate_max_age_ms": Spec(
        1000.0,
        "Nothing is published on ~/mask_now that would come from a frame older than this.",
        range=(1.0, 10_000.0),
    ),
    "forecast_ms": Spec(
        0.0,
        "Time ahead of its frame for which a mask of ~/mask_now holds, and is stamped; 0 for the frame's own time.",
        range=(0.0, 200.0),
    ),
    "autostart": Spec(
        True, "Configure and activate at start, for those without a lifecycle supervisor.", read_only=True
    ),
    "on_give_up": Spec(
        "retry",
        "What an autostarting node does that cannot configure or gave up: retry with growing pauses, exit, or stay.",
        choices=GIVE_UP,
    ),
    "category_names": Spec(list(CATEGORY_NAMES), "Name of each mask value, as the model has it.", read_only=True),
    "category_colors": Spec(
        [int(v) for v in PALETTE_RGB.flatten()],
        "Red, green, blue of each mask value, as the model has it.",
        read_only=True,
    ),
}


LIMITS = {"max_age_ms": "max_age", "deadline_ms": "deadline", "patience": "patience", "priority": "priority"}
"""Parameters that can change while frames come, and the attributes of ``Segmenter`` that they set."""

WORKER_LIMITS = {"inference_timeout_ms": "inference_timeout", "failure_limit": "failure_limit"}
"""The same of ``InferenceWorker``."""

BUDGET = {"propagate_share": "share"}
"""The same of ``Budget``, where there are several cameras."""

PROPAGATION = {"propagate": "enabled", "propagate_max_age_ms": "max_age", "forecast_ms": "horizon"}
"""The same of ``PropagationWorker``."""


def declare_parameters(
    node: Node, specs: Mapping[str, Spec] = PARAMETERS, further: Callable[[], Mapping[str, Spec]] = dict
) -> dict[str, Spec]:
    """Declare all parameters on a node, with descriptors.

    A whole number is taken for a parameter that has a point, at start and when it is set: ROS 2 reads ``200`` as an
    integer, which is no double to it.

    Args:
        node: that is to have them.
        specs: parameters by name.
        further: called once those have values: more of them.

    Returns:
        All that were declared.

    Raises:
        InvalidParameterTypeException: a value that was given is of another type.
        InvalidParameterValueException: it is out of range.
    """
    _declare(node, specs)
    more = further()
    _declare(node, more)
    declared = {**specs, **more}
    fractional = {name for name, spec in declared.items() if isinstance(spec.default, float)}
    # One for all: of several callbacks, rclpy takes what the last one makes of what was given.
    node.add_pre_set_parameters_callback(
        lambda given: [_with_point(one) if one.name in fractional else one for one in given]
    )
    return declared


def _declare(node: Node, specs: Mapping[str, Spec]) -> None:
    for name, spec in specs.items():
        constraints = f"One of {', '.join(spec.choices)}." if spec.choices else ""
        descriptor = ParameterDescriptor(
            description=spec.description, additional_constraints=constraints, read_only=spec.read_only
        )
        if spec.range and isinstance(spec.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=spec.range[0], to_value=spec.range[1])]
        elif spec.range:
            descriptor.integer_range = [IntegerRange(from_value=spec.range[0], to_value=spec.range[1], step=1)]
        if spec.default == []:
            _declare_texts(node, name, descriptor)
            continue
        try:
            node.declare_parameter(name, spec.default, descriptor)
        except InvalidParameterTypeException:
            given = value_given(node, name)
            if not isinstance(spec.default, float) or type(given) is not int:
                raise
            node.declare_parameter(name, float(given), descriptor, ignore_override=True)


def _declare_texts(node: Node, name: str, descriptor: ParameterDescriptor) -> None:
    """Declare a list of texts that is empty by default, which to rclpy would be one of bytes."""
    kind = Parameter.Type.STRING_ARRAY
    if value_given(node, name):
        node.declare_parameter(name, kind, descriptor)
        return
    node.declare_parameter(name, kind, ParameterDescriptor(), ignore_override=True)
    node.set_parameters([Parameter(name, kind, [])])
    descriptor.type = kind.value
    node.set_descriptor(name, descriptor)


def value_given(node: Node, name: str) -> Any:
    """What the command line or a file gives for a parameter that is not declared yet, of whatever type; or None."""
    value = node.declare_parameter(name, descriptor=ParameterDescriptor(dynamic_typing=True)).value
    node.undeclare_parameter(name)
    return value


def _with_point(parameter: Parameter) -> Parameter:
    whole = parameter.type_ is Parameter.Type.INTEGER
    return Parameter(parameter.name, value=float(parameter.value)) if whole else parameter


def check(parameter: Parameter, state: str, specs: Mapping[str, Spec] = PARAMETERS) -> str:
    """Find what is wrong with a new value beyond type and range, which rclpy checks.

    Args:
        parameter: with the new value.
        state: lifecycle state of the node.
        specs: its parameters.

    Returns:
        What is wrong and what to do, empty if nothing is.
    """
    spec, value = specs.get(parameter.name), parameter.value
    if spec is None:
        return ""
    if spec.choices and value not in spec.choices:
        return f"{parameter.name} is {value!r}; expected one of {', '.join(spec.choices)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{parameter.name} is {value}; expected a finite number"
    what = parameter.name.rpartition(".")[2]
    if what == "warm_up_size" and (len(value) != 2 or not all(0 < v <= 16384 for v in value)):
        return f"{parameter.name} is {list(value)}; expected [height, width] in pixels, each from 1 to 16384"
    if parameter.name == "input_size" and not _is_input_size(value):
        allowed = (
            f"[height, width] in pixels, each from {LEAST_SIDE} to {GREATEST_SIDE}, or [0, 0] for the bundle's own"
        )
        return f"input_size is {list(value)}; expected {allowed}"
    if spec.when in ("settled", "inactive") and state not in SETTLED:
        return f"{parameter.name} cannot change while the node is {state}; ask again when that is done"
    if spec.when == "inactive" and state == "active":
        return f"{parameter.name} cannot change while the node is active; deactivate it first"
    if spec.when == "unconfigured" and state != "unconfigured":
        return f"{parameter.name} cannot change while the node is {state}; clean it up first"
    return ""


def _is_input_size(value: Sequence[int]) -> bool:
    return list(value) == [0, 0] or (len(value) == 2 and all(LEAST_SIDE <= side <= GREATEST_SIDE for side in value))


def serve_parameters(node: Node, group: CallbackGroup) -> None:
    """Have parameters set beside everything else: what a value is checked against may have to be read from a disk."""
    for service in node.services:
        if service.srv_name.rpartition("/")[-1] in ("set_parameters", "set_parameters_atomically"):
            service.callback_group = group
            group.add_entity(service)


def refusal(reason: str) -> SetParametersResult:
    """Answer to a parameter change: refused for a reason, accepted without one."""
    return SetParametersResult(successful=not reason, reason=reason)
