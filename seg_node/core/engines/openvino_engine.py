"""OpenVINO: the default on a processor."""

from collections import OrderedDict

import numpy as np
import openvino

from seg_node.core.bundle import Bundle
from seg_node.core.engines.base import Engine, EngineError

_PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}

_SIZES_KEPT = 4
"""Compiled models kept, so that a camera that changes its size for good does not grow the memory for ever."""


class OpenVinoEngine(Engine):
    """See ``Engine``. The graph is compiled for each frame size: static shapes run faster."""

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
        hints = {"PERFORMANCE_HINT": "LATENCY"}
        if self.threads:
            hints["INFERENCE_NUM_THREADS"] = self.threads
        if self.precision in _PRECISION_HINTS:
            hints["INFERENCE_PRECISION_HINT"] = _PRECISION_HINTS[self.precision]
        try:
            model = self._core.read_model(self.bundle.graph, b"")
            names = ["mask", "confidence"] if confidence else ["mask"]
            model = openvino.Model([model.output(name) for name in names], model.get_parameters())
            model.reshape([*size, 3])
            self._requests[key] = self._core.compile_model(model, self.device, hints).create_infer_request()
        except RuntimeError as error:
            raise EngineError(f"{self.bundle.name}: OpenVINO cannot compile the graph: {error}") from error
        if len(self._requests) > _SIZES_KEPT:
            self._requests.popitem(last=False)

    def infer(self, bgr: np.ndarray, confidence: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        self.prepare(bgr.shape[:2], confidence)
        request = self._requests[bgr.shape[:2], confidence]
        request.infer([bgr], share_inputs=True)
        # The request's memory is written again by the next frame.
        outputs = [request.get_output_tensor(i).data.copy() for i in range(1 + confidence)]
        return self._checked(bgr, outputs[0], outputs[1] if confidence else None)
