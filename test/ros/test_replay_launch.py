"""The launch files for bags and for shadow mode: refusals, and what they start for real."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.paths import ROOT

# Not `launch`: in a checkout the folder of that name can be imported.
pytest.importorskip("launch_ros", reason="launch_ros is missing: it comes with a ROS 2 installation")

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory  # noqa: E402

FOLDER = ROOT / "launch"
SIZE = (120, 160)

LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription

arguments = dict(argument.split(":=") for argument in sys.argv[2:])
service = LaunchService(argv=[])
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(sys.argv[1], launch_arguments=arguments.items())])
)
sys.exit(service.run())
"""

ROS2 = """#!/bin/sh
echo "stand-in: ros2 $*"
echo "stand-in: profile $FASTRTPS_DEFAULT_PROFILES_FILE"
"""
"""In place of the real program, to see what would be run."""


def module(name: str):
    """A launch file as a module."""
    spec = importlib.util.spec_from_file_location(f"{name}_launch", FOLDER / f"{name}.launch.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def share() -> Path:
    """Share folder of the installed package."""
    try:
        return Path(get_package_share_directory("seg_node"))
    except PackageNotFoundError:
        pytest.skip("seg_node is not installed: colcon build, and source install/setup.sh")


@pytest.fixture
def launched(share, tmp_path):
    """Start an installed launch file: ``launched(name, argument=value, ...) -> Popen``, output in ``tmp_path/output``.

    ``ros2`` is a stand-in that prints its arguments.
    """
    (tmp_path / "ros2").write_text(ROS2)
    (tmp_path / "ros2").chmod(0o755)
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(f"/**/segmentation: {{ros__parameters: {{threads: 1, warm_up_size: {list(SIZE)}}}}}")
    processes: list[subprocess.Popen] = []

    def start(name: str, **arguments: object) -> subprocess.Popen:
        arguments = {"params_file": parameters, "engine": "onnxruntime"} | arguments
        command = [sys.executable, "-c", LAUNCH, share / "launch" / f"{name}.launch.py"]
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ROS_LOG_DIR": str(tmp_path / "log")}
        environment = {name: value for name, value in environment.items() if "DEFAULT_PROFILES_FILE" not in name}
        with (tmp_path / "output").open("wb") as output:
            process = subprocess.Popen(
                [*map(str, command), *(f"{key}:={value}" for key, value in arguments.items())],
                cwd=tmp_path,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            interrupt(process)
            process.wait(60)
    if processes:
        print((tmp_path / "output").read_text())


def interrupt(process: subprocess.Popen) -> None:
    """Ctrl-C in a terminal, which all of its processes get."""
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize("name", ["replay", "shadow"])
def test_arguments_are_described(name):
    arguments = module(name).ARGUMENTS
    assert not [argument.name for argument in arguments if len(argument.description) < 20]


def test_default_models_are_shipped():
    from seg_node.core.bundle import shipped_bundles

    shadow = module("shadow")
    defaults = {
        argument.name: argument.default_value[0].text for argument in shadow.ARGUMENTS if argument.default_value
    }
    models = {defaults[side] for side in shadow.SIDES}
    assert len(models) == 2 and models <= set(shipped_bundles())


def test_sides_are_those_of_the_shadow_node():
    from seg_node.shadow.pairing import SIDES

    assert module("shadow").SIDES == SIDES


def test_default_topic_is_that_of_the_shipped_drive():
    from seg_node.bags.drive import open_drive

    replay = module("replay")
    arguments = {argument.name: argument.default_value for argument in replay.ARGUMENTS}
    drive = open_drive(FOLDER.parent / "rosbags" / "synthetic_drive")
    assert drive.topic == f"{arguments['image'][0].text}/{replay.BAG_TRANSPORT}"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bag": "/nowhere/bag"}, "bag is '/nowhere/bag'"),
        ({"rate": "fast"}, "rate is 'fast'; expected a number of at least 0.001"),
        ({"rate": "0"}, "rate is '0'; expected a number"),
        ({"rate": "nan"}, "rate is 'nan'; expected a number"),
        ({"start_offset": "-1"}, "start_offset is '-1'; expected a number of at least 0"),
    ],
)
def test_wrong_values_are_refused_by_name(tmp_path, changed, message):
    from launch import LaunchContext

    context = LaunchContext()
    given = {"bag": str(tmp_path), "image": "/a", "image_transport": "raw", "rate": "1", "start_offset": "0"}
    given |= {"loop": "false", "use_sim_time": "true", "rviz": "false", "fastdds_profile": ""}
    context.launch_configurations.update(given | changed)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        module("replay").play_when_active(context)


