"""Priority of threads: those that infer give way to those that receive and publish."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def give_way(nice: int) -> None:
    """Raise the niceness of this thread, and of those that it starts from now on, for good.

    Only Linux has a niceness for each thread (sched(7)); elsewhere nothing happens.

    Args:
        nice: by so many steps, of which there are 19 at most.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + nice))


def giving_way(nice: int, function: Callable[[], T]) -> T:
    """Result of a function that is called in a thread that gives way, so that this one keeps its niceness.

    Engines start their worker threads when they compile and when they infer first: called here, they inherit it.
    """
    with ThreadPoolExecutor(1, initializer=give_way, initargs=(nice,)) as thread:
        return thread.submit(function).result()
