"""``seg_node import``: an ONNX network that was trained elsewhere becomes a bundle."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seg_node.core.bundle import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("network", type=Path, metavar="MODEL.onnx", help="one image in, one map of classes out")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the bundle, whose name it gets")
    parser.add_argument(
        "--classes",
        type=Path,
        required=True,
        metavar="YAML",
        help="list of {name: .., category: ..} or {name: .., colour: [..]}, in the order of the network's outputs",
    )
    parser.add_argument("--input", choices=("rgb", "bgr"), default="rgb", help="order of channels (default: rgb)")
    three = {"type": float, "nargs": 3, "metavar": ("FIRST", "SECOND", "THIRD")}
    parser.add_argument("--mean", **three, help="of the channels, of values in 0..1 (default: ImageNet's)")
    parser.add_argument("--std", **three, help="like --mean")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="in pixels, for a network that takes any"
    )
    parser.add_argument(
        "--output", choices=("logits", "labels", "softmax"), help="what the map holds (default: found out)"
    )
    parser.add_argument(
        "--int8",
        type=Path,
        metavar="FOLDER",
        help="images of what the camera sees, to take the ranges for int8 from and to say what it costs",
    )
    parser.add_argument("--licence", default="", help="of the file, as an SPDX identifier where there is one")


def run(options: argparse.Namespace) -> int:
    """Import; returns the exit status."""
    from seg_node.bags.image_folder import ImageFolder
    from seg_node.core.foreign.classes import read_classes
    from seg_node.core.foreign.importer import IMAGENET_MEAN, IMAGENET_STD, Settings, import_network

    order = slice(None, None, -1) if options.input == "bgr" else slice(None)
    settings = Settings(
        size=tuple(options.size) if options.size else None,
        order=options.input,
        mean=tuple(options.mean or IMAGENET_MEAN[order]),
        std=tuple(options.std or IMAGENET_STD[order]),
        output=options.output,
        licence=options.licence,
    )
    images = ImageFolder(options.int8) if options.int8 else None
    source = options.int8.resolve().name if options.int8 else ""
    bundle, found = import_network(
        options.network, options.out, read_classes(options.classes), settings, images, source
    )
    layout = "NHWC" if found.channels_last else "NCHW"
    print(f"input    {found.input}: {layout}, {found.size[0]}x{found.size[1]} (height x width)")
    print(f"output   {found.output}: {found.kind} of {'x'.join(map(str, found.shape))}")
    print(f"masks    equal to those of the bare network on every pixel, at {_sizes()}")
    for line in _int8_lines(bundle.manifest):
        print(line)
    print(f"written  {bundle.path}")
    return 0


def _int8_lines(manifest: "Manifest") -> list[str]:
    """What int8 costs on each engine; nothing where it was not asked for."""
    told, headline = manifest.quantisation, manifest.taxonomy.headline
    if not told:
        return []
    costs = [
        f"         {engine}: {cost['loss']:.2f} points of {headline} lost, {cost['equal']:.2f} % of the pixels kept"
        for engine, cost in told.items()
        if isinstance(cost, dict)
    ]
    return [f"int8     ranges of {told['calibrated_on']}; on {told['scored_on']}:", *costs]


def _sizes() -> str:
    from seg_node.core.foreign.importer import PARITY_SIZES

    return " and ".join(f"{width}x{height}" for height, width in PARITY_SIZES)
