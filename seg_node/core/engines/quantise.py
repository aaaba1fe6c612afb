"""INT8 weights and activations for a bundle's graph, which processors multiply faster than float32.

Ranges of the activations are taken once, from real frames, and stored in the bundle; the graph is quantised when it is
loaded, so that a bundle holds its weights once.
"""

import inspect
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from seg_node.core.errors import UserError

OPERATORS = ("Conv", "MatMul", "Gemm", "Add", "MaxPool")
"""Operators that are quantised: the arithmetic that takes the time, and what lies between two convolutions of a ResNet,
so that its maps stay int8. Norms, GELU, GRN and the enlarging of maps stay float."""
SMALL_KERNEL = 5
"""Width of the largest depthwise kernel that stays float, in pixels."""
PRODUCTS = ("Conv", "MatMul", "Gemm")
"""Operators whose multiplications int8 makes faster."""
CUTS = ("logits", "labels")
"""Names that the end of the network may have in a graph: maps of its categories, or the greatest of them already."""


class QuantiseError(UserError):
    """Ranges that do not belong to a graph, or a library that cannot use them."""


def calibrate(graph: bytes, frames: Iterable[np.ndarray]) -> bytes:
    """Take the ranges of the activations of a graph's network.

    Args:
        graph: of a bundle; weights may be stored as fp16.
        frames: uint8 [H, W, 3] BGR, like those that the network is to see.

    Returns:
        What ``quantise`` takes: JSON, ONNX Runtime's cache of a calibration.
    """
    parts = _Parts(onnx.load_from_string(graph))
    prepare = _session(parts.preparation)
    images = (prepare.run(None, {"frame": frame})[0] for frame in frames)
    with tempfile.TemporaryDirectory() as folder:
        ranges = Path(folder, "ranges.json")
        _quantise(parts.network, ranges, _Images(images))
        return ranges.read_bytes()


def quantise(graph: bytes, ranges: bytes) -> bytes:
    """Quantise the network of a graph; what comes before and after it, and its classifier, stay as they are.

    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
    2018, after training. Batch normalisation is folded into the convolutions first. Takes seconds.

    Weights have seven bits: where there is no VNNI, the sum of two products has sixteen, and saturates with eight. So
    the masks are the same on every processor.

    Args:
        graph: of a bundle; weights may be stored as fp16.
        ranges: of ``calibrate``.

    Returns:
        Serialised ONNX model with the same input and outputs.

    Raises:
        QuantiseError: the ranges are not those of this graph, or ONNX Runtime is too old to read them.
    """
    try:
        parts = _Parts(onnx.load_from_string(graph))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "ranges.json")
            file.write_bytes(ranges)
            network = _quantise(parts.network, file, None)
    except QuantiseError:
        raise
    except Exception as error:
        # onnx and onnxruntime share no base class of their errors below Exception.
        raise QuantiseError(f"the ranges for int8 do not fit the graph: {type(error).__name__}: {error}") from error
    return parts.joined(network).SerializeToString()


class _Parts:
    """A bundle's graph, cut into what prepares the frame, the network, and what makes masks of its logits."""

    def __init__(self, whole: ModelProto):
        self._whole = whole
        nodes, weights = _with_float_weights(whole.graph)
        begin = 1 + next(i for i, node in enumerate(nodes) if "image" in node.output)
        end, cut = next((1 + i, name) for i, node in enumerate(nodes) for name in CUTS if name in node.output)
        kind = TensorProto.INT64 if cut == "labels" else TensorProto.FLOAT
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])
        wanted = helper.make_tensor_value_info(cut, kind, [1, "maps", "rows", "columns"])
        self._before, self._after = nodes[:begin], nodes[end:]
        around = {name for node in (*self._before, *self._after) for name in node.input}
        self._constants = [weight for weight in weights if weight.name in around]
        self.preparation = self._model(self._before, self._constants, whole.graph.input[0], image)
        self.network = self._model(
            nodes[begin:end], [weight for weight in weights if weight.name not in around], image, wanted
        )

    def joined(self, network: GraphProto) -> ModelProto:
        """The graph again, with another network in it."""
        graph = self._whole.graph
        del graph.node[:], graph.initializer[:]
        graph.node.extend([*self._before, *network.node, *self._after])
        graph.initializer.extend([*self._constants, *network.initializer])
        onnx.checker.check_model(self._whole)
        return self._whole

    def _model(
        self, nodes: list[NodeProto], weights: list[TensorProto], given: ValueInfoProto, wanted: ValueInfoProto
    ) -> ModelProto:
        graph = helper.make_graph(nodes, "part", [given], [wanted], weights)
        model = helper.make_model(graph, opset_imports=self._whole.opset_import, functions=self._whole.functions)
        model.ir_version = self._whole.ir_version
        return model


