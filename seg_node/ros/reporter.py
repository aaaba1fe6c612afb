"""The segmentation node's own report, once a second on ``/diagnostics``."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Header

from seg_node.core.health import Expected, Health, Level, Signs
from seg_node.ros.messages import diagnostics

_PERIOD_S = 1.0
_MARGIN_S = 0.01
"""Time that lets a limit be passed rather than met."""


class Reporter:
    """Judges a node, and each of its cameras where it has several, once a second and publishes that.

    A camera that has been silent for so long that the time allowed runs out before the next report is judged just then.

    Args:
        node: that is judged.
        look: gives signs, and what is expected, by what the topics of those begin with that they are of: the node's
            name, then, where it has several cameras, the name of each below it. Called by a thread of the executor.
    """

    def __init__(self, node: Node, look: Callable[[], Mapping[str, tuple[Signs, Expected]]]):
        self._node = node
        self._look = look
        self._health: defaultdict[str, Health] = defaultdict(Health)
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # On a steady clock: with use_sim_time the others stand still while no bag plays. In a group of its own:
        # diagnostics go on while a service of the default group loads a model.
        steady, group = Clock(clock_type=ClockType.STEADY_TIME), MutuallyExclusiveCallbackGroup()
        self._timer = node.create_timer(_PERIOD_S, self._report, callback_group=group, clock=steady)

    def _report(self) -> None:
        node, looked, now = self._node, self._look(), time.monotonic()
        judged = {name: self._health[name].judge(*of, now) for name, of in looked.items()}
        whole, *cameras = judged
        if cameras:
            judged[whole] = _in_all(judged[whole], ((name.rpartition("/")[2], *judged[name]) for name in cameras))
        level, message = judged[whole]
        signs, _ = looked[whole]
        if signs.state == "active" and level is not Level.OK:
            node.get_logger().warning(f"{signs.topic}: {message}", throttle_duration_sec=10.0)
        header = Header(stamp=node.get_clock().now().to_msg())
        # A message each, as from several nodes: whoever follows one camera finds it as the first and only status.
        for name, (level, message) in judged.items():
            signs, title = looked[name][0], f"{name}: segmentation"
            self._publisher.publish(
                diagnostics(header, title, bytes([level]), message, signs.hardware, dict(signs.values))
            )
        self._wait(min((_time_left(*of) for of in looked.values()), default=_PERIOD_S))

    def _wait(self, seconds: float) -> None:
        """Let the next report come after so much time."""
        period = round(1e9 * seconds)
        if period != self._timer.timer_period_ns:
            self._timer.timer_period_ns = period
            # A new period counts from the next call on, or from now.
            self._timer.reset()


def _time_left(signs: Signs, expected: Expected) -> float:
    """Seconds until a report is due: those until a camera's silence becomes an error, if these are fewer."""
    left = expected.camera_timeout - signs.silent
    soon = signs.state == "active" and 0 < left < _PERIOD_S and left < signs.silent
    return left + _MARGIN_S if soon else _PERIOD_S


def _in_all(whole: tuple[Level, str], cameras: Iterable[tuple[str, Level, str]]) -> tuple[Level, str]:
    """Judgement of a node by that of its engine and those of its cameras: the worst level, and what each has."""
    level, message = whole
    for name, of_camera, text in cameras:
        reasons = text.partition(": ")[2]
        # What is wrong with the node is wrong with each of its cameras.
        if of_camera > Level.OK and reasons not in message:
            message += f"{'; ' if ': ' in message else ': '}{name}: {reasons}"
        level = max(level, of_camera)
    return level, message
