"""Fixtures shared by all tests: data, ROS 2 and the real node as a process.

Every test session has a ROS domain of its own and does not leave the machine: it neither hears a robot on the network
nor drives one.
"""

import os
import random
import socket
from pathlib import Path

import pytest
from helpers.paths import DATA

from seg_node.rig.node_process import NodeProcess, default_profile_environment

_PARTICIPANTS = 5
"""So many ports of participants are looked at: the first of them may have left the domain to others."""


def _free_domain() -> int:
    """A ROS domain in which nobody on this machine listens, by its discovery ports (DDSI-RTPS 2.5, section 9.6.2).

    Participants that do not leave the machine have no multicast port, only one of their own each. Every worker of
    pytest-xdist has domains of its own, so that no two choose the same at the same time.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    domains = range(1 + worker, 102, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    for domain in random.SystemRandom().sample(domains, len(domains)):
        base = 7400 + 250 * domain
        if all(_is_free(port) for port in (base, *range(base + 10, base + 10 + 2 * _PARTICIPANTS, 2))):
            return domain
    raise RuntimeError("every ROS domain from 1 to 101 is in use on this machine")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


# Set while the tests are collected, before anything initialises rclpy and for every child process.
os.environ["ROS_DOMAIN_ID"] = str(_free_domain())
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.update(default_profile_environment())
# Hundreds of processes are started here: what the first has compiled is there for the next.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Threads of torch that wait for each other's share take many times as long where another worker has the processor.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser):
    """Options of these tests."""
    parser.addoption("--ros", action="store_true", help="only the tests that ROS 2 has an influence on")
    parser.addoption("--whole", action="store_true", help="evaluate the shipped models on every image of CamVid val")


def pytest_collection_modifyitems(config, items):
    """Leave out what ``--ros`` does not ask for."""
    if config.getoption("--ros"):
        kept = [item for item in items if "ros" in item.fixturenames or item.get_closest_marker("ros")]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makemodule(module_path, parent):
    """Let modules skip themselves where launch_testing is installed.

    Its plugin imports every module to look for launch tests, and one that skips itself would end the collection.
    """
    try:
        return (yield)
    except pytest.skip.Exception:
        return pytest.Module.from_parent(parent, path=module_path)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The data folder: ``SEG_NODE_DATA``, or ``data`` in the folder ``shared`` beside the repository."""
    if not DATA.is_dir():
        pytest.skip(f"data folder {DATA} is missing (set SEG_NODE_DATA)")
    return DATA


@pytest.fixture(scope="session")
def ros():
    """The ``rclpy`` module, initialised for the whole session.

    Its signal handlers are left out: with them, a session could not be ended by SIGTERM.
    """
    rclpy = pytest.importorskip(
        "rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI"
    )
    rclpy.init(args=[], signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    yield rclpy
    rclpy.try_shutdown()


@pytest.fixture
def node_process(ros, tmp_path):
    """Start the real node and wait for its state: ``node_process(parameters, remaps, ...) -> NodeProcess``.

    Keywords are those of ``NodeProcess``, and ``state``, the lifecycle state to wait for (None: do not wait), and
    ``timeout`` in seconds. Nodes are stopped after the test; their output is in ``log`` of what is returned, and is
    printed for a test that fails.
    """
    processes: list[NodeProcess] = []

    def start(parameters=None, remaps=None, *, state="active", timeout=180.0, **options) -> NodeProcess:
        options.setdefault("log", tmp_path / f"node{len(processes)}.log")
        process = NodeProcess(parameters=parameters, remaps=remaps, **options)
        process.start()
        processes.append(process)
        if state:
            process.wait_for(state, timeout)
        return process

    yield start
    for process in processes:
        process.stop()
        print(f"output of {process.full_name}:\n{process.last_output(100)}")
