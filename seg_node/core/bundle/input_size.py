"""The size at which frames pass through a network: one number of the graph of an FPN, so no export is needed for it."""

import dataclasses

import numpy as np

from seg_node.core.bundle import Bundle
from seg_node.core.errors import UserError

PIXELS = "frame.trained"
"""Name of the graph's constant that holds the number of pixels of the input size."""
LEAST_SIDE, GREATEST_SIDE = 32, 16384
"""Pixels that a side of an input size may have: the stride of the encoders, and what a manifest may say."""


class InputSizeError(UserError):
    """A bundle that cannot have this input size; the message says why."""


def graph_of_size(graph: bytes, input_size: tuple[int, int]) -> bytes | None:
    """The graph of a bundle for another input size; the network is not traced again.

    Args:
        graph: of a bundle.
        input_size: (height, width) in pixels, see ``core.network.network_size``.

    Returns:
        Serialised ONNX model; None for a graph without that number, which was made elsewhere.
    """
    # Slow to import.
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(graph)
    found = [node.attribute[0].t for node in model.graph.node if list(node.output) == [PIXELS]]
    if len(found) != 1:
        return None
    before = numpy_helper.to_array(found[0])
    if before.shape:
        return None
    pixels = input_size[0] * input_size[1]
    if found[0].double_data:
        # As the export writes it: the graph is then byte by byte that of an export for this size.
        found[0].double_data[0] = pixels
    else:
        found[0].CopyFrom(numpy_helper.from_array(np.array(pixels, before.dtype), found[0].name))
    return model.SerializeToString()


def resized(bundle: Bundle, input_size: tuple[int, int]) -> Bundle:
    """A bundle that computes at another input size, in memory; what its manifest says of scores is left out.

    Args:
        bundle: an FPN that was exported here; of others their own size alone is taken.
        input_size: (height, width) in pixels; the camera's frame is scaled to so many pixels and keeps its shape.

    Raises:
        InputSizeError: a side is out of range, or the graph is for one size.
    """
    own = tuple(bundle.manifest.input_size)
    if tuple(input_size) == own:
        return bundle
    text = f"{input_size[0]}x{input_size[1]}"
    if not all(LEAST_SIDE <= side <= GREATEST_SIDE for side in input_size):
        raise InputSizeError(f"input size {text}: each side must have {LEAST_SIDE} to {GREATEST_SIDE} pixels")
    graph = graph_of_size(bundle.graph, input_size)
    if graph is None:
        raise InputSizeError(
            f"{bundle.name} cannot have the input size {text}: its graph is made for {own[0]}x{own[1]} alone;"
            " leave input_size at [0, 0], or export the network for another size"
        )
    manifest = dataclasses.replace(
        bundle.manifest, input_size=tuple(input_size), gflops=0.0, parity={}, quantisation={}, metrics={}
    )
    return dataclasses.replace(bundle, manifest=manifest, graph=graph)
