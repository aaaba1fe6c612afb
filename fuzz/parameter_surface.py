"""Parameters of the node."""

import math
from random import Random
from typing import Any

import rclpy
from cases import Case
from mutate import EDGES
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.parameter import Parameter
from surfaces import ACCEPTED, Surface, expect, refused

from seg_node.ros.parameters import PARAMETERS, check, declare_parameters, refusal

_SETTLED = ("unconfigured", "inactive", "active")
_STATES = (*_SETTLED, "configuring")
_NUMBERS = (*(edge for edge in EDGES if edge < 2**63), -1, -(2**63))
_FLOATS = (0.0, -0.0, 1.5, -1.0, 3.6e6, 3.7e6, 1e308, 5e-324, math.nan, math.inf, -math.inf)
_TEXTS = ("", "raw", "RAW", "auto", "openvino", "fpn_resnet50", "fp32", "../..", "/dev/zero", "a\0b", "\n", "é" * 3000)


class ParameterSurface(Surface):
    """Setting parameters on a node that has ours; refuses with an unsuccessful ``SetParametersResult``.

    What no node declares is refused by rclpy with an exception.
    """

    def __init__(self, folder):
        super().__init__(folder)
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self._state = "unconfigured"
        self._node = rclpy.create_node(
            "fuzzed", context=self._context, enable_rosout=False, start_parameter_services=False
        )
        declare_parameters(self._node)
        self._node.add_on_set_parameters_callback(self._check)

    def draw(self, rng: Random) -> Case:
        values = {}
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            name = rng.choice((*PARAMETERS, *PARAMETERS, "unknown", "model.x", "use_sim_time"))
            values[name] = _value(rng, PARAMETERS[name].default if name in PARAMETERS else None)
        return {"state": rng.choice(_STATES), "values": values}

    def feed(self, case: Case) -> str:
        self._state = case["state"]
        parameters = [Parameter(name, value=value) for name, value in case["values"].items()]
        try:
            result = self._node.set_parameters_atomically(parameters)
        except ParameterNotDeclaredException as error:
            # The node's services answer so, too.
            return refused(error)
        if not result.successful:
            expect(result.reason.strip(), "refused without a reason")
            return "SetParametersResult"
        for parameter in parameters:
            # As it is now: a whole number is taken for one with a point.
            value = self._node.get_parameter(parameter.name).value
            expect(value == parameter.value, f"{parameter.name} is {value!r}, not {parameter.value!r}")
            _expect_valid(parameter.name, value, case["state"])
        return ACCEPTED

    def close(self) -> None:
        self._node.destroy_node()
        self._context.try_shutdown()

    def _check(self, parameters: list[Parameter]):
        reasons = (check(parameter, self._state) for parameter in parameters)
        return refusal(next((reason for reason in reasons if reason), ""))


def _value(rng: Random, default: Any) -> Any:
    """A value that a client can send; half of them of the parameter's type."""
    kind = rng.choice((bool, int, float, str, list)) if default is None or rng.randrange(2) else type(default)
    if kind is list:
        item = rng.choice((int, float, str, bool)) if rng.randrange(2) else int
        return [_scalar(rng, item) for _ in range(rng.choice((0, 1, 2, 2, 2, 3, 24)))]
    return _scalar(rng, kind)


def _scalar(rng: Random, kind: type) -> Any:
    if kind is bool:
        return rng.random() < 0.5
    if kind is int:
        return rng.choice((rng.choice(_NUMBERS), rng.randint(1, 2000)))
    return rng.choice(_FLOATS if kind is float else _TEXTS)


_CHANGEABLE = {
    "any": _STATES,
    "settled": _SETTLED,
    "inactive": ("unconfigured", "inactive"),
    "unconfigured": ("unconfigured",),
}


def _expect_valid(name: str, value: Any, state: str) -> None:
    """An accepted value is one that the table of parameters allows."""
    spec = PARAMETERS.get(name)
    if spec is None:
        expect(name == "use_sim_time" and isinstance(value, bool), f"{name} was accepted")
        return
    expect(not spec.read_only, f"{name} was changed, which is read-only")
    expect(state in _CHANGEABLE[spec.when], f"{name} was changed in a node that is {state}")
    if isinstance(spec.default, list):
        value = list(value)
        expect(len(value) == len(spec.default), f"{name} has {len(value)} values")
    expect(type(value) is type(spec.default), f"{name} is a {type(value).__name__}")
    expect(not isinstance(value, float) or math.isfinite(value), f"{name} is {value}")
    expect(not spec.choices or value in spec.choices, f"{name} is {value!r}")
    expect(not spec.range or spec.range[0] <= value <= spec.range[1], f"{name} is {value}")
    expect(name != "warm_up_size" or all(1 <= side <= 16384 for side in value), f"{name} is {value}")
