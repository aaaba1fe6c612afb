"""How near inference comes to what these cores can do, and what it spends its time on.

    python benchmarks/roofline.py [--models BUNDLE ...]

The peak is measured, not looked up: the fastest large matrix product that torch, NumPy or ONNX Runtime makes here.
The ratio to it is the model's floating-point operations over the time of a frame, pre- and post-processing included.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from engines import add_arguments, bare, computed_precision
from setting import HD, isolated, street

from seg_node.bags.images import decode
from seg_node.core.bundle import load_bundle
from seg_node.core.engines import create_engine
from seg_node.core.machine import instructions

_SIDES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
"""Of square matrices, by device."""
_STREAM = 2**25
"""Elements of a float32 array, 128 MiB: several times the last cache."""


def peaks(device: str = "cpu") -> dict[str, float]:
    """Measured limits of this machine, in a fresh process.

    Args:
        device: ``cpu`` or ``cuda``.

    Returns:
        ``fp32``, ``int8`` and, where it is native, ``bf16``: 10^9 operations a second of the fastest matrix product, a
        multiplication with its addition counting two; ``memory``: 10^9 bytes a second of a triad, a = b + s c, whose
        three arrays count once each (McCalpin, STREAM); on a GPU ``to_gpu`` and ``from_gpu``: 10^9 bytes a second of a
        copy from and to pinned memory.
    """
    return isolated(_peaks, device)


def _peaks(device: str) -> dict[str, float]:
    import torch
    from engines import has_native_bf16

    def fastest(work: Callable[[], Any]) -> float:
        return _fastest(work, torch.cuda.synchronize if device == "cuda" else lambda: None)

    # Elsewhere torch multiplies one number after the other.
    int8_in_torch = device == "cuda" or "avx512_vnni" in instructions()
    found = {"fp32": 0.0, "int8": 0.0} | ({"bf16": 0.0} if has_native_bf16() else {})
    for side in _SIDES[device]:
        work = 2 * side**3 / 1e9
        a = torch.randn(side, side, device=device)
        found["fp32"] = max(found["fp32"], work / fastest(lambda a=a: a @ a))
        if int8_in_torch:
            eight = torch.randint(-127, 127, (side, side), dtype=torch.int8, device=device)
            found["int8"] = max(found["int8"], work / fastest(lambda a=eight: torch._int_mm(a, a)))
        if "bf16" in found:
            half = a.bfloat16()
            found["bf16"] = max(found["bf16"], work / fastest(lambda a=half: a @ a))
        if device == "cpu":
            array = a.numpy()
            found["fp32"] = max(found["fp32"], work / fastest(lambda a=array: a @ a))
            # The same product as a convolution of oneDNN: torch's own library for products is slow on some processors.
            pixels, weights = a.view(1, side, side, 1), a.view(side, side, 1, 1)
            found["fp32"] = max(found["fp32"], work / fastest(lambda p=pixels, w=weights: torch.conv2d(p, w)))
            found["int8"] = max(found["int8"], work / fastest(_integer_product(side)))
    b, c, out = (torch.ones(_STREAM, device=device) for _ in range(3))
    triad = fastest(lambda: torch.add(b, c, alpha=3.0, out=out))
    found["memory"] = 3 * 4 * _STREAM / triad / 1e9
    if device == "cuda":
        pinned = torch.empty(_STREAM, pin_memory=True)
        found["to_gpu"] = 4 * _STREAM / fastest(lambda: b.copy_(pinned, non_blocking=True)) / 1e9
        found["from_gpu"] = 4 * _STREAM / fastest(lambda: pinned.copy_(b, non_blocking=True)) / 1e9
    return found


def _integer_product(side: int) -> Callable[[], Any]:
    """ONNX Runtime's product of uint8 and int8 matrices, on the processor."""
    import onnx
    import onnxruntime

    sides = f"[{side}, {side}]"
    graph = f"product (uint8{sides} a, int8{sides} b) => (int32{sides} c) {{ c = MatMulInteger (a, b) }}"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {graph}')
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    numbers = np.random.default_rng(0).integers(0, 64, (side, side))
    given = {"a": numbers.astype(np.uint8), "b": numbers.astype(np.int8)}
    return lambda: session.run(None, given)


def _fastest(work: Callable[[], Any], finish: Callable[[], Any], repetitions: int = 12) -> float:
    times = []
    for _ in range(repetitions):
        finish()
        began = time.perf_counter()
        work()
        finish()
        times.append(time.perf_counter() - began)
    return min(times)


def gflops(model: str, size: tuple[int, int] = HD) -> float:
    """10^9 floating-point operations of the network on a frame, counted by torch without computing them."""
    return sum(operations for operations, _ in products(model, size)) / 1e9


