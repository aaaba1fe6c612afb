"""Requests to the HTTP API, given to its application without a network."""

import asyncio
import json
import re
from random import Random
from typing import Any

import cv2
import numpy as np
from cases import Case
from image_surfaces import encoded
from mutate import damaged
from surfaces import ACCEPTED, Surface, expect

from seg_node.core.bundle import DEFAULT_MODEL, load_bundle
from seg_node.core.engines.base import Engine
from seg_node.web.api.app import make_app
from seg_node.web.api.limits import Limits
from seg_node.web.api.models import Models

PATHS = re.compile(rb"/(?:work|tmp|home|opt|usr|root)\b|\.py\b|\.onnx|Traceback")
"""What tells of the server's machine."""

_BOUNDARY = b"fuzzed"
_PATHS = ("/v1/segment",) * 6 + ("/v1/segment/batch",) * 3
_PATHS += ("/v1/videos", "/v1/models", "/healthz", "/readyz", "/metrics", "/", "/v1/segment/", "/v1/videos/x/masks")
_QUERIES = (
    b"",
    b"",
    b"format=json",
    b"format=png",
    b"format=jpeg&overlay=1",
    b"confidence=1",
    b"encoding=rle&format=json",
)
_QUERIES += (b"encoding=polygons&format=json", b"model=fpn_resnet50", b"model=../x", b"model=%00", b"model=%ff", b"x=1")
_TYPES = (b"image/jpeg", b"image/png", b"image/jpeg; charset=x", b"text/plain", b"", b"video/mp4", b"application/json")
_ORIGINS = (
    ("host", b"localhost:8000"),
    ("host", b"evil.example"),
    ("host", b"[::1]:8000"),
    ("origin", b"http://localhost:8000"),
    ("origin", b"http://evil.example"),
    ("origin", b"null"),
    ("sec-fetch-site", b"cross-site"),
    ("x-request-id", b"0123-of-a-proxy"),
    ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)
"""Headers by which a browser or a proxy says whence a request comes."""
_LENGTHS = (b"0", b"-1", b"1", b"99999999999999999999", b"x", b"\xb2")


class Instant(Engine):
    """Answers at once: category 1 everywhere."""

    name = "instant"

    def prepare(self, size, confidence=False):
        pass

    def infer(self, bgr, confidence=False):
        mask = np.ones(bgr.shape[:2], np.uint8)
        return mask, np.full_like(mask, 200) if confidence else None


class HttpSurface(Surface):
    """The application; refuses with a status from 400 to 499, 503 or 504 and JSON that says why, and holds no path."""

    def __init__(self, folder):
        super().__init__(folder)
        smooth = cv2.resize(np.random.default_rng(4).integers(0, 256, (3, 4, 3), np.uint8), (24, 16))
        self._images = [encoded(".jpg", smooth), encoded(".png", smooth), encoded(".bmp", smooth), b""]
        self._models = Models([load_bundle(DEFAULT_MODEL)], Instant)
        self._models.default.infer(smooth)
        # Small enough for the bodies here to exceed them.
        self._app = make_app(self._models, Limits(max_bytes=4000, batch_bytes=8000, batch_files=3, max_pixels=2**16))
        self._loop = asyncio.new_event_loop()

    def draw(self, rng: Random) -> Case:
        path, query = rng.choice(_PATHS), rng.choice(_QUERIES)
        if rng.randrange(10) == 0:
            path, query = f"/{rng.choice(('..', '%2e', 'é', 'static-offline-docs/../x', path))}", damaged(rng, query)
        image = rng.choice(self._images)
        if rng.randrange(3):
            image = damaged(rng, image)
        media_type, body = rng.choice(_TYPES), image
        if path.endswith("batch") or rng.randrange(2) == 0:
            media_type = b"multipart/form-data; boundary=" + _BOUNDARY
            body = _form(rng, [image, *(rng.choice(self._images) for _ in range(rng.randrange(4)))])
            if rng.randrange(3) == 0:
                body = damaged(rng, body)
            if rng.randrange(10) == 0:
                media_type = _header(damaged(rng, media_type))
        headers = {"content-type": media_type, "content-length": str(len(body)).encode()}
        if rng.randrange(10) == 0:
            headers["content-length"] = rng.choice(_LENGTHS)
        if rng.randrange(10) == 0:
            headers["accept"] = rng.choice((b"application/json", b"image/jpeg", b"*/*", b"\xff"))
        if rng.randrange(10) == 0:
            name, value = rng.choice(_ORIGINS)
            headers[name] = _header(value if rng.randrange(3) else damaged(rng, value))
        return {
            "method": _method(rng, path),
            "path": path,
            "query": query,
            "headers": headers,
            "body": body,
            "parts": rng.choice((1, 1, 2, 5)),
            "whole": rng.randrange(10) > 0,
        }

    def feed(self, case: Case) -> str:
        return self._loop.run_until_complete(self._request(case))

    def close(self) -> None:
        self._models.close()
        self._loop.close()

    async def _request(self, case: Case) -> str:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": case["method"],
            "scheme": "http",
            "path": case["path"],
            "raw_path": case["path"].encode(),
            "query_string": case["query"],
            "root_path": "",
            "headers": [(name.encode(), value) for name, value in case["headers"].items()],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
        }
        events = _events(case)
        sent: list[dict[str, Any]] = []

        async def receive():
            return next(events, {"type": "http.disconnect"})

        async def send(message):
            sent.append(message)

        await self._app(scope, receive, send)
        return _ending(sent, case)


