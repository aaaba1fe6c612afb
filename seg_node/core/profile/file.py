"""The file ``profile.yaml``: the settings that won on a machine, and what was measured of them."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from seg_node.core.bundle.input_size import GREATEST_SIDE, LEAST_SIDE
from seg_node.core.bundle.plain_files import PlainFileError, read_yaml
from seg_node.core.engines import ENGINES, PRECISIONS
from seg_node.core.errors import UserError

SCHEMA = 1
KIND = "seg_node profile"

_MAX_BYTES = 2**20

Check = Callable[[Any], bool]


class ProfileError(UserError):
    """A profile that must not be used; the message names the file and the place in it."""


@dataclass(frozen=True)
class Profile:
    """A checked profile."""

    path: Path
    values: Mapping[str, Any]
    """Content of the file, see ``_FIELDS``."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Value of each parameter of the node that was measured, by the parameter's name."""
        return self.values["settings"]

    @property
    def bundle_hash(self) -> str:
        """sha256 of the graph of the winner's bundle, hexadecimal."""
        return self.values["bundles"][self.settings["model"]]["sha256"]

    @property
    def bundle_name(self) -> str:
        """Name of that bundle; ``settings`` may have the path of its folder."""
        return self.values["bundles"][self.settings["model"]]["name"]

    @property
    def band(self) -> tuple[float, float]:
        """Least and greatest time of an inference in milliseconds that is as it was measured."""
        return float(self.values["inference_ms"]["low"]), float(self.values["inference_ms"]["high"])


def read_profile(path: str | Path) -> Profile:
    """Read a profile and check all of it.

    Args:
        path: of the file.

    Raises:
        ProfileError: the file cannot be read, is no profile, is of another version, was edited, or a value is wrong;
            the message names the place, such as ``settings.input_size``.
    """
    path = Path(path)
    try:
        # A link is followed: `colcon build --symlink-install` makes them of all files in config.
        values = read_yaml(Path(os.path.realpath(path)), _MAX_BYTES)
    except PlainFileError as error:
        raise ProfileError(str(error)) from error
    except ValueError as error:
        raise ProfileError(f"{str(path)!r}: is no path of a file ({error})") from error
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise ProfileError(f"{path}: is no profile: its `kind` is not {KIND!r}; `seg_node tune` writes one")
    if values.get("schema") != SCHEMA:
        raise ProfileError(
            f"{path}: schema is {_short(values.get('schema'))}, this version reads {SCHEMA}; run `seg_node tune` again"
        )
    for place, (check, expected) in _FIELDS.items():
        _check(path, values, place, check, expected)
    for model in values["bundles"]:
        for name, (check, expected) in _OF_A_BUNDLE.items():
            # Not as a place of its own: the path of a folder has points in it.
            _check(path, {"bundles": values["bundles"][model]}, f"bundles.{name}", check, f"{expected}, of {model}")
    if values["settings"]["model"] not in values["bundles"]:
        raise ProfileError(f"{path}: bundles has no {_short(values['settings']['model'])}, which settings.model names")
    if values["inference_ms"]["low"] > values["inference_ms"]["high"]:
        raise ProfileError(f"{path}: inference_ms.low is greater than inference_ms.high")
    if values["sha256"] != content_hash(values):
        raise ProfileError(
            f"{path}: was edited after it was written, so what was measured is not what it says; set parameters of the"
            " node beside the profile, which win over it, or run `seg_node tune` again"
        )
    return Profile(path, values)


def write_profile(path: Path, values: Mapping[str, Any]) -> Profile:
    """Write a profile.

    Args:
        path: of the file, which is replaced as a whole.
        values: see ``_FIELDS``; ``kind``, ``schema`` and ``sha256`` are added.

    Raises:
        ProfileError: a value is wrong.
    """
    whole = {"kind": KIND, "schema": SCHEMA, **values}
    whole["sha256"] = content_hash(whole)
    text = yaml.safe_dump(whole, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(_COMMENT + text)
    try:
        read_profile(temporary)
    except ProfileError:
        temporary.unlink()
        raise
    temporary.replace(path)
    return Profile(path, whole)


_COMMENT = """\
# What `seg_node tune` found on one machine. `seg_node profile show FILE` tells it; the node takes it by its parameter
# `profile`. Changes by hand are refused: parameters that are set beside the profile win over it.
"""


def content_hash(values: Mapping[str, Any]) -> str:
    """sha256 of all that a profile says but its own ``sha256``, hexadecimal."""
    content = {name: value for name, value in values.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check(path: Path, values: Mapping[str, Any], place: str, check: Check, expected: str) -> None:
    value: Any = values
    parts = place.split(".")
    for i, part in enumerate(parts):
        if not isinstance(value, dict):
            raise ProfileError(f"{path}: {'.'.join(parts[:i])} is {_short(value)}; expected a mapping")
        if part not in value:
            raise ProfileError(f"{path}: {place} is missing; expected {expected}")
        value = value[part]
    if not check(value):
        raise ProfileError(f"{path}: {place} is {_short(value)}; expected {expected}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    sides = isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value))
    return sides and all(LEAST_SIDE <= side <= GREATEST_SIDE for side in value)


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_versions(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(key) and _is_text(item) for key, item in value.items())


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


_TEXT = (_is_text, "a text")
_MILLISECONDS = (_is_number, "a number of milliseconds")
_FIELDS: dict[str, tuple[Check, str]] = {
    "created": _TEXT,
    "settings.model": (_is_text, "the name or path of a bundle"),
    "settings.engine": (lambda value: value in tuple(ENGINES), f"one of {', '.join(ENGINES)}"),
    "settings.precision": (lambda value: value in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    "settings.input_size": (_is_size, f"[height, width] in pixels, each {LEAST_SIDE} to {GREATEST_SIDE}"),
    "settings.threads": (lambda value: _is_whole(value) and 0 <= value <= 1024, "a whole number from 0 to 1024"),
    "settings.propagate": (lambda value: isinstance(value, bool), "true or false"),
    "settings.forecast_ms": (lambda value: _is_number(value) and value <= 200, "a number of milliseconds up to 200"),
    "topic": _TEXT,
    "why": _TEXT,
    "inference_ms.p50": _MILLISECONDS,
    "inference_ms.low": _MILLISECONDS,
    "inference_ms.high": _MILLISECONDS,
    "machine.cpu": _TEXT,
    "machine.cores": (lambda value: _is_whole(value) and value > 0, "a number of cores"),
    "machine.instructions": (_is_texts, "a list of names"),
    "machine.gpus": (_is_texts, "a list of names"),
    "machine.engines": (_is_versions, "the version of each engine"),
    "bundles": (lambda value: isinstance(value, dict), "the sha256 of each bundle"),
    "drive.path": _TEXT,
    "drive.sha256": (_is_hash, "a sha256 of 64 hexadecimal digits"),
    "drive.truth": _TEXT,
    "asked": (lambda value: isinstance(value, dict), "what was asked for"),
    "winner": (lambda value: isinstance(value, dict), "what was measured of the winner"),
    "runners_up": (_is_rows, "a list of what was measured of others"),
    "sha256": (_is_hash, "a sha256 of 64 hexadecimal digits"),
}
"""Places in the file with what is checked of their value, and what to tell who has another one there."""
_OF_A_BUNDLE: dict[str, tuple[Check, str]] = {
    "name": _TEXT,
    "sha256": (_is_hash, "a sha256 of 64 hexadecimal digits"),
}
"""The same of each bundle under ``bundles``."""
