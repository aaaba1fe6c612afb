"""What holds Python's lock is done in another process."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from seg_node.core.engines import aside
from seg_node.core.engines.aside import call
from seg_node.core.errors import NoResultError, RunError


def test_the_answer_comes_from_another_process():
    assert int(call("helpers.aside:process")) != os.getpid()
    assert int(call("helpers.aside:process", aside=False)) == os.getpid()


def test_what_is_large_comes_whole():
    content = os.urandom(2**20) * 40
    assert call("builtins:bytes", content) == content


def test_what_is_printed_is_no_answer(capfd):
    assert call("helpers.aside:talk") == b"the answer"
    said = capfd.readouterr()
    assert said.out == "" and "a library's progress\nand that of its C code" in said.err


def test_errors_come_as_they_are():
    with pytest.raises(NoResultError, match="^nothing of it$"):
        call("helpers.aside:refuse", "nothing of it")
    with pytest.raises(RuntimeError, match="^'lost'$"):
        call("helpers.aside:break_down", "lost")


def test_a_process_that_is_killed_is_named():
    with pytest.raises(RunError, match="ended by signal 9; is there enough memory"):
        call("helpers.aside:be_killed")


def test_what_a_library_leaves_behind_is_not_waited_for():
    left = int(call("helpers.aside:leave_a_process_behind"))
    _wait(lambda: _ended(left))


def test_where_no_process_can_be_started_it_is_done_here(monkeypatch):
    def refuse(*arguments, **options):
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(aside.subprocess, "Popen", refuse)
    assert int(call("helpers.aside:process")) == os.getpid()


def _held(file, seconds, **options):
    """Touch a file while a function holds the lock until it is there; returns what the function says of that."""
    answers = []

    def ask():
        answers.append(call("helpers.aside:hold_the_lock", str(file), seconds, **options))

    thread = threading.Thread(target=ask)
    thread.start()
    # In this process it holds the lock within that time, and this thread goes on only when it has given up.
    time.sleep(0.2)
    file.touch()
    thread.join()
    return answers[0]


def test_threads_go_on_meanwhile(tmp_path):
    assert _held(tmp_path / "here", 1, aside=False) == b"too late", "the function does hold the lock"
    assert _held(tmp_path / "aside", 60) == b"in time"


def test_it_ends_with_who_asked(tmp_path):
    file = tmp_path / "number"
    code = "import sys; from seg_node.core.engines.aside import call; call('helpers.aside:wait_for_ever', sys.argv[1])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    asking = subprocess.Popen([sys.executable, "-c", code, str(file)], env=environment)
    _wait(lambda: file.exists() and file.read_text())
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    _wait(lambda: _ended(int(file.read_text())))


def _ended(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    # One whose parent is gone may be left to a process that does not ask for the status of its children.
    with open(f"/proc/{number}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "Z"


def _wait(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