def output_of(process: subprocess.Popen, file: Path, timeout: float = 180.0) -> str:
    """What a launch that ends by itself has printed."""
    assert process.wait(timeout) == 0, file.read_text()
    return file.read_text()


def test_bag_is_played_when_the_node_is_active_and_its_end_is_the_end(launched, share, tmp_path):
    text = output_of(launched("replay", rate="2.5", loop="true"), tmp_path / "output")

    bag = share / "rosbags" / "synthetic_drive"
    expected = f"stand-in: ros2 bag play {bag} --rate 2.5 --start-offset 0.0 --loop --clock"
    assert expected in text
    assert f"stand-in: profile {share}/config/fastdds_shm.xml" in text
    assert text.index("active on /camera/image/compressed") < text.index(expected)
    assert "segmentation-1]: process has finished cleanly" in text


def test_bag_of_the_user_without_its_clock(launched, tmp_path):
    (tmp_path / "my_drive").mkdir()
    text = output_of(
        launched(
            *("replay",),
            **{"bag": tmp_path / "my_drive", "image": "/front/image", "image_transport": "raw"},
            **{"use_sim_time": "False", "start_offset": "3", "namespace": "front", "fastdds_profile": ""},
        ),
        tmp_path / "output",
    )
    played = f"stand-in: ros2 bag play {tmp_path / 'my_drive'} --rate 1.0 --start-offset 3\n"
    assert played in text
    assert "stand-in: profile \n" in text
    assert text.index("active on /front/image\n") < text.index(played)


def test_shadow_compares_both_models(ros, launched, tmp_path):
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image

    height, width = SIZE
    frame = np.full((height, width, 3), (235, 190, 150), np.uint8)
    cv2.fillPoly(frame, [np.array([(0, 119), (70, 60), (90, 60), (159, 119)])], (90, 90, 90))
    message = Image(height=height, width=width, encoding="bgr8", step=3 * width, data=frame.tobytes())
    process = launched("shadow", image="/front/camera", namespace="front")
    node = ros.create_node("shadow_launch_test")
    heard: list[DiagnosticArray] = []
    node.create_subscription(DiagnosticArray, "/front/shadow/agreement", heard.append, QoSProfile(depth=10))
    publisher = node.create_publisher(Image, "/front/camera", QoSProfile(depth=1))
    deadline = time.monotonic() + 180
    while not heard:
        assert process.poll() is None, "the launch has ended"
        assert time.monotonic() < deadline, "no agreement comes"
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
        ros.spin_once(node, timeout_sec=1.0)
    names = set(node.get_node_names_and_namespaces())
    node.destroy_node()

    values = {item.key: item.value for item in heard[0].status[0].values}
    assert (values["incumbent.model"], values["challenger.model"]) == ("fpn_resnet50", "fpn_convnextv2")
    assert 0 <= float(values["agreement"]) <= 100
    sides = {("segmentation", f"/front/shadow/{side}") for side in ("incumbent", "challenger")}
    assert names >= sides | {("shadow", "/front")}
    interrupt(process)
    assert process.wait(60) == 0
    text = (tmp_path / "output").read_text()
    assert text.count("process has finished cleanly") == 3, text
