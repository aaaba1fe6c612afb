"""Around every request: its id, who may send it, its metrics, its line in the log.

Bodies and queries are never logged.
"""

import asyncio
import logging
import re
import secrets
import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seg_node.web.api.errors import ApiError, answer_error
from seg_node.web.api.metrics import Metrics
from seg_node.web.origins import Origins

log = logging.getLogger(__name__)

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    # Pages of other sites must not show pictures from here as their own.
    (b"cross-origin-resource-policy", b"same-origin"),
)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{7,63}")
"""An id that is taken over: it goes into headers, answers and the log."""
_TRACE = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""``traceparent`` of W3C Trace Context; the group is the trace's id."""

_DRAIN_BYTES = 64 * 2**20
_DRAIN_SECONDS = 5.0


class Guard:
    """ASGI middleware; see the module.

    Args:
        app: what it stands around.
        metrics: to count in.
        origins: whose requests are let through.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, origins: Origins):
        self._app = app
        self._metrics = metrics
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        state = scope.setdefault("state", {})
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        state["request_id"] = _request_id(headers)
        body = _Body(scope, receive)
        status = 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [(b"x-request-id", state["request_id"].encode()), *_ALWAYS]
                if scope["path"].startswith("/v1/"):
                    # Pictures of a camera, and their masks.
                    extra.append((b"cache-control", b"no-store"))
                if not await body.drain(patient=status != 408):
                    extra.append((b"connection", b"close"))
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        try:
            with self._metrics.in_flight.track_inprogress():
                refusal = self._refusal(scope["method"], headers)
                if refusal:
                    await answer_error(Request(scope), refusal)(scope, body.receive, send_on)
                else:
                    await self._app(scope, body.receive, send_on)
        finally:
            duration = time.monotonic() - started
            # The pattern, not the path: an address that does not exist must not become a label.
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE") else "other"
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(route).observe(duration)
            if reason := state.get("rejected"):
                self._metrics.rejected.labels(reason).inc()
            log.info(
                "%s %s %s %d %.0f ms%s",
                state["request_id"],
                method,
                route,
                status,
                1000 * duration,
                f" {reason}" if reason else "",
            )

    def _refusal(self, method: str, headers: dict[str, str]) -> ApiError | None:
        host = headers.get("host")
        if why := self._origins.foreign_host(host):
            return ApiError(421, "foreign_host", why)
        if why := self._origins.foreign_page(method, host, headers.get("origin"), headers.get("sec-fetch-site")):
            return ApiError(403, "foreign_page", why)
        return None


def _request_id(headers: dict[str, str]) -> str:
    """The id that a proxy has given the request, or its trace's, or a new one."""
    if _ID.fullmatch(given := headers.get("x-request-id", "")):
        return given
    trace = _TRACE.fullmatch(headers.get("traceparent", ""))
    return trace[1] if trace else secrets.token_hex(8)


class _Body:
    """The body of a request, the rest of which can be thrown away.

    A client that is still sending while the server answers and closes would see a broken connection, not the answer.
    """

    def __init__(self, scope: Scope, receive: Receive):
        headers = dict(scope["headers"])
        self._receive = receive
        self._done = headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers
        declared = headers.get(b"content-length", b"")
        # A client that expects 100 has not begun to send.
        self._drainable = b"expect" not in headers and not (declared.isdigit() and int(declared) > _DRAIN_BYTES)

    async def receive(self) -> Message:
        message = await self._receive()
        self._done |= message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def drain(self, patient: bool) -> bool:
        """Throw away the rest, if it is worth the wait; returns whether the body has ended."""
        if not self._done and self._drainable and patient:
            try:
                await asyncio.wait_for(self._drain(), _DRAIN_SECONDS)
            except asyncio.TimeoutError:
                return False
        return self._done

    async def _drain(self) -> None:
        total = 0
        while not self._done and total <= _DRAIN_BYTES:
            total += len((await self.receive()).get("body", b""))
