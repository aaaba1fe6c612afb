"""Bare inference: each bundle on each engine and precision, without ROS.

    python test/benchmarks/engines.py [--models BUNDLE ...] [--engine ENGINE ...]

On a machine with a GPU the same command measures ONNX Runtime and torch on it (``device`` says so); with
``onnxruntime-gpu`` that is its CUDA provider. TensorRT is not among the engine's providers yet. Neither has been run.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from setting import HD, camvid_root, isolated, percentiles, street
from tqdm import tqdm

from seg_node.core.bundle import load_bundle, shipped_bundles
from seg_node.core.engines import ENGINES, create_engine, present_engines
from seg_node.core.metrics import confusion_matrix, scores
from seg_node.replay.images import decode

THREADS = (1, 2)
"""Settings of ONNX Runtime that are compared with its own choice."""


def bare(model: str, engine: str, precision: str, threads: int, inferences: int, warm_up: int = 3) -> dict[str, Any]:
    """Time an engine on 1280x720 frames, back to back, in a fresh process.

    Args:
        model: bundle.
        engine: of ``ENGINES``, or ``auto``.
        precision: of ``PRECISIONS``.
        threads: see ``Engine``.
        inferences: how many are timed.
        warm_up: how many come before.

    Returns:
        ``model``, ``engine``, ``device``, ``precision``, ``threads``; ``load_s``, from the bundle's files to the first
        mask; ``p50_ms`` and ``p99_ms``.
    """
    return isolated(_bare, model, engine, precision, threads, inferences, warm_up)


def _bare(model: str, engine_name: str, precision: str, threads: int, inferences: int, warm_up: int) -> dict[str, Any]:
    frames = [decode(frame) for frame in street(HD, 10).frames]
    began = time.perf_counter()
    engine = create_engine(load_bundle(model), engine_name, threads, precision)
    engine.warm_up(HD)
    load = time.perf_counter() - began
    times = []
    for i in range(warm_up + inferences):
        began = time.perf_counter()
        engine.infer(frames[i % len(frames)])
        times.append(1e3 * (time.perf_counter() - began))
    return {
        "model": engine.bundle.name,
        "engine": engine.name,
        "device": engine.device,
        "precision": computed_precision(engine.name, engine.precision),
        "threads": threads,
        "load_s": load,
        **percentiles(np.array(times[warm_up:])),
    }


def computed_precision(engine: str, precision: str) -> str:
    """What an engine of that ``Engine.precision`` computes in, for people."""
    if precision == "auto":
        return "bf16" if engine != "onnxruntime" and _native_bf16() else "fp32"
    return precision


def _native_bf16() -> bool:
    import torch

    from seg_node.core.network import has_native_bf16

    return has_native_bf16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def settings(models: Sequence[str], engines: Sequence[str]) -> list[tuple[str, str, str]]:
    """Bundle, engine and precision of each row: bf16 only where it is native, int8 where the bundle has ranges."""
    found = []
    for model in models:
        ranges = load_bundle(model).ranges
        for engine in engines:
            found.append((model, engine, "fp32"))
            if engine != "onnxruntime" and _native_bf16():
                found.append((model, engine, "bf16"))
            if ranges and engine != "torch":
                found.append((model, engine, "int8"))
    return found


def val_images(every: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Each ``every``-th image of CamVid val with its truth; without CamVid frames of the shipped drive and None."""
    if (root := camvid_root()) is None:
        return [(decode(frame), None) for frame in street((360, 480), 100 // every).frames]
    from seg_training.datasets.camvid import CamVid

    data = CamVid(root, "val")
    return [data[i] for i in range(0, len(data), every)]


def masks(model: str, engine: str, precision: str, every: int) -> np.ndarray:
    """Masks of ``val_images`` in a fresh process, uint8 [N, H, W]."""
    return isolated(_masks, model, engine, precision, every)


def _masks(model: str, engine_name: str, precision: str, every: int) -> np.ndarray:
    engine = create_engine(load_bundle(model), engine_name, precision=precision)
    return np.stack([engine.infer(np.ascontiguousarray(image))[0] for image, _ in val_images(every)])


def miou_7(predicted: np.ndarray, every: int) -> float | None:
    """``miou_7`` of masks of ``val_images``, percent; None without CamVid."""
    pairs = [(truth, mask) for (_, truth), mask in zip(val_images(every), predicted, strict=True)]
    if pairs[0][0] is None:
        return None
    return scores(sum(confusion_matrix(truth, mask) for truth, mask in pairs))["miou_7"]


def table(
    models: Sequence[str], engines: Sequence[str], inferences: int = 60, every: int = 1, progress: bool = True
) -> list[dict[str, Any]]:
    """A row of ``bare`` per setting, with ``bundle`` (as it was given), ``agreement`` and ``miou_7``.

    ``agreement`` is the share of pixels, percent, that torch in fp32 gives the same category.
    """
    references = {model: masks(model, "torch", "fp32", every) for model in models}
    rows = []
    for model, engine, precision in tqdm(settings(models, engines), desc="engines", disable=not progress):
        row = bare(model, engine, precision, 0, inferences)
        reference = references[model]
        predicted = reference if (engine, precision) == ("torch", "fp32") else masks(model, engine, precision, every)
        row |= {"bundle": model, "agreement": float(100 * (predicted == reference).mean())}
        row["miou_7"] = miou_7(predicted, every)
        rows.append(row)
    return rows


def openvino_start_up(model: str) -> dict[str, float]:
    """Seconds from a bundle's graph to OpenVINO's first mask of a 1280x720 frame, each in a fresh process.

    Returns:
        ``cold_s`` and ``warm_s``, with a cache of compiled models that is empty and then full.
    """
    with tempfile.TemporaryDirectory() as cache:
        return {
            "cold_s": isolated(_openvino_start_up, model, cache),
            "warm_s": isolated(_openvino_start_up, model, cache),
        }


def _openvino_start_up(model: str, cache: str) -> float:
    import openvino

    graph = create_engine(load_bundle(model), "openvino").bundle.graph
    began = time.perf_counter()
    core = openvino.Core()
    core.set_property({"CACHE_DIR": cache})
    network = core.read_model(graph, b"")
    network = openvino.Model([network.output("mask")], network.get_parameters())
    network.reshape([*HD, 3])
    core.compile_model(network, "CPU", {"PERFORMANCE_HINT": "LATENCY"})(np.zeros((*HD, 3), np.uint8))
    return time.perf_counter() - began


def row_text(row: dict[str, Any]) -> str:
    """One row for people."""
    figures = f"{row['p50_ms']:7.1f} / {row['p99_ms']:.1f} ms, load {row['load_s']:.1f} s"
    quality = "".join(f", {key} {row[key]:.2f}" for key in ("agreement", "miou_7") if row.get(key) is not None)
    return f"{row['model']:<22} {row['engine']:<12} {row['device']:<5} {row['precision']:<5}{figures}{quality}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that all parts share."""
    parser.add_argument("--models", nargs="+", default=list(shipped_bundles()), metavar="BUNDLE", help="default: all")
    parser.add_argument("--engine", nargs="+", default=present_engines(), choices=list(ENGINES), help="default: all")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    options = parser.parse_args()
    for one in table(options.models, options.engine):
        print(row_text(one))
    for bundle in options.models:
        for count in THREADS:
            print(row_text(bare(bundle, "onnxruntime", "fp32", count, 30)), f"with {count} threads")
        print(bundle, "OpenVINO start-up", openvino_start_up(bundle))
