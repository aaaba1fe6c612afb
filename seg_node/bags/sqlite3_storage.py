"""Files of rosbag2's sqlite3 storage, of every version of its tables.

Not through ``rosbags``: that cannot open names with ``#``, ``?`` or ``%``, does not see what is still in a
write-ahead log, and refuses a file for the text of one topic's QoS.
"""

import os
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat

from seg_node.bags.storage import NO_DEFINITION, DamagedError, Message, StorageError, ros2_connection

MAGIC = b"SQLite format 3\0"

_LOGS = ("-wal", "-journal")
"""Endings of files in which SQLite keeps what it has not yet written into the database, or has to take back."""

_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What a damaged database raises: Python cannot pass on a complaint of SQLite that cites bytes which are no text."""


class Sqlite3Storage:
    """See ``Storage``.

    A database beside which a recorder left a log is copied together with it, and the copy is read: SQLite would
    otherwise leave files of its own beside the bag, or, told not to, pass over what is in the log.

    Args:
        path: file to read.
        recover: read what is whole of a file that is not, and note where it ends.

    Raises:
        DamagedError: the file is not whole.
        StorageError: the database has not the tables of a bag.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, recover: bool = False):
        self.notes: list[str] = []
        self._recover = recover
        self._cut_off = _cut_off(path)
        with ExitStack() as opened:
            path, immutable = _with_its_logs(path, opened)
            address = f"file:{quote(os.fsencode(path.resolve()))}?{'immutable=1' if immutable else 'mode=rw'}"
            self._base = opened.enter_context(closing(sqlite3.connect(address, uri=True, check_same_thread=False)))
            # Damaged text is still text.
            self._base.text_factory = lambda data: data.decode(errors="replace")
            try:
                self.connections, self.foreign = self._topics()
                self.start_time = self._count()
            except _ERRORS as error:
                raise self._broken(error) from error
            self._by_id = {connection.id: connection for connection in self.connections}
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Release the file."""
        self._opened.close()

    def messages(self, ids: Collection[int], start: int | None = None, stop: int | None = None) -> Iterator[Message]:
        """See ``Storage``; sorted by log time, except from a file that is not whole."""
        wanted = [number for number in ids if number in self._by_id]
        where = [f"topic_id IN ({','.join('?' * len(wanted))})"]
        values = [*wanted]
        for bound, limit in ((">=", start), ("<", stop)):
            if limit is not None:
                where.append(f"timestamp {bound} ?")
                values.append(limit)
        order = "" if self._recover else " ORDER BY timestamp, id"
        query = f"SELECT topic_id, timestamp, data FROM messages WHERE {' AND '.join(where)}{order}"
        try:
            for number, time, data in self._base.execute(query, values):
                # SQLite keeps values of any type in any column.
                if not isinstance(time, int) or not isinstance(data, bytes):
                    self._damaged(f"a message has the log time {time!r:.40} and data of type {type(data).__name__}")
                    continue
                yield self._by_id[number], time, data
        except _ERRORS as error:
            self._damaged(str(self._broken(error)))

    def _topics(self) -> tuple[list[Connection], list[Connection]]:
        columns = {row[1] for row in self._base.execute("PRAGMA table_info(topics)")}
        if not {"id", "name", "type"} <= columns or not self._base.execute("PRAGMA table_info(messages)").fetchall():
            raise StorageError("it is no bag: the database has no tables topics and messages")
        optional = {"serialization_format": "'cdr'", "offered_qos_profiles": "''", "type_description_hash": "''"}
        chosen = ", ".join(name if name in columns else default for name, default in optional.items())
        definitions = self._definitions()
        topics: list[Connection] = []
        for number, name, kind, encoding, qos, digest in self._base.execute(
            f"SELECT id, name, type, {chosen} FROM topics ORDER BY id"
        ):
            if not isinstance(name, str) or not isinstance(kind, str):
                self._damaged(f"a topic has the name {name!r:.40} and the type {kind!r:.40}")
                continue
            definition = definitions.get(kind, NO_DEFINITION)
            digest = digest if isinstance(digest, str) else ""
            encoding = encoding if isinstance(encoding, str) else "cdr"
            topics.append(
                ros2_connection(number, name, kind, encoding, definition=definition, digest=digest, qos=qos or "")
            )
        known = [topic for topic in topics if topic.ext.serialization_format == "cdr"]
        return known, [topic for topic in topics if topic not in known]

    def _definitions(self) -> dict[str, MessageDefinition]:
        if not self._base.execute("PRAGMA table_info(message_definitions)").fetchall():
            return {}
        formats = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}
        rows = self._base.execute("SELECT topic_type, encoding, encoded_message_definition FROM message_definitions")
        return {
            kind: MessageDefinition(formats[encoding], text)
            for kind, encoding, text in rows
            if encoding in formats and isinstance(text, str)
        }

    def _count(self) -> int | None:
        """Count the messages of each topic; returns the log time of the first of all."""
        counts: dict[int, int] = {}
        times = []
        query = "SELECT topic_id, COUNT(*), MIN(timestamp) FROM messages GROUP BY topic_id"
        try:
            for number, count, first in self._base.execute(query):
                counts[number] = count
                times.append(first)
        except _ERRORS as error:
            if not self._recover:
                raise
            self.notes.append(str(self._broken(error)))
        for group in (self.connections, self.foreign):
            group[:] = [topic._replace(msgcount=counts.pop(topic.id, 0)) for topic in group]
        if counts:
            self._damaged(f"{sum(counts.values())} messages are of topics that it does not name")
        return min((time for time in times if isinstance(time, int)), default=None)

    def _damaged(self, what: str) -> None:
        if not self._recover:
            raise DamagedError(what if what.startswith("it ") else f"it is damaged: {what}")
        if what not in self.notes:
            self.notes.append(what)

    def _broken(self, error: Exception) -> DamagedError:
        what = "its schema holds what is no text" if isinstance(error, UnicodeDecodeError) else error
        return DamagedError(self._cut_off or f"it is damaged: {what}")


def _cut_off(path: Path) -> str:
    """What a database says that is shorter than its header says; empty where it is not."""
    with path.open("rb") as file:
        header = file.read(32)
    # Page size, where 1 stands for 65536, and number of pages: https://www.sqlite.org/fileformat.html
    page, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
    expected, size = (65536 if page == 1 else page) * pages, path.stat().st_size
    return f"it was cut off: it has {size} of {expected} bytes" if size < expected else ""


def _with_its_logs(path: Path, opened: ExitStack) -> tuple[Path, bool]:
    """Where to read a database, and whether it can be read as it stands."""
    path = path.resolve()
    logs = [log for ending in _LOGS if (log := Path(f"{path}{ending}")).is_file() and log.stat().st_size]
    if not logs:
        return path, True
    folder = Path(opened.enter_context(TemporaryDirectory(prefix="seg_node_")))
    for file in (path, *logs):
        shutil.copyfile(file, folder / file.name)
    return folder / path.name, False
