"""INT8 weights and activations for a bundle's graph, for processors that have instructions for them (VNNI, AMX)."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

METHOD = "static QDQ of ONNX Runtime: uint8 activations, ranges by minimum and maximum; int8 weights per channel"
OPERATORS = ("Conv", "MatMul", "Gemm", "Add", "MaxPool")
"""What is quantised: the arithmetic that takes the time, and what lies between two convolutions of a ResNet, so that
its maps stay int8. Norms, GELU, GRN and the enlarging of maps stay float."""
CLASSIFIER = "segmentation_head."
"""Tensors of the last convolution, which stays float: it has a thousandth of the multiplications, and its rounding
would move pixels from one category to another."""


def quantise(graph: bytes, frames: Iterable[np.ndarray]) -> bytes:
    """Quantise the network of a graph; what comes before and after it, and its classifier, stay as they are.

    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
    2018, after training. Batch normalisation is folded into the convolutions first.

    On a processor with AVX2 or AVX512 but without VNNI sums of products can saturate, and accuracy suffers.

    Args:
        graph: of ``export.export_graph``; weights may be stored as fp16.
        frames: uint8 [H, W, 3] BGR, from which the ranges of the activations are taken.

    Returns:
        Serialised ONNX model with the same input and outputs.
    """
    whole = onnx.load_from_string(graph)
    nodes, weights = _with_float_weights(whole.graph)
    begin = 1 + next(i for i, node in enumerate(nodes) if "image" in node.output)
    end = 1 + next(i for i, node in enumerate(nodes) if "logits" in node.output)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 8, "h", "w"])
    prepare = _session(_model(whole, nodes[:begin], [], whole.graph.input[0], image))
    images = (prepare.run(None, {"frame": frame})[0] for frame in frames)
    network = _quantised(_model(whole, nodes[begin:end], weights, image, logits), images)
    del whole.graph.node[:], whole.graph.initializer[:]
    whole.graph.node.extend([*nodes[:begin], *network.node, *nodes[end:]])
    whole.graph.initializer.extend(network.initializer)
    onnx.checker.check_model(whole)
    return whole.SerializeToString()


class _Images(CalibrationDataReader):
    def __init__(self, images: Iterator[np.ndarray]):
        self._images = images

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image}


def _quantised(network: ModelProto, images: Iterator[np.ndarray]) -> GraphProto:
    with tempfile.TemporaryDirectory() as folder:
        folded, quantised = Path(folder, "folded.onnx"), Path(folder, "quantised.onnx")
        _session(network, folded)
        quantize_static(
            folded,
            quantised,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[
                node.name
                for node in onnx.load(folded).graph.node
                if any(name.startswith(CLASSIFIER) for name in node.input)
            ],
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(quantised).graph


def _with_float_weights(graph: GraphProto) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes without those that cast stored weights, and the weights as they come out of these."""
    weights = {weight.name: weight for weight in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in weights:
            values = numpy_helper.to_array(weights.pop(node.input[0])).astype(np.float32)
            weights[node.output[0]] = numpy_helper.from_array(values, node.output[0])
        else:
            nodes.append(node)
    return nodes, list(weights.values())


def _model(
    whole: ModelProto,
    nodes: list[NodeProto],
    weights: list[TensorProto],
    given: ValueInfoProto,
    wanted: ValueInfoProto,
) -> ModelProto:
    graph = helper.make_graph(nodes, "part", [given], [wanted], weights)
    model = helper.make_model(graph, opset_imports=whole.opset_import)
    model.ir_version = whole.ir_version
    return model


def _session(model: ModelProto, folded: Path | None = None) -> onnxruntime.InferenceSession:
    """Load a model on the processor; ``folded`` receives it with batch normalisation folded and constants computed."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if folded:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
