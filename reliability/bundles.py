"""Bundles that load in milliseconds and answer every frame with one category, so that a mask tells its maker."""

from pathlib import Path

import onnx
from orders import Order

from seg_node.core.bundle import GRAPH, MANIFEST, Bundle, Manifest, write_bundle
from seg_node.core.taxonomy import CATEGORY_NAMES


def constant_bundle(folder: Path, name: str, category: int) -> Bundle:
    """Write a bundle whose masks are all of one category; a pixel of value ``Order.NAN`` makes its confidence NaN."""
    text = f"""<ir_version: 10, opset_import: ["": 20]>
    constant (uint8[H, W, 3] frame) => (uint8[H, W] mask, uint8[H, W] confidence) {{
        channel = Constant <value = int64 {{0}}> ()
        plane = Gather <axis = 2> (frame, channel)
        value = Cast <to = 1> (plane)
        zero = Constant <value = float {{0.0}}> ()
        nothing = Mul (value, zero)
        category = Constant <value = float {{{category}.0}}> ()
        categories = Add (nothing, category)
        mask = Cast <to = 2> (categories)
        order = Constant <value = float {{{int(Order.NAN)}.0}}> ()
        distance = Sub (value, order)
        one = Div (distance, distance)
        certain = Constant <value = float {{200.0}}> ()
        certainties = Mul (one, certain)
        confidence = Cast <to = 2> (certainties)
    }}"""
    graph = onnx.parser.parse_model(text).SerializeToString()
    return write_bundle(folder / name, _manifest(name), graph)


def broken_bundles(folder: Path) -> dict[str, str]:
    """Write bundles that must be refused.

    Returns:
        Path of each, and what the refusal must name.
    """
    names = ("changed", "cut", "unlisted", "wrong", "missing")
    changed, cut, unlisted, wrong, missing = (folder / name for name in names)
    for path in (changed, cut, unlisted):
        constant_bundle(folder, path.name, 1)
    graph = (changed / GRAPH).read_bytes()
    (changed / GRAPH).write_bytes(graph[:-1] + bytes([graph[-1] ^ 1]))
    (cut / MANIFEST).write_text((cut / MANIFEST).read_text()[:100])
    (unlisted / GRAPH).unlink()
    text = """<ir_version: 10, opset_import: ["": 20]>
    wrong (uint8[H, W, 3] frame) => (uint8[H, W, 3] mask, uint8[H, W, 3] confidence) {
        mask = Identity (frame)
        confidence = Identity (frame)
    }"""
    write_bundle(wrong, _manifest("wrong"), onnx.parser.parse_model(text).SerializeToString())
    return {
        str(changed): str(changed / GRAPH),
        str(cut): str(cut / MANIFEST),
        str(unlisted): str(unlisted / GRAPH),
        str(wrong): "expected uint8 of the frame's size",
        str(missing): str(missing),
    }


def bundle_of_twins(folder: Path) -> str:
    """Write a bundle two of whose categories have one name; returns its path."""
    path = constant_bundle(folder, "twins", 1).path
    text = (path / MANIFEST).read_text()
    names = f"{CATEGORY_NAMES[0]}, {CATEGORY_NAMES[1]}, "
    (path / MANIFEST).write_text(text.replace(names + CATEGORY_NAMES[2], names + CATEGORY_NAMES[1]))
    return str(path)


def _manifest(name: str) -> Manifest:
    return Manifest(
        name=name,
        decoder="fpn",
        backbone="resnet18",
        input_size=(96, 128),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        files={},
        date="2026-11-21",
    )
