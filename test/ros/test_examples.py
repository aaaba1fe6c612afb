"""The examples for the decision module's author, run against the real node."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from helpers.blue_bundle import blue_bundle
from helpers.paths import ROOT

from seg_node.core.taxonomy import Category

EXAMPLES = ROOT / "examples"


@pytest.fixture
def decisions(ros):
    """``examples/decision_module.py`` as a process, and what it decides: a function that waits for a decision."""
    from rclpy.qos import QoSProfile
    from std_msgs.msg import String

    command = [sys.executable, EXAMPLES / "decision_module.py", "--ros-args", "-r", "__ns:=/e1"]
    process = subprocess.Popen([*map(str, command), "-p", "budget_ms:=20000.0"], env=os.environ)
    node = ros.create_node("decided")
    heard: list[str] = []
    node.create_subscription(
        String, "/e1/decision/decision", lambda message: heard.append(message.data), QoSProfile(depth=50)
    )

    def until(decision: str, act: Callable[[], None] = lambda: None) -> None:
        """Act every second until the module decides so; only what is heard from now on counts."""
        heard.clear()
        deadline, acted = time.monotonic() + 90, 0.0
        while not any(text.startswith(decision) for text in heard):
            assert time.monotonic() < deadline, f"{decision!r} is not decided; {heard[-3:]}"
            assert process.poll() is None
            if time.monotonic() - acted > 1:
                act()
                acted = time.monotonic()
            ros.spin_once(node, timeout_sec=0.05)

    yield until, node
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0
    node.destroy_node()


def test_decision_module(node_process, decisions, tmp_path):
    """It goes on a free road, yields to people, and says why it does not see."""
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from seg_node.ros.messages import bgr8_image

    until, node = decisions
    until("slow down: no mask has come yet")
    model = str(blue_bundle(tmp_path).path)
    node_process({"model": model, "engine": "onnxruntime", "warm_up_size": [96, 128]}, namespace="/e1")
    camera = node.create_publisher(Image, "/e1/image", 5)

    def send(category: int, age: float = 0.0, encoding: str = "bgr8") -> None:
        stamp = node.get_clock().now().nanoseconds - round(age * 1e9)
        header = Header(frame_id="front")
        header.stamp.sec, header.stamp.nanosec = divmod(stamp, 10**9)
        message = bgr8_image(np.full((96, 128, 3), 32 * category + 16, np.uint8), header)
        message.encoding = encoding
        camera.publish(message)

    until("go", lambda: send(Category.FLAT))
    until("yield: somebody", lambda: send(Category.HUMAN))
    until("yield: no road", lambda: send(Category.NATURE))
    until("slow down: the last mask was 60", lambda: send(Category.FLAT, age=60.0))
    until("slow down: the last frame was undecodable", lambda: send(Category.FLAT, encoding="no_such_encoding"))
    until("go", lambda: send(Category.FLAT))


def test_smallest_subscriber_of_the_readme(ros, tmp_path):
    """The program in the README, as it stands, on rows with padding."""
    from sensor_msgs.msg import Image

    section = (EXAMPLES.parent / "README.md").read_text().split("### A decision module\n", 1)[1]
    (tmp_path / "smallest.py").write_text(section.split("```python\n", 1)[1].split("```", 1)[0])
    command = [sys.executable, "-u", "smallest.py", "--ros-args", "-r", "__ns:=/e3"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    node = ros.create_node("masks")
    masks = node.create_publisher(Image, "/e3/segmentation/mask", 1)
    rows = np.zeros((4, 16), np.uint8)
    rows[:, :10] = Category.FLAT
    rows[0, :2] = Category.HUMAN
    message = Image(height=4, width=10, step=16, encoding="mono8", data=rows.ravel())
    message.header.stamp.sec = 77
    try:
        deadline, said = time.monotonic() + 90, []
        while not said:
            assert time.monotonic() < deadline and process.poll() is None
            # Again, for what is published before the far end knows of it is lost.
            masks.publish(message)
            said, _, _ = select.select([process.stdout], [], [], 0.5)
        assert process.stdout.readline() == "77 95% road, 5.0% people\n"
    finally:
        process.kill()
        process.wait()
        node.destroy_node()
