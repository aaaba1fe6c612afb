"""Around every request: its id, its metrics, its line in the log.

Bodies and queries are never logged.
"""

import asyncio
import logging
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seg_node.web.api.metrics import Metrics

log = logging.getLogger(__name__)

_DRAIN_BYTES = 64 * 2**20
_DRAIN_SECONDS = 5.0


class Guard:
    """ASGI middleware; see the module.

    Args:
        app: what it stands around.
        metrics: to count in.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        state = scope.setdefault("state", {})
        state["request_id"] = secrets.token_hex(8)
        body = _Body(scope, receive)
        status = 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [(b"x-request-id", state["request_id"].encode()), (b"x-content-type-options", b"nosniff")]
                if not await body.drain(patient=status != 408):
                    extra.append((b"connection", b"close"))
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        try:
            with self._metrics.in_flight.track_inprogress():
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
