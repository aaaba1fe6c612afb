"""A model is loaded beside the services: the clock, the transitions and the diagnostics of the real node go on.

The library that loads it waits as long as a file exists, so that each test says itself when a load ends.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from bundles import broken_bundles, constant_bundle  # noqa: E402
from helpers.camera import Camera  # noqa: E402
from helpers.images import encode  # noqa: E402
from helpers.paths import ROOT  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from rcl_interfaces.srv import GetParameters  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402

from seg_node.rig.node_process import NodeProcess  # noqa: E402

pytestmark = pytest.mark.ros

SIZE = (16, 24)
SECOND = 10**9


class SimTime:
    """Publishes /clock: 50 times a second, and 2 s further each time, so that no rounding hides a step."""

    def __init__(self, node):
        self.now = 5000 * SECOND
        self._publisher = node.create_publisher(Clock, "/clock", QoSProfile(depth=1))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def _tick(self):
        while not self._stopped.wait(0.02):
            self.now += 2 * SECOND
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(self.now, SECOND)
            self._publisher.publish(message)

    def start(self):
        self._thread.start()

    def stop(self):
        self._stopped.set()
        if self._thread.ident:
            self._thread.join()


class Scene:
    """The node, whose loads are held at first, a camera, and the bundles ``one``, ``two``, ``three`` and ``wrong``."""

    def __init__(self, folder):
        self.hold = folder / "hold"
        self.hold.touch()
        self.models = {
            name: str(constant_bundle(folder, name, i).path) for i, name in enumerate(("one", "two", "three"), 1)
        }
        self.models["wrong"] = next(path for path in broken_bundles(folder / "broken") if path.endswith("wrong"))
        self.node = NodeProcess(
            folder / "node.log",
            {"model": self.models["one"], "engine": "onnxruntime", "warm_up_size": list(SIZE), "use_sim_time": True}
            | {"camera_timeout_ms": 0.0},
            command=[sys.executable, str(ROOT / "reliability" / "faulty_node.py")],
            environment={"FAULTY_HOLD": str(self.hold)},
        )
        self.node.start()
        self.camera = Camera(reliable=True)
        self.time = SimTime(self.camera.node)
        self._count = 0

    def close(self):
        self.time.stop()
        self.camera.close()
        print(self.node.stop(), self.node.last_output(100))

    def up(self):
        """Active, whatever was before."""
        self.hold.unlink(missing_ok=True)
        self.node.wait_for("active")
        return self.camera.connect()

    @contextlib.contextmanager
    def held(self):
        """No load ends meanwhile."""
        self.hold.touch()
        try:
            yield
        finally:
            self.hold.unlink()

    def said(self, what, **values):
        """Wait for a report that says so in its message and values, of those that come from now on."""
        reports, seen = self.camera.diagnostics, len(self.camera.diagnostics)

        def found():
            return next(
                (r for r in reports[seen:] if what in r[""].message and values.items() <= r.items()),
                None,
            )

        self.camera.wait(found, f"{what} {values} on /diagnostics")
        return found()

    def parameter(self):
        """What the node says that its model is."""
        return self.camera.call(GetParameters, GetParameters.Request(names=["model"])).values[0].string_value

    def frame(self):
        """The maker of the next frame's mask, and the reading of the node's clock by the record; None without one."""
        self._count += 1
        image = np.random.default_rng(self._count).integers(0, 200, (*SIZE, 3), np.uint8)
        record, mask = self.camera.segment(encode(image, "bgr8"))
        status = record.status[0]
        assert status.message == "masked"
        values = {pair.key: pair.value for pair in status.values}
        assert set(mask.data) == {1 + ("one", "two", "three").index(status.hardware_id)}, "a mask of its maker"
        stamp = record.header.stamp.sec + record.header.stamp.nanosec / SECOND
        return status.hardware_id, stamp + float(values["age"]) / 1e3 if "age" in values else None

    def masked_by(self, name):
        self.camera.wait(lambda: self.frame()[0] == name, f"{name} masks")


@pytest.fixture(scope="module")
def scene(ros, tmp_path_factory):
    made = Scene(tmp_path_factory.mktemp("loading"))
    yield made
    made.close()


def test_a_node_that_configures_answers(scene):
    camera = scene.camera
    scene.hold.touch()
    if scene.node.exit_code is None and camera.state() == "active":
        assert camera.change_state(Transition.TRANSITION_DEACTIVATE)
        assert camera.change_state(Transition.TRANSITION_CLEANUP)
        threading.Thread(target=camera.change_state, args=(Transition.TRANSITION_CONFIGURE,), daemon=True).start()
    scene.node.wait_for("configuring")
    # All of it while the library does not come back.
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN):
        assert not camera.change_state(transition)
    assert camera.set("deadline_ms", 0.001).successful
    refused = camera.set("model", scene.models["two"])
    assert "model cannot change while the node is configuring" in refused.reason
    report = scene.said("configuring", **{"load.state": "loading", "load.model": scene.models["one"]})
    assert report[""].level == b"\1"
    assert camera.state() == "configuring"
    scene.hold.unlink()
    camera.wait(lambda: camera.state() in ("inactive", "active"), "it is configured")
    camera.change_state(Transition.TRANSITION_ACTIVATE)
    scene.up()
    scene.frame()
    report = scene.said("active")
    assert int(report["late"]) > 0, "what was set meanwhile holds"
    assert camera.set("deadline_ms", 0.0).successful


def test_sim_time_without_a_clock_is_said_and_gives_no_ages(scene):
    scene.up()
    if scene.time.now > 5000 * SECOND:
        pytest.skip("there is a clock already")
    assert scene.frame()[1] is None
    report = scene.said("no time has come on /clock")
    assert report[""].level == b"\2" and "age" not in report


def test_the_clock_goes_on_and_transitions_answer_through_a_swap(scene):
    camera = scene.up()
    if scene.time.now == 5000 * SECOND:
        scene.time.start()
    camera.wait(lambda: scene.frame()[1] is not None, "the clock is heard")
    model = scene.models["two"] if scene.parameter() == scene.models["one"] else scene.models["one"]
    before, readings = scene.frame()[0], []
    with scene.held():
        assert camera.set("model", model).successful
        begun = scene.time.now

        def gone_on():
            maker, reading = scene.frame()
            readings.append(reading)
            assert maker == before
            return len(readings) > 5 and reading > begun / SECOND + 20

        camera.wait(gone_on, "the node's clock goes on while the model is loaded")
        assert scene.said("", **{"load.state": "loading", "load.model": model})["model"] == before
        assert camera.change_state(Transition.TRANSITION_DEACTIVATE)
        assert camera.state() == "inactive"
        assert camera.change_state(Transition.TRANSITION_ACTIVATE)
        camera.connect()
        assert scene.parameter() == model
        assert camera.set("max_age_ms", 0).successful
        readings.append(scene.frame()[1])
    after = "one" if before == "two" else "two"
    camera.wait(lambda: (readings.append((made := scene.frame())[1]), made[0] == after)[1], "the swap")
    readings += [scene.frame()[1] for _ in range(3)]
    assert readings == sorted(readings)
    scene.said("active", **{"load.state": "loaded", "model": after})


def test_what_fails_after_the_answer_changes_nothing_and_is_said(scene):
    camera = scene.up()
    assert camera.set("model", scene.models["one"]).successful
    scene.masked_by("one")
    missing = camera.set("model", scene.models["one"] + "_missing")
    assert not missing.successful and "no bundle" in missing.reason
    assert camera.set("model", scene.models["wrong"]).successful
    report = scene.said("wrong was set, but cannot be loaded", **{"load.state": "refused", "model": "one"})
    assert report[""].level != b"\0" and "expected uint8 of the frame's size" in report["load.reason"]
    camera.wait(lambda: scene.parameter() == scene.models["one"], "the parameter says what runs")
    assert scene.frame()[0] == "one"
    scene.said("wrong was set")
    # Until another model is there.
    assert camera.set("model", scene.models["two"]).successful
    scene.masked_by("two")
    camera.wait(lambda: "wrong was set" not in scene.said("active")[""].message, "it is forgotten")


def test_the_newest_of_several_models_is_the_one(scene):
    camera = scene.up()
    with scene.held():
        for name in ("one", "wrong", "two", "wrong", "three"):
            assert camera.set("model", scene.models[name]).successful
    scene.masked_by("three")
    assert scene.parameter() == scene.models["three"]
    assert "wrong" not in scene.said("active", **{"load.state": "loaded"})[""].message
    with scene.held():
        for name in ("two", "wrong"):
            assert camera.set("model", scene.models[name]).successful
    scene.said("", **{"load.state": "refused"})
    camera.wait(lambda: scene.parameter() == scene.models["three"], "the parameter says what runs")
    assert scene.frame()[0] == "three"


def test_a_load_ends_with_its_configuration(scene):
    """Clean up and configure while a model is loaded: the new configuration has it, and the old load is forgotten."""
    camera = scene.up()
    assert camera.set("model", scene.models["one"]).successful
    scene.masked_by("one")
    with scene.held():
        assert camera.set("model", scene.models["two"]).successful
        assert camera.change_state(Transition.TRANSITION_DEACTIVATE)
        assert camera.change_state(Transition.TRANSITION_CLEANUP)
        # The answer may come a moment before the state that it tells of; until then a node asks to try again.
        camera.wait(lambda: camera.set("model", scene.models["three"]).successful, "the model is set")
    assert camera.change_state(Transition.TRANSITION_CONFIGURE)
    assert camera.change_state(Transition.TRANSITION_ACTIVATE)
    camera.connect()
    for _ in range(5):
        assert scene.frame()[0] == "three"
        time.sleep(0.05)
    assert scene.parameter() == scene.models["three"]


def _children(pid):
    """Processes that compile for a process and have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            # One that has just been forked is the node's still, and would hold it as a whole.
            if int(parent) == pid and state != "Z" and b"aside" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
    return found


