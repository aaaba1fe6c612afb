"""Who watches the node from outside: the service manager that started it, and the other end of a bond."""

import importlib.util
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from seg_node.core.upkeep.service_manager import ServiceManager

_LOOK_S = 0.1
"""Seconds between two looks whether the node has come up."""


class Watchdog:
    """Tells the service manager of a node that it is up, and then, again and again, that it does its work.

    It is told by a callback in the node's default group: nothing is told while the executor does not turn.

    Args:
        node: that is watched.
        up: whether the node has come up.
        trouble: what keeps it from its work; empty if nothing does.
    """

    def __init__(self, node: Node, up: Callable[[], bool], trouble: Callable[[], str]):
        self._manager = ServiceManager()
        self._up, self._trouble = up, trouble
        self._is_up = False
        self._said = ""
        if self._manager.present:
            self._timer = node.create_timer(_LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def stopping(self) -> None:
        """Tell that the node is about to end."""
        self._manager.stopping()

    def _look(self) -> None:
        trouble = self._trouble()
        if trouble:
            if trouble != self._said:
                self._manager.say(trouble)
        elif self._is_up:
            self._manager.ping("" if not self._said else "the node is up")
        elif self._up() and self._manager.ready("the node is up"):
            self._is_up = True
            every = self._manager.ping_every
            self._timer.timer_period_ns = round((every or 1.0) * 1e9)
        self._said = trouble


class Bond:
    """The node's end of a bond, as lifecycle managers form one with each node that is active (bondpy, where installed).

    Args:
        node: whose name is the bond's.
    """

    def __init__(self, node: Node):
        self._node = node
        self._bond: Any = None
        self._installed = importlib.util.find_spec("bondpy") is not None

    def form(self) -> None:
        """Begin to send heartbeats."""
        if self._installed:
            from bondpy.bondpy import Bond as Heartbeats

            self._bond = Heartbeats("bond", self._node.get_name(), self._node)
            self._bond.start()

    def break_off(self) -> None:
        """Tell the other end that the node is no longer active; no heartbeat follows."""
        if self._bond is not None:
            self._bond.shutdown()
            self._bond = None
