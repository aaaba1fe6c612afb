"""Bags of ROS 1, through ``rosbags``."""

from collections.abc import Collection, Iterator
from pathlib import Path

from rosbags import rosbag1
from rosbags.interfaces import Connection

from seg_node.bags.storage import DamagedError, Message

MAGIC = b"#ROSBAG V"


class Ros1Storage:
    """See ``Storage``.

    Args:
        path: file to read.

    Raises:
        DamagedError: the file is not whole.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path):
        self.notes: list[str] = []
        self.foreign: list[Connection] = []
        try:
            self._reader = rosbag1.Reader(path)
            self._reader.open()
            self.connections = [connection._replace(owner=None) for connection in self._reader.connections]
        except OSError:
            raise
        except Exception as error:
            raise _damaged(error) from error
        self.start_time = self._reader.start_time if self._reader.message_count else None

    def close(self) -> None:
        """Release the file."""
        self._reader.close()

    def messages(self, ids: Collection[int], start: int | None = None, stop: int | None = None) -> Iterator[Message]:
        """See ``Storage``; sorted by log time."""
        by_id = {connection.id: connection for connection in self.connections}
        wanted = [connection for connection in self._reader.connections if connection.id in ids]
        try:
            for connection, time, data in self._reader.messages(wanted, start, stop) if wanted else ():
                yield by_id[connection.id], time, bytes(data)
        except Exception as error:
            raise _damaged(error) from error


def _damaged(error: Exception) -> DamagedError:
    # rosbags raises errors of many types on damaged files, failed assertions and struct.error among them.
    reason = str(error).rstrip(".") or type(error).__name__
    if "not indexed" in reason:
        return DamagedError("it has no index: it was cut off, or its recorder was never stopped")
    return DamagedError(f"it was cut off or is damaged: {reason}")
