"""Rewritings for OpenVINO: the same outputs but for rounding, without the operations that it is slow at."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import openvino
from openvino import opset13 as ops

REWRITTEN = "argmax by comparison, sum without stack, norm without transposes, frame as a batch, int8 for products; 2"
"""Names what ``rewrite`` does, for keys of caches: another rewriting needs another name."""

Rewrite = Callable[[openvino.Model], None]
"""Changes a model in place."""

_CHANNELS_LAST, _CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
_PRODUCTS = {"Convolution", "GroupConvolution", "MatMul"}


def _argmax_by_comparison(model: openvino.Model) -> None:
    """Replace argmax over channels, which OpenVINO computes as a sort, by comparisons of whole planes.

    Comparisons and selections of planes are fused to one pass over memory. Of equal logits the first wins, as before.
    """
    for top in _nodes(model, "TopK"):
        logits = top.input_value(0)
        _, channels, *_ = logits.get_partial_shape()
        readers = _readers(top.output(1))
        plain = top.get_axis() == 1 and _constant(top.input_value(1)) == [1] and top.get_attributes()["mode"] == "max"
        if not plain or channels.is_dynamic or _readers(top.output(0)):
            continue
        if any(reader.get_type_name() != "Convert" for reader in readers):
            continue
        # Rows of planes: a split of them copies nothing, a split of channels that lie beside each other copies all.
        planes = ops.split(ops.reshape(logits, [channels.get_length(), -1], False), 0, channels.get_length()).outputs()
        best, category = planes[0], ops.constant(np.float32(0))
        for channel, plane in enumerate(planes[1:], 1):
            category = ops.select(ops.greater(plane, best), ops.constant(np.float32(channel)), category)
            best = ops.maximum(best, plane)
        sides = ops.gather(ops.shape_of(logits), [2, 3], 0)
        shape = ops.concat([ops.constant(np.array([1, 1])), sides], 0)
        for reader in readers:
            converted = ops.convert(category, reader.get_element_type().get_type_name())
            _replace(reader, ops.reshape(converted, shape, False))


def _sum_without_stack(model: openvino.Model) -> None:
    """Replace a stack of maps that is then summed by additions, which need no copy of the maps."""
    for total in _nodes(model, "ReduceSum"):
        stack = total.input_value(0).get_node()
        if stack.get_type_name() != "Concat" or stack.get_axis() != 0 or total.get_keep_dims():
            continue
        parts = [value.get_node() for value in stack.input_values()]
        unsqueezed = all(
            part.get_type_name() == "Unsqueeze" and _constant(part.input_value(1)) == [0] for part in parts
        )
        if not unsqueezed or _constant(total.input_value(1)) != [0]:
            continue
        result = parts[0].input_value(0)
        for part in parts[1:]:
            result = ops.add(result, part.input_value(0)).output(0)
        _replace(total, result.get_node())


def _norm_without_transposes(model: openvino.Model) -> None:
    """Normalise over channels where they are (ConvNeXt's LayerNorm), not between two transposes.

    Convolutions keep the channels of a pixel beside each other in memory already; both transposes only copy.
    """
    for back in _nodes(model, "Transpose"):
        shifted = back.input_value(0).get_node()
        if _constant(back.input_value(1)) != _CHANNELS_FIRST or shifted.get_type_name() != "Add":
            continue
        scaled = shifted.input_value(0).get_node()
        if scaled.get_type_name() != "Multiply":
            continue
        norm = scaled.input_value(0).get_node()
        weight, bias = _channel_vector(scaled.input_value(1)), _channel_vector(shifted.input_value(1))
        if norm.get_type_name() != "MVN" or not _is_layer_norm(norm) or weight is None or bias is None:
            continue
        there = norm.input_value(0).get_node()
        if there.get_type_name() != "Transpose" or _constant(there.input_value(1)) != _CHANNELS_LAST:
            continue
        maps, axis = there.input_value(0), ops.constant(np.array([1]))
        centred = ops.subtract(maps, ops.reduce_mean(maps, axis, True))
        length = ops.reduce_l2(centred, axis, True)
        variance = ops.divide(ops.multiply(length, length), ops.constant(np.float32(weight.size)))
        deviation = ops.sqrt(ops.add(variance, ops.constant(np.float32(norm.get_attributes()["eps"]))))
        _replace(back, ops.add(ops.multiply(ops.divide(centred, deviation), weight), bias))


def _is_layer_norm(norm: openvino.Node) -> bool:
    """Whether an MVN of four dimensions is over the last one alone."""
    about, axes = norm.get_attributes(), norm.input_value(1)
    if axes.get_node().get_type_name() == "Range":
        start, stop, step = (_constant(value) for value in axes.get_node().input_values())
        over = list(range(start[0], stop[0], step[0])) if start and stop and step else None
    else:
        over = _constant(axes)
    return about["normalize_variance"] and about["eps_mode"] == "INSIDE_SQRT" and over in ([-1], [3])


def _channel_vector(value: openvino.Output) -> np.ndarray | None:
    """A constant float32 vector, as [1, C, 1, 1]."""
    node = value.get_node()
    if node.get_type_name() != "Constant" or len(node.get_output_shape(0)) != 1:
        return None
    return node.get_data().astype(np.float32).reshape(1, -1, 1, 1)


def _frame_as_batch(model: openvino.Model) -> None:
    """Make the frame a batch of one before its channels come first.

    OpenVINO copies no memory for that permutation of four dimensions, but does for the same one of three.
    """
    for batch in _nodes(model, "Unsqueeze"):
        planes = batch.input_value(0).get_node()
        if planes.get_type_name() != "Transpose" or _constant(planes.input_value(1)) != [2, 0, 1]:
            continue
        if _constant(batch.input_value(1)) != [0]:
            continue
        frame = ops.unsqueeze(planes.input_value(0), ops.constant(np.array([0])))
        _replace(batch, ops.transpose(frame, ops.constant(np.array(_CHANNELS_FIRST))))


def _int8_for_products(model: openvino.Model) -> None:
    """Round to int8 only what is multiplied in int8.

    A map that is rounded between a convolution and its GELU gains nothing, and keeps the two from being one operation.
    """
    for rounding in _nodes(model, "FakeQuantize"):
        restored = list(_restored(rounding))
        if None in restored:
            continue
        readers = [reader for multiply in restored for reader in _readers(multiply.output(0))]
        if not any(reader.get_type_name() in _PRODUCTS for reader in readers):
            for multiply in restored:
                multiply.output(0).replace(rounding.input_value(0))


def _restored(rounding: openvino.Node) -> Iterator[openvino.Node | None]:
    """Where an integer has become a float again: the ends of its ways through DequantizeLinear; None at other readers.

    OpenVINO reads QuantizeLinear as FakeQuantize and Convert, DequantizeLinear as Convert, Subtract and Multiply.
    """
    for reader in _readers(rounding.output(0)):
        if reader.get_type_name() in ("Convert", "Subtract"):
            yield from _restored(reader)
        else:
            yield reader if reader.get_type_name() == "Multiply" else None


def _nodes(model: openvino.Model, kind: str) -> list[openvino.Node]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == kind]


def _readers(value: openvino.Output) -> list[openvino.Node]:
    return [reader.get_node() for reader in value.get_target_inputs()]


def _constant(value: openvino.Output) -> list[int] | None:
    """Integers that a node is given as a constant."""
    node = value.get_node()
    if node.get_type_name() != "Constant" or node.get_element_type().is_real():
        return None
    return node.get_data().ravel().tolist()


def _replace(old: openvino.Node, new: openvino.Node) -> None:
    for reader in old.output(0).get_target_inputs():
        reader.replace_source_output(new.output(0))


REWRITES: tuple[Rewrite, ...] = (
    _argmax_by_comparison,
    _sum_without_stack,
    _norm_without_transposes,
    _frame_as_batch,
    _int8_for_products,
)
"""Rewritings in their order. ``benchmarks/rewrites.py`` measures what each brings."""


def rewrite(model: openvino.Model, rewrites: Iterable[Rewrite] = REWRITES) -> None:
    """Rewrite a bundle's graph in place, its frame size set."""
    for change in rewrites:
        change(model)
        model.validate_nodes_and_infer_types()
