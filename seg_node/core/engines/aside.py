"""Functions that hold Python's lock for long, called in a process of their own: the threads of this one go on.

ONNX Runtime's quantisation copies whole graphs under the lock, and OpenVINO writes down what it has compiled under it:
no thread of the process answers a service meanwhile.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from seg_node.core import errors
from seg_node.core.errors import RunError

LARGE = 2**21
"""Size of a graph in bytes from which it is worth a process: a smaller one is done before that has started."""

_CODE = "import sys; sys.path[:] = sys.argv[1:]; from seg_node.core.engines.aside import main; main()"


def call(function: str, *arguments: Any, aside: bool = True) -> bytes:
    """Call a function and wait for it.

    Args:
        function: ``module:name``; it returns bytes.
        arguments: of the function; bytes, and what JSON knows. A tuple arrives as a list.
        aside: in another process, if one can be started.

    Returns:
        What the function returns.

    Raises:
        SegNodeError: the function raised it; in another process the class is the nearest one of ``core.errors``.
        RuntimeError: the function raised another error in another process, with its message.
        RunError: the other process ended without an answer; it may have been out of memory.
    """
    if aside:
        # A limit of the system on processes, say.
        with contextlib.suppress(OSError):
            return _call_aside(function, arguments)
    return _find(function)(*arguments)


def _find(function: str) -> Callable[..., bytes]:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def _call_aside(function: str, arguments: tuple[Any, ...]) -> bytes:
    # No pipe: it would stay open for as long as whatever a library has forked lives.
    with tempfile.TemporaryFile() as answers:
        # In a session of its own, for Ctrl-C is for this process, which decides what it means.
        process = subprocess.Popen(
            [sys.executable, "-c", _CODE, *sys.path], stdin=subprocess.PIPE, stdout=answers, start_new_session=True
        )
        try:
            # One that has died is seen by its status.
            with contextlib.suppress(BrokenPipeError):
                _send(process.stdin, function, arguments)
                process.stdin.flush()
            status = process.wait()
        finally:
            # What is left in its session, too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        answers.seek(0)
        kind, answer = answers.read(1), answers.read()
    if kind == _ERROR:
        name, message = json.loads(answer)
        raise getattr(errors, name, RuntimeError)(message)
    if kind != _RESULT or status:
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        raise RunError(f"the process that was to do it ended {how}; is there enough memory?")
    return answer


_RESULT, _ERROR = b"+", b"-"


def _send(stream: BinaryIO, function: str, arguments: Sequence[Any]) -> None:
    """Write a line of JSON, in which bytes are represented by their number, and then the bytes."""
    shown = [{"bytes": len(one)} if isinstance(one, bytes) else one for one in arguments]
    stream.write(json.dumps([function, shown]).encode() + b"\n")
    for one in arguments:
        if isinstance(one, bytes):
            stream.write(one)


def _receive(stream: BinaryIO) -> tuple[str, list[Any]]:
    function, shown = json.loads(stream.readline())
    return function, [stream.read(one["bytes"]) if isinstance(one, dict) else one for one in shown]


def main() -> None:
    """Be the other process: one call from stdin, its answer to stdout."""
    given = sys.stdin.buffer
    # Whatever a library prints is no answer.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        function, arguments = _receive(given)
        threading.Thread(target=_end_with, args=(given,), daemon=True).start()
        try:
            kind, answer = _RESULT, _find(function)(*arguments)
        except Exception as error:
            # The class may be one of a module that the other process has not imported.
            names = [parent.__name__ for parent in type(error).__mro__ if parent.__module__ == errors.__name__]
            told = [names[0] if names else "", str(error) or type(error).__name__]
            kind, answer = _ERROR, json.dumps(told).encode()
        answers.write(kind)
        answers.write(answer)
    # What libraries tidy up at the end takes time, and nobody needs it.
    os._exit(0)


def _end_with(given: BinaryIO) -> None:
    """End when the process that asked does."""
    given.read()
    os._exit(1)
