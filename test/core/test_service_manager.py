"""What is told to a service manager, over a real socket."""

import os
import socket
import threading

import pytest

from seg_node.core.upkeep.service_manager import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def listener(request, tmp_path):
    """A socket that a service manager would listen on, and its name as the manager would pass it."""
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.settimeout(60)
    name = str(tmp_path / "notify") if request.param == "path" else f"@seg_node_{os.getpid()}"
    heard.bind(name.replace("@", "\0", 1))
    yield heard, name
    heard.close()


def test_messages(listener):
    heard, name = listener
    manager = ServiceManager({"NOTIFY_SOCKET": name})
    assert manager.present and manager.ping_every == 0.0
    assert manager.ready("the node\nis up")
    manager.ping()
    manager.say("an inference has not returned")
    manager.stopping()
    assert [heard.recv(1000) for _ in range(4)] == [
        b"READY=1\nSTATUS=the node is up",
        b"WATCHDOG=1",
        b"STATUS=an inference has not returned",
        b"STOPPING=1",
    ]


@pytest.mark.parametrize(
    ("variables", "every"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 5.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 5.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
        ({}, 0.0),
    ],
)
def test_pings_are_sent_only_where_they_are_expected(tmp_path, variables, every):
    assert ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "n"), **variables}).ping_every == every
    assert ServiceManager(variables).ping_every == 0.0


def test_nobody_listens(tmp_path):
    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}):
        manager = ServiceManager(environment)
        assert not manager.ready()
        manager.ping()
        manager.stopping()
    assert not ServiceManager({}).present


def test_a_manager_that_does_not_read_holds_nobody_up(listener):
    heard, name = listener
    manager = ServiceManager({"NOTIFY_SOCKET": name})
    for _ in range(10_000):
        manager.ping()
    assert not manager.ready(), "its queue is full"
    while heard.recv(100) == b"WATCHDOG=1":
        manager.ready()
    assert manager.ready()


def test_the_last_word_waits_for_room_and_is_the_last(listener):
    heard, name = listener
    manager = ServiceManager({"NOTIFY_SOCKET": name})
    while manager.ready():
        pass
    ending = threading.Thread(target=manager.stopping)
    ending.start()
    messages = iter(lambda: heard.recv(100), b"STOPPING=1")
    assert set(messages) == {b"READY=1"}
    ending.join()
    assert not manager.ready()
    manager.ping()
    heard.setblocking(False)
    with pytest.raises(BlockingIOError):
        heard.recv(100)
