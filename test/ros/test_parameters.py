"""Parameters as people give them: whole numbers, files, and what is refused."""

import time

import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from seg_node.ros.parameters import PARAMETERS, declare_parameters  # noqa: E402

pytestmark = pytest.mark.ros

FRACTIONAL = [name for name, spec in PARAMETERS.items() if isinstance(spec.default, float)]
CHANGING = [name for name in FRACTIONAL if not PARAMETERS[name].read_only]


@pytest.fixture
def declared(ros):
    """Make a node with all parameters, given arguments as on a command line."""
    nodes = []

    def make(*arguments):
        node = Node(f"parameters_{time.monotonic_ns()}", cli_args=["--ros-args", *arguments])
        nodes.append(node)
        declare_parameters(node)
        return node

    yield make
    for node in nodes:
        node.destroy_node()


def _whole(name):
    """A whole number in the parameter's range."""
    return round(PARAMETERS[name].range[1])


@pytest.mark.parametrize("way", ["command line", "file", "set"])
def test_a_whole_number_is_taken_for_every_parameter_with_a_point(declared, tmp_path, way):
    if way == "command line":
        node = declared(*(part for name in FRACTIONAL for part in ("-p", f"{name}:={_whole(name)}")))
    elif way == "file":
        file = tmp_path / "params.yaml"
        lines = "".join(f"    {name}: {_whole(name)}\n" for name in FRACTIONAL)
        file.write_text(f"/**:\n  ros__parameters:\n{lines}")
        node = declared("--params-file", str(file))
    else:
        node = declared()
        answers = node.set_parameters([Parameter(name, value=_whole(name)) for name in CHANGING])
        assert all(answer.successful for answer in answers), answers
    for name in CHANGING if way == "set" else FRACTIONAL:
        value = node.get_parameter(name).value
        assert (type(value), value) == (float, _whole(name)), name
    # They have kept their descriptors, ranges included.
    assert node.describe_parameter("max_age_ms").floating_point_range[0].to_value == 3.6e6
    assert not node.set_parameters([Parameter("max_age_ms", value=-1)])[0].successful
    assert not node.set_parameters([Parameter("max_age_ms", value="1")])[0].successful
    assert not node.set_parameters([Parameter("max_age_ms", value=True)])[0].successful


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("max_age_ms:=-1", InvalidParameterValueException),
        ("max_age_ms:=true", InvalidParameterTypeException),
        ("max_age_ms:=soon", InvalidParameterTypeException),
        ("max_age_ms:=[1]", InvalidParameterTypeException),
        ("threads:=2.0", InvalidParameterTypeException),
        ("propagate:=1", InvalidParameterTypeException),
    ],
)
def test_what_is_no_such_number_is_refused_by_name(declared, given, error):
    with pytest.raises(error, match=given.split(":=")[0]):
        declared("-p", given)
