"""The routes."""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

import seg_node
from seg_node.web.api import metrics as prometheus
from seg_node.web.api.answers import BatchQuery, ModelQuery, SegmentAnswer, SegmentQuery, encoder, wants_json
from seg_node.web.api.errors import ApiError, add_error_handlers
from seg_node.web.api.guard import Guard, Places
from seg_node.web.api.limits import Limits
from seg_node.web.api.models import Answer, Models
from seg_node.web.api.probe import check_image
from seg_node.web.api.uploads import Upload, read_image, read_images, save_video
from seg_node.web.api.videos import RESULTS, Videos

_EXPIRY_SECONDS = 30.0
"""Between looks for results that were kept long enough."""

_DESCRIPTION = """\
Masks road scenes into the eight Cityscapes categories: the same bundles, decoding and engines as the ROS 2 node, and
therefore the same mask for the same compressed image, pixel by pixel.

    curl --data-binary @image.jpg -H "Content-Type: image/jpeg" http://127.0.0.1:8000/v1/segment -o mask.png
    curl -F image=@image.jpg "http://127.0.0.1:8000/v1/segment?format=json&encoding=rle"

Every answer has the headers `X-Request-Id`, and where a model ran `X-Model`, `X-Engine` and `Server-Timing`
(milliseconds). Errors are `{"error": {"code", "message", "request_id"}}`; one of status 503 has `Retry-After`.
"""

_BINARY = {"type": "string", "format": "binary"}


def _error(code: str, message: str) -> dict[str, Any]:
    example = {"error": {"code": code, "message": message, "request_id": "0123456789abcdef"}}
    return {"description": message, "content": {"application/json": {"example": example}}}


_ERRORS: dict[int | str, dict[str, Any]] = {
    404: _error("unknown_model", "no model 'x'; there are fpn_resnet50, fpn_convnextv2"),
    408: _error("slow_body", "the body did not arrive within 30 s"),
    413: _error("too_many_pixels", "the image is 20000x20000 = 400000000 pixels; 16777216 are allowed; scale it down"),
    415: _error("media_type", "the data is neither JPEG nor PNG; send one of these"),
    422: _error("undecodable", "the JPEG has no frame header with its size"),
    503: _error("queue_full", "16 requests are waiting already; try again"),
    504: _error("timeout", "no answer within 30 s; try again later"),
}


