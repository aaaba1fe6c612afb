"""What ``ros2 topic``, ``param`` and ``lifecycle`` do, without ``ros2``: on a running node, from the command line."""

import threading

import pytest
import yaml
from helpers.blue_bundle import blue_bundle

from seg_node.__main__ import main


@pytest.fixture(scope="module")
def blue(tmp_path_factory):
    return blue_bundle(tmp_path_factory.mktemp("models") / "blue").path


@pytest.fixture
def node(node_process, blue):
    parameters = {"autostart": False, "model": str(blue), "engine": "onnxruntime"}
    return node_process(parameters, namespace="/front", state="unconfigured").full_name


def said(capsys, *arguments, status=0):
    """What a command prints, on stderr where it fails."""
    assert main(list(arguments)) == status
    captured = capsys.readouterr()
    return captured.err if status else captured.out


def test_a_node_is_looked_at_and_led(node, capsys):
    assert said(capsys, "lifecycle", node) == "unconfigured\n"
    assert said(capsys, "lifecycle", node, "configure") == "inactive\n"
    assert said(capsys, "lifecycle", node.strip("/"), "activate") == "active\n"
    refused = said(capsys, "lifecycle", node, "configure", status=1)
    assert f"{node} did not configure: it was active and is active" in refused

    values = yaml.safe_load(said(capsys, "params", node))
    assert values["engine"] == "onnxruntime" and values["max_age_ms"] == 0.0 and values["autostart"] is False
    # A whole number for a parameter that has a point, as people type it.
    assert yaml.safe_load(said(capsys, "params", node, "max_age_ms", "250")) == {"max_age_ms": 250.0}
    assert "refuses max_age_ms = -1" in said(capsys, "params", node, "max_age_ms", "-1", status=2)
    assert "has no parameter max_age; it has" in said(capsys, "params", node, "max_age", status=2)

    # Where others have the processor, too, a look may be over before everybody has been heard.
    for _ in range(10):
        listed = {line.split()[0]: line.split()[1:] for line in said(capsys, "topics").splitlines()}
        ends = said(capsys, "topics", "/front/image").splitlines()[1:]
        if "/front/image" in listed and ends:
            break
    assert listed["/front/image"] == ["sensor_msgs/msg/Image", "0", "1"]
    assert [end.split() for end in ends] == [[node, "subscribes", "sensor_msgs/msg/Image", "best_effort", "volatile"]]
    status = yaml.safe_load(said(capsys, "topics", "/diagnostics", "--once"))["status"][0]
    assert status["name"].startswith("segmentation") or node in status["name"]
    assert {"received", "masked"} <= {pair["key"] for pair in status["values"]}


def test_messages_are_shown_as_plain_values(ros, capsys):
    from sensor_msgs.msg import Image

    node = ros.create_node("camera")
    publisher = node.create_publisher(Image, "/shown/image", 1)
    message = Image(height=2, width=40, step=40, encoding="mono8", data=bytes(80))
    stopped = threading.Event()

    def publish():
        while not stopped.wait(0.05):
            publisher.publish(message)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        found = yaml.safe_load(said(capsys, "topics", "/shown/image", "--once"))
    finally:
        stopped.set()
        thread.join()
        node.destroy_node()
    assert (found["height"], found["encoding"], found["data"]) == (2, "mono8", "80 values")
    assert found["header"]["stamp"] == {"sec": 0, "nanosec": 0}


def test_what_is_not_there_is_named(ros, capsys, monkeypatch):
    monkeypatch.setattr("seg_node.ros.remote._ANSWER_S", 0.5)
    assert "/nobody does not answer: is it running" in said(capsys, "lifecycle", "/nobody", status=1)
    assert "/nobody does not answer: is it running" in said(capsys, "params", "/nobody", status=1)
    assert said(capsys, "topics", "/nothing").startswith("nobody publishes /nothing or subscribes to it;")
    nothing = said(capsys, "topics", "/nothing", "--once", "--timeout", "0.5", status=2)
    assert "nobody publishes /nothing" in nothing
    assert "--once needs a topic" in said(capsys, "topics", "--once", status=2)
