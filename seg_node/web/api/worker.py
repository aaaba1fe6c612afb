"""The one thread that works for a model, and what waits for it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 20.0
"""Time that the last step may take after the end; a library that hangs must not keep the process."""


@dataclass(frozen=True, eq=False)
class Turn:
    """A call that waits for the thread."""

    call: Callable[..., None]
    arguments: tuple[Any, ...]


class Worker:
    """Calls functions one after the other in a thread of its own.

    What is withdrawn is forgotten at once. A pool of one thread would keep it until its turn comes, which it never does
    where the thread hangs in a library.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str):
        self._name = name
        self._turns: deque[Turn] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._step_began: float | None = None
        # Not waited for at the end of the process: it may hang.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def busy_seconds(self) -> float:
        """Time since the current step began, in seconds; 0 while the thread waits."""
        began = self._step_began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def waiting(self) -> int:
        """Number of calls that wait."""
        return len(self._turns)

    @property
    def closed(self) -> bool:
        """Whether no further call has its turn."""
        return self._closed

    def put(self, call: Callable[..., None], *arguments: Any) -> Turn:
        """Call a function when its turn comes; it must not raise."""
        turn = Turn(call, arguments)
        with self._changed:
            self._turns.append(turn)
            self._changed.notify()
        return turn

    def withdraw(self, turn: Turn) -> None:
        """Forget a call that waits still."""
        with self._changed:
            if turn in self._turns:
                self._turns.remove(turn)

    def take_others(self, call: Callable[..., None], most: int) -> list[Any]:
        """The only argument of each of the calls of a function that have waited longest, which then wait no more."""
        with self._changed:
            turns = [turn for turn in self._turns if turn.call == call][:most]
            for turn in turns:
                self._turns.remove(turn)
        return [turn.arguments[0] for turn in turns]

    def begin_step(self) -> None:
        """Note, from within a call, that work has come further."""
        self._step_began = time.monotonic()

    def close(self) -> None:
        """Forget all that waits and end the thread after its current call."""
        with self._changed:
            self._closed = True
            self._turns.clear()
            self._changed.notify()
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            log.error("the work for %s does not end; it is left behind", self._name)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._turns and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                turn = self._turns.popleft()
            self.begin_step()
            try:
                turn.call(*turn.arguments)
            except Exception:
                # A defect of ours; the next call has its turn.
                log.exception("a call for %s failed", self._name)
            finally:
                self._step_began = None
                # Otherwise the last image would be kept until the next one comes.
                del turn
