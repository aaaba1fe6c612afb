"""Examples and bodies for the OpenAPI description that FastAPI cannot tell from the code."""

from typing import Any

from seg_node.web.api.answers import SegmentAnswer

DESCRIPTION = """\
Masks road scenes into the categories of a model, by default the eight of Cityscapes: the same bundles, decoding and
engines as the ROS 2 node, and therefore the same mask for the same compressed image, pixel by pixel. `/v1/models` lists
each model's categories.

    curl -f -F image=@image.jpg "http://127.0.0.1:8000/v1/segment?overlay=1" -o overlay.jpg      # to look at
    curl -f -F image=@image.jpg http://127.0.0.1:8000/v1/segment -o mask.png                     # for programs
    curl -f -F image=@image.jpg "http://127.0.0.1:8000/v1/segment?format=json&encoding=rle"

What a file is, its content says, not the media type that a client names. A photo that its EXIF orientation turns is
turned before it is masked, as viewers show it, and so is a portrait video: mask and overlay stand upright, with width
and height of the upright picture.

A mask looks nearly black: its pixels are category ids, such as 0 to 7. `overlay=1` paints them over the image. `curl
-f` ends with an error, and writes no file, where there is no answer but a reason.

Every answer has the headers `X-Request-Id`, and where a model ran `X-Model`, `X-Engine` and `Server-Timing`
(milliseconds). Errors are `{"error": {"code", "message", "request_id"}}`; one of status 503 has `Retry-After`.
"""

BINARY = {"type": "string", "format": "binary"}


def _error(code: str, message: str) -> dict[str, Any]:
    example = {"error": {"code": code, "message": message, "request_id": "0123456789abcdef"}}
    return {"description": message, "content": {"application/json": {"example": example}}}


ERRORS: dict[int | str, dict[str, Any]] = {
    404: _error("unknown_model", "no model 'x'; there are fpn_resnet50, fpn_convnextv2"),
    408: _error("slow_body", "the body did not arrive within 30 s"),
    413: _error("too_many_pixels", "the image is 20000x20000 = 400000000 pixels; 16777216 are allowed; scale it down"),
    415: _error("media_type", "the data is neither JPEG nor PNG; send one of these"),
    422: _error("undecodable", "the JPEG has no frame header with its size"),
    503: _error("queue_full", "16 requests are waiting already; try again"),
    504: _error("timeout", "no answer within 30 s; try again later"),
}
NOT_READY = _error("not_ready", "fpn_resnet50 is not loaded")
STUCK = _error("stuck", "fpn_resnet50 has been working on one image for 130 s; start the server anew")
NOT_DONE = _error("not_done", "the video is running, 120 of 300 frames are masked; ask again later, or with wait=60")


def json_answer(description: str, example: Any) -> dict[str, Any]:
    """An answer in JSON."""
    return {"description": description, "content": {"application/json": {"example": example}}}


# Without what is null: FastAPI leaves that out of a schema.
VIDEO = {"id": "Zm9yIGV4YW1wbGU", "state": "waiting", "model": "fpn_resnet50", "frames_masked": 0}
MASKED_VIDEO = VIDEO | {"state": "done", "frames_masked": 300, "frames": 300, "expires_in_seconds": 3540}
BATCH = [
    {"name": "a.jpg", "status": 200, "answer": SegmentAnswer.model_config["json_schema_extra"]["example"]},
    {
        "name": "b.gif",
        "status": 415,
        "error": {"code": "media_type", "message": "the data is neither JPEG nor PNG; send one of these"},
    },
]


def form(name: str, *, several: bool = False, raw: tuple[str, ...] = ()) -> dict[str, Any]:
    """A body: a multipart form with files of a name, or the raw data of a media type."""
    field = {"type": "array", "items": BINARY} if several else BINARY
    schema = {"type": "object", "properties": {name: field}, "required": [name]}
    content = {"multipart/form-data": {"schema": schema}} | {kind: {"schema": BINARY} for kind in raw}
    return {"requestBody": {"required": True, "content": content}}
