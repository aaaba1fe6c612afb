"""OpenVINO: the default on a processor."""

import io
import json
from collections import OrderedDict

import numpy as np
import openvino
from openvino import opset13 as ops

from seg_node.core.bundle import Bundle
from seg_node.core.cache import remembered
from seg_node.core.engines.base import Engine, EngineError
from seg_node.core.machine import machine

_PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}

_SIZES_KEPT = 4
"""Compiled models kept, so that a camera that changes its size for good does not grow the memory for ever."""


class OpenVinoEngine(Engine):
    """See ``Engine``. The graph is compiled for each frame size: static shapes run faster.

    What was compiled is kept in the user's cache folder, where the next process finds it.
    """

    name = "openvino"
    device = "CPU"

    def __init__(self, bundle: Bundle, threads: int = 0, precision: str = "auto"):
        super().__init__(bundle, threads, precision)
        self._core = openvino.Core()
        self._requests: OrderedDict[tuple[tuple[int, int], bool], openvino.InferRequest] = OrderedDict()

    def prepare(self, size: tuple[int, int], confidence: bool = False) -> None:
        key = (size, confidence)
        if key in self._requests:
            self._requests.move_to_end(key)
            return
        try:
            self._requests[key] = self.compiled(size, confidence).create_infer_request()
        except RuntimeError as error:
            raise EngineError(f"{self.bundle.name}: OpenVINO cannot compile the graph: {error}") from error
        if len(self._requests) > _SIZES_KEPT:
            self._requests.popitem(last=False)

    def compiled(
        self, size: tuple[int, int], confidence: bool = False, profiled: bool = False
    ) -> openvino.CompiledModel:
        """Compile for frames of (height, width) pixels, or take what an earlier process has compiled.

        Args:
            size: of the frames.
            confidence: whether it is an output, too.
            profiled: count the time of each layer.

        Raises:
            RuntimeError: the graph cannot be compiled.
        """
        hints: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY"}
        if self.threads:
            hints["INFERENCE_NUM_THREADS"] = self.threads
        if self.precision in _PRECISION_HINTS:
            hints["INFERENCE_PRECISION_HINT"] = _PRECISION_HINTS[self.precision]
        if profiled:
            return self._core.compile_model(self.model(size, confidence), self.device, hints | {"PERF_COUNT": "YES"})
        fresh: list[openvino.CompiledModel] = []

        def compile_now() -> openvino.CompiledModel:
            return self._core.compile_model(self.model(size, confidence), self.device, hints)

        def compile_and_export() -> bytes:
            fresh.append(compile_now())
            return fresh[0].export_model().getvalue()

        about = [openvino.__version__, _REWRITTEN, machine()["cpu"], size, confidence, hints]
        try:
            kept = remembered(json.dumps(about).encode() + b"\0" + self.bundle.graph, compile_and_export)
            return fresh[0] if fresh else self._core.import_model(io.BytesIO(kept), self.device, hints)
        except RuntimeError:
            # What cannot be exported, or read again, costs time only.
            return fresh[0] if fresh else compile_now()

    def model(self, size: tuple[int, int], confidence: bool = False) -> openvino.Model:
        """What is compiled for frames of (height, width) pixels."""
        model = self._core.read_model(self.bundle.graph, b"")
        names = ["mask", "confidence"] if confidence else ["mask"]
        model = openvino.Model([model.output(name) for name in names], model.get_parameters())
        model.reshape([*size, 3])
        _argmax_by_comparison(model)
        _sum_without_stack(model)
        return model

    def infer(self, bgr: np.ndarray, confidence: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        self.prepare(bgr.shape[:2], confidence)
        request = self._requests[bgr.shape[:2], confidence]
        request.infer([bgr], share_inputs=True)
        # The request's memory is written again by the next frame.
        outputs = [request.get_output_tensor(i).data.copy() for i in range(1 + confidence)]
        return self._checked(bgr, outputs[0], outputs[1] if confidence else None)


_REWRITTEN = "argmax by comparison, sum without stack; 1"
"""Names what follows in the key of the cache: another rewriting needs another name."""


def _argmax_by_comparison(model: openvino.Model) -> None:
    """Replace argmax over channels, which OpenVINO computes as a sort, by comparisons of whole planes.

    Comparisons and selections of planes are fused to one pass over memory. Of equal logits the first wins, as before.
    """
    for top in [node for node in model.get_ordered_ops() if node.get_type_name() == "TopK"]:
        logits = top.input_value(0)
        _, channels, *_ = logits.get_partial_shape()
        readers = [reader.get_node() for reader in top.output(1).get_target_inputs()]
        plain = top.get_axis() == 1 and _constant(top.input_value(1)) == 1 and top.get_attributes()["mode"] == "max"
        if not plain or channels.is_dynamic or top.output(0).get_target_inputs():
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
    model.validate_nodes_and_infer_types()


def _sum_without_stack(model: openvino.Model) -> None:
    """Replace a stack of maps that is then summed by additions, which need no copy of the maps."""
    for total in [node for node in model.get_ordered_ops() if node.get_type_name() == "ReduceSum"]:
        stack = total.input_value(0).get_node()
        if stack.get_type_name() != "Concat" or stack.get_axis() != 0 or total.get_keep_dims():
            continue
        parts = [value.get_node() for value in stack.input_values()]
        unsqueezed = all(part.get_type_name() == "Unsqueeze" and _constant(part.input_value(1)) == 0 for part in parts)
        if not unsqueezed or _constant(total.input_value(1)) != 0:
            continue
        result = parts[0].input_value(0)
        for part in parts[1:]:
            result = ops.add(result, part.input_value(0)).output(0)
        _replace(total, result.get_node())
    model.validate_nodes_and_infer_types()


def _constant(value: openvino.Output) -> int | None:
    """The one number that a node is given as a constant."""
    node = value.get_node()
    if node.get_type_name() != "Constant" or node.get_data().size != 1:
        return None
    return int(node.get_data().item())


def _replace(old: openvino.Node, new: openvino.Node) -> None:
    for reader in old.output(0).get_target_inputs():
        reader.replace_source_output(new.output(0))