class _Images(CalibrationDataReader):
    def __init__(self, images: Iterator[np.ndarray]):
        self._images = images

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image}


def _quantise(network: ModelProto, ranges: Path, images: _Images | None) -> GraphProto:
    """Quantise with the ranges of a file; where it does not exist, it is made from images."""
    if "calibration_cache_path" not in inspect.signature(quantize_static).parameters:
        raise QuantiseError(f"int8 needs a newer ONNX Runtime than {onnxruntime.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        folded, quantised = Path(folder, "folded.onnx"), Path(folder, "quantised.onnx")
        _session(network, folded)
        model = onnx.load(folded)
        for number, node in enumerate(model.graph.node):
            # Nodes are left out by name, and those of a foreign network may have none.
            node.name = node.name or f"node.{number}"
        left_out = {node.name for node in _floats(model.graph)}
        if not any(node.op_type in PRODUCTS and node.name not in left_out for node in model.graph.node):
            raise QuantiseError(
                "int8 would change nothing: the network has no product but its classifier and small depthwise kernels"
            )
        # What quantize_static looks for before it advises to fold.
        model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
        onnx.save(model, folded)
        quantize_static(
            folded,
            quantised,
            images,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            nodes_to_exclude=sorted(left_out),
            calibrate_method=CalibrationMethod.MinMax,
            calibration_cache_path=ranges,
        )
        return onnx.load(quantised).graph


def _floats(graph: GraphProto) -> list[NodeProto]:
    """Nodes that are left as they are: the classifier, and depthwise convolutions with small kernels.

    The classifier has a thousandth of the multiplications, and its rounding would move pixels from one category to
    another. Small depthwise kernels have a few per cent of a network's multiplications, and the maps between them and
    their neighbours lose most of what int8 costs an EfficientNet.
    """
    return [*_classifier(graph), *(node for node in graph.node if _is_small_depthwise(node))]


def _classifier(graph: GraphProto) -> list[NodeProto]:
    """The last product before each output, of each branch that ends there."""
    makers = {name: node for node in graph.node for name in node.output}
    waiting, seen, found = [value.name for value in graph.output], set(), []
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.output[0] in seen:
            continue
        seen.add(node.output[0])
        if node.op_type in PRODUCTS:
            found.append(node)
        else:
            waiting.extend(node.input)
    return found


def _is_small_depthwise(node: NodeProto) -> bool:
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type != "Conv" or values.get("group", 1) == 1 or "kernel_shape" not in values:
        return False
    return max(values["kernel_shape"]) <= SMALL_KERNEL


def _with_float_weights(graph: GraphProto) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes without those that cast stored weights, and the weights as they come out of these."""
    weights = {weight.name: weight for weight in graph.initializer}
    nodes = []
    readers = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        stored = weights.get(node.input[0]) if node.op_type == "Cast" else None
        if stored is not None and stored.data_type == TensorProto.FLOAT16 and readers[stored.name] == 1:
            values = numpy_helper.to_array(weights.pop(node.input[0])).astype(np.float32)
            weights[node.output[0]] = numpy_helper.from_array(values, node.output[0])
        else:
            nodes.append(node)
    return nodes, list(weights.values())


def _session(model: ModelProto, folded: Path | None = None) -> onnxruntime.InferenceSession:
    """Load a model on the processor; ``folded`` receives it with batch normalisation folded and constants computed."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if folded:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
