"""A node that nobody supervises comes back by itself, and whoever watches it from outside knows how it does."""

import importlib.util
import socket
import sys
import threading
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from bundles import constant_bundle  # noqa: E402
from helpers.camera import Camera  # noqa: E402
from helpers.images import encode  # noqa: E402
from helpers.paths import ROOT  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from orders import Order  # noqa: E402

from seg_node.core.bundle import GRAPH  # noqa: E402

pytestmark = pytest.mark.ros

SIZE = (16, 24)
FAULTY_NODE = [sys.executable, str(ROOT / "reliability" / "faulty_node.py")]

FAKE_BONDPY = '''"""Stands in for bondpy, and writes down how it is used."""
import os

class Bond:
    def __init__(self, topic, id, node):
        self.note(f"bond {topic} {id}")

    def note(self, text):
        with open(os.environ["BOND_LOG"], "a") as log:
            log.write(text + "\\n")

    def start(self):
        self.note("start")

    def shutdown(self):
        self.note("shutdown")
'''


class Manager:
    """The socket of a service manager, and what came over it: it is read at once, for its queue takes only a few."""

    def __init__(self, folder):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.environment = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "400000"}
        self._socket.bind(self.environment["NOTIFY_SOCKET"])
        self.heard = []
        """All messages so far."""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def _read(self):
        while message := self._socket.recv(10_000):
            self.heard.append(message.decode())

    def since(self, number):
        """What came after so many messages, by its first line."""
        return [message.splitlines()[0] for message in self.heard[number:]]


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path)
    yield made
    made.close()


@pytest.fixture
def camera(ros):
    made = Camera(reliable=True)
    yield made
    made.close()


def _frame(camera, order=Order.NONE):
    """Send a frame with an order for the engine; returns the outcome of its record."""
    image = np.random.default_rng(camera.stamp).integers(0, 200, (*SIZE, 3), np.uint8)
    image[0, 0, 0] = order
    return camera.segment(encode(image, "bgr8"))[0].status[0].message


def _fail(camera, order, frames=3):
    """Send frames until the node has given up."""
    for _ in range(frames):
        assert _frame(camera, order) == "failed"


def _said(camera, *words, **values):
    """Wait for a report that says so, of those that come from now on; returns it."""
    reports, seen = camera.diagnostics, len(camera.diagnostics)

    def found():
        return next(
            (r for r in reports[seen:] if all(w in r[""].message for w in words) and values.items() <= r.items()), None
        )

    camera.wait(found, f"{words} {values} on /diagnostics")
    return found()


def _no_pings(camera, manager):
    """While the executor turns, as reports show, and many pings would be due."""
    before, reports = len(manager.heard), len(camera.diagnostics)
    camera.wait(lambda: len(camera.diagnostics) > reports + 2, "reports")
    assert not [line for line in manager.since(before) if line == "WATCHDOG=1"]


