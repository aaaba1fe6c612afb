"""One progress bar over a plan whose steps take known times."""

import contextlib
import threading
import time
from collections.abc import Iterator

from tqdm import tqdm

_FORMAT = "{desc:40.40} {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} to go"
_REFRESH_S = 0.5


class PlanBar:
    """A context manager that shows the share of the planned seconds; it moves by the clock within a step.

    Args:
        total: seconds of all steps.
    """

    def __init__(self, total: float):
        self._bar = tqdm(total=total, bar_format=_FORMAT)
        self._done, self._planned, self._since = 0.0, 0.0, time.monotonic()
        self._stopped = threading.Event()
        # A thread, because most steps wait for something and cannot report.
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> "PlanBar":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._show()
        self._bar.close()

    @contextlib.contextmanager
    def step(self, name: str, planned: float) -> Iterator[None]:
        """Show a step that is expected to take ``planned`` seconds."""
        self._bar.set_description_str(name, refresh=False)
        self._planned, self._since = planned, time.monotonic()
        yield
        self._done, self._planned = self._done + planned, 0.0

    def _tick(self) -> None:
        while not self._stopped.wait(_REFRESH_S):
            self._show()

    def _show(self) -> None:
        self._bar.n = min(self._done + min(time.monotonic() - self._since, self._planned), self._bar.total)
        self._bar.refresh()
