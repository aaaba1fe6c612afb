"""Functions for ``seg_node.core.engines.aside``: each shows something of the process that it is called in."""

import ctypes
import os
import signal
import time
from pathlib import Path

from seg_node.core.errors import NoResultError


def process():
    """Its number."""
    return str(os.getpid()).encode()


def talk():
    print("a library's progress", flush=True)
    os.write(1, b"and that of its C code\n")
    return b"the answer"


def refuse(why):
    raise NoResultError(why)


def break_down(why):
    raise KeyError(why)


def be_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_ever(file):
    Path(file).write_text(str(os.getpid()))
    time.sleep(3600)


def leave_a_process_behind():
    """As a library does that forks to send statistics, and then waits for a lock that nobody holds any more."""
    number = os.fork()
    if not number:
        time.sleep(3600)
    return str(number).encode()


def hold_the_lock(until, seconds):
    """Keep Python's lock, as a call of C code does that never releases it, until a file exists."""
    code = f'for i in $(seq {int(seconds * 50)}); do [ -e "{until}" ] && exit 0; sleep 0.02; done; exit 1'
    return b"too late" if ctypes.PyDLL(None).system(code.encode()) else b"in time"
