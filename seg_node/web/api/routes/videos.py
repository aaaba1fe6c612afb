"""Routes that mask videos in the background."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from seg_node.web.api.answers import ModelQuery
from seg_node.web.api.openapi import BINARY, ERRORS, MASKED_VIDEO, NOT_DONE, VIDEO, form, json_answer
from seg_node.web.api.service import Service
from seg_node.web.api.uploads import save_video
from seg_node.web.api.videos import RESULTS, SOURCE, check_format


def video_routes(service: Service) -> APIRouter:
    """Routes that take a video, say how far it is, and give its results."""
    router = APIRouter(tags=["videos"])
    limits, videos = service.limits, service.videos
    Wait = Annotated[
        float,
        Query(ge=0, le=limits.video_wait, description="Seconds to wait for the end of the video before answering."),
    ]

    @router.post(
        "/v1/videos",
        summary="Mask a video in the background",
        status_code=202,
        responses={202: json_answer("Accepted; `Location` is where to ask for its progress.", VIDEO)}
        | {status: ERRORS[status] for status in (404, 408, 413, 415, 422, 503)},
        openapi_extra=form("video", raw=("video/mp4", "video/webm", "video/x-matroska", "video/x-msvideo")),
    )
    async def upload_video(request: Request, query: Annotated[ModelQuery, Query()]) -> JSONResponse:
        model = service.models.find(query.model)
        videos.check_room()
        with service.video_uploads.admit() as held:
            folder = videos.make_folder()
            try:
                await save_video(request, folder / SOURCE, limits, held)
                await asyncio.to_thread(check_format, folder / SOURCE)
                video = videos.add(folder, model)
            except BaseException:
                # Also where the client is gone, or the server ends.
                videos.discard(folder)
                raise
        address = f"/v1/videos/{video.id}"
        return JSONResponse(video.describe(limits.video_kept), 202, {"Location": address})

    @router.get(
        "/v1/videos/{name}",
        summary="Progress of a video",
        responses={200: json_answer("`state` is waiting, running, done or failed.", MASKED_VIDEO), 404: ERRORS[404]},
    )
    async def video_progress(name: str, wait: Wait = 0.0) -> JSONResponse:
        video = await videos.wait(name, wait)
        return JSONResponse(video.describe(limits.video_kept))

    @router.get(
        "/v1/videos/{name}/masks",
        summary="Result of a video; 409 before its end",
        response_class=FileResponse,
        responses={200: {"content": {media_type: {"schema": BINARY} for _, media_type in RESULTS.values()}}}
        | {404: ERRORS[404], 409: NOT_DONE, 422: ERRORS[422]},
    )
    async def video_masks(
        name: str,
        format: Annotated[
            Literal["mp4", "zip"], Query(description="The overlay as a video, or a ZIP with a PNG mask per frame.")
        ] = "zip",
        wait: Wait = 0.0,
    ) -> FileResponse:
        await videos.wait(name, wait)
        file, media_type = videos.result(name, format)
        return FileResponse(file, media_type=media_type, filename=file.name)

    @router.delete(
        "/v1/videos/{name}",
        summary="Forget a video",
        status_code=204,
        response_class=Response,
        responses={404: ERRORS[404]},
    )
    async def delete_video(name: str) -> Response:
        videos.delete(videos.find(name))
        return Response(status_code=204)

    return router
