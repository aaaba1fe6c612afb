"""The segmentation node's own report, once a second on ``/diagnostics``."""

import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Header

from seg_node.core.health import Expected, Health, Level, Signs
from seg_node.ros.messages import diagnostics


class Reporter:
    """Judges a node once a second and publishes that.

    Args:
        node: that is judged.
        look: gives its signs, and what is expected of it; called by a thread of the executor.
    """

    def __init__(self, node: Node, look: Callable[[], tuple[Signs, Expected]]):
        self._node = node
        self._look = look
        self._health = Health()
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # On a steady clock: with use_sim_time the others stand still while no bag plays. In a group of its own:
        # diagnostics go on while a service of the default group loads a model.
        steady, group = Clock(clock_type=ClockType.STEADY_TIME), MutuallyExclusiveCallbackGroup()
        node.create_timer(1.0, self._report, callback_group=group, clock=steady)

    def _report(self) -> None:
        node, (signs, expected) = self._node, self._look()
        level, message = self._health.judge(signs, expected, time.monotonic())
        if signs.state == "active" and level is not Level.OK:
            node.get_logger().warning(f"{signs.topic}: {message}", throttle_duration_sec=10.0)
        header = Header(stamp=node.get_clock().now().to_msg())
        name = f"{node.get_fully_qualified_name()}: segmentation"
        self._publisher.publish(diagnostics(header, name, bytes([level]), message, signs.hardware, dict(signs.values)))
