"""Files from others, read so that they can do no harm.

No link is followed and no pipe waited for, and YAML neither runs code nor multiplies itself.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

import yaml

from seg_node.core.errors import UserError


class PlainFileError(UserError):
    """A file that is not what it must be; the message names it."""


def read_file(file: Path, limit: int) -> bytes:
    """Content of a regular file.

    Args:
        file: no link; pipes and devices are refused, not waited for.
        limit: bytes that it may have.

    Raises:
        PlainFileError: the file is not regular, is larger, or cannot be read.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as opened:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise PlainFileError(f"{file}: cannot be read (it is no regular file)")
            if about.st_size > limit:
                raise PlainFileError(f"{file}: is {about.st_size} bytes; at most {limit} are read")
            return opened.read(about.st_size)
    except OSError as error:
        if os.path.islink(file):
            raise PlainFileError(f"{file}: is a link; put the file itself into the same folder") from error
        raise PlainFileError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeEncodeError as error:
        raise PlainFileError(f"{str(file)!r}: cannot be read ({error.reason})") from error


def read_yaml(file: Path, limit: int) -> Any:
    """Content of a YAML file that holds what JSON could: mappings, lists, text, finite numbers, booleans, null.

    Raises:
        PlainFileError: see ``read_file``; also for aliases, deep nesting and other types.
    """
    content = read_file(file, limit)
    try:
        values = _Loader(content.decode()).get_single_data()
        json.dumps(values, allow_nan=False)
    except Exception as error:
        # A value that contradicts its tag raises whatever the conversion to a Python type does.
        raise PlainFileError(f"{file}: cannot be read: {str(error) or type(error).__name__}") from error
    return values


class _Loader(yaml.SafeLoader):
    """Plain YAML: nested only so far, and no aliases, by which a few lines could stand for a billion values."""

    # Dates stay text, which every reader of a manifest can pass on.
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _MAX_DEPTH = 20

    def __init__(self, text: str):
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        mark = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not read", mark)
        if self._depth == self._MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {self._MAX_DEPTH} levels", mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node
