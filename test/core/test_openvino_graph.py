"""Graphs rewritten for OpenVINO give what they gave before, of fewer operations."""

from collections import Counter

import numpy as np
import pytest

from seg_node.core.bundle import load_bundle
from seg_node.core.engines import create_engine, present_engines

openvino = pytest.importorskip("openvino", reason="openvino is missing: pip install openvino")
onnx = pytest.importorskip("onnx", reason="onnx is missing: pip install onnx")

LAYER_NORM = """<ir_version: 10, opset_import: ["": 20]>
norm (float[1, 4, H, W] maps) => (float[1, 4, H, W] normal)
<float[4] weight = {0.5, 1, 2, -1}, float[4] bias = {0, 1, -1, 0.25}> {
    last = Transpose <perm = [0, 2, 3, 1]> (maps)
    normalised = LayerNormalization <axis = -1, epsilon = 0.01> (last, weight, bias)
    normal = Transpose <perm = [0, 3, 1, 2]> (normalised)
}"""


def _model(text: str) -> openvino.Model:
    return openvino.Core().read_model(onnx.parser.parse_model(text).SerializeToString(), b"")


def _kinds(model: openvino.Model) -> Counter:
    return Counter(node.get_type_name() for node in model.get_ordered_ops())


def _outputs(model: openvino.Model, given: np.ndarray) -> np.ndarray:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return next(iter(compiled(given).values()))


def _rewritten(text: str) -> openvino.Model:
    from seg_node.core.engines.openvino_graph import rewrite

    model = _model(text)
    rewrite(model)
    return model


def test_layer_norm_is_computed_where_channels_are():
    # Pixels of little variance, of which epsilon is a part, and pixels of much.
    maps = np.random.default_rng(0).normal(3, [[[[0.02]], [[0.1]], [[1]], [[10]]]], (1, 4, 5, 7)).astype(np.float32)
    model = _rewritten(LAYER_NORM)
    assert not {"MVN", "Transpose"} & set(_kinds(model))
    centred = maps - maps.mean(1, keepdims=True)
    weight, bias = (np.array(v).reshape(1, 4, 1, 1) for v in ([0.5, 1, 2, -1], [0, 1, -1, 0.25]))
    expected = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 0.01) * weight + bias
    np.testing.assert_allclose(_outputs(model, maps), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("axes", "back", "eps_mode"),
    [
        ([2, 3], [0, 3, 1, 2], "INSIDE_SQRT"),
        ([2], [0, 3, 1, 2], "INSIDE_SQRT"),
        ([3], [0, 1, 3, 2], "INSIDE_SQRT"),
        ([3], [0, 3, 1, 2], "OUTSIDE_SQRT"),
    ],
)
def test_other_norms_stay(axes, back, eps_mode):
    """Over more than channels or over something else, not put back to where they were, or of another formula."""
    from openvino import opset13 as ops

    from seg_node.core.engines.openvino_graph import rewrite

    def model() -> openvino.Model:
        maps = ops.parameter([1, 4, 5, 7], np.float32)
        last = ops.transpose(maps, ops.constant(np.array([0, 2, 3, 1])))
        normal = ops.mvn(last, ops.constant(np.array(axes)), True, 0.01, eps_mode)
        scaled = ops.multiply(normal, ops.constant(np.array([0.5, 1, 2, -1], np.float32)))
        shifted = ops.add(scaled, ops.constant(np.array([0, 1, -1, 0.25], np.float32)))
        return openvino.Model([ops.transpose(shifted, ops.constant(np.array(back)))], [maps])

    maps = np.random.default_rng(0).normal(0, 1, (1, 4, 5, 7)).astype(np.float32)
    changed = model()
    rewrite(changed)
    assert _kinds(changed) == _kinds(model())
    np.testing.assert_array_equal(_outputs(changed, maps), _outputs(model(), maps))


ROUNDED = """<ir_version: 10, opset_import: ["": 20]>
rounded (float[1, 2, 4, 4] maps) => (float[1, 2, 4, 4] out)
<float scale = {0.5}, uint8 zero = {8}, float[2, 2, 1, 1] weight = {1, 2, 3, 4}> {
    integers = QuantizeLinear (maps, scale, zero)
    again = DequantizeLinear (integers, scale, zero)
    out = READER
}"""


def test_what_no_product_reads_is_not_rounded():
    maps = np.random.default_rng(0).normal(0, 2, (1, 2, 4, 4)).astype(np.float32)
    relu = _rewritten(ROUNDED.replace("READER", "Relu (again)"))
    assert "FakeQuantize" not in _kinds(relu)
    np.testing.assert_array_equal(_outputs(relu, maps), np.maximum(maps, 0))
    # As integers go somewhere else, too, they are needed.
    text = ROUNDED.replace("READER", "Add (again, values)").replace("out =", "values = Cast <to = 1> (integers)\nout =")
    assert "FakeQuantize" in _kinds(_rewritten(text))
    product = _rewritten(ROUNDED.replace("READER", "Conv (again, weight)"))
    assert "FakeQuantize" in _kinds(product)


@pytest.mark.parametrize("model", ["fpn_convnextv2", "fpn_lite", "fpn_resnet50"])
def test_nothing_is_left_to_rewrite(model):
    """The rewriting finds what it is for in the graphs that are exported here."""
    if "onnxruntime" not in present_engines():
        pytest.skip("onnxruntime, which makes graphs int8, is not installed")
    graph = create_engine(load_bundle(model), "openvino", precision="int8").model((48, 64))
    kinds = _kinds(graph)
    # The one of the frame, of four dimensions.
    assert kinds["Transpose"] == 1
    assert not {"TopK", "ReduceSum"} & set(kinds)
    for rounding in (node for node in graph.get_ordered_ops() if node.get_type_name() == "FakeQuantize"):
        readers, kinds = [rounding], set()
        while readers:
            node = readers.pop()
            kinds.add(node.get_type_name())
            if node.get_type_name() not in ("Convolution", "GroupConvolution", "Add"):
                readers += [t.get_node() for out in node.outputs() for t in out.get_target_inputs()]
        assert kinds & {"Convolution", "GroupConvolution"}, rounding
