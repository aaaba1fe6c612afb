"""The monitor as a child process: started, asked and ended from here."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from seg_node.core.errors import RunError
from seg_node.core.memory import steady_memory_environment
from seg_node.rig.recording import Observed

_ANSWER_S = 60.0
"""Its start is part of the first answer, which takes many seconds where others have the processor."""
_SAVE_S = 300.0


class MonitorError(RunError):
    """The monitor process ended or does not answer; the message ends with what it printed last."""


@dataclass(frozen=True)
class Seen:
    """What the monitor has seen since the begin; what has changed of it is sent ten times a second."""

    matched: bool = False
    """Whether the node publishes masks and timing records, and its diagnostics have arrived."""
    masks: int = 0
    records: int = 0
    now_records: int = 0
    """Records of masks of now."""
    newest: int = 0
    """``time.monotonic_ns`` of the newest mask or record."""
    counted: int = 0
    """``time.monotonic_ns`` of the node's newest status on ``/diagnostics``."""
    status: dict[str, str] = field(default_factory=dict)
    """Values of that status."""
    model: str = ""
    """Hardware id of that status: the bundle."""


class MonitorProcess:
    """``python -m seg_node.rig.monitor``; a context manager.

    One line of stdin is one command: ``begin`` forgets what was seen, ``end FILE`` writes it to FILE. One line of
    stdout is one JSON object: ``{"event": "seen", ...}`` with the fields of ``Seen`` that have changed, ``begun``,
    ``ended``, and ``failed`` with a ``reason`` where the file cannot be written. It ends when stdin is closed, so it
    does not outlive this process.

    Args:
        target: fully qualified name of the segmentation node.
        pid: process id of the node on this machine, to sample its usage; None where there is none.
        folder: for its log and what it hands over.
        environment: variables to add to this process's environment.
        now: listen to the mask of now, too, which makes the node compute it.
    """

    def __init__(
        self,
        target: str,
        pid: int | None,
        folder: Path,
        environment: dict[str, str] | None = None,
        now: bool = False,
    ):
        self.log = Path(folder) / "monitor.log"
        self._folder = Path(folder)
        self._command = [sys.executable, "-m", "seg_node.rig.monitor", target, *([str(pid)] if pid else [])]
        self._command += ["--now"] * now
        # Page faults while it receives take processor time from the node that is measured.
        steady = steady_memory_environment()
        self._environment = {**os.environ, **steady, **(environment or {}), "PYTHONUNBUFFERED": "1"}
        self._seen = Seen()
        self._answers = {"begun": 0, "ended": 0}
        self._failure = ""

    def __enter__(self) -> "MonitorProcess":
        self._folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        threading.Thread(target=self._listen, name="monitor", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._process.stdin.close()
            self._process.wait(_ANSWER_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def seen(self) -> Seen:
        """The newest report."""
        return self._seen

    def check(self) -> None:
        """Raise ``MonitorError`` if the process has ended."""
        if self._process.poll() is not None:
            raise self._error(f"ended with exit code {self._process.returncode}")

    def begin(self) -> None:
        """Forget what was seen. Returns once that is done."""
        self._ask("begin", "begun", _ANSWER_S)

    def end(self) -> Observed:
        """What was seen since ``begin``.

        Raises:
            MonitorError: the process has ended, does not answer, or cannot write.
        """
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            file = Path(folder).resolve() / "observed.npz"
            self._ask(f"end {file}", "ended", _SAVE_S)
            return Observed.load(file)

    def _ask(self, command: str, answer: str, timeout: float) -> None:
        before = self._answers[answer]
        self.check()
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except OSError:
            self._wait(lambda: False, 1.0, command)
        self._wait(lambda: self._answers[answer] > before, timeout, command)

    def _wait(self, condition: Callable[[], bool], timeout: float, command: str) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            self.check()
            if self._failure:
                raise MonitorError(f"the monitor process {self._failure}")
            if time.monotonic() > deadline:
                raise self._error(f"does not answer {command.split()[0]!r} within {timeout:.0f} s")
            time.sleep(0.005)

    def _listen(self) -> None:
        for line in self._process.stdout:
            if not line.startswith("{"):
                # Fast DDS complains on stdout, of a profile that it cannot read for instance.
                with self.log.open("a") as log:
                    log.write(line)
                continue
            values = json.loads(line)
            event = values.pop("event")
            if event == "seen":
                self._seen = replace(self._seen, **values)
            elif event == "failed":
                self._failure = values["reason"]
            else:
                self._answers[event] += 1

    def _error(self, what: str) -> MonitorError:
        last = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        return MonitorError(f"the monitor process {what}; its last output ({self.log}):\n{last}")
