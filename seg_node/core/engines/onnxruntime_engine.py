"""ONNX Runtime: CUDA or the processor, whichever its build and the machine offer."""

import numpy as np
import onnx
import onnxruntime
from onnx.utils import Extractor

from seg_node.core.bundle import Bundle
from seg_node.core.engines.base import Engine, EngineError

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class OnnxRuntimeEngine(Engine):
    """See ``Engine``. One session serves all frame sizes, a second one those frames whose confidence is wanted."""

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, threads: int = 0, precision: str = "auto"):
        super().__init__(bundle, threads, precision)
        self._sessions: dict[bool, onnxruntime.InferenceSession] = {}

    def prepare(self, size: tuple[int, int], confidence: bool = False) -> None:
        if confidence not in self._sessions:
            self._sessions[confidence] = self._compile(["mask", "confidence"] if confidence else ["mask"])

    def _compile(self, outputs: list[str]) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        available = onnxruntime.get_available_providers()
        try:
            # The runtime computes every output of a graph, also those that a call does not ask for.
            graph = Extractor(onnx.load_from_string(self.bundle.graph)).extract_model(["frame"], outputs)
            session = onnxruntime.InferenceSession(
                graph.SerializeToString(), options, providers=[p for p in _PROVIDERS if p in available]
            )
        except Exception as error:
            # onnx and onnxruntime share no base class of their errors below Exception.
            raise EngineError(f"{self.bundle.name}: ONNX Runtime cannot load the graph: {error}") from error
        self.device = session.get_providers()[0].removesuffix("ExecutionProvider")
        return session

    def infer(self, bgr: np.ndarray, confidence: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        self.prepare(bgr.shape[:2], confidence)
        outputs = self._sessions[confidence].run(None, {"frame": bgr})
        return self._checked(bgr, outputs[0], outputs[1] if confidence else None)