def _json(description: str, example: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": example}}}


# Without what is null: FastAPI leaves that out of a schema.
_VIDEO = {"id": "Zm9yIGV4YW1wbGU", "state": "waiting", "model": "fpn_resnet50", "frames_masked": 0}
_MASKED_VIDEO = _VIDEO | {"state": "done", "frames_masked": 300, "frames": 300, "expires_in_seconds": 3540}
_BATCH = [
    {"name": "a.jpg", "status": 200, "answer": SegmentAnswer.model_config["json_schema_extra"]["example"]},
    {
        "name": "b.gif",
        "status": 415,
        "error": {"code": "media_type", "message": "the data is neither JPEG nor PNG; send one of these"},
    },
]


def _form(name: str, *, several: bool = False, raw: tuple[str, ...] = ()) -> dict[str, Any]:
    """OpenAPI of a body: a multipart form with files of a name, or the raw data."""
    field = {"type": "array", "items": _BINARY} if several else _BINARY
    schema = {"type": "object", "properties": {name: field}, "required": [name]}
    content = {"multipart/form-data": {"schema": schema}} | {kind: {"schema": _BINARY} for kind in raw}
    return {"requestBody": {"required": True, "content": content}}


def make_app(models: Models, limits: Limits) -> ASGIApp:
    """The application.

    Args:
        models: to serve; closed at the end.
        limits: see there.
    """
    metrics = prometheus.Metrics()
    places = Places(limits.queue)
    videos = Videos(limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        models.default.load()
        sweep = asyncio.create_task(_expire(videos))
        yield
        sweep.cancel()
        # Videos use models.
        videos.close()
        models.close()

    app = FastAPIOffline(
        title="seg_node", version=seg_node.__version__, description=_DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    add_error_handlers(app)

    async def mask(image: Upload, query: BatchQuery, accept: str) -> Answer:
        model = models.find(query.model)
        encode = encoder(query, accept, model.bundle.name)
        check_image(image.data, limits)
        answer = await model.segment(image, query.confidence, encode, limits.timeout)
        metrics.masked(answer)
        return answer

    @app.post(
        "/v1/segment",
        tags=["masks"],
        summary="Mask an image",
        response_class=Response,
        responses=_ERRORS
        | {
            200: {
                "description": "A mask, mono8 PNG of the image's size with category ids, or what the query asks for.",
                "model": SegmentAnswer,
                "content": {"image/png": {"schema": _BINARY}, "image/jpeg": {"schema": _BINARY}},
            }
        },
        openapi_extra=_form("image", raw=("image/jpeg", "image/png")),
    )
    async def segment(request: Request, query: Annotated[SegmentQuery, Query()]) -> Response:
        accept = request.headers.get("accept", "")
        # Before the body is waited for: what cannot be answered is refused at once.
        encoder(query, accept, models.find(query.model).bundle.name)
        with places.take():
            image = await read_image(request, limits.max_bytes, limits.body_timeout)
            answer = await mask(image, query, accept)
        return Response(answer.encoded.content, media_type=answer.encoded.media_type, headers=_headers(answer))

    @app.post(
        "/v1/segment/batch",
        tags=["masks"],
        summary="Mask several images",
        response_class=Response,
        responses=_ERRORS
        | {
            200: {
                "description": "A ZIP with `index.json` and a PNG per image that could be masked, or JSON: a list in"
                " the order of the images, each with `name`, `status`, and `answer` or `error`.",
                "content": {"application/zip": {"schema": _BINARY}, "application/json": {"example": _BATCH}},
            }
        },
        openapi_extra=_form("image", several=True),
    )
    async def batch(request: Request, query: Annotated[BatchQuery, Query()]) -> Response:
        accept = request.headers.get("accept", "")
        model = models.find(query.model)
        encoder(query, accept, model.bundle.name)
        results: list[tuple[dict[str, Any], bytes]] = []
        with places.take():
            for image in await read_images(request, limits.batch_bytes, limits.body_timeout, limits.batch_files):
                try:
                    answer = await mask(image, query, accept)
                    results.append(({"name": image.name, "status": 200}, answer.encoded.content))
                except ApiError as error:
                    results.append(({"name": image.name, "status": error.status, "error": error.body()}, b""))
        pack = _as_json if wants_json(query, accept) else _as_zip
        headers = {"X-Model": model.bundle.name}
        return await asyncio.to_thread(pack, results, headers)

    @app.post(
        "/v1/videos",
        tags=["videos"],
        summary="Mask a video in the background",
        status_code=202,
        responses={202: _json("Accepted; `Location` is where to ask for its progress.", _VIDEO)}
        | {status: _ERRORS[status] for status in (404, 408, 413, 415, 422, 503)},
        openapi_extra=_form("video", raw=("video/mp4", "video/webm", "video/x-matroska", "video/x-msvideo")),
    )
    async def upload_video(request: Request, query: Annotated[ModelQuery, Query()]) -> JSONResponse:
        model = models.find(query.model)
        with places.take():
            video = videos.create(model)
            try:
                await save_video(request, video.source, limits.video_bytes, limits.video_body_timeout)
                videos.start(video)
            except BaseException:
                # Also where the client is gone, or the server ends.
                videos.delete(video)
                raise
        address = f"/v1/videos/{video.id}"
        return JSONResponse(video.describe(limits.video_kept), 202, {"Location": address})

    @app.get(
        "/v1/videos/{name}",
        tags=["videos"],
        summary="Progress of a video",
        responses={200: _json("`state` is waiting, running, done or failed.", _MASKED_VIDEO), 404: _ERRORS[404]},
    )
    async def video_progress(name: str) -> JSONResponse:
        return JSONResponse(videos.find(name).describe(limits.video_kept))

    @app.get(
        "/v1/videos/{name}/masks",
        tags=["videos"],
        summary="Result of a video",
        response_class=FileResponse,
        responses={200: {"content": {media_type: {"schema": _BINARY} for _, media_type in RESULTS.values()}}}
        | {404: _ERRORS[404], 409: _error("not_done", "the video is running; ask again later"), 422: _ERRORS[422]},
    )
    async def video_masks(
        name: str,
        format: Annotated[
            Literal["mp4", "zip"], Query(description="The overlay as a video, or a ZIP with a PNG mask per frame.")
        ] = "zip",
    ) -> FileResponse:
        file, media_type = videos.result(name, format)
        return FileResponse(file, media_type=media_type, filename=file.name)

    @app.delete(
        "/v1/videos/{name}",
        tags=["videos"],
        summary="Forget a video",
        status_code=204,
        response_class=Response,
        responses={404: _ERRORS[404]},
    )
    async def delete_video(name: str) -> Response:
        videos.delete(videos.find(name))
        return Response(status_code=204)

    @app.get("/v1/models", tags=["server"], summary="Models and what their manifests say")
    async def list_models() -> JSONResponse:
        return JSONResponse({"models": models.describe()})

    @app.get("/healthz", tags=["server"], summary="Whether the server runs")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", tags=["server"], summary="Whether the default model is loaded and warm")
    async def readiness() -> dict[str, str]:
        if not models.default.ready:
            raise ApiError(503, "not_ready", f"{models.default.bundle.name} is not loaded", retry_after=1)
        return {"status": "ready"}

    @app.get("/metrics", tags=["server"], summary="Metrics for Prometheus", response_class=Response)
    async def read_metrics() -> Response:
        return Response(metrics.text(), media_type=prometheus.CONTENT_TYPE)

    return Guard(app, metrics)


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


async def _expire(videos: Videos) -> None:
    while True:
        await asyncio.sleep(_EXPIRY_SECONDS)
        videos.expire()
