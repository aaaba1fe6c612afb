"""How well a node does, as ``diagnostic_msgs/DiagnosticStatus`` puts it."""

from collections.abc import Mapping
from enum import IntEnum

from seg_node.core.timing import FAULTS

_WATCHED = tuple(f"dropped.{fault.value}" for fault in FAULTS)


class Level(IntEnum):
    """The values of ``DiagnosticStatus``."""

    OK = 0
    WARN = 1
    ERROR = 2


def judge(state: str, trouble: str, before: Mapping[str, str], now: Mapping[str, str]) -> tuple[Level, str]:
    """Judge a node by what happened since its last report.

    Args:
        state: of its lifecycle.
        trouble: what keeps it from masking, empty if nothing does.
        before: values of the last report.
        now: values of this one; empty while no model is loaded.

    Returns:
        ``ERROR`` while there is trouble, ``WARN`` if faults or oddities were counted since the last report or no
        model is loaded, else ``OK``; and the state, followed by the reason.
    """
    if trouble:
        return Level.ERROR, f"{state}: {trouble}"
    names = [name for name in now if name in _WATCHED or name.startswith("camera.")]
    # Counts begin anew when the node is configured again.
    grown = {name: int(now[name]) - int(before.get(name, 0)) for name in names}
    if news := ", ".join(f"{name} +{count}" for name, count in grown.items() if count > 0):
        return Level.WARN, f"{state}: {news}"
    return (Level.OK if now else Level.WARN), state
