"""The graph of a bundle around a foreign network: from the camera's frame to its input, and from its map to a mask."""

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper, version_converter

from seg_node.core.errors import UserError
from seg_node.core.foreign.classes import Classes
from seg_node.core.foreign.network import ForeignNetwork, open_session

_OPSET = 18
"""Least that the nodes around the network need."""
_PREFIX = "network."


def wrap(
    network: ForeignNetwork,
    classes: Classes,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    order: str,
) -> bytes:
    """Make the graph of a bundle.

    Input ``frame``, uint8 [H, W, 3] BGR of any size; outputs ``mask`` and ``confidence``, uint8 [H, W]. The frame is
    scaled to the network's size, whatever its shape; maps smaller than that are enlarged before the greatest is taken.
    As in an export, the image that the network gets is named ``image``, float32 [1, 3, h, w], and its maps ``logits``,
    float32 [1, C, h, w], or ``labels``, int64 [1, 1, h, w]: ``quantise`` finds the network between them.

    Args:
        network: to wrap.
        classes: of the network.
        mean: of the network's channels in 0..1; nothing is normalised for an input of uint8.
        std: like ``mean``.
        order: ``rgb`` or ``bgr``, of the network's channels.

    Returns:
        Serialised ONNX model.

    Raises:
        UserError: the graph is of a version of ONNX that cannot be raised.
    """
    model = compose.add_prefix(_raised(network.model), _PREFIX)
    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    made = _Nodes()
    _prepare(made, network, mean, std, order)
    before = made.nodes
    made.nodes = []
    _finish(made, network, classes)
    graph = helper.make_graph(
        [*before, *model.graph.node, *made.nodes],
        "segmentation",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, ["H", "W", 3])],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, ["H", "W"]) for name in ("mask", "confidence")],
        [*made.constants, *model.graph.initializer],
        sparse_initializer=list(model.graph.sparse_initializer),
    )
    _strip(graph)
    others = [item for item in model.opset_import if item.domain not in ("", "ai.onnx")]
    whole = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), *others],
        functions=list(model.functions),
        producer_name="seg_node",
    )
    whole.ir_version = max(model.ir_version, 8)
    try:
        onnx.checker.check_model(whole)
    except onnx.checker.ValidationError as error:
        raise UserError(f"the graph cannot be wrapped: {str(error)[:300]}") from error
    return whole.SerializeToString()


def prepare_frame(graph: bytes, network: ForeignNetwork, frame: np.ndarray) -> np.ndarray:
    """What a wrapped graph gives to its network for a frame, uint8 [H, W, 3] BGR."""
    model = onnx.load_model_from_string(graph)
    inner = _PREFIX + network.input
    count = 1 + next(i for i, node in enumerate(model.graph.node) if inner in node.output)
    del model.graph.node[count:]
    del model.graph.output[:]
    shape = (1, *network.size, 3) if network.channels_last else (1, 3, *network.size)
    model.graph.output.append(helper.make_tensor_value_info(inner, network.dtype, shape))
    return open_session(model).run(None, {"frame": frame})[0]


