"""Engines that run a bundle: ONNX Runtime, OpenVINO and torch behind one interface."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from seg_node.core.bundle import RANGES, Bundle
from seg_node.core.bundle.input_size import resized
from seg_node.core.engines.aside import LARGE, call
from seg_node.core.engines.base import Engine, EngineError
from seg_node.core.engines.cache import library_version, remembered
from seg_node.core.errors import RunError, UserError
from seg_node.core.machine import has_fast_int8

__all__ = ["ENGINES", "PRECISIONS", "Engine", "EngineError", "create_engine", "present_engines"]

ENGINES = {"onnxruntime": "OnnxRuntimeEngine", "openvino": "OpenVinoEngine", "torch": "TorchEngine"}
"""Names that ``create_engine`` takes besides ``auto``, each also the name of its module and library."""

PRECISIONS = ("auto", "fp32", "bf16", "int8")
"""Precisions of the computation."""

INT8_METHOD = (
    "static QDQ of ONNX Runtime: uint8 activations, ranges by minimum and maximum; weights of 7 bits per channel"
)
"""Name of what ``quantise`` does, for people and for the keys of caches: another method needs another name."""

INT8_LOSS = 0.5
"""Points of ``miou_7`` that int8 may cost on an engine, as the manifest states it, for ``auto`` to take it."""


def present_engines() -> list[str]:
    """Engines whose library is installed."""
    return [name for name in ENGINES if importlib.util.find_spec(name)]


def preferred_engine() -> str:
    """Engine that ``auto`` takes.

    Raises:
        EngineError: none is installed.
    """
    return _choose(present_engines())[0]


def create_engine(
    bundle: Bundle,
    name: str = "auto",
    threads: int = 0,
    precision: str = "auto",
    input_size: tuple[int, int] | None = None,
    aside: bool = False,
) -> Engine:
    """Make an engine for a bundle.

    ``auto`` takes torch or ONNX Runtime where they see a GPU, else OpenVINO, else whatever is installed; the
    engine's ``reason`` says which and why.

    Args:
        bundle: what to run.
        name: ``auto`` or one of ``ENGINES``.
        threads: see ``Engine``.
        precision: see ``Engine``.
        input_size: (height, width) in pixels at which frames pass through the network; None for the bundle's own.
        aside: quantise, and compile what can be kept, in another process, so that the threads of this one go on.

    Raises:
        EngineError: the engine is unknown, not installed, or refuses the bundle.
        InputSizeError: the bundle cannot have that input size.

    Example:
        >>> import cv2
        >>> from seg_node.core.bundle import load_bundle
        >>> engine = create_engine(load_bundle("fpn_resnet50"))
        >>> road = cv2.imread("docs/masked_drive.jpg")[:480, :640].copy()
        >>> mask, confidence = engine.infer(road, confidence=True)
        >>> mask.shape, mask.dtype, confidence.shape
        ((480, 640), dtype('uint8'), (480, 640))
    """
    if precision not in PRECISIONS:
        raise EngineError(f"unknown precision {precision!r}; there are {', '.join(PRECISIONS)}")
    present = present_engines()
    if bundle.manifest.decoder == "imported":
        if name == "torch":
            raise EngineError(f"{bundle.name} was imported; torch builds FPNs only: use onnxruntime or openvino")
        present = [engine for engine in present if engine != "torch"]
    if name == "auto":
        name, reason = _choose(present)
    elif name not in ENGINES:
        raise EngineError(f"unknown engine {name!r}; there are auto, {', '.join(ENGINES)}")
    elif name not in present:
        raise EngineError(f"engine {name} is not installed; installed: {', '.join(present) or 'none'}")
    else:
        reason = "asked for by name"
    aside = aside and len(bundle.graph) >= LARGE
    precision, why = _choose_precision(bundle, name, precision)
    if precision == "int8":
        bundle = _quantised(bundle, aside)
    if input_size:
        # After the quantisation, which takes seconds and is remembered: it is the same for all sizes.
        bundle = resized(bundle, input_size)
    module = importlib.import_module(f"seg_node.core.engines.{name}_engine")
    engine = getattr(module, ENGINES[name])(bundle, threads, precision)
    engine.aside = aside
    engine.reason = "; ".join(filter(None, (reason, why)))
    return engine


def _choose_precision(bundle: Bundle, engine: str, asked: str) -> tuple[str, str]:
    """Precision to compute in, and why it is not the one that was asked for."""
    if asked == "bf16" and engine == "onnxruntime":
        raise EngineError("onnxruntime computes nothing in bf16; use openvino or torch, or another precision")
    if asked == "int8":
        if engine == "torch":
            raise EngineError("torch computes nothing in int8; use onnxruntime or openvino, or another precision")
        if not bundle.ranges:
            how = "import it with --int8 FOLDER" if bundle.manifest.decoder == "imported" else "export it with --int8"
            raise EngineError(f"{bundle.name} has no {RANGES}, and so no int8; {how}")
    on_gpu = engine == "torch" or (engine == "onnxruntime" and _onnxruntime_sees_gpu())
    if asked != "auto" or not bundle.ranges or on_gpu or not has_fast_int8():
        return asked, ""
    told = bundle.manifest.quantisation.get(engine)
    loss = told.get("loss") if isinstance(told, dict) else None
    if not isinstance(loss, (int, float)) or loss > INT8_LOSS:
        return asked, ""
    cost = f"{max(loss, 0):.2f} points of {bundle.manifest.taxonomy.headline}"
    return "int8", f"int8, in which the processor is faster, costs {cost}"


def _quantised(bundle: Bundle, aside: bool) -> Bundle:
    def quantise() -> bytes:
        return call("seg_node.core.engines.quantise:quantise", bundle.graph, bundle.ranges, aside=aside)

    key = b"\0".join([library_version("onnxruntime"), INT8_METHOD.encode(), bundle.ranges, bundle.graph])
    try:
        return dataclasses.replace(bundle, graph=remembered(key, quantise))
    except (UserError, RunError) as error:
        raise EngineError(f"{bundle.name}: {error}") from error


def _choose(present: list[str]) -> tuple[str, str]:
    # torch first: it is the one whose time on a GPU has been measured.
    sees_gpu: dict[str, Callable[[], bool]] = {"torch": _torch_sees_gpu, "onnxruntime": _onnxruntime_sees_gpu}
    for name, check in sees_gpu.items():
        if name in present and check():
            return name, "it sees a GPU"
    for name in ("openvino", "onnxruntime", "torch"):
        if name in present:
            reason = f"no engine sees a GPU, and of those installed ({', '.join(present)}) it is the fastest on a CPU"
            return name, reason
    raise EngineError("no engine is installed; install onnxruntime or openvino")


def _onnxruntime_sees_gpu() -> bool:
    if not _has_gpu():
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _torch_sees_gpu() -> bool:
    if not _has_gpu():
        return False
    import torch

    return torch.cuda.is_available()


def _has_gpu() -> bool:
    """Whether the kernel shows one: of NVIDIA, of a Jetson, of AMD, or that of Windows under WSL.

    Asked first, because the libraries take seconds to import, and because ONNX Runtime's build for GPUs lists its
    providers on machines without one, too.
    """
    return any(list(Path("/dev").glob(name)) for name in ("nvidia[0-9]*", "nvhost-gpu", "kfd", "dxg"))
