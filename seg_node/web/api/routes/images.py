"""Routes that mask images."""

import asyncio
import io
import json
import zipfile
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from seg_node.web.api.answers import BatchQuery, SegmentAnswer, SegmentQuery, encoder, wants_json
from seg_node.web.api.errors import ApiError
from seg_node.web.api.models import Answer
from seg_node.web.api.openapi import BATCH, BINARY, ERRORS, form
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
                "description": "A mask, mono8 PNG of the image's size with category ids, or what the query asks for.",
                "model": SegmentAnswer,
                "content": {"image/png": {"schema": BINARY}, "image/jpeg": {"schema": BINARY}},
            }
        },
        openapi_extra=form("image", raw=("image/jpeg", "image/png")),
    )
    async def segment(request: Request, query: Annotated[SegmentQuery, Query()]) -> Response:
        accept = request.headers.get("accept", "")
        # Before the body is waited for: what cannot be answered is refused at once.
        encoder(query, accept, service.models.find(query.model).bundle.name)
        with service.places.take():
            image = await read_image(request, limits.max_bytes, limits.body_timeout)
            answer = await _mask(service, image, query, accept)
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
        encoder(query, accept, model.bundle.name)
        results: list[tuple[dict[str, Any], bytes]] = []
        with service.places.take():
            for image in await read_images(request, limits.batch_bytes, limits.body_timeout, limits.batch_files):
                try:
                    answer = await _mask(service, image, query, accept)
                    results.append(({"name": image.name, "status": 200}, answer.encoded.content))
                except ApiError as error:
                    results.append(({"name": image.name, "status": error.status, "error": error.body()}, b""))
        pack = _as_json if wants_json(query, accept) else _as_zip
        headers = {"X-Model": model.bundle.name}
        return await asyncio.to_thread(pack, results, headers)

    return router


async def _mask(service: Service, image: Upload, query: BatchQuery, accept: str) -> Answer:
    model = service.models.find(query.model)
    encode = encoder(query, accept, model.bundle.name)
    check_image(image.data, service.limits)
    answer = await model.segment(image, query.confidence, encode, service.limits.timeout)
    service.metrics.masked(answer)
    return answer


def _headers(answer: Answer) -> dict[str, str]:
    timing = ", ".join(f"{stage};dur={duration:.2f}" for stage, duration in answer.milliseconds.items())
    return {"X-Model": answer.model, "X-Engine": answer.engine, "Server-Timing": timing}


def _as_json(results: list[tuple[dict[str, Any], bytes]], headers: dict[str, str]) -> Response:
    entries = [entry | ({"answer": json.loads(content)} if content else {}) for entry, content in results]
    return JSONResponse(entries, headers=headers)


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
