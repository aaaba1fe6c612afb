"""What is known so far, in a file: a run that was ended goes on where it was."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seg_node.core.errors import UserError

Row = dict[str, Any]


class State:
    """Rows by key, each written to the file as soon as it is known.

    Args:
        file: JSON; made where it is missing.
        about: what the rows depend on. A file of something else is begun anew.

    Raises:
        UserError: the file is there and cannot be read.
    """

    def __init__(self, file: Path, about: Mapping[str, Any]):
        self._file = file
        # As it comes out of a file.
        self._about = json.loads(json.dumps(about))
        self._rows: dict[str, Row] = {}
        self.resumed = 0
        """Number of rows that the file had."""
        try:
            kept = json.loads(file.read_text()) if file.exists() else {}
            if kept.get("about") == self._about:
                self._rows = dict(kept["rows"])
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise UserError(f"{file}: is no state of `seg_node tune` ({error}); remove it to begin anew") from error
        self.resumed = len(self._rows)

    def remember(self, key: str, make: Callable[[], Row]) -> Row:
        """The row of a key, made and written where it is not known."""
        if key not in self._rows:
            self._rows[key] = make()
            self._write()
        return self._rows[key]

    def knows(self, key: str) -> bool:
        """Whether there is a row."""
        return key in self._rows

    def _write(self) -> None:
        temporary = self._file.with_name(f".{self._file.name}.new")
        temporary.write_text(json.dumps({"about": self._about, "rows": self._rows}))
        os.replace(temporary, self._file)
