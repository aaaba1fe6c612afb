"""Whether a profile is for this machine, and whether what it names is still there."""

import importlib.metadata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seg_node.core.bundle import GRAPH, BundleError, read_manifest
from seg_node.core.engines import present_engines
from seg_node.core.machine import machine
from seg_node.core.profile.file import Profile


def fingerprint() -> dict[str, Any]:
    """What the speed of an engine depends on, as a profile keeps it.

    Returns:
        ``cpu``, ``cores`` and ``instructions`` of ``core.machine.machine``; ``gpus``, names of NVIDIA's; ``engines``,
        the version of each that is installed.
    """
    about = machine()
    return {
        "cpu": about["cpu"],
        "cores": about["cores"],
        "instructions": about["instructions"],
        "gpus": _gpus(),
        "engines": {name: importlib.metadata.version(name) for name in present_engines() if _is_known(name)},
    }


def misfit(profile: Profile, here: Mapping[str, Any] | None = None) -> str:
    """Why a profile does not hold here; empty where it does.

    Args:
        profile: of ``read_profile``.
        here: of ``fingerprint``; that of this machine by default.
    """
    engine, model = profile.settings["engine"], profile.settings["model"]
    here = here or fingerprint()
    if engine not in here["engines"]:
        return f"its engine {engine} is not installed; installed: {', '.join(here['engines']) or 'none'}"
    if differences := ", ".join(_differences(profile.values["machine"], here, engine)):
        return f"it was measured on another machine: {differences}"
    try:
        files = read_manifest(model).files
    except BundleError as error:
        return f"its bundle is not there: {error}"
    if files.get(GRAPH) != profile.bundle_hash:
        return f"its bundle {model} has another graph than the one that was measured"
    return ""


def _differences(measured: Mapping[str, Any], here: Mapping[str, Any], engine: str) -> Iterator[str]:
    for name in ("cpu", "cores", "gpus"):
        if measured[name] != here[name]:
            yield f"{name} {_shown(here[name])} instead of {_shown(measured[name])}"
    missing = set(measured["instructions"]) - set(here["instructions"])
    more = set(here["instructions"]) - set(measured["instructions"])
    if missing or more:
        parts = [f"without {'/'.join(sorted(missing))}"] * bool(missing) + [f"with {'/'.join(sorted(more))}"] * bool(
            more
        )
        yield f"instructions {' and '.join(parts)}"
    before, now = measured["engines"].get(engine), here["engines"][engine]
    if before != now:
        yield f"{engine} {now} instead of {before or 'an unknown version'}"


def _shown(value: Any) -> str:
    return ("/".join(value) or "none") if isinstance(value, list) else str(value)


def _gpus() -> list[str]:
    found = []
    for about in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in about.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "Model":
                found.append(value.strip())
    return found


def _is_known(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
