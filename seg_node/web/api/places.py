"""Places for requests: for those whose body is on its way, and for those that are worked on.

They are apart, so that clients who send slowly wait for themselves only.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from seg_node.web.api.errors import ApiError


class Places:
    """The bounded number of complete requests that wait or are worked on.

    Args:
        count: of places.
    """

    def __init__(self, count: int):
        self._count = self._free = count

    def check(self) -> None:
        """Refuse a request before its body is received if there is no place now.

        Raises:
            ApiError: 503.
        """
        if not self._free:
            raise ApiError(503, "queue_full", f"{self._count} requests are waiting already; try again", retry_after=1)

    @contextmanager
    def take(self) -> Iterator[None]:
        """Occupy a place.

        Raises:
            ApiError: 503 if there is none.
        """
        self.check()
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class Uploads:
    """The bounded number of bodies that are received at once, and the bytes that they hold.

    Args:
        count: of bodies.
        capacity: in bytes, of all together.
    """

    def __init__(self, count: int, capacity: int):
        self._count, self._capacity = count, capacity
        self._bodies = self._bytes = 0

    @contextmanager
    def admit(self) -> Iterator["Held"]:
        """Let one body in; what it holds is given back at the end.

        Raises:
            ApiError: 503 if too many are on their way.
        """
        if self._bodies >= self._count:
            raise ApiError(503, "uploads_full", f"{self._count} uploads are on their way; try again", retry_after=1)
        held = Held(self)
        self._bodies += 1
        try:
            yield held
        finally:
            held.received()
            self._bytes -= held.size

    def _grow(self, size: int) -> None:
        if self._bytes + size > self._capacity:
            message = f"requests hold {self._bytes} of {self._capacity} bytes already; try again"
            raise ApiError(503, "uploads_full", message, retry_after=1)
        self._bytes += size


class Held:
    """What one request holds; made by ``Uploads.admit``."""

    def __init__(self, uploads: Uploads):
        self._uploads = uploads
        self._arriving = True
        self.size = 0
        """Bytes."""

    def add(self, size: int) -> None:
        """Hold more bytes.

        Raises:
            ApiError: 503 if all requests together would hold too many.
        """
        self._uploads._grow(size)
        self.size += size

    def received(self) -> None:
        """Note that the body is complete: it counts as an upload no longer, and still holds its bytes."""
        self._uploads._bodies -= self._arriving
        self._arriving = False
