"""OpenVINO: the default on a processor."""

import io
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from queue import LifoQueue
from types import SimpleNamespace

import numpy as np
import openvino

from seg_node.core.bundle import Bundle
from seg_node.core.engines.aside import call
from seg_node.core.engines.base import Engine, EngineError
from seg_node.core.engines.cache import remembered
from seg_node.core.engines.openvino_graph import REWRITES, REWRITTEN, Rewrite, rewrite
from seg_node.core.errors import RunError
from seg_node.core.machine import has_fast_bf16, instructions, machine, usable_cores

_PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine(Engine):
    """See ``Engine``. The graph is compiled for each frame size: static shapes run faster.

    What was compiled is kept in the user's cache folder, where the next process finds it.
    """

    name = "openvino"
    device = "CPU"

    def __init__(self, bundle: Bundle, threads: int = 0, precision: str = "auto"):
        super().__init__(bundle, threads, precision)
        self._core = openvino.Core()
        self._requests: OrderedDict[tuple[tuple[int, int], bool], LifoQueue[openvino.InferRequest]] = OrderedDict()
        """Requests that nobody uses, one for each stream in all."""
        self._lock = threading.Lock()

    def serve(self, count: int) -> None:
        # Threads of several inferences wait for nobody; those of one wait for each other, the more so the busier the
        # machine is.
        self.streams = max(1, min(count, usable_cores() // (self.threads or 1)))

    def prepare(self, size: tuple[int, int], confidence: bool = False) -> None:
        self._prepared(size, confidence)

    def _prepared(self, size: tuple[int, int], confidence: bool) -> LifoQueue[openvino.InferRequest]:
        key = (size, confidence)
        with self._lock:
            if key in self._requests:
                self._requests.move_to_end(key)
                return self._requests[key]
            try:
                compiled, idle = self.compiled(size, confidence), LifoQueue()
                for _ in range(self.streams):
                    idle.put(compiled.create_infer_request())
                self._requests[key] = idle
            except RuntimeError as error:
                raise EngineError(f"{self.bundle.name}: OpenVINO cannot compile the graph: {error}") from error
            if len(self._requests) > self.sizes_kept:
                self._requests.popitem(last=False)
            return self._requests[key]

    def compiled(
        self,
        size: tuple[int, int],
        confidence: bool = False,
        profiled: bool = False,
        rewrites: Sequence[Rewrite] = REWRITES,
    ) -> openvino.CompiledModel:
        """Compile for frames of (height, width) pixels, or take what an earlier process has compiled.

        Args:
            size: (height, width) of the frames in pixels.
            confidence: whether the graph has that output, too.
            profiled: count the time of each layer.
            rewrites: changes of the graph, in their order.

        Raises:
            RuntimeError: the graph cannot be compiled.
        """
        hints = self._hints(profiled)
        fresh: list[openvino.CompiledModel] = []

        def compile_now() -> openvino.CompiledModel:
            return self._core.compile_model(self.model(size, confidence, rewrites), self.device, hints)

        def compile_and_export() -> bytes:
            if self.aside:
                settings = self.threads, self.precision, self.streams
                return call(f"{__name__}:exported", self.bundle.graph, *settings, size, confidence)
            fresh.append(compile_now())
            return fresh[0].export_model().getvalue()

        if profiled or rewrites is not REWRITES:
            return compile_now()
        about = [openvino.__version__, REWRITTEN, machine()["cpu"], instructions(), size, confidence, hints]
        try:
            kept = remembered(json.dumps(about).encode() + b"\0" + self.bundle.graph, compile_and_export)
            return fresh[0] if fresh else self._core.import_model(io.BytesIO(kept), self.device, hints)
        except RunError:
            # Who was killed while it compiled must not be followed by this process.
            raise
        except RuntimeError:
            # What cannot be exported, or read again, costs time only.
            return fresh[0] if fresh else compile_now()

    def _hints(self, profiled: bool) -> dict[str, str | int]:
        hints: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY"}
        if self.streams > 1:
            hints = {"NUM_STREAMS": self.streams}
        if self.threads:
            hints["INFERENCE_NUM_THREADS"] = self.threads * self.streams
        if precision := _PRECISION_HINTS.get(self._precision()):
            hints["INFERENCE_PRECISION_HINT"] = precision
        if profiled:
            hints["PERF_COUNT"] = "YES"
        return hints

    def _precision(self) -> str:
        """Precision of the computation. OpenVINO's own choice is bf16 wherever there are instructions for it."""
        native = "BF16" in self._core.get_property(self.device, "OPTIMIZATION_CAPABILITIES")
        return "fp32" if self.precision == "auto" and native and not has_fast_bf16() else self.precision

    def model(
        self, size: tuple[int, int], confidence: bool = False, rewrites: Sequence[Rewrite] = REWRITES
    ) -> openvino.Model:
        """Model that is compiled for frames of (height, width) pixels."""
        model = self._core.read_model(self.bundle.graph, b"")
        names = ["mask", "confidence"] if confidence else ["mask"]
        model = openvino.Model([model.output(name) for name in names], model.get_parameters())
        model.reshape([*size, 3])
        rewrite(model, rewrites)
        return model

    def infer(self, bgr: np.ndarray, confidence: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        idle = self._prepared(bgr.shape[:2], confidence)
        request = idle.get()
        try:
            request.infer([bgr], share_inputs=True)
            # The request's memory is written again by the next frame.
            outputs = [request.get_output_tensor(i).data.copy() for i in range(1 + confidence)]
        finally:
            idle.put(request)
        return self._checked(bgr, outputs[0], outputs[1] if confidence else None)


def exported(graph: bytes, threads: int, precision: str, streams: int, size: Sequence[int], confidence: bool) -> bytes:
    """A model that an engine with these settings has compiled, as OpenVINO exports it.

    Args:
        graph: of a bundle.
        threads: see ``Engine``.
        precision: see ``Engine``.
        streams: see ``Engine``.
        size: see ``OpenVinoEngine.compiled``.
        confidence: see ``OpenVinoEngine.compiled``.

    Raises:
        RuntimeError: the graph cannot be compiled, or what was compiled cannot be exported.
    """
    # Of a bundle, the graph alone is compiled.
    engine = OpenVinoEngine(SimpleNamespace(graph=graph), threads, precision)
    engine.streams = streams
    compiled = engine._core.compile_model(engine.model(tuple(size), confidence), engine.device, engine._hints(False))
    return compiled.export_model().getvalue()
