"""Which files a bag consists of, in their order, and what ``metadata.yaml`` says of them."""

import mimetypes
import re
import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import yaml
import zstandard

from seg_node.bags import mcap_storage, ros1_storage, sqlite3_storage
from seg_node.bags.storage import DamagedError
from seg_node.core.errors import UserError

LABEL_NAME = "{name}.png"
"""Name of an image's label; ``{name}`` stands for the image's own without its ending."""
METADATA = "metadata.yaml"
ZSTD = b"\x28\xb5\x2f\xfd"
"""First bytes of a zstd frame."""

_KINDS = {mcap_storage.MAGIC: "mcap", sqlite3_storage.MAGIC: "sqlite3", ros1_storage.MAGIC: "ros1"}
_ENDINGS = (".mcap", ".db3", ".bag")


class NoBagError(UserError):
    """A path that is no bag; the message says what it is and what to do, without the path."""


@dataclass
class BagFiles:
    """Files of a bag, and what is odd about them."""

    paths: list[Path]
    counts: Counter[tuple[str, str]] | None = None
    """Messages by topic and type as ``metadata.yaml`` has them; None where it says nothing."""
    notes: list[str] = field(default_factory=list)


def find_files(path: Path) -> BagFiles:
    """Files of a bag: one file, or those of a rosbag2 folder.

    ``metadata.yaml`` is believed in the names and the order of the files and in nothing else. Without it, files of one
    name and ascending numbers are taken, as recorders leave them when they are killed.

    Raises:
        NoBagError: there is no bag, or several, or files are missing.
        OSError: a folder cannot be read.
    """
    if path.is_file():
        return BagFiles([path])
    metadata = path / METADATA
    there = [file for file in sorted(path.iterdir()) if file.is_file() and _is_bag_name(file.name)]
    if not metadata.is_file():
        files = _numbered(path, there)
        return BagFiles(files, notes=[f"there is no {METADATA}: read from {_listed(files)}"])
    try:
        named, counts = _read_metadata(metadata)
    except Exception as error:
        # YAML of any shape gives errors of many types.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return BagFiles(_numbered(path, there), notes=[f"{METADATA} cannot be understood and is passed over: {reason}"])
    found = BagFiles([], counts)
    missing = []
    for name in named:
        # With compression some recorders name files as they were before it.
        spellings = (path / name, path / f"{name}.zstd", path / name.removesuffix(".zstd"))
        if file := next((spelling for spelling in spellings if spelling.is_file()), None):
            found.paths.append(file)
        else:
            missing.append(name)
    if missing and (found.paths or not there):
        held = "; ".join(f"{name} ({kind}, {count} messages)" for (name, kind), count in sorted(counts.items()))
        raise NoBagError(f"files are missing: {', '.join(missing)}; by its {METADATA} it holds {held or 'nothing'}")
    if missing:
        found.paths = _numbered(path, there)
        found.notes.append(f"{METADATA} names {', '.join(missing)}: read from {_listed(found.paths)} instead")
    elif extra := [file for file in there if file not in found.paths]:
        found.notes.append(f"left out: {_listed(extra)}, which {METADATA} does not name")
    return found


def kind_of(file: Path) -> str:
    """Format of a file by its first bytes: ``mcap``, ``sqlite3`` or ``ros1``.

    Raises:
        NoBagError: it is none of them.
    """
    with file.open("rb") as opened:
        head = opened.read(16)
    for magic, kind in _KINDS.items():
        if head.startswith(magic):
            return kind
    if not head:
        raise NoBagError("it is empty: its recorder was stopped before the first message")
    if any(magic.startswith(head) for magic in _KINDS):
        raise DamagedError("it was cut off within its first bytes")
    if _is_video(file, head):
        raise NoBagError(
            "it is a video, no bag; replay, compare and view take it as --video, make as VIDEO=, and"
            f" `seg_node bag from-video {file} OUT` makes a bag of it"
        )
    raise NoBagError("it is no bag; expected a rosbag2 folder or a .mcap, .db3 or .bag file")


def decompressed(file: Path, opened: ExitStack) -> Path:
    """The file itself, or, where it is compressed as a whole, its content in a folder that ``opened`` removes.

    Raises:
        DamagedError: it cannot be decompressed.
    """
    with file.open("rb") as packed:
        if packed.read(len(ZSTD)) != ZSTD:
            return file
        packed.seek(0)
        folder = opened.enter_context(TemporaryDirectory(prefix="seg_node_"))
        target = Path(folder) / file.name.removesuffix(".zstd")
        try:
            with target.open("wb") as out, zstandard.ZstdDecompressor().stream_reader(packed) as content:
                shutil.copyfileobj(content, out, 1 << 20)
        except zstandard.ZstdError as error:
            raise DamagedError(f"it cannot be decompressed: {error}") from error
    return target


def _read_metadata(file: Path) -> tuple[list[str], Counter[tuple[str, str]]]:
    about = yaml.safe_load(file.read_text(errors="replace"))["rosbag2_bagfile_information"]
    # Old distributions write the path from the folder above.
    names = [PurePosixPath(str(name)).name for name in about["relative_file_paths"]]
    if not names:
        raise ValueError("it names no files")
    counts: Counter[tuple[str, str]] = Counter()
    for entry in about["topics_with_message_count"]:
        topic = entry["topic_metadata"]
        counts[str(topic["name"]), str(topic["type"])] += int(entry["message_count"])
    return names, counts


def _numbered(folder: Path, files: list[Path]) -> list[Path]:
    """Parts of one bag in the order of their numbers.

    Raises:
        NoBagError: there are none, or parts of several.
    """
    if not files:
        raise NoBagError(_what_else(folder))
    parts: dict[str, dict[int, Path]] = {}
    for file in files:
        name = file.name.removesuffix(".zstd")
        stem, number = re.fullmatch(r"(.*?)(?:_([0-9]+))?\.[^.]*", name).groups()
        known = parts.setdefault(stem, {})
        # The same part beside its compressed self: the recorder was killed while it compressed.
        if known.get(int(number or 0), file).name.endswith(".zstd") or int(number or 0) not in known:
            known[int(number or 0)] = file
    if len(parts) > 1:
        raise NoBagError(f"it is no bag: it has no {METADATA}, and {_listed(files)} are of several bags; choose one")
    (numbered,) = parts.values()
    return [numbered[number] for number in sorted(numbered)]


def _what_else(folder: Path) -> str:
    inside = sorted(folder.iterdir())
    folders = [path.name for path in inside if path.is_dir()]
    if any((mimetypes.guess_type(path.name)[0] or "").startswith("image/") for path in inside):
        return f"it is a folder of images, no bag; `seg_node bag from-images {folder} OUT --rate HZ` makes a bag of it"
    return "it is no bag: it holds no .mcap, .db3 or .bag file" + (
        f", but the folders {', '.join(folders[:5])}; choose one" if folders else ""
    )


def _is_bag_name(name: str) -> bool:
    return not name.startswith(".") and name.removesuffix(".zstd").endswith(_ENDINGS)


def _is_video(file: Path, head: bytes) -> bool:
    by_content = head[4:8] == b"ftyp" or head[:4] == b"\x1a\x45\xdf\xa3" or (head[:4], head[8:11]) == (b"RIFF", b"AVI")
    return by_content or (mimetypes.guess_type(file.name)[0] or "").startswith("video/")


def _listed(files: list[Path]) -> str:
    return ", ".join(file.name for file in files)
