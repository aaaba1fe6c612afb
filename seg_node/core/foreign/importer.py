"""From an ONNX file to a bundle."""

import datetime
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper

from seg_node.core.bundle import Bundle, BundleError, Manifest, write_bundle
from seg_node.core.errors import RunError, UserError
from seg_node.core.foreign.classes import Classes
from seg_node.core.foreign.graph import prepare_frame, wrap
from seg_node.core.foreign.int8 import check_images, with_int8
from seg_node.core.foreign.network import ForeignNetwork, check_values, inspect, open_session

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PARITY_SIZES = ((360, 640), (720, 1280))
"""Height and width in pixels of the frames on which a bundle is compared with the bare network."""
_LARGEST = 1e15
"""Bound of the numbers of a normalisation, which a manifest has, too."""


@dataclass(frozen=True)
class Settings:
    """What a graph does not say of itself."""

    size: tuple[int, int] | None = None
    """Height and width in pixels, for a network that takes any."""
    order: str = "rgb"
    """Order of the channels: ``rgb`` or ``bgr``."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    """Normalisation of values in 0..1, in the order of the channels; an input of uint8 has none."""
    output: str | None = None
    """``logits``, ``softmax`` or ``labels``; None to find out."""
    licence: str = ""


def import_network(
    file: Path,
    out: Path,
    classes: Classes,
    settings: Settings,
    images: Sequence[np.ndarray] | None = None,
    images_source: str = "",
) -> tuple[Bundle, ForeignNetwork]:
    """Make a bundle of a network; nothing is written unless its masks are those of the bare network.

    Args:
        file: ONNX model.
        out: folder of the bundle, whose name it gets.
        classes: of the network.
        settings: see there.
        images: uint8 [H, W, 3] BGR to take ranges for int8 from, see ``int8.with_int8``; None for a bundle without.
        images_source: of the images, for the manifest and messages.

    Returns:
        The bundle, and what was found in the file.

    Raises:
        UserError: the network cannot be taken, ``out`` exists, or int8 cannot be had.
        RunError: the bundle's masks differ from those of the bare network.
        OSError: a file cannot be read or written.
    """
    if out.exists():
        raise UserError(f"{out} exists already; remove it or choose another name")
    if not all(abs(value) < _LARGEST for value in settings.mean) or not all(0 < v < _LARGEST for v in settings.std):
        raise UserError(
            f"--mean is {settings.mean} and --std {settings.std}; expected numbers below {_LARGEST:g}, those of --std"
            " positive"
        )
    network = inspect(file.read_bytes(), len(classes.names), settings.size, settings.output)
    if images is not None:
        check_images(network, images, images_source)
    graph = wrap(network, classes, settings.mean, settings.std, settings.order)
    agreed = {f"{width}x{height}": parity(graph, network, classes, (height, width)) for height, width in PARITY_SIZES}
    if min(agreed.values()) < 100:
        raise RunError(f"masks of the wrapped graph are not those of the bare network: {agreed} percent of the pixels")
    manifest = Manifest(
        name=out.resolve().name,
        decoder="imported",
        backbone=file.stem,
        input_size=network.size,
        mean=settings.mean,
        std=settings.std,
        files={},
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        parameters=sum(int(np.prod(weight.dims)) for weight in network.model.graph.initializer),
        parity={"onnxruntime": min(agreed.values())},
        licence=settings.licence,
        classes=classes.names,
        categories=classes.taxonomy.names,
        palette=classes.taxonomy.palette,
    )
    bundle = Bundle(out, manifest, graph)
    if images is not None:
        bundle = with_int8(bundle, images, images_source)
    try:
        return write_bundle(out, bundle.manifest, graph, bundle.ranges), network
    except BundleError as error:
        shutil.rmtree(out)
        raise UserError(f"{out} is no bundle: {error}") from error


def parity(graph: bytes, network: ForeignNetwork, classes: Classes, size: tuple[int, int]) -> float:
    """Pixels, percent, on which a wrapped graph agrees with the bare network on the frame that it prepares.

    Args:
        graph: of ``wrap``.
        network: that was wrapped.
        classes: of the network.
        size: height and width of the frame in pixels.

    Raises:
        UserError: see ``check_values``.
    """
    frame = _frame(size)
    found = open_session(onnx.load_model_from_string(graph)).run(["mask"], {"frame": frame})[0]
    bare = network.run(prepare_frame(graph, network, frame))
    check_values(network, bare)
    return 100.0 * float((found == bare_mask(bare, network, classes, size)).mean())


def bare_mask(output: np.ndarray, network: ForeignNetwork, classes: Classes, size: Sequence[int]) -> np.ndarray:
    """Mask of a bare network's output at a frame's size, uint8 [H, W], without the wrapped graph."""
    if network.kind == "labels":
        labels = np.asarray(output).reshape(network.map_size).astype(np.int64)
    else:
        maps = np.asarray(output, np.float32)
        maps = maps.transpose(0, 3, 1, 2) if network.classes_last else maps
        labels = _scaled(maps, network.size).argmax(1)[0]
    known = (labels >= 0) & (labels < len(classes.names))
    small = np.where(known, classes.table[np.where(known, labels, 0)], classes.unknown)
    rows, columns = (
        np.minimum(((np.arange(side) + 0.5) * (near / side)).astype(int), near - 1)
        for side, near in zip(size, small.shape, strict=True)
    )
    return small[rows[:, None], columns].astype(np.uint8)


def _scaled(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps, float32 [1, C, h, w], at another size, linearly."""
    if maps.shape[2:] == size:
        return maps
    node = helper.make_node(
        "Resize", ["maps", "", "", "size"], ["out"], mode="linear", coordinate_transformation_mode="half_pixel"
    )
    shapes = helper.make_tensor_value_info("size", TensorProto.INT64, [4])
    given = helper.make_tensor_value_info("maps", TensorProto.FLOAT, list(maps.shape))
    wanted = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, "c", "h", "w"])
    model = helper.make_model(
        helper.make_graph([node], "scale", [given, shapes], [wanted]), opset_imports=[helper.make_opsetid("", 18)]
    )
    model.ir_version = 8
    return open_session(model).run(None, {"maps": maps, "size": np.array((1, maps.shape[1], *size), np.int64)})[0]


def _frame(size: tuple[int, int]) -> np.ndarray:
    """A picture with structure of every scale, uint8 [H, W, 3] BGR."""
    rng = np.random.default_rng(0)
    picture = np.zeros((*size, 3), np.float32)
    for divisor in (4, 16, 64):
        noise = rng.uniform(-1, 1, (-(-size[0] // divisor), -(-size[1] // divisor), 3)).astype(np.float32)
        picture += cv2.resize(noise, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.clip(picture * 60 + 128, 0, 255).astype(np.uint8)