def test_it_comes_back_and_whoever_watches_knows(node_process, camera, manager, tmp_path):
    """It cannot configure at boot, is repaired, loses its device again and again, and does each thing of on_give_up."""
    model = constant_bundle(tmp_path, "one", 1).path
    whole = (model / GRAPH).read_bytes()
    (model / GRAPH).unlink()
    (tmp_path / "bondpy").mkdir()
    (tmp_path / "bondpy" / "__init__.py").touch()
    (tmp_path / "bondpy" / "bondpy.py").write_text(FAKE_BONDPY)
    bond_log = tmp_path / "bond.log"
    bond_log.touch()
    node = node_process(
        {"model": str(model), "engine": "onnxruntime", "warm_up_size": list(SIZE), "failure_limit": 3}
        | {"camera_timeout_ms": 0.0},
        command=FAULTY_NODE,
        environment=manager.environment | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "BOND_LOG": str(bond_log)},
        state=None,
    )
    report = _said(camera, "unconfigured: cannot configure", GRAPH, "attempt ", " in ")
    assert report[""].level == b"\2" and float(report["next_attempt"]) >= 0
    _said(camera, "cannot configure", attempts=str(int(report["attempts"]) + 1))
    assert not any("READY" in message or "WATCHDOG" in message for message in manager.heard)
    assert any("cannot configure" in message for message in manager.heard) and not bond_log.read_text()
    (model / GRAPH).write_bytes(whole)
    node.wait_for("active")
    camera.connect()
    camera.wait(lambda: "WATCHDOG=1" in manager.heard, "pings")
    facts = [line for message in manager.heard for line in message.splitlines() if not line.startswith("STATUS")]
    assert facts[0] == "READY=1" and facts.count("READY=1") == 1
    assert _frame(camera) == "masked"
    assert bond_log.read_text() == "bond bond segmentation\nstart\n"

    # The device is gone until the engine is made anew; nobody but the node does that.
    seen = len(camera.diagnostics)
    _fail(camera, Order.VANISH)
    camera.wait(lambda: "shutdown" in bond_log.read_text(), "the bond is broken")
    camera.wait(lambda: bond_log.read_text().count("start") == 2, "the node is active again")
    camera.connect()
    assert _frame(camera) == "masked"
    messages = [report[""].message for report in camera.diagnostics[seen:]]
    assert any("3 frames in a row failed" in m and "the device is gone; attempt " in m for m in messages), messages

    # It stays where it is, and is led by somebody else.
    assert camera.set("on_give_up", "stay").successful
    _fail(camera, Order.VANISH)
    _said(camera, "inactive: 3 frames in a row failed")
    assert "STATUS=3 frames in a row failed, the last: RuntimeError: the device is gone" in manager.heard
    _no_pings(camera, manager)
    assert camera.state() == "inactive"
    for transition in (Transition.TRANSITION_CLEANUP, Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert camera.change_state(transition)
    camera.connect()
    assert _frame(camera) == "masked"
    before = len(manager.heard)
    camera.wait(lambda: "WATCHDOG=1" in manager.since(before), "pings again")
    assert camera.set("on_give_up", "sulk").reason

    # An inference that hangs: no ping, though the executor turns.
    for name, value in (("failure_limit", 0), ("inference_timeout_ms", 300)):
        assert camera.set(name, value).successful
    assert _frame(camera, Order.HANG) == "failed"
    _no_pings(camera, manager)
    assert manager.heard[-1].startswith("STATUS=an inference has not returned for ")

    # The process ends with a status, for systemd or launch to begin anew.
    for name, value in (("on_give_up", "exit"), ("failure_limit", 1)):
        assert camera.set(name, value).successful
    camera.send(encode(np.zeros((*SIZE, 3), np.uint8), "bgr8"))
    camera.wait(lambda: node.exit_code is not None, "the process ends")
    assert node.exit_code == 1
    camera.wait(lambda: manager.heard[-1] == "STOPPING=1", "the manager has read the last word")
    output = node.last_output(30)
    assert "the process ends, as on_give_up says" in output and "Traceback" not in output


def test_a_transition_of_somebody_else_ends_the_attempts(node_process, camera, tmp_path):
    node_process({"model": str(tmp_path / "missing"), "engine": "onnxruntime"}, state=None)
    _said(camera, "cannot configure", "attempt ")
    assert not camera.change_state(Transition.TRANSITION_CONFIGURE), "there is no such bundle yet"
    report = _said(camera, "unconfigured: cannot configure")
    assert "attempt" not in report[""].message and "next_attempt" not in report and report["attempts"] == "0"
    assert camera.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert camera.state() == "finalized"


def test_a_node_that_cannot_configure_ends_where_that_is_asked_for(node_process, tmp_path):
    parameters = {"model": str(tmp_path / "missing"), "on_give_up": "exit"}
    node = node_process(parameters, state=None)
    until = time.monotonic() + 120
    while node.exit_code is None and time.monotonic() < until:
        time.sleep(0.05)
    assert node.exit_code == 1
    assert "no bundle" in node.last_output() and "Traceback" not in node.last_output()


def test_a_supervised_node_is_ready_when_it_answers(node_process, manager):
    node = node_process({"autostart": False}, environment=manager.environment, state=None)
    until = time.monotonic() + 120
    while "WATCHDOG=1" not in manager.heard and time.monotonic() < until:
        time.sleep(0.05)
    assert manager.heard[0].splitlines()[0] == "READY=1" and "WATCHDOG=1" in manager.heard
    assert node.stop(60) == 0
    while manager.heard[-1] != "STOPPING=1" and time.monotonic() < until:
        time.sleep(0.05)
    assert manager.heard[-1] == "STOPPING=1"


@pytest.mark.skipif(not importlib.util.find_spec("bondpy"), reason="bondpy is not installed: it comes with ROS 2")
def test_a_bond_forms_while_the_node_is_active(node_process, ros, tmp_path):
    from bondpy.bondpy import Bond
    from rclpy.executors import SingleThreadedExecutor

    observer = ros.create_node("bond_observer")
    executor = SingleThreadedExecutor()
    executor.add_node(observer)
    bond = Bond("bond", "segmentation", observer)
    try:
        bond.start()
        node = node_process({"model": str(constant_bundle(tmp_path, "one", 1).path), "engine": "onnxruntime"})
        until = time.monotonic() + 60
        while bond.sm.getState().getName() != "SM.Alive" and time.monotonic() < until:
            executor.spin_once(timeout_sec=0.1)
        assert bond.sm.getState().getName() == "SM.Alive"
        node.stop()
        while not bond.is_broken() and time.monotonic() < until:
            executor.spin_once(timeout_sec=0.1)
        assert bond.is_broken()
    finally:
        bond.shutdown()
        executor.shutdown()
        observer.destroy_node()
