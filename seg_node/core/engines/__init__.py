"""Engines that run a bundle: ONNX Runtime, OpenVINO and torch behind one interface."""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from seg_node.core.bundle import Bundle
from seg_node.core.engines.base import Engine, EngineError

__all__ = ["ENGINES", "PRECISIONS", "Engine", "EngineError", "create_engine", "present_engines"]

ENGINES = {"onnxruntime": "OnnxRuntimeEngine", "openvino": "OpenVinoEngine", "torch": "TorchEngine"}
"""Names that ``create_engine`` takes besides ``auto``, each also the name of its module and library."""

PRECISIONS = ("auto", "fp32")
"""Precisions of the computation."""


def present_engines() -> list[str]:
    """Engines whose library is installed."""
    return [name for name in ENGINES if importlib.util.find_spec(name)]


def create_engine(bundle: Bundle, name: str = "auto", threads: int = 0, precision: str = "auto") -> Engine:
    """Make an engine for a bundle.

    ``auto`` takes ONNX Runtime or torch where they see a GPU, else OpenVINO, else whatever is installed; the
    engine's ``reason`` says which and why.

    Args:
        bundle: what to run.
        name: ``auto`` or one of ``ENGINES``.
        threads: see ``Engine``.
        precision: see ``Engine``.

    Raises:
        EngineError: the engine is unknown, not installed, or refuses the bundle.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"unknown precision {precision!r}; there are {', '.join(PRECISIONS)}")
    present = present_engines()
    if name == "auto":
        name, reason = _choose(present)
    elif name not in ENGINES:
        raise EngineError(f"unknown engine {name!r}; there are auto, {', '.join(ENGINES)}")
    elif name not in present:
        raise EngineError(f"engine {name} is not installed; installed: {', '.join(present) or 'none'}")
    else:
        reason = "asked for by name"
    module = importlib.import_module(f"seg_node.core.engines.{name}_engine")
    engine = getattr(module, ENGINES[name])(bundle, threads, precision)
    engine.reason = reason
    return engine


def _choose(present: list[str]) -> tuple[str, str]:
    sees_gpu: dict[str, Callable[[], bool]] = {"onnxruntime": _onnxruntime_sees_gpu, "torch": _torch_sees_gpu}
    for name, check in sees_gpu.items():
        if name in present and check():
            return name, "it sees a GPU"
    for name in ("openvino", "onnxruntime", "torch"):
        if name in present:
            reason = f"no engine sees a GPU, and of those installed ({', '.join(present)}) it is the fastest on a CPU"
            return name, reason
    raise EngineError("no engine is installed; install onnxruntime or openvino")


def _onnxruntime_sees_gpu() -> bool:
    import onnxruntime

    # The GPU build lists its providers on machines without a GPU too.
    devices = [device for name in ("nvidia[0-9]*", "nvhost-gpu") for device in Path("/dev").glob(name)]
    return bool(devices) and "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _torch_sees_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
