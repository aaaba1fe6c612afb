"""MCAP files through Foxglove's library: with or without index, chunks and order, of any profile.

Record by record, from the first to the last: what a summary says can be wrong or missing, the records cannot. Where
there is a summary, it tells topics and counts without a pass over the file, and which chunks need not be read.
See https://mcap.dev/spec for the format.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.stream_reader import MAGIC_SIZE, get_chunk_data_stream
from mcap.summary import Summary
from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat

from seg_node.bags.storage import (
    NO_DEFINITION,
    DamagedError,
    Message,
    StorageError,
    is_ros1,
    ros1_connection,
    ros2_connection,
)

MAGIC = b"\x89MCAP0\r\n"

_FORMATS = {
    "ros1msg": MessageDefinitionFormat.MSG,
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
    "omgidl": MessageDefinitionFormat.IDL,
}

_HEAD = 9
"""Bytes of a record before its content: opcode and length."""


class McapStorage:
    """See ``Storage``.

    Args:
        path: file to read.
        recover: read what is whole of a file that is not, and note where it ends.
        scan: count the messages themselves, even where the file has a summary.

    Raises:
        DamagedError: the file is not whole.
        StorageError: chunks are compressed in a way that is not known.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, recover: bool = False, scan: bool = False):
        self.notes: list[str] = []
        self.start_time: int | None = None
        self._recover = recover
        self._file = _WholeReads(path.open("rb"))
        self._schemas: dict[int, records.Schema] = {}
        self._channels: dict[int, records.Channel] = {}
        self._chunks: dict[int, records.ChunkIndex] = {}
        try:
            summary = None if scan or recover else self._summary()
            counts = self._scan() if summary is None else summary.statistics.channel_message_counts
        except BaseException:
            self.close()
            raise
        connections = [self._connection(channel, counts.get(channel.id, 0)) for channel in self._channels.values()]
        self.connections = [c for c in connections if is_ros1(c) or c.ext.serialization_format == "cdr"]
        self.foreign = [c for c in connections if c not in self.connections]
        self._by_id = {connection.id: connection for connection in self.connections}

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def messages(self, ids: Collection[int], start: int | None = None, stop: int | None = None) -> Iterator[Message]:
        """See ``Storage``."""
        wanted = set(ids) & set(self._by_id)

        def needed(offset: int) -> bool:
            chunk = self._chunks.get(offset)
            if chunk is None:
                return True
            if start is not None and chunk.message_end_time < start:
                return False
            if stop is not None and chunk.message_start_time >= stop:
                return False
            # Without the offsets of a message index it is not known what a chunk holds.
            return not chunk.message_index_offsets or not wanted.isdisjoint(chunk.message_index_offsets)

        for record in self._records(needed):
            if not isinstance(record, records.Message):
                continue
            time = record.log_time
            if record.channel_id not in wanted:
                if record.channel_id not in self._channels:
                    self._undeclared(record)
            elif (start is None or time >= start) and (stop is None or time < stop):
                yield self._by_id[record.channel_id], time, record.data

    def _summary(self) -> Summary | None:
        """Read schemas, channels and the index of chunks from the end; None where it does not tell what is needed.

        Raises:
            DamagedError: the file has no end.
        """
        file = self._file
        file.seek(max(0, file.size - MAGIC_SIZE))
        if file.size < 2 * MAGIC_SIZE or file.read(MAGIC_SIZE) != MAGIC:
            raise DamagedError("it has no end: it was cut off, or its recorder was never stopped")
        file.seek(0)
        try:
            summary = SeekingReader(file, record_size_limit=file.size).get_summary()
        except Exception:
            # The library raises errors of many types on what is none; the records tell the same.
            return None
        if summary is None or summary.statistics is None:
            return None
        statistics = summary.statistics
        known = sum(statistics.channel_message_counts.values()) == statistics.message_count
        if not known or not set(statistics.channel_message_counts) <= set(summary.channels):
            return None
        if any(channel.schema_id and channel.schema_id not in summary.schemas for channel in summary.channels.values()):
            return None
        self._schemas, self._channels = summary.schemas, summary.channels
        self._chunks = {chunk.chunk_start_offset: chunk for chunk in summary.chunk_indexes}
        self.start_time = statistics.message_start_time if statistics.message_count else None
        return summary

    def _scan(self) -> Counter[int]:
        """Read schemas and channels where they stand, and count the messages of each channel."""
        counts: Counter[int] = Counter()
        for record in self._records():
            if isinstance(record, records.Schema):
                self._schemas[record.id] = record
            elif isinstance(record, records.Channel):
                self._channels[record.id] = record
            elif record.channel_id in self._channels:
                counts[record.channel_id] += 1
                self.start_time = record.log_time if self.start_time is None else min(self.start_time, record.log_time)
            else:
                self._undeclared(record)
        return counts

    def _records(self, needed=lambda offset: True) -> Iterator[records.Schema | records.Channel | records.Message]:
        """Schemas, channels and messages in the order of the file.

        Args:
            needed: whether the chunk that begins at an offset has to be read.

        Raises:
            DamagedError: the file is not whole, and is not to be recovered.
        """
        file = self._file
        file.seek(MAGIC_SIZE)
        stream = ReadDataStream(file)
        while True:
            at = file.tell()
            try:
                opcode, length = stream.read1(), stream.read8()
                if opcode in (Opcode.DATA_END, Opcode.FOOTER):
                    return
                if at + _HEAD + length > file.size:
                    raise EOFError("a record goes on behind the end of the file")
            except EOFError as error:
                self._damaged(f"it was cut off or never finished: after byte {at} of {file.size} {error}")
                return
            try:
                if opcode != Opcode.CHUNK:
                    if (record := _read(stream, opcode, length)) is not None:
                        yield record
                elif needed(at):
                    yield from _inside(records.Chunk.read(stream))
            except StorageError:
                raise
            except Exception as error:
                # The libraries raise errors of many types on records and chunks that are none.
                reason = str(error) or type(error).__name__
                self._damaged(f"it is damaged: the record at byte {at} cannot be read ({reason})")
            file.seek(at + _HEAD + length)

    def _undeclared(self, message: records.Message) -> None:
        self._damaged(f"it is damaged: a message is of channel {message.channel_id}, which is not declared before it")

    def _damaged(self, what: str) -> None:
        if not self._recover:
            raise DamagedError(what)
        if what not in self.notes:
            self.notes.append(what)

    def _connection(self, channel: records.Channel, count: int) -> Connection:
        schema = self._schemas.get(channel.schema_id)
        encoding = channel.message_encoding
        if schema is None:
            # Nothing says of which type its messages are.
            return ros2_connection(channel.id, channel.topic, "no type", f"{encoding} without a schema", count)
        definition = NO_DEFINITION
        if schema.encoding in _FORMATS:
            definition = MessageDefinition(_FORMATS[schema.encoding], schema.data.decode(errors="replace"))
        if encoding == "ros1":
            latching = channel.metadata.get("latching") in ("1", "true")
            return ros1_connection(channel.id, channel.topic, schema.name, count, definition, latching)
        return ros2_connection(
            channel.id,
            channel.topic,
            schema.name,
            encoding,
            count,
            definition=definition,
            digest=channel.metadata.get("topic_type_hash", ""),
            qos=channel.metadata.get("offered_qos_profiles", ""),
        )


