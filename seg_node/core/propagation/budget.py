"""What carrying the masks of several cameras may take of the cores, while inference has too few of them."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from seg_node.core.machine import usable_cores
from seg_node.core.scheduling.turns import Turns

SHARE = 0.1
"""Share of the cores, unless somebody says otherwise."""
_LONGEST_WAIT_S = 0.05
"""Seconds between two looks of the camera whose turn is next at whether inference still lacks cores."""


class Budget:
    """Gives the propagating threads of several cameras turns, so that inference comes first.

    While frames wait for inference, each core that propagation takes is one that inference lacks. Turns are then given
    to whoever had the last one longest ago, as ``Turns`` has it, and so far apart that all of them together take no
    more than ``share`` of the cores. The frames that come while a camera waits for its turn supersede each other. While
    no frame waits for inference, everybody has a turn at once, and none of them counts.

    What a turn costs is the processor time of its thread, so that a busy machine makes no turn dearer. All methods may
    be called by any thread.

    Args:
        cameras: number of those that share it.
        lacking: whether inference has too few cores at the moment; must not block.
        share: of the cores of this process, above 0, up to 1; can be assigned.
        cores: number of cores of this process.
    """

    def __init__(self, cameras: int, lacking: Callable[[], bool], share: float = SHARE, cores: int | None = None):
        self.share = share
        self._cores = cores or usable_cores()
        self._lacking = lacking
        self._condition = threading.Condition()
        self._turns = Turns(cameras)
        self._working = 0
        self._free = 0.0
        """Reading of ``time.monotonic`` from which on what was spent is within the share."""

    @contextmanager
    def turn(self, camera: int, priority: int = 1) -> Iterator[None]:
        """Wait for a camera's turn, which lasts until the context ends. One thread of each camera at a time.

        Args:
            camera: its number, from 0.
            priority: see ``Turns.serve``.
        """
        with self._condition:
            self._turns.wait(camera)
            while limited := self._lacking():
                # Whoever is served or done tells the others; only the first waits for a time to come.
                first = self._turns.first() == camera and self._working < self._most
                left = self._free - time.monotonic()
                if first and left <= 0:
                    break
                self._condition.wait(min(left, _LONGEST_WAIT_S) if first else None)
            self._turns.serve(camera, priority)
            self._working += 1
            self._condition.notify_all()
        began, before = time.monotonic(), time.thread_time()
        try:
            yield
        finally:
            spent = time.thread_time() - before
            with self._condition:
                self._working -= 1
                if limited:
                    self._free = max(self._free, began) + spent / (self.share * self._cores)
                self._condition.notify_all()

    @property
    def _most(self) -> int:
        """Number of turns at the same time, while they are limited."""
        return max(1, math.floor(self.share * self._cores))