class _Nodes:
    """Nodes that are made one after the other, with the constants that they need."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    def add(self, operator: str, *inputs: "str | np.ndarray", out: str | None = None, **attributes) -> str:
        """Add a node of one output; returns its name. An array is a constant, and empty text an input left out."""
        self._count += 1
        out = out or f"frame.{self._count}"
        names = [self._constant(value) if isinstance(value, np.ndarray) else value for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [out], **attributes))
        return out

    def _constant(self, value: np.ndarray) -> str:
        name = f"frame.constant.{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name


def _prepare(
    made: _Nodes, network: ForeignNetwork, mean: tuple[float, ...], std: tuple[float, ...], order: str
) -> None:
    values = made.add("Cast", "frame", to=TensorProto.FLOAT)
    planes = made.add("Transpose", values, perm=[2, 0, 1])
    batch = made.add("Unsqueeze", planes, np.array([0], np.int64))
    shape = np.array((1, 3, *network.size), np.int64)
    image = made.add("Resize", batch, "", "", shape, mode="linear", coordinate_transformation_mode="half_pixel")
    if order == "rgb":
        image = made.add("Gather", image, np.array([2, 1, 0], np.int64), axis=1)
    if network.dtype == TensorProto.UINT8:
        image = made.add("Round", image, out="image")
    else:
        column = (np.array(values, np.float32).reshape(1, 3, 1, 1) * 255 for values in (mean, std))
        centred = made.add("Sub", image, next(column))
        image = made.add("Div", centred, next(column), out="image")
    if network.channels_last:
        image = made.add("Transpose", image, perm=[0, 2, 3, 1])
    made.add("Cast", image, out=_PREFIX + network.input, to=network.dtype)


def _end_of_network(made: _Nodes, network: ForeignNetwork) -> str:
    """Give the network's map the name, layout and type of an export's; returns the name."""
    output = _PREFIX + network.output
    if network.kind == "labels":
        labels = made.add("Cast", output, to=TensorProto.INT64)
        return made.add("Reshape", labels, np.array((1, 1, *network.map_size), np.int64), out="labels")
    if network.classes_last:
        output = made.add("Transpose", output, perm=[0, 3, 1, 2])
    return made.add("Cast", output, out="logits", to=TensorProto.FLOAT)


def _finish(made: _Nodes, network: ForeignNetwork, classes: Classes) -> None:
    table = classes.table
    maps = _end_of_network(made, network)
    camera = made.add("Shape", "frame", start=0, end=2)
    full = made.add("Concat", np.array((1, 1), np.int64), camera, axis=0)

    def enlarged(small: str, out: str) -> None:
        large = made.add(
            "Resize",
            small,
            "",
            "",
            full,
            mode="nearest",
            nearest_mode="round_prefer_ceil",
            coordinate_transformation_mode="half_pixel",
        )
        made.add("Squeeze", large, np.array((0, 1), np.int64), out=out)

    if network.kind == "labels":
        # What is no class, such as 255, is the last of the table from either side.
        bounded = made.add("Clip", maps, np.array(-1, np.int64), np.array(len(table), np.int64))
        enlarged(made.add("Gather", np.append(table, np.uint8(classes.unknown)), bounded, axis=0), "mask")
        # The network tells no doubt.
        sure = made.add("Expand", np.array([[255]], np.uint8), camera)
        made.add("Identity", sure, out="confidence")
        return
    if network.map_size != network.size:
        shape = np.array((1, len(table), *network.size), np.int64)
        maps = made.add("Resize", maps, "", "", shape, mode="linear", coordinate_transformation_mode="half_pixel")
    best = made.add("ArgMax", maps, axis=1, keepdims=1)
    enlarged(made.add("Gather", table, best, axis=0), "mask")
    peak = made.add("ReduceMax", maps, np.array([1], np.int64), keepdims=1)
    if network.kind == "logits":
        below = made.add("Exp", made.add("Sub", maps, peak))
        total = made.add("ReduceSum", below, np.array([1], np.int64), keepdims=1)
        peak = made.add("Reciprocal", total)
    scaled = made.add("Round", made.add("Mul", peak, np.array(255, np.float32)))
    bounded = made.add("Clip", scaled, np.array(0, np.float32), np.array(255, np.float32))
    enlarged(made.add("Cast", bounded, to=TensorProto.UINT8), "confidence")


def _raised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in a version of ONNX that the nodes around it are of."""
    version = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), None)
    if version is None:
        raise UserError("the graph names no version of ONNX's operators")
    if version >= _OPSET:
        return model
    try:
        return version_converter.convert_version(model, _OPSET)
    except Exception as error:
        # The converter raises whatever its adapters do.
        raise UserError(
            f"the graph is of opset {version}, and cannot be raised to {_OPSET}: {str(error)[:200]}; export it so"
        ) from error


def _strip(graph: onnx.GraphProto) -> None:
    """Drop names of files of the machine that exported, and shapes that no longer hold."""
    for item in [graph, *graph.node, *graph.initializer]:
        del item.metadata_props[:]
        item.doc_string = ""
    del graph.value_info[:]
