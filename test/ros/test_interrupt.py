"""Ctrl-C while a node starts: a quiet end, at whatever instant it comes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.blue_bundle import blue_bundle

pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

pytestmark = pytest.mark.ros

INSTANTS = 10
LOUD = ("Traceback", "never retrieved", "Failed to", "Exception ignored", "rror:", "terminate called", "[ERROR]")


@pytest.fixture
def start():
    """Start nodes that do not outlive the test, in whose domain others listen."""
    processes = []

    def start(*arguments):
        process, log = _start(*arguments)
        processes.append(process)
        return process, log

    yield start
    for process in processes:
        process.kill()
        process.wait()


def _start(folder, name, model):
    parameters = (f"model:={model}", "engine:=onnxruntime", "warm_up_size:=[96, 128]")
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "seg_node", "node", "--ros-args"]
        for parameter in parameters:
            command += ["-p", parameter]
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT), log


def _wait(process, condition):
    until = time.monotonic() + 180
    while not condition():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.002)


def _python_has_started(process):
    """Wait until it is the product that decides what a signal does: Python catches SIGINT, and then it does not.

    On a busy machine nobody may look while Python catches it; what the product imports later shows the same.
    """
    caught = False

    def started():
        nonlocal caught
        folder = Path(f"/proc/{process.pid}")
        catches = int((folder / "status").read_text().split("SigCgt:")[1].split()[0], 16) >> (signal.SIGINT - 1) & 1
        if caught and not catches:
            return True
        caught = caught or bool(catches)
        return "/numpy/" in (folder / "maps").read_text()

    _wait(process, started)
    return time.monotonic()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells which signals a process catches")
def test_ten_instants_of_the_start(ros, start, tmp_path):
    model = blue_bundle(tmp_path).path
    process, log = start(tmp_path, "whole", model)
    began = _python_has_started(process)
    _wait(process, lambda: "active on" in log.read_text())
    takes = time.monotonic() - began
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, "it had come up"
    assert not [word for word in LOUD if word in log.read_text()], log.read_text()
    for instant in range(INSTANTS):
        process, log = start(tmp_path, f"instant{instant}", model)
        began = _python_has_started(process)
        time.sleep(max(0.0, began + takes * instant / INSTANTS - time.monotonic()))
        process.send_signal(signal.SIGINT)
        status, said = process.wait(60), log.read_text()
        assert not [word for word in LOUD if word in said], said
        # It has come up a moment after it says that it is active.
        came_up = "active on" in said
        interrupted = (-signal.SIGINT, 128 + signal.SIGINT)
        assert status in ((0, *interrupted) if came_up else interrupted), (instant, said)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_library_that_compiles_holds_nobody_up(node_process, tmp_path, number, status):
    """What cannot be interrupted is left behind, without a word."""
    from helpers.paths import ROOT

    (tmp_path / "hold").touch()
    node = node_process(
        {"model": str(blue_bundle(tmp_path).path), "engine": "onnxruntime"},
        command=[sys.executable, str(ROOT / "reliability" / "faulty_node.py")],
        environment={"FAULTY_HOLD": str(tmp_path / "hold")},
        state="configuring",
    )
    process = node._started()
    process.send_signal(number)
    assert process.wait(60) == status
    assert not [word for word in LOUD if word in node.last_output()], node.last_output()
