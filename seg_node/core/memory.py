"""What the C library does with the memory of frames and models."""

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

_OPTIONS = {
    # The most that glibc takes: a block of this size or more is mapped by itself, with a page fault for each 4 KiB.
    "MALLOC_MMAP_THRESHOLD_": (-3, 2**25),
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**28),
    "MALLOC_ARENA_MAX": (-8, 1),
}
"""Name and value of glibc's option, by the variable with which users set it (malloc.h, mallopt(3))."""


def keep_memory_steady() -> None:
    """Keep the process from growing with every model and every frame size that comes and goes.

    By default glibc gives each thread a heap of its own. Frames, and whatever lives longer and comes to lie between
    them, wander from heap to heap, and each of them grows. With one heap, of which nothing below 256 MiB is handed back
    in between, the greatest need is reached soon and stays. Mapping each frame by itself would do that, too, and cost
    4 ms of page faults for one of 1280x720.

    Has to be called before rclpy, OpenVINO or the like are imported: they start threads, and glibc settles for good how
    many heaps there may be when one of these allocates. What users have set stays. Does nothing with other C libraries.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for variable, option in _OPTIONS.items():
            if variable not in os.environ:
                mallopt(*option)


def keep_what_is_there() -> None:
    """Take what the process holds now for things that stay: Python's collector never looks at them again.

    To be called once, when everything is imported and set up. A full collection looked at 67,000 objects of modules
    before, for 20 to 25 ms in which no other thread of Python runs; what comes later is some hundreds of objects.
    See ``gc.freeze``, and ``let_go_of_what_is_there``.
    """
    gc.collect()
    gc.freeze()


def let_go_of_what_is_there() -> None:
    """Take back ``keep_what_is_there``, before the process ends.

    What frees itself when it is collected would not do so otherwise: a participant of DDS that is part of a circle, for
    instance, leaves its shared memory behind.
    """
    gc.unfreeze()


@contextmanager
def nothing_to_collect() -> Iterator[None]:
    """While it lasts, Python's collector looks at nothing that the process holds now.

    For those who measure: a full collection of fifty thousand objects stops all threads, for 15 to 30 ms and beside
    inference for 200, and whoever plays a drive and notes when masks come would take it for a pause of the node.
    """
    keep_what_is_there()
    try:
        yield
    finally:
        let_go_of_what_is_there()


def hand_back_free_memory() -> None:
    """Give the system back what nothing needs any more: circles of objects, then what lies free on the heap.

    A model, its workers and publishers hold each other, and Python by itself looks for such circles once in ten
    minutes or so. Models come and go between what stays, and each may find the gaps of the one before too small: what
    is left of those gaps is nothing that the process should hold, see malloc_trim(3). Takes milliseconds after
    ``keep_what_is_there``, in which no other thread can allocate.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def steady_memory_environment() -> dict[str, str]:
    """Variables for a process to start with, instead of ``keep_memory_steady`` in it. What users have set stays."""
    return {variable: str(value) for variable, (_, value) in _OPTIONS.items() if variable not in os.environ}
