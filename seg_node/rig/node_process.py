"""The segmentation node as a child process, as a launch file would start it."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from seg_node.core.errors import RunError
from seg_node.core.share import shared_path

_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
_SETTLED_S = 5.0
"""A node that says for so long that it is unconfigured has failed to configure."""


class NodeError(RunError):
    """The node died or did not come up; the message ends with what it printed last."""


def ros_missing(what: str) -> str:
    """What to tell who wants ``what`` without rclpy; empty where it is installed."""
    if importlib.util.find_spec("rclpy"):
        return ""
    return (
        f"{what} needs ROS 2: source an installation (. /opt/ros/jazzy/setup.bash), or install it from PyPI"
        " (pip install ros-jazzy-rclpy ros-jazzy-rmw-fastrtps-cpp ros-jazzy-common-interfaces), which has it for"
        f" Python 3.10 to 3.13 on x86-64; this is Python {sys.version_info.major}.{sys.version_info.minor}"
    )


def default_profile_environment() -> dict[str, str]:
    """Environment variables that make Fast DDS use the package's shared-memory profile.

    Fast DDS reads them when the first participant of a process is created. Its own defaults lose most camera-sized
    frames of best-effort publishers.

    Returns:
        Variables to add to the environment; empty where the user has chosen a profile, or the package's is not found.
    """
    if any(os.environ.get(variable) for variable in _PROFILE_VARIABLES):
        return {}
    profile = shared_path("config/fastdds_shm.xml")
    return dict.fromkeys(_PROFILE_VARIABLES, str(profile)) if profile else {}


def default_environment() -> dict[str, str]:
    """Environment variables for a run on this machine only, where the user has not decided otherwise.

    The profile of ``default_profile_environment``, and discovery that does not leave the machine.
    """
    environment = default_profile_environment()
    if not any(os.environ.get(name) for name in ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY")):
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    return environment


class NodeProcess:
    """``python -m seg_node node`` as a child process; a context manager that stops it at the end.

    Args:
        log: file that receives what the node prints.
        parameters: ROS parameters of the node.
        remaps: names to remap, from -> to.
        name: name of the node.
        namespace: namespace of the node, with its leading slash; empty for none.
        environment: variables to add to this process's environment.
        command: what to start instead of the installed node; ``--ros-args ...`` is appended.
    """

    def __init__(
        self,
        log: Path,
        parameters: Mapping[str, object] | None = None,
        remaps: Mapping[str, str] | None = None,
        name: str = "segmentation",
        namespace: str = "",
        environment: Mapping[str, str] | None = None,
        command: list[str] | None = None,
    ):
        self.log = Path(log)
        self.full_name = f"{namespace.rstrip('/')}/{name}"
        arguments = ["--ros-args", "-r", f"__node:={name}"]
        if namespace:
            arguments += ["-r", f"__ns:={namespace}"]
        for source, target in (remaps or {}).items():
            arguments += ["-r", f"{source}:={target}"]
        for parameter, value in (parameters or {}).items():
            # JSON is YAML: quoted strings stay strings even where they look like numbers.
            arguments += ["-p", f"{parameter}:={json.dumps(value)}"]
        self._command = [*(command or [sys.executable, "-m", "seg_node", "node"]), *arguments]
        self._environment = {**os.environ, **default_environment(), **(environment or {}), "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "NodeProcess":
        self.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process. Returns at once."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        """Process id of the node."""
        return self._started().pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, None while the process runs."""
        return self._started().poll()

    def last_output(self, lines: int = 20) -> str:
        """The last lines that the node printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def check(self) -> None:
        """Raise ``NodeError`` if the process has ended."""
        if self.exit_code is not None:
            raise self._error(f"ended with exit code {self.exit_code}")

    def wait_for(self, state: str = "active", timeout: float = 180.0) -> None:
        """Wait until the node is in a lifecycle state.

        Args:
            state: name of the primary state: unconfigured, inactive, active or finalized.
            timeout: seconds; loading, compiling and warming up a model happen in this time.

        Raises:
            NodeError: the process ended, the node fell back to another state, or the time is over.
        """
        import rclpy
        from lifecycle_msgs.srv import GetState
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor

        # A context of its own: the caller's executor may be spinning in another thread.
        context = Context()
        rclpy.init(args=[], context=context)
        try:
            node = rclpy.create_node(f"wait_for_state_{os.getpid()}", context=context, start_parameter_services=False)
            executor = SingleThreadedExecutor(context=context)
            executor.add_node(node)
            client = node.create_client(GetState, f"{self.full_name}/get_state")
            try:
                self._poll_state(client, GetState.Request(), executor, state, timeout)
            finally:
                executor.shutdown()
                node.destroy_node()
        finally:
            context.shutdown()

    def _poll_state(self, client, request, executor, wanted: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        seen, since = "unreachable", time.monotonic()
        while time.monotonic() < deadline:
            self.check()
            if not client.wait_for_service(timeout_sec=0.2):
                continue
            future = client.call_async(request)
            # Asked again after a while: an answer is lost when discovery of the client was not complete.
            until = min(deadline, time.monotonic() + 5)
            while not future.done() and time.monotonic() < until:
                self.check()
                executor.spin_until_future_complete(future, timeout_sec=0.2)
            if not future.done():
                client.remove_pending_request(future)
                continue
            state = future.result().current_state.label
            if state == wanted:
                return
            if state != seen:
                seen, since = state, time.monotonic()
            if state == "finalized" or (state == "unconfigured" and time.monotonic() - since > _SETTLED_S):
                raise self._error(f"is {state}, not {wanted}")
            time.sleep(0.1)
        raise self._error(f"is {seen}, not {wanted}, after {timeout:.0f} s")

    def stop(self, timeout: float = 10.0) -> int:
        """Stop the process by SIGINT, and kill it if it has not ended in time.

        Args:
            timeout: seconds to wait before it is killed.

        Returns:
            Its exit code; negative is the number of the signal that ended it.
        """
        process = self._started()
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.wait()

    def _started(self) -> subprocess.Popen:
        if self._process is None:
            raise RuntimeError("the node process was not started")
        return self._process

    def _error(self, what: str) -> NodeError:
        return NodeError(f"the node {self.full_name} {what}; its last output ({self.log}):\n{self.last_output()}")
