"""Calls the services of a segmentation node, as a supervisor or an operator does."""

import contextlib
import itertools
import os
import threading
import time
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter

CONFIGURE = Transition.TRANSITION_CONFIGURE
CLEAN_UP = Transition.TRANSITION_CLEANUP
ACTIVATE = Transition.TRANSITION_ACTIVATE
DEACTIVATE = Transition.TRANSITION_DEACTIVATE

_ANSWER_S = 60.0
_AGAIN_S = 5.0
_numbers = itertools.count()


class Supervisor:
    """A participant of its own.

    Args:
        node: fully qualified name of the node.
    """

    def __init__(self, node: str):
        self._context = Context()
        rclpy.init(args=[], context=self._context)
        name = f"supervisor_{os.getpid()}_{next(_numbers)}"
        self._node = rclpy.create_node(name, context=self._context, start_parameter_services=False)
        # That of the state is the last one: see ``_meet``.
        services = {ChangeState: "change_state", SetParameters: "set_parameters", GetState: "get_state"}
        self._clients = {kind: self._node.create_client(kind, f"{node}/{name}") for kind, name in services.items()}
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()
        self._met = False

    def close(self) -> None:
        """Leave."""
        self._executor.shutdown()
        self._thread.join()
        self._context.shutdown()

    def change(self, transition: int) -> bool:
        """Ask for a transition; returns whether it succeeded."""
        return self._call(ChangeState, ChangeState.Request(transition=Transition(id=transition))).success

    def state(self) -> str:
        """Name of the lifecycle state."""
        return self._call(GetState, GetState.Request()).current_state.label

    def set(self, name: str, value: object) -> str:
        """Set a parameter; returns why it was refused, empty if it was not."""
        parameter = Parameter(name, value=value).to_parameter_msg()
        result = self._call(SetParameters, SetParameters.Request(parameters=[parameter])).results[0]
        return "" if result.successful else result.reason or "no reason"

    def _meet(self) -> None:
        """Wait until the node knows all clients here: what it answers to one that it does not know is lost.

        A participant tells of its endpoints in the order in which they were made, and the last one here asks a question
        that may be asked again.
        """
        until = time.monotonic() + _ANSWER_S
        while not self._met and time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                self._ask(GetState, GetState.Request(), _AGAIN_S)
                self._met = True

    def _call(self, kind: type, request: Any) -> Any:
        self._meet()
        return self._ask(kind, request, _ANSWER_S)

    def _ask(self, kind: type, request: Any, timeout: float) -> Any:
        client = self._clients[kind]
        if not client.wait_for_service(timeout):
            raise TimeoutError(f"nobody offers {client.srv_name}")
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(timeout):
            client.remove_pending_request(future)
            raise TimeoutError(f"no answer of {client.srv_name} within {timeout:.0f} s")
        return future.result()
