"""Bare inference: each bundle on each engine and precision, without ROS.

    python benchmarks/engines.py [--models BUNDLE ...] [--engine ENGINE ...]

A bundle without ranges for int8 is given some here, taken from CamVid's training images, so that there is a row.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from setting import HD, camvid_root, isolated, percentiles, street
from tqdm import tqdm

from seg_node.bags.images import decode
from seg_node.core.bundle import load_bundle, shipped_bundles, write_bundle
from seg_node.core.engines import ENGINES, Engine, create_engine, present_engines
from seg_node.core.machine import instructions
from seg_node.core.metrics import confusion_matrix, scores

THREADS = (1, 2)
"""Numbers of threads that are compared with each other."""
_CALIBRATED_ON = 32
"""Images that ranges for int8 are taken from."""
BUNDLES_OWN = "the bundle's"
"""Where ranges are from that a bundle brings along."""


def bare(
    model: str,
    engine: str,
    precision: str,
    threads: int,
    inferences: int,
    warm_up: int = 3,
    size: tuple[int, int] = HD,
    reference: np.ndarray | None = None,
) -> dict[str, Any]:
    """Time an engine on frames of one size, back to back, in a fresh process.

    Args:
        model: bundle.
        engine: of ``ENGINES``, or ``auto``.
        precision: of ``PRECISIONS``.
        threads: see ``Engine``.
        inferences: how many are timed.
        warm_up: how many come before.
        size: height and width of the frames in pixels.
        reference: masks of these frames, uint8 [10, H, W].

    Returns:
        ``model``, ``engine``, ``device``, ``precision``, ``threads``, ``height``, ``width``; ``load_s``, from the
        bundle's files to the first mask; ``p50_ms`` and ``p99_ms``; with a reference ``agreement``, the share of
        pixels, percent, of the same category.
    """
    return isolated(_bare, model, engine, precision, threads, inferences, warm_up, size, reference)


def _bare(
    model: str,
    engine_name: str,
    precision: str,
    threads: int,
    inferences: int,
    warm_up: int,
    size: tuple[int, int],
    reference: np.ndarray | None = None,
) -> dict[str, Any]:
    frames = [decode(frame) for frame in street(size, 10).frames]
    began = time.perf_counter()
    engine = create_engine(load_bundle(model), engine_name, threads, precision)
    engine.warm_up(size)
    load = time.perf_counter() - began
    times = inference_times(engine, frames, inferences, warm_up)
    agreement = {}
    if reference is not None:
        agreement["agreement"] = 100 * float(np.mean([engine.infer(frame)[0] for frame in frames] == reference))
    return {
        "model": engine.bundle.name,
        "engine": engine.name,
        "device": engine.device,
        "precision": computed_precision(engine.name, engine.precision),
        "threads": threads,
        "height": size[0],
        "width": size[1],
        "load_s": load,
        **percentiles(np.array(times)),
        **agreement,
    }


def inference_times(engine: Engine, frames: Sequence[np.ndarray], inferences: int, warm_up: int) -> list[float]:
    """Milliseconds of inferences back to back, after some that are not counted; the frames take turns."""
    times = []
    for i in range(warm_up + inferences):
        began = time.perf_counter()
        engine.infer(frames[i % len(frames)])
        times.append(1e3 * (time.perf_counter() - began))
    return times[warm_up:]


def computed_precision(engine: str, precision: str) -> str:
    """What an engine of that ``Engine.precision`` computes in, for people."""
    if precision != "auto":
        return precision
    if engine == "onnxruntime":
        return "fp32"
    import torch

    from seg_node.core.network import computes_faster_in_bf16

    return "bf16" if computes_faster_in_bf16(torch.device("cuda" if torch.cuda.is_available() else "cpu")) else "fp32"


def has_native_bf16() -> bool:
    """Whether the device has instructions for bf16, fast or not."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(instructions())


def settings(models: Sequence[str], engines: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Bundle, engine and precision of each row: bf16 only where it is native, int8 where it can have ranges."""
    for model in models:
        for engine in engines:
            yield model, engine, "fp32"
            if engine != "onnxruntime" and has_native_bf16():
                yield model, engine, "bf16"
            if engine != "torch" and (load_bundle(model).ranges or camvid_root()):
                yield model, engine, "int8"


def with_ranges(model: str, folder: Path) -> tuple[str, str]:
    """A bundle that can be computed in int8, and where its ranges are from.

    Args:
        model: bundle; it is given back where it has ranges.
        folder: for a copy with ranges of images of CamVid train. Not of val, on which the rows are scored.
    """
    bundle = load_bundle(model)
    if bundle.ranges or (root := camvid_root()) is None:
        return model, BUNDLES_OWN
    return str(isolated(_calibrated, model, folder / bundle.name, root)), f"of {_CALIBRATED_ON} images of CamVid train"


def _calibrated(model: str, folder: Path, root: Path) -> Path:
    from seg_node.core.engines.quantise import calibrate
    from seg_training.datasets.camvid import CamVid

    bundle, data = load_bundle(model), CamVid(root, "train")
    images = (data[i][0] for i in np.linspace(0, len(data) - 1, _CALIBRATED_ON).astype(int))
    return write_bundle(folder, bundle.manifest, bundle.graph, calibrate(bundle.graph, images)).path


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

    ``agreement`` is the share of pixels, percent, that torch in fp32 gives the same category. ``ranges`` says where
    those of int8 are from, None in other rows.
    """
    references = {model: masks(model, "torch", "fp32", every) for model in models}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        quantisable = {model: with_ranges(model, Path(folder)) for model in models}
        for model, engine, precision in tqdm(list(settings(models, engines)), desc="engines", disable=not progress):
            run, ranges = quantisable[model] if precision == "int8" else (model, None)
            row = bare(run, engine, precision, 0, inferences)
            reference = references[model]
            predicted = reference if (engine, precision) == ("torch", "fp32") else masks(run, engine, precision, every)
            row |= {"bundle": model, "agreement": float(100 * (predicted == reference).mean()), "ranges": ranges}
            row["miou_7"] = miou_7(predicted, every)
            rows.append(row)
    return rows


def start_up(model: str, engine: str) -> dict[str, float]:
    """Seconds from a bundle's files to the first mask of a 1280x720 frame, each in a fresh process.

    Returns:
        ``cold_s`` and ``warm_s``, with a cache of compiled models that is empty and then full; without the start of
        Python, for which see ``nodes.Measured.start_s``.
    """
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = (
            isolated(_bare, model, engine, "auto", 0, 1, 0, HD, environment={"XDG_CACHE_HOME": cache}) for _ in range(2)
        )
    return {"cold_s": cold["load_s"], "warm_s": warm["load_s"]}


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
            print(row_text(bare(bundle, "auto", "auto", count, 30)), f"with {count} threads")
        print(bundle, "start-up", start_up(bundle, "auto"))
