"""The graph of a bundle: network, pre- and post-processing in one ONNX model."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import optimizer

from seg_node.core.errors import UserError
from seg_node.core.network import MAX_ENLARGEMENT, STRIDE, SegmentationNetwork

OPSET = 20

_PRE = """
<ir_version: 10, opset_import: ["": {opset}]>
pre (uint8[H, W, 3] frame) => (float[1, 3, h, w] image) {{
    camera = Shape <start = 0, end = 2> (frame)
    camera_f = Cast <to = 11> (camera)
    pixels = ReduceProd <keepdims = 0> (camera_f)
    trained = Constant <value = double {{{pixels}}}> ()
    ratio = Div (trained, pixels)
    root = Sqrt (ratio)
    enlargement = Constant <value = double {{{enlargement}}}> ()
    scale = Min (root, enlargement)
    scaled = Mul (camera_f, scale)
    rounded = Round (scaled)
    one = Constant <value = double {{1}}> ()
    bounded = Max (rounded, one)
    size = Cast <to = 7> (bounded)
    values = Cast <to = 1> (frame)
    planes = Transpose <perm = [2, 0, 1]> (values)
    first = Constant <value = int64[1] {{0}}> ()
    batch = Unsqueeze (planes, first)
    channels = Constant <value = int64[2] {{1, 3}}> ()
    resized_shape = Concat <axis = 0> (channels, size)
    bgr = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (batch, , , resized_shape)
    order = Constant <value = int64[3] {{2, 1, 0}}> ()
    rgb = Gather <axis = 1> (bgr, order)
    mean = Constant <value = float[1, 3, 1, 1] {{{mean}}}> ()
    std = Constant <value = float[1, 3, 1, 1] {{{std}}}> ()
    centred = Sub (rgb, mean)
    normal = Div (centred, std)
    negative = Neg (size)
    stride = Constant <value = int64[1] {{{stride}}}> ()
    missing = Mod (negative, stride)
    no_pads = Constant <value = int64[6] {{0, 0, 0, 0, 0, 0}}> ()
    pads = Concat <axis = 0> (no_pads, missing)
    image = Pad (normal, pads)
}}
"""

_POST = """
<ir_version: 10, opset_import: ["": {opset}]>
post (float[1, categories, h, w] logits) => (uint8[H, W] mask, uint8[H, W] confidence) {{
    origin = Constant <value = int64[2] {{0, 0}}> ()
    sides = Constant <value = int64[2] {{2, 3}}> ()
    cropped = Slice (logits, origin, size, sides)
    category = ArgMax <axis = 1, keepdims = 1> (cropped)
    small_mask = Cast <to = 2> (category)
    ones = Constant <value = int64[2] {{1, 1}}> ()
    full_shape = Concat <axis = 0> (ones, camera)
    full_mask = Resize <mode = "nearest", nearest_mode = "round_prefer_ceil",
        coordinate_transformation_mode = "half_pixel"> (small_mask, , , full_shape)
    batch_and_channel = Constant <value = int64[2] {{0, 1}}> ()
    mask = Squeeze (full_mask, batch_and_channel)
    axis = Constant <value = int64[1] {{1}}> ()
    peak = ReduceMax <keepdims = 1> (cropped, axis)
    below = Sub (cropped, peak)
    exponential = Exp (below)
    total = ReduceSum <keepdims = 1> (exponential, axis)
    top = Constant <value = float {{255}}> ()
    softmax = Div (top, total)
    nearest = Round (softmax)
    small_confidence = Cast <to = 2> (nearest)
    full_confidence = Resize <mode = "nearest", nearest_mode = "round_prefer_ceil",
        coordinate_transformation_mode = "half_pixel"> (small_confidence, , , full_shape)
    confidence = Squeeze (full_confidence, batch_and_channel)
}}
"""


def export_graph(network: SegmentationNetwork, input_size: tuple[int, int], half: bool) -> bytes:
    """Make the graph of a bundle.

    Input ``frame``, uint8 [H, W, 3] BGR of any size; outputs ``mask`` and ``confidence``, uint8 [H, W]. It computes
    what ``core.network.FrameSegmenter`` does. Every tensor of the network keeps its name.

    Args:
        network: on the CPU, in ``eval`` mode.
        input_size: (height, width) in pixels, see ``core.network.network_size``.
        half: store convolution and linear weights as fp16; the graph casts them back and computes in fp32.

    Returns:
        Serialised ONNX model.
    """
    example = torch.zeros(1, 3, 3 * STRIDE, 4 * STRIDE)
    any_size = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        network.fpn,
        (example,),
        dynamo=True,
        dynamic_shapes=(any_size,),
        input_names=["image"],
        output_names=["logits"],
        opset_version=OPSET,
        optimize=False,
        verbose=False,
    )
    model = program.model_proto
    weights = list(model.graph.initializer)
    # The optimizer folds and merges initializers, and with them their names; it leaves inputs alone.
    del model.graph.initializer[:]
    model.graph.input.extend(helper.make_tensor_value_info(w.name, w.data_type, list(w.dims)) for w in weights)
    model = optimizer.optimize(model)

    numbers = {
        "opset": OPSET,
        "pixels": input_size[0] * input_size[1],
        "mean": ", ".join(str(float(v)) for v in network.mean.flatten()),
        "std": ", ".join(str(float(v)) for v in network.std.flatten()),
        "stride": STRIDE,
        "enlargement": MAX_ENLARGEMENT,
    }
    pre, post = (_nodes(text.format(**numbers)) for text in (_PRE, _POST))
    stored, casts = _stored_weights(weights, half)
    halved = {cast.input[0]: cast.output[0] for cast in casts}
    for node in model.graph.node:
        node.input[:] = [halved.get(name, name) for name in node.input]
    graph = helper.make_graph(
        [*pre, *casts, *model.graph.node, *post],
        "segmentation",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, ["H", "W", 3])],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, ["H", "W"]) for name in ("mask", "confidence")],
        [*stored, *model.graph.initializer],
    )
    _strip_metadata(graph)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="seg_node")
    whole.ir_version = 10
    onnx.checker.check_model(whole)
    return whole.SerializeToString()


def _nodes(text: str) -> list[onnx.NodeProto]:
    """Parse nodes, moving their inner names out of the way of the network's."""
    outer = {"", "frame", "image", "logits", "mask", "confidence"}
    nodes = list(onnx.parser.parse_model(text).graph.node)
    for node in nodes:
        node.input[:] = [name if name in outer else f"frame.{name}" for name in node.input]
        node.output[:] = [name if name in outer else f"frame.{name}" for name in node.output]
    return nodes


def _stored_weights(weights: list[onnx.TensorProto], half: bool) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Weights as they are stored, and the nodes that give them back to the network as fp32.

    Vectors stay fp32: they are small, and BatchNorm variances can be below what fp16 resolves.
    """
    stored, casts = [], []
    for weight in weights:
        if not half or weight.data_type != TensorProto.FLOAT or len(weight.dims) < 2:
            stored.append(weight)
            continue
        values = numpy_helper.to_array(weight)
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise UserError(f"{weight.name} does not fit into fp16; export with --precision fp32")
        stored.append(numpy_helper.from_array(values.astype(np.float16), weight.name))
        casts.append(helper.make_node("Cast", [weight.name], [f"{weight.name}.fp32"], to=TensorProto.FLOAT))
    return stored, casts


def _strip_metadata(graph: onnx.GraphProto) -> None:
    """Drop names of source files and folders of the machine that exported, and shapes that no longer hold."""
    for item in [graph, *graph.node, *graph.initializer, *graph.input, *graph.output]:
        del item.metadata_props[:]
        item.doc_string = ""
    del graph.value_info[:]