def test_a_first_load_is_compiled_by_another_process_and_the_node_answers_meanwhile(ros, tmp_path):
    """The libraries as they are, which hold Python's lock for long: that process is stopped for as long as is asked."""
    parameters = {"model": str(constant_bundle(tmp_path, "one", 1).path), "warm_up_size": [48, 64]}
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    parameters["camera_timeout_ms"] = 0.0
    # The node of the other tests may be there still.
    node = NodeProcess(tmp_path / "node.log", parameters, namespace="/first", environment=environment)
    node.start()
    camera = Camera("/first/segmentation", "/first/image", reliable=True)
    image = encode(np.random.default_rng(0).integers(0, 200, (48, 64, 3), np.uint8), "bgr8")

    def maker():
        return camera.segment(image)[0].status[0].hardware_id

    try:
        node.wait_for("active")
        camera.connect()
        assert camera.set("model", "fpn_lite").successful
        camera.wait(lambda: _children(node.pid), "a process that compiles")
        (compiling,) = _children(node.pid)
        os.kill(compiling, signal.SIGSTOP)
        assert [maker() for _ in range(3)] == ["one"] * 3
        assert camera.change_state(Transition.TRANSITION_DEACTIVATE)
        assert camera.state() == "inactive"
        assert camera.change_state(Transition.TRANSITION_ACTIVATE)
        camera.connect()
        camera.wait(lambda: camera.diagnostics[-1]["load.state"] == "loading", "a report that it loads")
        assert maker() == "one"
        os.kill(compiling, signal.SIGCONT)
        camera.wait(lambda: maker() == "fpn_lite", "the swap")
    finally:
        for number in _children(node.pid):
            os.kill(number, signal.SIGCONT)
        camera.close()
        print(node.stop(), node.last_output(100))
