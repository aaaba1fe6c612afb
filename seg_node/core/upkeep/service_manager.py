"""What a process tells the service manager that started it, as systemd's sd_notify(3) has it."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Mapping

_PINGS = 4
"""Pings within the time after which the manager ends a process that sends none: a loaded machine delays some."""
_LAST_WORD_S = 1.0
"""Longest wait for room in the manager's queue, for the one message that no later one makes up for."""


class ServiceManager:
    """The manager behind ``NOTIFY_SOCKET``; without that variable nothing is told to anybody.

    Args:
        environment: variables of this process.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ):
        address = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is in the abstract namespace, which the kernel marks by a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        self._lock = threading.Lock()
        self._ended = False
        self.ping_every = 0.0
        """Seconds between two pings; 0 where the manager expects none."""
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        with contextlib.suppress(ValueError):
            if ours and self._socket is not None:
                self.ping_every = max(int(environment.get("WATCHDOG_USEC", "0")), 0) / 1e6 / _PINGS

    @property
    def present(self) -> bool:
        """Whether there is one."""
        return self._socket is not None

    def ready(self, status: str = "") -> bool:
        """Tell that the process does what it was started for; returns whether that was sent."""
        return self._tell("READY=1", status)

    def ping(self, status: str = "") -> None:
        """Tell that the process still does."""
        self._tell("WATCHDOG=1", status)

    def stopping(self) -> None:
        """Tell that the process is about to end; whatever would be told later is not."""
        with self._lock:
            self._ended = True
            deadline = time.monotonic() + _LAST_WORD_S
            while self._socket is not None and time.monotonic() < deadline:
                try:
                    self._send("STOPPING=1")
                    break
                except BlockingIOError:
                    time.sleep(0.02)
                except OSError:
                    break

    def say(self, status: str) -> None:
        """Tell in one line how it goes."""
        self._tell("", status)

    def _tell(self, fact: str, status: str = "") -> bool:
        line = "STATUS=" + " ".join(status.split()) if status else ""
        # A manager that does not listen, or whose queue is full, must not hold the process up.
        with self._lock, contextlib.suppress(OSError):
            if self._socket is not None and not self._ended:
                self._send("\n".join(filter(None, (fact, line))))
                return True
        return False

    def _send(self, message: str) -> None:
        if self._socket is not None:
            self._socket.sendto(message.encode(), socket.MSG_DONTWAIT, self._address)
