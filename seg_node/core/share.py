"""Where the files lie that come with the package: in a source checkout, or in an installation's share folder."""

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""Folder of the Python package."""


def share_folders() -> list[Path]:
    """Folders that hold the package's files if it is installed, the likeliest first; most of them do not exist."""
    return [prefix / "share" / PACKAGE.name for prefix in (*PACKAGE.parents, Path(sys.prefix))]


def shared_path(relative: str) -> Path | None:
    """A file or folder that comes with the package, of the source checkout or of the installation's share folder."""
    return next(
        (folder / relative for folder in (PACKAGE.parent, *share_folders()) if (folder / relative).exists()), None
    )
