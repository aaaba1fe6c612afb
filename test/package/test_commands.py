"""The table of commands: each is explained without being started, and executables are commands by another name."""

import argparse
import subprocess
import sys

import pytest

from seg_node import __main__ as command_line
from seg_node.__main__ import COMMANDS, main
from seg_node.core.errors import UserError
from seg_training import __main__ as training


@pytest.mark.parametrize(
    ("package", "command"),
    [*(("seg_node", name) for name in COMMANDS), *(("seg_training", name) for name in training.COMMANDS)],
)
def test_help_of_a_command_starts_nothing(package, command):
    """And imports neither ROS, nor an engine, nor torch: none of them explains an option."""
    slow = ("rclpy", "torch", "timm", "onnx", "onnxruntime", "openvino", "matplotlib", "streamlit", "ray")
    program = (
        f"import runpy, sys, threading; sys.argv = ['{package}', *sys.argv[1:]]\n"
        f"try: runpy.run_module('{package}', run_name='__main__')\n"
        f"finally: print([name for name in {slow} if name in sys.modules], threading.active_count(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    called = "seg_node" if package == "seg_node" else "python -m seg_training"
    assert done.stdout.startswith(f"usage: {called} {command} ") and "show this help" in done.stdout
    assert done.stderr == "[] 1\n"


@pytest.mark.parametrize("node", ["node", "overlay", "projection"])
def test_what_is_no_ros_argument_is_refused_by_a_node(node, capsys):
    with pytest.raises(SystemExit) as ended:
        main([node, "--model", "fpn_resnet50"])
    assert ended.value.code == 2
    assert "unrecognized arguments: --model fpn_resnet50" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], []),
        (["--ros-args", "-p", "model:=m"], ["--ros-args", "-p", "model:=m"]),
        (
            ["--ros-args", "-r", "a:=b", "--ros-args", "-p", "c:=d"],
            ["--ros-args", "-r", "a:=b", "--ros-args", "-p", "c:=d"],
        ),
    ],
)
def test_ros_arguments_reach_the_node_as_they_are(monkeypatch, arguments, expected):
    given = []
    monkeypatch.setattr("seg_node.commands.node.segmentation", lambda arguments: given.append(arguments) or 0)
    assert main(["node", *arguments]) == 0
    assert given == [expected]


@pytest.mark.parametrize(("name", "command"), [("segmentation", "node"), ("overlay", "overlay"), ("view", "view")])
def test_executable_is_the_command_that_it_is_named_after(monkeypatch, name, command):
    monkeypatch.setattr(sys, "argv", [f"/opt/ws/lib/seg_node/{name}", "--port", "1"])
    started = []
    monkeypatch.setattr(command_line, "main", lambda arguments: started.append(arguments) or 0)
    assert command_line.executable() == 0
    assert started == [[command, "--port", "1"]]
    assert command in COMMANDS


def test_error_of_a_command_ends_it_with_its_status(monkeypatch, capsys):
    def refuse(options: argparse.Namespace) -> int:
        raise UserError("no such drive")

    monkeypatch.setattr("seg_node.commands.bag.run", refuse)
    assert main(["bag", "info", "x"]) == 2
    assert capsys.readouterr().err == "error: no such drive\n"


def test_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["paint"])
    assert ended.value.code == 2
    assert "invalid choice: 'paint'" in capsys.readouterr().err
