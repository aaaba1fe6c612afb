"""MCAP files, damaged record by record, so that what lies behind lengths and checksums is reached."""

import struct
from random import Random

import numpy as np
from cases import Case
from mcap.writer import CompressionType, Writer
from mutate import damaged, near
from rosbags.typesys import Stores, get_typestore
from surfaces import ACCEPTED, Surface, expect, refused

from seg_node.bags.reader import BagError, BagReader, deserialize

_MAGIC = b"\x89MCAP0\r\n"
_IMAGE, _TEXT = "sensor_msgs/msg/CompressedImage", "std_msgs/msg/String"
_CHUNK, _MESSAGE = 6, 5

_LARGEST = 2**18

_STORE = get_typestore(Stores.ROS2_JAZZY)


class McapSurface(Surface):
    """``BagReader`` and every message of what it reads, with and without recovery; refuses with ``BagError``."""

    def __init__(self, folder):
        super().__init__(folder)
        self._path = folder / "drive.mcap"
        kinds = [
            (chunked, summary, compression)
            for chunked in (True, False)
            for summary in (True, False)
            for compression in (CompressionType.NONE, CompressionType.ZSTD, CompressionType.LZ4)
        ]
        self._seeds = [self._seed(*kind) for kind in kinds]

    def _seed(self, chunked: bool, summary: bool, compression: CompressionType) -> bytes:
        with self._path.open("wb") as file:
            writer = Writer(file, 120, compression, use_chunking=chunked, use_statistics=summary)
            writer.start("ros2", "fuzz")
            channels = []
            for topic, kind in (("/image/compressed", _IMAGE), ("/note", _TEXT)):
                text = _STORE.generate_msgdef(kind)[0].encode()
                number = writer.register_schema(kind, "ros2msg", text)
                channels.append(writer.register_channel(topic, "cdr", number, {"offered_qos_profiles": ""}))
            foreign = writer.register_schema("Status", "jsonschema", b"{}")
            channels.append(writer.register_channel("/status", "json", foreign))
            for index in range(4):
                for channel, data in zip(channels, (_image(index), _note(index), b"{}"), strict=True):
                    writer.add_message(channel, index, data, index, index)
            writer.finish()
        return self._path.read_bytes()

    def draw(self, rng: Random) -> Case:
        records = _records(rng.choice(self._seeds))
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            _change(rng, records)
        data = _MAGIC + b"".join(map(_written, records)) + _MAGIC
        if not rng.randrange(4):
            data = damaged(rng, data, self._seeds, limit=_LARGEST)
        return {"data": data, "recover": bool(rng.randrange(2))}

    def feed(self, case: Case) -> str:
        self._path.write_bytes(case["data"])
        try:
            with BagReader(self._path, case["recover"]) as reader:
                expect(all(isinstance(note, str) and note for note in reader.notes), f"notes: {reader.notes}")
                for connection, time, data in reader.raw_messages():
                    expect(time >= 0 and isinstance(data, bytes | memoryview), f"{time} {type(data).__name__}")
                    _message(connection, data)
        except BagError as error:
            return refused(error)
        return ACCEPTED


def _message(connection, data) -> None:
    try:
        deserialize(connection, data)
    except BagError as error:
        # One message that is none leaves the others of use.
        refused(error)


def _header(index: int):
    return _STORE.types["std_msgs/msg/Header"](_STORE.types["builtin_interfaces/msg/Time"](index, 0), "camera")


def _image(index: int) -> bytes:
    message = _STORE.types[_IMAGE](_header(index), "jpeg", np.arange(9, dtype=np.uint8))
    return bytes(_STORE.serialize_cdr(message, _IMAGE))


def _note(index: int) -> bytes:
    return bytes(_STORE.serialize_cdr(_STORE.types[_TEXT](f"note {index}"), _TEXT))


Record = list
"""Opcode, length where it is not that of the content, content."""


def _records(data: bytes) -> list[Record]:
    """Records of a whole file (MCAP specification, Format)."""
    found, at = [], len(_MAGIC)
    while at < len(data) - len(_MAGIC):
        opcode, size = struct.unpack_from("<BQ", data, at)
        found.append([opcode, None, data[at + 9 : at + 9 + size]])
        at += 9 + size
    return found


def _written(record: Record) -> bytes:
    opcode, size, content = record
    return struct.pack("<BQ", opcode, len(content) if size is None else size) + content


def _change(rng: Random, records: list[Record]) -> None:
    if not records:
        return
    at = rng.randrange(len(records))
    opcode, _, content = records[at]
    kind = rng.randrange(7)
    if kind == 0:
        del records[at]
    elif kind == 1:
        records.insert(rng.randrange(len(records)), list(records[at]))
    elif kind == 2:
        records.append(records.pop(at))
    elif kind == 3:
        records[at][0] = rng.choice((rng.randrange(16), rng.randrange(256)))
    elif kind == 4:
        records[at][1] = near(rng, len(content)) % 2**64
    elif kind == 5 and opcode in (_CHUNK, _MESSAGE):
        # The fields before the content: times, sizes, channel, compression.
        head = damaged(rng, content[:40])
        records[at][2] = head + content[40:]
    else:
        records[at][2] = damaged(rng, content, limit=_LARGEST)