def _method(rng: Random, path: str) -> str:
    if rng.randrange(20) == 0:
        return rng.choice(("DELETE", "PUT", "HEAD", "X", ""))
    return "POST" if path in ("/v1/segment", "/v1/segment/batch", "/v1/videos") else "GET"


def _events(case: Case):
    """The body in parts, after which the client is gone if it does not send all of it."""
    body, parts = case["body"], case["parts"]
    size = max(1, -(-len(body) // parts))
    pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    for number, piece in enumerate(pieces):
        more = number < len(pieces) - 1 or not case["whole"]
        yield {"type": "http.request", "body": piece, "more_body": more}


def _form(rng: Random, images: list[bytes]) -> bytes:
    name = rng.choice((b"image",) * 6 + (b"video", b"", b'"', b"x" * 5000))
    parts = b""
    for number, image in enumerate(images):
        file = rng.choice((b"a.jpg", b"../../etc/passwd", b"\xff\xfe", b"", b"%d.png" % number))
        parts += b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n' % (_BOUNDARY, name, file)
        parts += b"Content-Type: image/jpeg\r\n\r\n" + image + b"\r\n"
    return parts + b"--" + _BOUNDARY + b"--\r\n"


def _header(value: bytes) -> bytes:
    """As a server would pass it on: no line breaks, no NUL."""
    return re.sub(rb"[\r\n\0]", b"", value).strip()


def _ending(sent: list[dict[str, Any]], case: Case) -> str:
    expect(sent and sent[0]["type"] == "http.response.start", "no answer")
    status, headers = sent[0]["status"], dict(sent[0]["headers"])
    body = b"".join(message.get("body", b"") for message in sent[1:])
    expect(not sent[-1].get("more_body", False), "the answer has no end")
    for name, value in headers.items():
        expect(not set(b"\r\n\0") & set(value), f"header {name!r} is {value!r}")
    if status < 400:
        if headers.get(b"content-type") == b"image/png":
            mask = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
            expect(mask is not None, "the mask cannot be read")
        return ACCEPTED
    expect(status < 500 or status in (503, 504), f"status {status}: {body[:200]!r}")
    if not body and not case["whole"]:
        return "400 client_gone"
    error = json.loads(body)["error"]
    expect(error.keys() == {"code", "message", "request_id"}, f"the error has {list(error)}")
    expect(error["message"].strip(), "the error says nothing")
    # What the client itself sent may stand in the answer.
    said = [bytes(case["query"]), case["path"].encode(), *case["headers"].values(), case["body"]]
    found = PATHS.search(body)
    expect(not found or any(found[0] in text for text in said), f"the answer holds a path: {body[:300]!r}")
    return f"{status} {error['code']}"