def products(model: str, size: tuple[int, int]) -> list[tuple[int, int]]:
    """The convolutions and matrix products of the network on a frame, found by torch without computing them.

    Returns:
        For each its floating-point operations, and how many numbers it reads and writes, each once.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    from seg_node.core.network import SegmentationNetwork, network_size

    found = []

    class Counter(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if count := flop_registry.get(function.overloadpacket):
                numbers = sum(tensor.numel() for tensor in (*args, out) if isinstance(tensor, torch.Tensor))
                found.append((count(*args, **(kwargs or {}), out_val=out), numbers))
            return out

    manifest = load_bundle(model).manifest
    network = SegmentationNetwork(manifest.backbone, decoder=manifest.decoder_options).eval().to("meta")
    # Not inference_mode, in which a convolution does not come by as the operation that is counted.
    with torch.no_grad(), Counter():
        network(torch.empty(1, 3, *network_size(size, manifest.input_size), device="meta"))
    return found


def floor_ms(model: str, size: tuple[int, int], precision: str, peak: dict[str, float]) -> float:
    """The least time of a frame on a GPU by the roofline model (Williams, Waterman, Patterson, CACM 2009), ms.

    Each convolution and matrix product takes the longer of its operations at the peak and its bytes at the memory's
    rate. All between them is taken to be free. The frame's way to the GPU and the mask's way back come to it.
    """
    width = {"fp32": 4, "bf16": 2}[precision]
    network = sum(
        max(operations / peak[precision], width * numbers / peak["memory"])
        for operations, numbers in products(model, size)
    )
    pixels = size[0] * size[1]
    return (network + 3 * pixels / peak["to_gpu"] + pixels / peak["from_gpu"]) / 1e6


def limits(row: dict[str, Any], model: str, peak: dict[str, float]) -> dict[str, Any]:
    """How near a row of ``engines.bare`` comes to the peak of its precision.

    Returns:
        ``model``, ``engine``, ``precision``, ``gflops``, ``gflops_per_s``, ``peak`` and ``ratio``.
    """
    work = gflops(model, (row["height"], row["width"]))
    rate = work / (row["p50_ms"] / 1e3)
    limit = peak[row["precision"]]
    return {
        **{key: row[key] for key in ("model", "engine", "precision")},
        "gflops": work,
        "gflops_per_s": rate,
        "peak": limit,
        "ratio": rate / limit,
    }


def profile(model: str, inferences: int = 10) -> dict[str, Any]:
    """Where OpenVINO spends a 1280x720 frame, by its own counters, in a fresh process.

    Returns:
        ``model``; ``precision``; ``total_ms``, the sum over layers; ``by_type``, milliseconds per kind of layer, and
        ``top``, the ten longest layers as ``[milliseconds, kind, kernel, name]``, both with the longest first;
        ``multiplying``, the kinds that are convolutions and matrix products, which hold nearly all operations of
        ``gflops``; ``multiply_ms``, of these; ``multiply_rate``, those operations, 10^9 a second, over that time alone.
    """
    return isolated(_profile, model, inferences)


_MULTIPLY = ("Convolution", "MatMul", "FullyConnected", "GroupConvolution")


def _profile(model: str, inferences: int) -> dict[str, Any]:
    engine = create_engine(load_bundle(model), "openvino")
    bundle = engine.bundle
    request = engine.compiled(HD, profiled=True).create_infer_request()
    frames = [decode(frame) for frame in street(HD, 5).frames]
    layers: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for i in range(2 + inferences):
        request.infer([frames[i % len(frames)]], share_inputs=True)
        for layer in request.profiling_info if i >= 2 else ():
            key = (layer.node_type, layer.exec_type, layer.node_name)
            layers[key].append(layer.real_time.total_seconds() * 1e3)
    means = {key: float(np.sum(times)) / inferences for key, times in layers.items()}
    by_type: dict[str, float] = defaultdict(float)
    for (kind, _, _), took in means.items():
        by_type[kind] += took
    multiply = sum(by_type.get(kind, 0.0) for kind in _MULTIPLY)
    longest = sorted(((took, *key) for key, took in means.items()), reverse=True)
    return {
        "model": bundle.name,
        "precision": computed_precision("openvino", engine.precision),
        "total_ms": sum(means.values()),
        "by_type": {kind: took for kind, took in sorted(by_type.items(), key=lambda i: -i[1]) if took > 0.01},
        "top": [list(layer) for layer in longest[:10]],
        "multiplying": list(_MULTIPLY),
        "multiply_ms": multiply,
        "multiply_rate": gflops(model) / (multiply / 1e3),
    }


def profile_text(found: dict[str, Any], peak: dict[str, float]) -> str:
    """A profile for people."""
    precision = found["precision"]
    lines = [
        f"{found['model']}: {found['multiply_ms']:.1f} of {found['total_ms']:.1f} ms in convolutions and matrix"
        f" products, at {found['multiply_rate']:.0f} of {peak[precision]:.0f} GFLOP/s ({precision})"
    ]
    lines += [f"  {took:7.2f} ms  {kind}" for kind, took in list(found["by_type"].items())[:8]]
    lines += [f"    {took:6.2f} ms  {kind}, {kernel}: {name[:60]}" for took, kind, kernel, name in found["top"]]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    options = parser.parse_args()
    measured = peaks()
    print({name: round(value, 1) for name, value in measured.items()}, "10^9 operations or bytes a second")
    for bundle in options.models:
        for engine in options.engine:
            found = limits(bare(bundle, engine, "auto", 0, 30), bundle, measured)
            print(
                f"{found['model']:<22} {engine:<12} {found['precision']}: {found['gflops']:.1f} GFLOP,"
                f" {found['gflops_per_s']:.0f} of {found['peak']:.0f} GFLOP/s, ratio {found['ratio']:.2f}"
            )
        print(profile_text(profile(bundle), measured))
