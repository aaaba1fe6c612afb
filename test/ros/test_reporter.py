"""When the node's own report is due."""

import pytest

pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from seg_node.core.health import Expected, Signs  # noqa: E402
from seg_node.ros.reporter import _time_left  # noqa: E402


@pytest.mark.parametrize(
    ("state", "silent", "timeout", "due"),
    [
        ("active", 0.03, 2.0, 1.0),
        ("active", 0.95, 2.0, 1.0),
        # The next report a second later would find it out half a second too late.
        ("active", 1.5, 2.0, 0.51),
        ("active", 2.5, 2.0, 1.0),
        ("active", 1.5, 0.0, 1.0),
        ("inactive", 1.5, 2.0, 1.0),
        # Frames of a camera that is awaited for less than a second do not make reports come oftener.
        ("active", 0.03, 0.5, 1.0),
        ("active", 0.3, 0.5, 0.21),
    ],
)
def test_a_silence_that_becomes_an_error_before_the_next_report_is_judged_then(state, silent, timeout, due):
    assert _time_left(Signs(state, silent=silent), Expected(camera_timeout=timeout)) == pytest.approx(due)
