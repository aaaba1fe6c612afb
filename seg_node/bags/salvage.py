"""What can still be told of a bag that cannot be opened: its topics, as far as can be read, and how to repair it."""

import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import yaml

Held = dict[str, tuple[str, int]]
"""Type and number of messages by topic."""


def readable_topics(path: Path) -> Held:
    """Topics of a damaged bag, found by reading it from its start to where it ends; never raises.

    Args:
        path: rosbag2 folder, or a ``.mcap``, ``.db3`` or ``.bag`` file.
    """
    readers: dict[str, Callable[[Path, Held], None]] = {".mcap": _mcap, ".db3": _sqlite3, ".bag": _ros1}
    held: Held = {}
    if path.is_dir():
        # Each of them may fail on whatever it meets; what was found until then stays.
        with suppress(Exception):
            _metadata(path / "metadata.yaml", held)
        if not held:
            for file in sorted(path.iterdir()):
                if file.suffix in readers:
                    with suppress(Exception):
                        readers[file.suffix](file, held)
    elif path.suffix in readers:
        with suppress(Exception):
            readers[path.suffix](path, held)
    return held


def repair(path: Path) -> str:
    """The command that repairs a bag of this kind where that is possible at all."""
    if path.is_dir() or path.suffix == ".db3":
        return f"ros2 bag reindex {path if path.is_dir() else path.parent}"
    if path.suffix == ".mcap":
        return f"mcap recover {path} -o {path.stem}_recovered.mcap"
    return f"rosbag reindex {path}"


def _add(held: Held, topic: str, kind: str, count: int = 0) -> None:
    # A damaged file may hold anything in their places.
    topic = str(topic)
    held[topic] = (str(kind), held.get(topic, (kind, 0))[1] + count)


def _metadata(file: Path, held: Held) -> None:
    about = yaml.safe_load(file.read_text())["rosbag2_bagfile_information"]
    for topic in about["topics_with_message_count"]:
        _add(held, topic["topic_metadata"]["name"], topic["topic_metadata"]["type"], topic["message_count"])


def _sqlite3(file: Path, held: Held) -> None:
    connection = sqlite3.connect(f"file:{file}?immutable=1", uri=True)
    try:
        topics = connection.execute("SELECT id, name, type FROM topics").fetchall()
        for _, name, kind in topics:
            _add(held, name, kind)
        for identity, name, kind in topics:
            count = connection.execute("SELECT COUNT(*) FROM messages WHERE topic_id = ?", (identity,)).fetchone()
            _add(held, name, kind, count[0])
    finally:
        connection.close()


def _mcap(file: Path, held: Held) -> None:
    """See the MCAP specification, https://mcap.dev/spec: records of an opcode, a length and a content."""
    schemas: dict[int, str] = {}
    channels: dict[int, tuple[str, str]] = {}

    def read(data: bytes) -> None:
        for opcode, content in _mcap_records(data):
            if opcode == 0x03:
                schemas[_u16(content)] = _string(content, 2)[0]
            elif opcode == 0x04:
                topic = _string(content, 4)[0]
                channels[_u16(content)] = (topic, schemas.get(_u16(content, 2), "unknown type"))
                _add(held, *channels[_u16(content)])
            elif opcode == 0x05 and _u16(content) in channels:
                _add(held, *channels[_u16(content)], 1)
            elif opcode == 0x06:
                from rosbags.rosbag2.storage_mcap import decompress

                size, checksum = struct.unpack_from("<QI", content, 16)
                compression, at = _string(content, 28)
                read(decompress(content[at + 8 :], compression, size, checksum))

    read(file.read_bytes()[8:])


def _mcap_records(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 9 <= len(data):
        length = struct.unpack_from("<Q", data, at + 1)[0]
        if at + 9 + length > len(data):
            return
        yield data[at], data[at + 9 : at + 9 + length]
        at += 9 + length


def _u16(data: bytes, at: int = 0) -> int:
    return struct.unpack_from("<H", data, at)[0]


def _string(data: bytes, at: int) -> tuple[str, int]:
    """A string with its length before it, and where it ends."""
    end = at + 4 + struct.unpack_from("<I", data, at)[0]
    return data[at + 4 : end].decode(), end


def _ros1(file: Path, held: Held) -> None:
    """See https://wiki.ros.org/Bags/Format/2.0: records of a header of named fields and data, each with its length."""
    from rosbags.rosbag1.reader import decompressors

    connections: dict[bytes, tuple[str, str]] = {}

    def read(data: bytes, at: int = 0) -> None:
        while at + 8 <= len(data):
            end = at + 4 + struct.unpack_from("<I", data, at)[0]
            fields = _ros1_fields(data[at + 4 : end])
            start = end + 4
            at = start + struct.unpack_from("<I", data, end)[0]
            if at > len(data):
                return
            opcode = fields.get("op", b"\0")[0]
            if opcode == 7:
                package, _, name = _ros1_fields(data[start:at])["type"].decode().partition("/")
                connections[fields["conn"]] = (fields["topic"].decode(), f"{package}/msg/{name}")
                _add(held, *connections[fields["conn"]])
            elif opcode == 2 and fields["conn"] in connections:
                _add(held, *connections[fields["conn"]], 1)
            elif opcode == 5:
                read(decompressors[fields["compression"].decode()](data[start:at]))

    data = file.read_bytes()
    read(data, data.index(b"\n") + 1)


def _ros1_fields(data: bytes) -> dict[str, bytes]:
    fields, at = {}, 0
    while at + 4 <= len(data):
        end = at + 4 + struct.unpack_from("<I", data, at)[0]
        name, _, value = data[at + 4 : end].partition(b"=")
        fields[name.decode()] = value
        at = end
    return fields
