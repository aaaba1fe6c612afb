"""Ranges with which an imported network computes in int8, and what that changes in its masks."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from onnx import TensorProto

from seg_node.core.bundle import Bundle
from seg_node.core.engines import INT8_METHOD, Engine, create_engine, present_engines
from seg_node.core.engines.quantise import QuantiseError, calibrate, quantise
from seg_node.core.errors import UserError
from seg_node.core.foreign.network import ForeignNetwork
from seg_node.core.metrics import confusion_with_misses, scores

LEAST_IMAGES, MOST_IMAGES = 16, 64
"""Number of images that are needed, and of those that are used of more: every other one for the ranges, which are those
of the least and the greatest value seen, and the rest for what int8 costs."""


def check_images(network: ForeignNetwork, images: Sequence[np.ndarray], source: str) -> None:
    """Refuse what no ranges can be taken of.

    Args:
        network: that is imported.
        images: that are to be taken.
        source: of the images, for the message.

    Raises:
        UserError: there are fewer than ``LEAST_IMAGES``, or the network computes in float16.
    """
    if len(images) < LEAST_IMAGES:
        raise UserError(
            f"{source} has {len(images)} images; int8 needs at least {LEAST_IMAGES} of what the camera sees: half of"
            " them for the ranges, half to say what it costs"
        )
    if network.dtype == TensorProto.FLOAT16:
        raise UserError(
            f"the graph's input {network.input} is float16, and so is what it computes; int8 starts from float32:"
            " export the network as float32"
        )


def with_int8(bundle: Bundle, images: Sequence[np.ndarray], source: str) -> Bundle:
    """Take the ranges for int8, and compare the masks of every installed engine in int8 with those in fp32.

    Nobody has labelled the images, so the masks in fp32 are the truth of that comparison, on images that gave no
    ranges.

    Args:
        bundle: without ranges.
        images: uint8 [H, W, 3] BGR of any size, at least ``LEAST_IMAGES``; each is read when it is used.
        source: of the images, for the manifest and messages.

    Returns:
        The bundle with ranges. Its manifest has by engine ``equal``, the pixels, percent, that keep their category, the
        headline of its categories such as ``miou_7``, percent, and ``loss``, the points that this lacks of 100.

    Raises:
        UserError: the network cannot be computed in int8, or gives no category on these images.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, MOST_IMAGES).astype(int)).tolist()
    taken, kept = chosen[::2], chosen[1::2]
    try:
        ranges = calibrate(bundle.graph, (images[index] for index in taken))
    except (UserError, OSError):
        raise
    except Exception as error:
        # onnx and onnxruntime share no base class of their errors below Exception.
        raise QuantiseError(
            f"int8 cannot be had of this network: {type(error).__name__}: {str(error)[:300]}"
        ) from error
    quantise(bundle.graph, ranges)
    height, width = bundle.manifest.input_size
    frames = [cv2.resize(images[index], (width, height), interpolation=cv2.INTER_AREA) for index in kept]
    bundle = dataclasses.replace(bundle, ranges=ranges)
    found: dict = {
        "method": INT8_METHOD,
        "calibrated_on": f"{len(taken)} images of {source}",
        "scored_on": f"{len(kept)} other images of {source}, against the masks in fp32",
    }
    for name in present_engines():
        if name != "torch":
            engines = (create_engine(bundle, name, precision=precision) for precision in ("fp32", "int8"))
            found[name] = _cost(*engines, frames, source)
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, quantisation=found))


def _cost(before: Engine, after: Engine, frames: Sequence[np.ndarray], source: str) -> dict[str, float]:
    """What int8 changes in the masks of frames, uint8 [h, w, 3] BGR of the network's size."""
    taxonomy = before.bundle.manifest.taxonomy
    confusion, equal = 0, 0
    for frame in frames:
        truth, mask = before.infer(frame)[0], after.infer(frame)[0]
        equal += int((truth == mask).sum())
        confusion = confusion + confusion_with_misses(truth, mask, len(taxonomy))
    value = scores(confusion, taxonomy)[taxonomy.headline]
    if not np.isfinite(value):
        raise UserError(f"the network finds no category that is scored on {source}: int8 cannot be judged there")
    share = 100 * equal / sum(frame.shape[0] * frame.shape[1] for frame in frames)
    return {"equal": round(share, 2), taxonomy.headline: round(value, 2), "loss": round(100 - value, 2)}
