"""What a command prints and returns when it cannot do what was asked."""

import errno
import inspect
import os
import pkgutil
from importlib import import_module
from importlib.util import find_spec

import pytest

import seg_node
from seg_node.core import errors
from seg_node.core.errors import RunError, SegNodeError, UndecodableError, UserError, exit_status, until_interrupted


def _raising(error):
    def run():
        raise error

    return run


def _caused(error, cause):
    """An error as C++ code raises it of another one."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (UserError("--loop must be at least 1, not 0"), 2, "error: --loop must be at least 1, not 0\n"),
        (UndecodableError("no image"), 2, "error: no image\n"),
        (RunError("the node died"), 1, "error: the node died\n"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out"), 2, "error: out: No space left on device\n"),
        (ConnectionError("nobody listens"), 2, "error: nobody listens\n"),
        (KeyboardInterrupt(), 130, "stopped half-way\n"),
        (_caused(SystemError("a result"), KeyboardInterrupt()), 130, "stopped half-way\n"),
        (_caused(RuntimeError("later"), _caused(SystemError(), KeyboardInterrupt())), 130, "stopped half-way\n"),
    ],
)
def test_error_is_printed_and_becomes_the_status(capsys, error, status, printed):
    assert exit_status(_raising(error), "stopped half-way") == status
    assert capsys.readouterr() == ("", printed)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a defect"),
        RuntimeError("a defect"),
        KeyError("a defect"),
        SystemError("a defect"),
        _caused(SystemError("a defect"), ValueError("another")),
        SystemExit(143),
    ],
)
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        exit_status(_raising(error))
    with pytest.raises(type(error)), until_interrupted():
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), _caused(SystemError("a result"), KeyboardInterrupt())])
def test_an_end_by_ctrl_c_is_no_error(error):
    with until_interrupted():
        raise error


def test_status_of_success_is_that_of_the_command(capsys):
    assert [exit_status(lambda status=status: status) for status in (0, 1)] == [0, 1]
    assert capsys.readouterr() == ("", "")


def test_errors_of_core_and_bags_are_in_the_tree():
    """Every exception that these packages define has an exit status."""
    found = set()
    for package in ("core", "bags"):
        for module in pkgutil.walk_packages(import_module(f"{seg_node.__name__}.{package}").__path__):
            if "torch" in module.name or (module.name == "network" and not find_spec("torch")):
                continue
            members = vars(import_module(f"seg_node.{package}.{module.name}")).values()
            found |= {m for m in members if inspect.isclass(m) and issubclass(m, Exception)}
    found = {kind for kind in found if kind.__module__.startswith("seg_node.")}
    assert len(found) > 5
    assert [kind for kind in found if not issubclass(kind, SegNodeError)] == []
    assert errors.RunError.exit_status == 1
