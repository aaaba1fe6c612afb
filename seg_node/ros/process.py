"""A node as a process: from the command line to its exit status."""

import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, MultiThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from seg_node.core.errors import RunError
from seg_node.core.memory import keep_what_is_there, let_go_of_what_is_there

_LOOK_S = 0.5
"""Longest time for which a signal may go unseen."""
_START_S = 1.0
"""Longest wait for all threads of the executor to have begun."""
_END_S = 15.0
"""Longest wait for callbacks that are under way when the process is asked to end."""


class _End:
    """Why the process shall end: a signal or an error; the first counts. A second signal ends it at once.

    rclpy's own handlers shut the context down, in which a transition or a log message that is under way then fails.
    """

    def __init__(self):
        # Unlike an event, it can be filled by a signal handler that interrupts whoever waits for it.
        self._reasons: queue.SimpleQueue[int | RunError] = queue.SimpleQueue()
        self._signalled = False

    def __enter__(self) -> "_End":
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _: object) -> None:
        if self._signalled:
            os._exit(128 + number)
        self._signalled = True
        self._reasons.put(number)

    def fail(self, error: RunError) -> None:
        """Let the process end with an error."""
        self._reasons.put(error)

    def wait(self) -> int | RunError:
        """Wait for the end: the number of the signal, or the error."""
        while True:
            # Python calls the handler of a signal that comes just before a wait only after that wait.
            with contextlib.suppress(queue.Empty):
                return self._reasons.get(timeout=_LOOK_S)


def run_node(make_node: Callable[[], Node], name: str, threads: int, arguments: list[str] | None = None) -> int:
    """Run a node until SIGINT or SIGTERM comes, or one of its callbacks raises a ``RunError``.

    A node that has the method ``prepare_to_end`` is told before its callbacks are waited for; one whose attribute
    ``starting`` is true has not come up yet.

    Args:
        make_node: raises ``ValueError`` or ``ParameterException`` where the parameters are not right.
        name: for the log, until the node has one.
        threads: of the executor.
        arguments: of the command line; those of this process by default.

    Returns:
        The exit status: 0 after a signal, or 128 and its number for a node that had not come up; 2 for parameters that
        are not right; that of the ``RunError``.
    """
    with _End() as end:
        arguments = sys.argv[1:] if arguments is None else arguments
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        try:
            node = make_node()
        except (ValueError, ParameterException) as error:
            rclpy.logging.get_logger(name).fatal(str(error))
            rclpy.try_shutdown()
            return 2
        keep_what_is_there()
        executor = MultiThreadedExecutor(num_threads=threads)
        executor.add_node(node)
        _start_threads(executor, threads)
        stopped = threading.Event()
        # The main thread is for signals, and for them alone.
        spinning = threading.Thread(target=_spin, args=(executor, node, stopped, end), name="executor", daemon=True)
        spinning.start()
        reason = end.wait()
        status = _status(reason, node)
        getattr(node, "prepare_to_end", lambda: None)()
        let_go_of_what_is_there()
        stopped.set()
        # Something to do, for a spin that waits for that.
        executor.create_task(lambda: None)
        spinning.join(_END_S)
        ended = not spinning.is_alive() and _finish(executor)
        if ended:
            executor.shutdown()
            node.destroy_node()
            rclpy.try_shutdown()
        if not ended or getattr(node, "unfinished", False):
            # A thread is in a library that cannot be interrupted: Python would wait for it, or break down under it.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        return status


def _start_threads(executor: Executor, threads: int) -> None:
    """Have all threads of an executor start at once: by itself it starts one whenever none of those it has is idle.

    A node has as many threads after a minute as after a week then, and no frame waits for the start of one.
    """
    together = threading.Barrier(threads)
    for _ in range(threads):
        executor.create_task(_meet, together)


def _meet(together: threading.Barrier) -> None:
    with contextlib.suppress(threading.BrokenBarrierError):
        together.wait(_START_S)


def _finish(executor: MultiThreadedExecutor) -> bool:
    """Wait for callbacks that are under way; returns whether they ended."""
    try:
        from seg_node.ros.transfer.rclpy_gaps import finish_callbacks
    except Exception:
        # Where rclpy is not as it is known, Python itself waits for them at the end.
        return True
    return finish_callbacks(executor, _END_S)


def _status(reason: int | RunError, node: Node) -> int:
    if isinstance(reason, RunError):
        node.get_logger().fatal(str(reason))
        return reason.exit_status
    return 128 + reason if getattr(node, "starting", False) else 0


def _spin(executor: Executor, node: Node, stopped: threading.Event, end: _End) -> None:
    while not stopped.is_set() and executor.context.ok():
        try:
            executor.spin_once()
        except RunError as error:
            end.fail(error)
        except Exception as error:
            # A callback that fails, on a message that rclpy cannot read for instance, must not end the node.
            node.get_logger().error(f"{type(error).__name__} in a callback: {error}")
    if not stopped.is_set():
        end.fail(RunError("the ROS context was shut down"))
