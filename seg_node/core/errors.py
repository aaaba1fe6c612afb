"""Errors that are told to people, and the exit status that each gives to a command."""

import contextlib
import sys
from collections.abc import Callable, Iterator


class SegNodeError(Exception):
    """Base of the errors whose message explains itself; a command prints it without a traceback."""

    exit_status = 1
    """Exit status of a command that ends with this error."""


class UserError(SegNodeError, ValueError):
    """Input or options that cannot be used; the message says which, why and what to do."""

    exit_status = 2


class RunError(SegNodeError, RuntimeError):
    """Work that was begun with proper input and failed: a node that died, a server that does not answer."""


class NoResultError(SegNodeError):
    """Work that was done to its end and came to nothing; the message says why."""

    exit_status = 3


class UndecodableError(UserError):
    """A message or file that holds no image that can be read."""


def exit_status(run: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Run a command, and print the error that ends it.

    Args:
        run: returns the exit status.
        interrupted: what to print after Ctrl-C.

    Returns:
        That of ``run``, that of the ``SegNodeError``, 2 for a file that cannot be read or written, 130 after Ctrl-C.
    """
    try:
        return run()
    except SegNodeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        where = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
        print(f"error: {where}", file=sys.stderr)
        return 2
    except BaseException as error:
        if not is_interrupt(error):
            raise
        print(interrupted, file=sys.stderr)
        return 130


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is what became of Ctrl-C.

    Python of a library in C++ that is struck by it, a message of rclpy that is just being made for instance, ends as a
    ``SystemError`` whose cause is the ``KeyboardInterrupt``.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__
    return cause is not None


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """For work whose end is Ctrl-C: it is no error there; see ``is_interrupt``."""
    try:
        yield
    except BaseException as error:
        if not is_interrupt(error):
            raise