class _WholeReads:
    """A file that gives all bytes asked for or says that it ends: lengths in a damaged file can be anything."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.size = file.seek(0, 2)
        self.tell, self.close = file.tell, file.close

    def read(self, size: int) -> bytes:
        if size > self.size - self._file.tell():
            raise EOFError("there are not as many bytes as were announced")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)


def _read(stream: ReadDataStream, opcode: int, length: int) -> records.McapRecord | None:
    if opcode == Opcode.MESSAGE:
        if length < _MESSAGE_HEAD:
            raise EOFError(f"a message of {length} bytes")
        return records.Message.read(stream, length)
    if opcode == Opcode.SCHEMA:
        return records.Schema.read(stream)
    if opcode == Opcode.CHANNEL:
        return records.Channel.read(stream)
    return None


_MESSAGE_HEAD = 22
"""Bytes of a message record before the message itself: channel, sequence and two times."""


def _inside(chunk: records.Chunk) -> Iterator[records.McapRecord]:
    if chunk.compression not in ("", "lz4", "zstd"):
        raise StorageError(f"its chunks are compressed by {chunk.compression!r:.40}; lz4 and zstd can be read")
    stream, size = get_chunk_data_stream(chunk, validate_crc=True)
    if size != chunk.uncompressed_size:
        raise EOFError(f"a chunk has {size} bytes instead of {chunk.uncompressed_size}")
    while stream.count < size:
        opcode, length = stream.read1(), stream.read8()
        end = stream.count + length
        if end > size:
            raise EOFError("a record goes on behind the end of its chunk")
        if (record := _read(stream, opcode, length)) is not None:
            yield record
        if end > stream.count:
            stream.read(end - stream.count)
