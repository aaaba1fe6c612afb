"""Results that take seconds to compute and are the same every time, kept in the user's cache folder."""

import contextlib
import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

_KEPT = 8
"""Number of files that are kept; those not used for longest are removed."""


def cache_folder() -> Path:
    """``seg_node`` in ``$XDG_CACHE_HOME``, by default ``~/.cache`` (XDG Base Directory Specification 0.8)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "seg_node")


def remembered(key: bytes, make: Callable[[], bytes]) -> bytes:
    """What ``make`` returns, from the folder if an earlier call with the same key left it there.

    A folder that cannot be written and a file that was damaged cost time, never an answer.

    Args:
        key: everything that the result depends on.
        make: computes it.
    """
    try:
        file = cache_folder() / hashlib.sha256(key).hexdigest()
    except RuntimeError:
        # There is no home folder.
        return make()
    with contextlib.suppress(OSError):
        # Compiled models are large, so nothing here copies them.
        with file.open("rb") as opened:
            digest, content = opened.read(_DIGEST), opened.read()
        if hashlib.sha256(content).digest() == digest:
            os.utime(file)
            return content
    made = make()
    with contextlib.suppress(OSError):
        _keep(file, hashlib.sha256(made).digest(), made)
    return made


def library_version(name: str) -> bytes:
    """What tells one version of an installed library from another, for keys: the text of its ``__init__.py``.

    The number itself would take an import, of half a second where the library is ONNX Runtime.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return Path(found.origin).read_bytes()


_DIGEST = hashlib.sha256().digest_size


def _keep(file: Path, *parts: bytes) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as temporary:
        try:
            temporary.writelines(parts)
            temporary.close()
            os.replace(temporary.name, file)
        except OSError:
            os.unlink(temporary.name)
            raise
    for old in sorted(file.parent.iterdir(), key=lambda one: one.stat().st_mtime_ns, reverse=True)[_KEPT:]:
        old.unlink()
