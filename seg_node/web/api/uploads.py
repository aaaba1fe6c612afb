"""Bodies of requests: raw or multipart, never more of them than allowed, never for longer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fastapi import Request, UploadFile
from starlette.datastructures import FormData

from seg_node.core.images import EncodedPixels
from seg_node.web.api.errors import ApiError

T = TypeVar("T")

_CHUNK = 2**20


@dataclass(frozen=True)
class Upload(EncodedPixels):
    """An image as it was received."""

    name: str = ""
    """Name of the file, as the client says."""


async def read_image(request: Request, limit: int, timeout: float) -> Upload:
    """The image of a request: the body, or the only file ``image`` of a multipart body.

    Raises:
        ApiError: 413 above ``limit`` bytes, 408 after ``timeout`` seconds, 415 for other bodies, 422 without an image.
    """
    request = _limited(request, limit)
    media_type = _media_type(request)
    if media_type == "multipart/form-data":
        async with _form(request, timeout, files=1) as form:
            (file,) = _files(form, "image", at_most=1)
            return Upload(file.content_type or "", await file.read(), file.filename or "")
    if media_type not in ("image/jpeg", "image/png"):
        raise ApiError(
            415,
            "media_type",
            f"Content-Type is {media_type or 'missing'}; send image/jpeg, image/png or multipart/form-data with a file"
            " named image",
        )
    data = await _in_time(request.body(), timeout)
    if not data:
        raise ApiError(422, "undecodable", "the body is empty; send a JPEG or PNG image")
    return Upload(media_type, data)


async def read_images(request: Request, limit: int, timeout: float, count: int) -> list[Upload]:
    """All files ``image`` of a multipart body; see ``read_image`` for the errors."""
    request = _limited(request, limit)
    if _media_type(request) != "multipart/form-data":
        raise ApiError(415, "media_type", "send multipart/form-data with files named image")
    async with _form(request, timeout, files=count) as form:
        return [
            Upload(file.content_type or "", await file.read(), file.filename or "")
            for file in _files(form, "image", at_most=count)
        ]


async def save_video(request: Request, target: Path, limit: int, timeout: float) -> None:
    """Write the body, or the only file ``video`` of a multipart body, to a file; see ``read_image`` for the errors."""
    request = _limited(request, limit)
    media_type = _media_type(request)
    if media_type == "multipart/form-data":
        async with _form(request, timeout, files=1) as form:
            (file,) = _files(form, "video", at_most=1)
            with target.open("wb") as out:
                while chunk := await file.read(_CHUNK):
                    out.write(chunk)
    elif media_type.startswith("video/"):
        await _in_time(_save(request, target), timeout)
    else:
        raise ApiError(
            415,
            "media_type",
            f"Content-Type is {media_type or 'missing'}; send video/mp4 or another video/ type, or multipart/form-data"
            " with a file named video",
        )


async def _save(request: Request, target: Path) -> None:
    with target.open("wb") as out:
        async for chunk in request.stream():
            out.write(chunk)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _limited(request: Request, limit: int) -> Request:
    """The request, of whose body no more than ``limit`` bytes can be read."""
    too_large = ApiError(413, "too_large", f"the body is larger than {limit} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    received = 0

    async def receive():
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise too_large
        return message

    return Request(request.scope, receive)


@asynccontextmanager
async def _form(request: Request, timeout: float, files: int) -> AsyncIterator[FormData]:
    # One more than allowed, so that the message about too many is ours.
    form = await _in_time(request.form(max_files=files + 1, max_fields=8, max_part_size=4096), timeout)
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


async def _in_time(body: Awaitable[T], timeout: float) -> T:
    try:
        return await asyncio.wait_for(body, timeout)
    except asyncio.TimeoutError:
        raise ApiError(408, "slow_body", f"the body did not arrive within {timeout:g} s") from None
