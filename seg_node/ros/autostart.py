"""A node without a supervisor: it leads itself to active, and back there after it has given up."""

import threading
from collections.abc import Callable

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from seg_node.core.errors import RunError
from seg_node.core.upkeep.attempts import Attempts

_LOST = 3
"""Inferences that never returned after which only a new process helps: each keeps its engine and a thread."""


class Autostart:
    """Configures and activates a node at start, and tries again with growing pauses while that fails.

    A transition that somebody else asks for ends the attempts: whoever leads the node knows better. They begin anew
    when the node gives up while it is active.

    Args:
        node: that is led; its ``state`` is the label of its lifecycle state, ``wrong`` why it is not active.
        group: of the callbacks that lead it, in which one runs at a time.
        transitions: held during every transition, whoever asks for it.
        lost: number of inferences that never returned.
    """

    def __init__(
        self,
        node: LifecycleNode,
        group: CallbackGroup,
        transitions: threading.Lock,
        lost: Callable[[], int],
    ):
        self._node = node
        self._transitions = transitions
        self._lost = lost
        self._attempts = Attempts()
        enabled = node.get_parameter("autostart").value
        self._enabled = self._leads = self.starting = enabled
        """``starting`` until the first attempt has ended."""
        # On a steady clock: with use_sim_time the others stand still while no bag plays.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(0.0, self._attempt, callback_group=group, clock=steady, autostart=enabled)

    @property
    def leading(self) -> bool:
        """Whether the node is to be active, is not, and an attempt goes on or is due."""
        return self._leads and (self.starting or self._attempts.failing)

    def hand_over(self) -> None:
        """Hear that somebody else asks for a transition, or that the process is about to end."""
        # The timer is left to itself: rclpy fails to call one that another thread cancels once it is due.
        self._leads = self.starting = False
        self._attempts.stop()

    def gave_up(self) -> None:
        """Hear that the node has deactivated itself; ``transitions`` is held.

        Raises:
            RunError: the process shall end.
        """
        if self._enabled:
            self._leads = True
            self._failed()

    def text(self) -> str:
        """When it is tried again, for people; empty where it is not."""
        left = self._attempts.left()
        if left is None:
            return ""
        number = self._attempts.count + (left > 0)
        return f"attempt {number} in {left:.0f} s" if left else f"attempt {number} goes on"

    def status(self) -> dict[str, str]:
        """Values for diagnostics: ``attempts`` since it began to fail, ``next_attempt`` in seconds while one is due."""
        left = self._attempts.left()
        return {"attempts": str(self._attempts.count)} | ({} if left is None else {"next_attempt": f"{left:.1f}"})

    def _attempt(self) -> None:
        self._timer.cancel()
        with self._transitions:
            if not self._leads:
                return
            self._attempts.begin()
            active = self._lead()
            # Handed over meanwhile: the process is about to end.
            if not self._leads:
                return
            self.starting = False
            if active:
                self._attempts.succeeded()
            else:
                self._failed()

    def _lead(self) -> bool:
        node, success = self._node, TransitionCallbackReturn.SUCCESS
        if node.state == "inactive":
            # With a new engine: the one that failed is not to be trusted.
            node.trigger_cleanup()
        return node.trigger_configure() == success and node.trigger_activate() == success

    def _failed(self) -> None:
        trouble, do = self._node.wrong, self._node.get_parameter("on_give_up").value
        if do == "exit":
            raise RunError(f"{trouble}; the process ends, as on_give_up says")
        if do == "stay" or self._lost() >= _LOST:
            self._leads = False
            self._attempts.stop()
            return
        seconds = self._attempts.failed()
        self._node.get_logger().warning(f"{trouble}; attempt {self._attempts.count + 1} in {seconds:.0f} s")
        self._timer.timer_period_ns = round(seconds * 1e9)
        self._timer.reset()
