"""From masks to what a client asked for: a picture, or JSON with shares, run lengths, polygons and confidence."""

import json
from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from seg_node.core.bundle import Manifest
from seg_node.core.overlay import paint
from seg_node.web.api.errors import ApiError
from seg_node.web.api.models import Encoded, Segmented
from seg_node.web.api.shapes import polygons, run_lengths

Format = Literal["png", "jpeg", "json"]
SHAPES = {"rle": run_lengths, "polygons": polygons}


class ModelQuery(BaseModel):
    """Query of everything that runs a model."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="Name from `/v1/models`; without it, the default model.")


class BatchQuery(ModelQuery):
    """Query of a batch."""

    format: Literal["png", "json"] | None = Field(
        None, description="`png`: a ZIP of masks; `json`. Without it, the `Accept` header decides."
    )
    encoding: Literal["rle", "polygons"] | None = Field(
        None,
        description="JSON only: the region of each category as COCO's uncompressed RLE (column by column, outside"
        " first) or as polygons along pixel borders (even-odd rule). Both are exact.",
    )
    confidence: bool = Field(
        False, description="JSON: summary of the confidence. PNG: the confidence, 0..255, instead of the mask."
    )


class OverlayQuery(BaseModel):
    """What people look at first."""

    overlay: bool = Field(
        False,
        description="`true`: the image with its mask painted over it, JPEG or PNG, to look at. Without it, a mask for"
        " programs: its pixels are category ids, such as 0 to 7, so a viewer shows it nearly black.",
    )


class SegmentQuery(BatchQuery, OverlayQuery):
    """Query of one image; the fields of the last base come first."""

    format: Format | None = Field(
        None, description="Without it, the `Accept` header decides between `png` and `json`; overlays are `jpeg`."
    )


class CategoryAnswer(BaseModel):
    """One category in an image."""

    id: int
    name: str
    rgb: list[int]
    pixels: int
    share: float = Field(description="Share of the image's pixels, 0..1, rounded to four digits.")
    confidence: float | None = Field(None, description="Mean of its pixels, 0..1; with `confidence=1`.")
    rle: dict[str, list[int]] | None = Field(None, description="With `encoding=rle`.")
    polygons: list[list[list[int]]] | None = Field(None, description="With `encoding=polygons`.")


class SegmentAnswer(BaseModel):
    """JSON answer for one image."""

    model: str
    width: int
    height: int
    categories: list[CategoryAnswer]
    confidence: dict[str, float] | None = Field(None, description="Of all pixels, 0..1; with `confidence=1`.")

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "fpn_resnet50",
                "width": 4,
                "height": 2,
                "categories": [
                    {
                        "id": 1,
                        "name": "flat",
                        "rgb": [128, 64, 128],
                        "pixels": 4,
                        "share": 0.5,
                        "rle": {"size": [2, 4], "counts": [1, 1, 1, 1, 1, 1, 1, 1]},
                    },
                    {
                        "id": 5,
                        "name": "sky",
                        "rgb": [70, 130, 180],
                        "pixels": 4,
                        "share": 0.5,
                        "rle": {"size": [2, 4], "counts": [0, 1, 1, 1, 1, 1, 1, 1, 1]},
                    },
                ],
            }
        }
    )


def encoder(query: BatchQuery, accept: str, manifest: Manifest) -> Callable[[Segmented], Encoded]:
    """The function that makes the answer that a query asks for.

    Args:
        query: checked by itself.
        accept: header of that name; decides where the query leaves the format open.
        manifest: of the model; names and colours are its.

    Raises:
        ApiError: 422 where parts of the query contradict each other.
    """
    overlay = isinstance(query, SegmentQuery) and query.overlay
    format = query.format or _accepted(accept, overlay)
    if overlay and query.confidence:
        raise _contradiction("overlay and confidence are two pictures; ask for one at a time")
    if overlay and format == "json":
        raise _contradiction("an overlay is a picture; ask for it with format=jpeg or format=png")
    if format == "jpeg" and not overlay:
        raise _contradiction("JPEG would change the values of a mask; ask for it with format=png")
    if query.encoding and format != "json":
        raise _contradiction("encoding is for JSON answers; add format=json")
    if format == "json":
        return lambda segmented: Encoded(
            json.dumps(describe(segmented, manifest, query.encoding), separators=(",", ":")).encode(),
            "application/json",
        )
    if overlay:
        return lambda segmented: picture(paint(segmented.bgr, segmented.mask, taxonomy=manifest.taxonomy), format)
    return lambda segmented: picture(segmented.confidence if query.confidence else segmented.mask, "png")


def describe(segmented: Segmented, manifest: Manifest, encoding: str | None) -> dict[str, Any]:
    """JSON answer for one image; see ``SegmentAnswer``. Categories without a pixel are left out, as is no answer."""
    mask, confidence = segmented.mask, segmented.confidence
    height, width = mask.shape
    categories = []
    counts = np.bincount(mask.ravel(), minlength=256).tolist()
    for category, (label, pixels) in enumerate(zip(manifest.taxonomy.labels(), counts, strict=False)):
        if not pixels:
            continue
        region = mask == category
        entry: dict[str, Any] = {
            "id": category,
            **label,
            "pixels": pixels,
            "share": round(pixels / mask.size, 4),
        }
        if confidence is not None:
            entry["confidence"] = _unit(confidence[region].mean())
        if encoding:
            entry[encoding] = SHAPES[encoding](region)
        categories.append(entry)
    answer: dict[str, Any] = {"model": manifest.name, "width": width, "height": height, "categories": categories}
    if confidence is not None:
        low, median = np.percentile(confidence, [5, 50])
        answer["confidence"] = {"mean": _unit(confidence.mean()), "median": _unit(median), "p5": _unit(low)}
    return answer


def picture(pixels: np.ndarray, format: str) -> Encoded:
    """Encode an array, uint8 [H, W] or [H, W, 3] BGR, as ``png`` or ``jpeg``."""
    # Masks compress about as well at the fastest level as at any other.
    done, data = cv2.imencode(f".{format}", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1] if format == "png" else [])
    if not done:
        raise RuntimeError(f"OpenCV cannot encode {pixels.shape} as {format}")
    return Encoded(data.tobytes(), f"image/{format}")


def wants_json(query: BatchQuery, accept: str) -> bool:
    """Whether the answer is JSON, by the query or else by the ``Accept`` header."""
    return (query.format or _accepted(accept, overlay=False)) == "json"


def _accepted(accept: str, overlay: bool) -> Format:
    types = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    if overlay:
        return "png" if "image/png" in types and "image/jpeg" not in types else "jpeg"
    return "json" if "application/json" in types and "image/png" not in types else "png"


def _unit(value: float) -> float:
    return round(float(value) / 255, 4)


def _contradiction(message: str) -> ApiError:
    return ApiError(422, "bad_query", message)
