"""The page over HTTP, with nothing but the standard library: the page itself, pictures, and figures as they change.

A browser asks for the next picture when it has shown the one before, so a slow one gets fewer, and nothing queues for
it. Figures go out as server-sent events, each written when the one before is gone.
"""

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from seg_node.core.errors import UserError
from seg_node.web.live.live import Live
from seg_node.web.live.pictures import Pictures
from seg_node.web.origins import Origins

MAX_CONNECTIONS = 32
"""Browsers keep up to six each; a page needs two."""
_EVENTS_S = 0.25
_PICTURE_S = 5.0
"""Seconds without a new picture after which the answer is that there is none."""
_LINGER_S = 0.2
_LINGER_READS = 64

_ROUTES = (
    "/, /events, /overview, /picture.jpg?seen=N&of=mask, /labels.json; each with camera=NAME where there are several"
)


@dataclass(frozen=True)
class View:
    """What is shown of one camera."""

    live: Live
    pictures: Mapping[str, Pictures]
    """Pictures by what ``of`` asks for; the first where a request names none."""


class LiveServer(ThreadingHTTPServer):
    """Serves the page until ``shutdown``.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        live: figures of the node.
        pictures: pictures of its only camera, see ``View``.
        names: of the server, besides localhost and ``host``; see ``Origins``.

    Attributes:
        cameras: of a node with several, by name. As soon as there is one, the page at ``/`` shows all of them, and that
            at ``/?camera=NAME`` one. May grow while the server runs.

    Raises:
        UserError: the address cannot be had; the message says which and what to do.
    """

    daemon_threads = True
    # Connections above the limit are told so, not left waiting.
    request_queue_size = 128

    def __init__(self, host: str, port: int, live: Live, pictures: Mapping[str, Pictures], names: Collection[str] = ()):
        self.origins = Origins((host, *names))
        self.only = View(live, pictures)
        self.cameras: dict[str, View] = {}
        self.page, self.grid = _page("page.html"), _page("grid.html")
        self.ending = threading.Event()
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        try:
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise UserError(f"cannot listen on {host}, port {port}: {error.strerror}; see --host, --port") from error

    @property
    def url(self) -> str:
        """Address of the page."""
        host, port = self.server_address[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def overview(self) -> dict[str, Any]:
        """What the page of all cameras shows: ``node``, and ``cameras`` by name, each as ``Live.snapshot`` has it."""
        cameras = {name: view.live.snapshot() for name, view in list(self.cameras.items())}
        # The running chart is on the page of one camera.
        return {"node": self.only.live.snapshot(), "cameras": {n: of | {"recent": []} for n, of in cameras.items()}}

    def process_request(self, request, client_address) -> None:
        """Start a thread for a connection, or refuse it."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            text = f"{MAX_CONNECTIONS} connections are open already; close another page"
            head = f"HTTP/1.1 503 Too busy\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n"
            request.settimeout(_LINGER_S)
            with contextlib.suppress(OSError):
                request.sendall(f"{head}Connection: close\r\nRetry-After: 5\r\n\r\n{text}".encode())
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address) -> None:
        """Serve one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def shutdown_request(self, request) -> None:
        """Close a connection so that the answer arrives: with data left unread, the system would cut it off."""
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
            request.settimeout(_LINGER_S)
            for _ in range(_LINGER_READS):
                if not request.recv(65536):
                    break
        self.close_request(request)

    def handle_error(self, request, client_address) -> None:
        """Browsers that go away in the middle of an answer are no errors."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def shutdown(self) -> None:
        """End, with the streams of events."""
        self.ending.set()
        super().shutdown()


def _page(name: str) -> bytes:
    """A page with its style in it, so that it is complete in itself."""
    folder = files(__package__)
    return (folder / name).read_text().replace("/* style.css */", (folder / "style.css").read_text()).encode()


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    protocol_version = "HTTP/1.1"
    server_version = "seg_node"
    sys_version = ""
    # Seconds for a request to arrive and for each write of an answer to leave.
    timeout = 10.0
    # The body of an answer would wait until the browser has acknowledged the head, 40 ms for each picture.
    disable_nagle_algorithm = True
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s: %(explain)s\n"

    def do_GET(self) -> None:
        if why := self.server.origins.foreign_host(self.headers.get("Host")):
            self._answer(421, "text/plain", f"{why}\n".encode())
            return
        try:
            url = urlsplit(self.path)
        except ValueError as error:
            self._answer(400, "text/plain", f"the address cannot be read: {error}\n".encode())
            return
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        cameras, camera = self.server.cameras, query.get("camera")
        if camera is not None and camera not in cameras:
            known = f"there are {', '.join(cameras)}" if cameras else "the node has one camera, without a name"
            self._answer(404, "text/plain", f"there is no camera {camera[:80]!r}; {known}\n".encode())
            return
        view = self.server.only if camera is None else cameras[camera]
        if url.path == "/":
            page = self.server.grid if cameras and camera is None else self.server.page
            self._answer(200, "text/html; charset=utf-8", page)
        elif url.path == "/labels.json":
            self._answer(200, "application/json", json.dumps(view.live.labels).encode())
        elif url.path == "/picture.jpg":
            self._picture(view.pictures, query)
        elif url.path == "/events":
            self._events(view.live.snapshot)
        elif url.path == "/overview":
            self._events(self.server.overview)
        else:
            self._answer(404, "text/plain", f"there is no {url.path[:80]!r}; there are {_ROUTES}\n".encode())

    def _picture(self, pictures: Mapping[str, Pictures], query: Mapping[str, str]) -> None:
        seen, wait = query.get("seen", "0"), query.get("wait")
        if not (seen.isascii() and seen.isdigit() and len(seen) <= 18):
            self._answer(400, "text/plain", f"seen is {seen[:40]!r}; expected the number of a picture\n".encode())
            return
        of = query.get("of", next(iter(pictures)))
        if of not in pictures:
            self._answer(400, "text/plain", f"of is {of[:40]!r}; expected {' or '.join(pictures)}\n".encode())
            return
        if wait not in (None, "0"):
            self._answer(400, "text/plain", f"wait is {wait[:40]!r}; expected 0, or leave it out\n".encode())
            return
        picture = pictures[of].another(int(seen), _PICTURE_S if wait is None else 0.0)
        if picture is None:
            self._answer(204, "", b"")
        else:
            shares = ",".join(map(str, picture.shares))
            self._answer(200, "image/jpeg", picture.jpeg, {"X-Number": str(picture.number), "X-Shares": shares})

    def _events(self, told: Callable[[], Mapping[str, Any]]) -> None:
        self.close_connection = True
        self._head(200, "text/event-stream", {"Connection": "close"})
        while not self.server.ending.is_set():
            self.wfile.write(f"data: {json.dumps(told())}\n\n".encode())
            self.server.ending.wait(_EVENTS_S)

    def _answer(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        length = {} if status == 204 else {"Content-Length": str(len(body))}
        self._head(status, kind, (headers or {}) | length)
        self.wfile.write(body)

    def _head(self, status: int, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline'; img-src blob: data: 'self'")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: each picture would be a line."""
