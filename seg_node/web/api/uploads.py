"""Bodies of requests: raw or multipart, never more of them than allowed, never for longer, never slower."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request, UploadFile
from starlette.datastructures import FormData
from starlette.types import Message

from seg_node.core.images import EncodedPixels
from seg_node.web.api.errors import ApiError
from seg_node.web.api.limits import Limits
from seg_node.web.api.places import Held

_CHUNK = 2**20

_LEAST_WAIT = 0.05
"""Seconds in which a message that has arrived is seen, even where this process was late itself."""


@dataclass(frozen=True)
class Upload(EncodedPixels):
    """An image as it was received."""

    name: str = ""
    """Name of the file, as the client says."""


async def read_image(request: Request, limits: Limits, held: Held) -> Upload:
    """The image of a request: the body, or the only file ``image`` of a multipart body.

    What it is, its content says: media types are what a client guessed.

    Raises:
        ApiError: 413 for a body that is too large, 408 for one that comes too slowly, 503 where there is no room for
            it, 422 without an image.
    """
    body = _Body(request, limits.max_bytes, limits.body_timeout, limits, held)
    media_type = _media_type(request)
    if media_type == "multipart/form-data":
        async with _form(body, files=1) as form:
            (file,) = _files(form, "image", at_most=1)
            return Upload(file.content_type or "", await file.read(), file.filename or "")
    data = await body.request.body()
    held.received()
    if not data:
        raise ApiError(422, "undecodable", "the body is empty; send a JPEG or PNG image")
    return Upload(media_type, data)


async def read_images(request: Request, limits: Limits, held: Held) -> list[Upload]:
    """All files ``image`` of a multipart body; see ``read_image`` for the errors, and 415 for other bodies."""
    body = _Body(request, limits.batch_bytes, limits.body_timeout, limits, held)
    if _media_type(request) != "multipart/form-data":
        raise ApiError(415, "media_type", "send multipart/form-data with files named image")
    async with _form(body, files=limits.batch_files) as form:
        return [
            Upload(file.content_type or "", await file.read(), file.filename or "")
            for file in _files(form, "image", at_most=limits.batch_files)
        ]


async def save_video(request: Request, target: Path, limits: Limits, held: Held) -> None:
    """Write the body, or the only file ``video`` of a multipart body, to a file; see ``read_image`` for the errors."""
    body = _Body(request, limits.video_bytes, limits.video_body_timeout, limits, held)
    media_type = _media_type(request)
    if media_type == "multipart/form-data":
        async with _form(body, files=1) as form:
            (file,) = _files(form, "video", at_most=1)
            await _save(_chunks(file), target)
    else:
        await _save(body.request.stream(), target)


async def _chunks(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(_CHUNK):
        yield chunk


async def _save(chunks: AsyncIterator[bytes], target: Path) -> None:
    """Write in a thread: a disk that is slow must not hold up other requests."""
    pending = bytearray()
    with await asyncio.to_thread(target.open, "wb") as out:
        async for chunk in chunks:
            pending += chunk
            if len(pending) >= _CHUNK:
                await asyncio.to_thread(out.write, bytes(pending))
                pending.clear()
        await asyncio.to_thread(out.write, bytes(pending))


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


class _Body:
    """The body of a request as far as it may be received.

    Args:
        request: its headers are read already.
        limit: bytes.
        timeout: seconds until all of it must be here.
        limits: say how slowly it may come.
        held: counts it.

    Raises:
        ApiError: 413 if the body says that it is larger.
    """

    def __init__(self, request: Request, limit: int, timeout: float, limits: Limits, held: Held):
        self.request = Request(request.scope, self._receive)
        self.held = held
        self._original, self._limit, self._timeout, self._limits = request, limit, timeout, limits
        self._started = time.monotonic()
        self._received = 0
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise self._too_large()

    def _too_large(self) -> ApiError:
        return ApiError(413, "too_large", f"the body is larger than {self._limit} bytes")

    async def _receive(self) -> Message:
        slow = self._limits.rate_grace + self._received / self._limits.min_rate
        left = self._started + min(slow, self._timeout) - time.monotonic()
        try:
            message = await asyncio.wait_for(self._original.receive(), max(left, _LEAST_WAIT))
        except asyncio.TimeoutError:
            why = f"did not arrive within {self._timeout:g} s"
            if slow < self._timeout:
                why = f"comes too slowly, {self._received} bytes in {slow:.0f} s; {self._limits.min_rate} bytes/s"
                why += " are asked for"
            raise ApiError(408, "slow_body", f"the body {why}") from None
        size = len(message.get("body", b""))
        self._received += size
        if self._received > self._limit:
            raise self._too_large()
        self.held.add(size)
        return message


@asynccontextmanager
async def _form(body: _Body, files: int) -> AsyncIterator[FormData]:
    # One more than allowed, so that the message about too many is ours.
    form = await body.request.form(max_files=files + 1, max_fields=8, max_part_size=4096)
    body.held.received()
    try:
        yield form
    finally:
        await form.close()


def _files(form: FormData, name: str, at_most: int) -> list[UploadFile]:
    files = [value for value in form.getlist(name) if not isinstance(value, str)]
    others = sorted({key for key, _ in form.multi_items() if key != name})
    expected = f"one file named {name}" if at_most == 1 else f"1 to {at_most} files named {name}"
    if others or not 1 <= len(files) <= at_most:
        found = f"{len(files)} of them" + (f" and {', '.join(map(repr, others))}" if others else "")
        raise ApiError(422, "bad_form", f"the form has {found}; expected {expected}, settings go into the query")
    return files
