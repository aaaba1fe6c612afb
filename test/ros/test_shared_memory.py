"""What a node leaves in shared memory when it ends: nothing, or a machine that restarts nodes runs out of memory."""

import fcntl
import re
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from helpers.blue_bundle import blue_bundle  # noqa: E402
from helpers.camera import Camera  # noqa: E402
from helpers.images import encode  # noqa: E402
from rclpy.utilities import get_rmw_implementation_identifier  # noqa: E402

pytestmark = pytest.mark.ros

SEGMENT = re.compile(r"/dev/shm/(?:fastdds|fastrtps)_[0-9a-f]{16}$", re.MULTILINE)


def abandoned(segments):
    """Those whose owner, who locks a file beside the segment as long as it lives, is gone."""
    left = []
    for segment in segments:
        lock = Path(f"{segment}_el")
        if Path(segment).exists() and lock.exists():
            with lock.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
            left.append(segment)
    return left


@pytest.mark.parametrize("listen", [False, True])
def test_an_interrupted_node_takes_its_shared_memory_back(ros, node_process, tmp_path, listen):
    if not get_rmw_implementation_identifier().startswith("rmw_fastrtps"):
        pytest.skip("only the segments of Fast DDS are known by name")
    blue_bundle(tmp_path)
    node = node_process({"model": str(tmp_path / "blue"), "engine": "onnxruntime", "warm_up_size": [96, 128]})
    if listen:
        camera = Camera(reliable=True).connect()
        camera.segment(encode(np.full((96, 128, 3), 90, np.uint8), "bgr8"))
    segments = set(SEGMENT.findall(Path(f"/proc/{node.pid}/maps").read_text()))
    assert segments and not abandoned(segments)
    assert node.stop() == 0
    if listen:
        camera.close()
    assert not abandoned(segments)
