"""Routes that mask images."""

import asyncio
import io
import json
import zipfile
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from seg_node.web.api.answers import BatchQuery, SegmentAnswer, SegmentQuery, encoder, wants_json
from seg_node.web.api.errors import ApiError
from seg_node.web.api.limits import Deadline
from seg_node.web.api.models import Answer
from seg_node.web.api.openapi import BATCH, BINARY, ERRORS, form
from seg_node.web.api.places import Held
from seg_node.web.api.probe import check_image
from seg_node.web.api.service import Service
from seg_node.web.api.uploads import Upload, read_image, read_images


def image_routes(service: Service) -> APIRouter:
    """Routes that mask one image or several."""
    router = APIRouter(tags=["masks"])
    limits = service.limits

    @router.post(
        "/v1/segment",
        summary="Mask an image",
        response_class=Response,
        responses=ERRORS
        | {
            200: {
                "description": "A mask, mono8 PNG of the image's size with category ids, which looks nearly black; with"
                " `overlay` the painted image; or what else the query asks for.",
                "model": SegmentAnswer,
                "content": {"image/png": {"schema": BINARY}, "image/jpeg": {"schema": BINARY}},
            }
        },
        openapi_extra=form("image", raw=("image/jpeg", "image/png")),
    )
    async def segment(request: Request, query: Annotated[SegmentQuery, Query()]) -> Response:
        accept = request.headers.get("accept", "")
        # Before the body is waited for: what cannot be answered is refused at once.
        encoder(query, accept, service.models.find(query.model).bundle.manifest)
        service.places.check()
        with service.uploads.admit() as held:
            image = await read_image(request, limits, held)
            with service.places.take():
                answer = await _mask(service, image, query, accept, Deadline(limits.timeout))
        return Response(answer.encoded.content, media_type=answer.encoded.media_type, headers=_headers(answer))

    @router.post(
        "/v1/segment/batch",
        summary="Mask several images",
        response_class=Response,
        responses=ERRORS
        | {
            200: {
                "description": "A ZIP with `index.json` and a PNG per image that could be masked, or JSON: a list in"
                " the order of the images, each with `name`, `status`, and `answer` or `error`.",
                "content": {"application/zip": {"schema": BINARY}, "application/json": {"example": BATCH}},
            }
        },
        openapi_extra=form("image", several=True),
    )
    async def batch(request: Request, query: Annotated[BatchQuery, Query()]) -> Response:
        accept = request.headers.get("accept", "")
        model = service.models.find(query.model)
        encoder(query, accept, model.bundle.manifest)
        service.places.check()
        with service.uploads.admit() as held:
            images = await read_images(request, limits, held)
            with service.places.take():
                deadline = Deadline(limits.batch_timeout)
                results = [await _result(service, image, query, accept, deadline, held) for image in images]
            pack = _as_json if wants_json(query, accept) else _as_zip
            return await asyncio.to_thread(pack, results, {"X-Model": model.bundle.name})

    return router


async def _result(
    service: Service, image: Upload, query: BatchQuery, accept: str, deadline: Deadline, held: Held
) -> tuple[dict[str, Any], bytes]:
    """Entry of a batch's index for an image, and its mask, or nothing where it could not be masked."""
    try:
        answer = await _mask(service, image, query, accept, deadline)
        # It waits here until the last image is masked.
        held.add(len(answer.encoded.content))
    except ApiError as error:
        return {"name": image.name, "status": error.status, "error": error.body()}, b""
    return {"name": image.name, "status": 200}, answer.encoded.content


async def _mask(service: Service, image: Upload, query: BatchQuery, accept: str, deadline: Deadline) -> Answer:
    model = service.models.find(query.model)
    encode = encoder(query, accept, model.bundle.manifest)
    check_image(image.data, service.limits)
    answer = await model.segment(image, query.confidence, encode, deadline)
    service.metrics.masked(answer)
    return answer


def _headers(answer: Answer) -> dict[str, str]:
    timing = ", ".join(f"{stage};dur={duration:.2f}" for stage, duration in answer.milliseconds.items())
    return {"X-Model": answer.model, "X-Engine": answer.engine, "Server-Timing": timing}


def _as_json(results: list[tuple[dict[str, Any], bytes]], headers: dict[str, str]) -> Response:
    # Put together as text: as objects, polygons take ten times as much memory.
    entries = []
    for entry, content in results:
        text = json.dumps(entry).encode()
        entries.append(text[:-1] + b', "answer": ' + content + b"}" if content else text)
    return Response(b"[" + b", ".join(entries) + b"]", media_type="application/json", headers=headers)


def _as_zip(results: list[tuple[dict[str, Any], bytes]], headers: dict[str, str]) -> Response:
    """PNGs under names of ours: those of the client may be the same, or paths."""
    index, data = [], io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        for number, (entry, content) in enumerate(results):
            file = f"{number:03d}.png" if content else None
            if file:
                archive.writestr(file, content)
            index.append(entry | {"file": file})
        archive.writestr("index.json", json.dumps(index, indent=1))
    return Response(data.getvalue(), media_type="application/zip", headers=headers)
