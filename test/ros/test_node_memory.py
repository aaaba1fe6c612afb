"""A node that lives on after its model holds nothing of it, and has the threads that it began with."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from helpers.camera import Camera  # noqa: E402
from helpers.images import encode  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from soak import sample  # noqa: E402

from seg_node.core.bundle import load_bundle  # noqa: E402

pytestmark = pytest.mark.ros

MODEL = "fpn_resnet50"
SIZE = (96, 128)


def test_a_model_that_was_cleaned_up_is_gone_at_once(node_process):
    weights = sum(file.stat().st_size for file in load_bundle(MODEL).path.iterdir())
    node = node_process({"model": MODEL, "engine": "onnxruntime", "warm_up_size": list(SIZE)})
    camera = Camera(reliable=True).connect()
    image = encode(np.full((*SIZE, 3), 90, np.uint8), "bgr8")
    camera.segment(image)
    begun = sample(node.pid)
    try:
        for _ in range(2):
            for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
                assert camera.change_state(transition)
            # The C library may keep some of what is free.
            assert sample(node.pid).anonymous < begun.anonymous - weights / 2
            for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                assert camera.change_state(transition)
            camera.connect()
            camera.segment(image)
            assert sample(node.pid).threads <= begun.threads
    finally:
        camera.close()
