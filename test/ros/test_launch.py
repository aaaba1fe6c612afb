"""The launch file without starting it."""

import importlib.util

import pytest
from helpers.paths import ROOT

# Not `launch`: in a checkout the folder of that name can be imported.
pytest.importorskip("launch_ros", reason="launch_ros is missing: it comes with a ROS 2 installation")

FILE = ROOT / "launch" / "segmentation.launch.py"


@pytest.fixture
def launch_file():
    """The launch file as a module."""
    spec = importlib.util.spec_from_file_location("segmentation_launch", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_arguments_are_described(launch_file):
    arguments = launch_file.generate_launch_description().get_launch_arguments()
    assert {argument.name for argument in arguments} == {
        *("image", "cameras", "image_transport", "profile", "model", "engine", "autostart", "use_sim_time"),
        *("namespace", "name", "params_file", "log_level", "fastdds_profile"),
    }
    undescribed = [argument.name for argument in arguments if len(argument.description) < 20]
    assert not undescribed


def test_arguments_with_the_name_of_a_parameter_are_parameters(launch_file):
    pytest.importorskip("rclpy")
    from seg_node.ros.parameters import PARAMETERS

    names = {argument.name for argument in launch_file.ARGUMENTS}
    assert names & set(PARAMETERS) == set(launch_file.PARAMETER_TYPES) - {"use_sim_time"}
    for name, kind in launch_file.PARAMETER_TYPES.items():
        assert name == "use_sim_time" or isinstance(PARAMETERS[name].default, kind)


def test_choices_are_those_of_the_node(launch_file):
    pytest.importorskip("rclpy")
    from seg_node.ros.parameters import PARAMETERS

    choices = {argument.name: argument.choices for argument in launch_file.ARGUMENTS}
    for name in ("engine", "image_transport"):
        assert choices[name] == ["", *PARAMETERS[name].choices]


@pytest.mark.parametrize("argument", ["params_file", "fastdds_profile"])
def test_missing_file_is_refused_by_name(launch_file, argument):
    from launch import LaunchContext

    context = LaunchContext()
    context.launch_configurations.update({other.name: "" for other in launch_file.ARGUMENTS})
    context.launch_configurations[argument] = "/nowhere/file"
    with pytest.raises(FileNotFoundError, match=f"{argument} is '/nowhere/file'"):
        launch_file.start_node(context)
