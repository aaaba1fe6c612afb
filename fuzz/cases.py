"""Inputs of the fuzzer as files: JSON in which bytes are base64, so that what was found can be kept and read."""

import base64
import json
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).with_name("corpus")
"""What was found, by surface: regression tests."""

Case = dict[str, Any]
"""One input: numbers, text, bytes, and lists and mappings of them."""


def write_case(file: Path, case: Case) -> None:
    """Keep an input."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(case, default=_from_bytes, indent=1) + "\n")


def read_case(file: Path) -> Case:
    """An input that was kept."""
    return json.loads(file.read_text(), object_hook=_to_bytes)


def _from_bytes(value: object) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    raise TypeError(f"a case holds {type(value).__name__}")


def _to_bytes(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value
