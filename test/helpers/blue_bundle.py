"""A bundle that loads in milliseconds and whose mask is known: the three upper bits of each pixel's blue."""

from pathlib import Path

import numpy as np
import onnx

from seg_node.core.bundle import Bundle, Manifest, write_bundle

_GRAPH = """<ir_version: 10, opset_import: ["": 20]>
blue (uint8[H, W, 3] frame) => (uint8[H, W] mask, uint8[H, W] confidence) {
    channel = Constant <value = int64 {0}> ()
    plane = Gather <axis = 2> (frame, channel)
    bits = Constant <value = uint8 {5}> ()
    mask = BitShift <direction = "RIGHT"> (plane, bits)
    all = Constant <value = uint8 {255}> ()
    confidence = BitwiseOr (plane, all)
}"""


def blue_bundle(folder: Path, name: str = "blue", bits: int = 3) -> Bundle:
    """Write it as ``folder/name``, for the engine onnxruntime; its mask is as many upper bits as are given."""
    manifest = Manifest(
        name=name,
        decoder="fpn",
        backbone="resnet18",
        input_size=(96, 128),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        files={},
        date="2026-11-21",
    )
    graph = _GRAPH.replace("{5}", f"{{{8 - bits}}}")
    return write_bundle(folder / name, manifest, onnx.parser.parse_model(graph).SerializeToString())


def blue_mask(bgr: np.ndarray) -> np.ndarray:
    """The mask of an image, uint8 [H, W]."""
    return bgr[..., 0] // 32


def blue_scene(seed: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """An image whose mask has all eight categories, uint8 [H, W, 3]; each seed makes another one."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    blues = np.roll(np.arange(8) * 32 + 16, seed)
    image[..., 0] = np.repeat(blues, -(-size[1] // 8))[: size[1]]
    return image
