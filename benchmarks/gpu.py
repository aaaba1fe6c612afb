"""``make bench-gpu``: inference on a GPU, host to host, held against what the GPU can do; and the node over DDS.

    python benchmarks/gpu.py [--models BUNDLE ...] [--engine ENGINE ...] [--inferences 200] [--parts engines nodes]

A frame goes to the GPU and its mask comes back, both as uint8, within each measured time. ONNX Runtime needs its GPU
build (``pip install onnxruntime-gpu`` in place of ``onnxruntime``), and torch one for CUDA. Writes ``gpu.json``.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import nodes
import numpy as np
import roofline
from engines import bare, row_text
from setting import HD, isolated, percentiles, street

from seg_node.bags.images import decode
from seg_node.commands.options import exit_on_sigterm
from seg_node.core.bundle import BundleError, load_bundle, shipped_bundles
from seg_node.core.engines import create_engine
from seg_node.core.machine import setting
from seg_node.rig.scoring import versions

SIZES = (HD, (1024, 2048))
"""Height and width in pixels."""
ENGINES = {"torch": ("bf16", "fp32"), "onnxruntime": ("fp32",)}
"""Engines that have a path to a GPU, with the precisions in which they compute there."""
PARTS = ("engines", "nodes")
_LOAD = nodes.Load(sustained=300, sustained_s=0.0, idle_s=2.0, overload_s=2.0, inferences=0)


def rows(
    models: Sequence[str], engines: Sequence[str], inferences: int, sizes: Sequence[tuple[int, int]] = SIZES
) -> Iterator[dict[str, Any]]:
    """A row of ``engines.bare`` for each bundle, engine, precision and size, with what ``roofline.limits`` adds.

    Also ``floor_ms`` of the roofline, ``floors``, how many of these the median takes, and ``agreement``, the share of
    pixels, percent, of the shipped drive that ready-made kernels of torch give the same category in fp32.

    Raises:
        RuntimeError: an engine does not run on a GPU here.
    """
    peak = roofline.peaks("cuda")
    for model, size in product(models, sizes):
        reference = isolated(_masks, model, size)
        for engine in engines:
            for precision in ENGINES[engine]:
                row = bare(model, engine, precision, 0, inferences, size=size, reference=reference)
                if row["device"].lower() == "cpu":
                    raise RuntimeError(f"{engine} runs on the processor here: install its build for CUDA")
                row |= roofline.limits(row, model, peak)
                row["floor_ms"] = roofline.floor_ms(model, size, precision, peak)
                row["floors"] = row["p50_ms"] / row["floor_ms"]
                yield row


def node_row(model: str, engine: str) -> dict[str, Any]:
    """The segmentation node on 1280x720 frames over DDS.

    Returns:
        ``model``, ``engine``, ``start_s``, ``own_hz`` and ``runs``: for each of ``nodes.Played`` its ``hz``, ``sent``,
        ``received``, ``masked`` and ``masks_per_s``, with the percentiles of ``latency``, camera to mask, and of
        ``inference``, ms.
    """
    measured = nodes.measure("ours", model, engine, _LOAD, (3.0,))
    runs = {
        run.name: {key: getattr(run, key) for key in ("hz", "sent", "received", "masked", "masks_per_s")}
        | {key: percentiles(np.array(getattr(run, key))) for key in ("latency", "inference") if getattr(run, key)}
        for run in measured.runs.values()
    }
    return {
        "model": measured.model,
        "engine": engine,
        "start_s": measured.start_s,
        "own_hz": measured.own_hz,
        "runs": runs,
    }


def _masks(model: str, size: tuple[int, int]) -> np.ndarray:
    # Without warm_up, of which torch would compile kernels.
    engine = create_engine(load_bundle(model), "torch", precision="fp32")
    return np.stack([engine.infer(decode(frame))[0] for frame in street(size, 10).frames])


def _node_text(row: dict[str, Any]) -> str:
    lines = [f"{row['model']} on {row['engine']}, active after {row['start_s']:.1f} s, own rate {row['own_hz']:.0f} Hz"]
    for name, run in row["runs"].items():
        latency = run.get("latency", {})
        lines.append(
            f"  {name:<10}{run['hz']:7.1f} Hz: {run['masked']} masks of {run['sent']} frames, {run['masks_per_s']:.1f}"
            f" masks/s, camera to mask {latency.get('p50_ms', 0):.2f} / {latency.get('p99_ms', 0):.2f} ms"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(shipped_bundles()), metavar="BUNDLE", help="default: all")
    parser.add_argument("--engine", nargs="+", default=list(ENGINES), choices=ENGINES, help="default: all")
    parser.add_argument("--inferences", type=int, default=200, help="for each row; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("bench_output"), help="default: %(default)s")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="default: all")
    options = parser.parse_args(arguments)
    import torch

    if not torch.cuda.is_available():
        print("error: torch sees no GPU here", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    gpu = torch.cuda.get_device_name()
    about = {"gpu": gpu, "machine": setting(gpu), "versions": versions(), "rows": [], "nodes": []}

    def keep(part: str, found: dict[str, Any], text: str) -> None:
        print(text, flush=True)
        about[part].append(found)
        (options.out / "gpu.json").write_text(json.dumps(about, indent=1) + "\n")

    try:
        if "engines" in options.parts:
            for row in rows(options.models, options.engine, options.inferences):
                text = f"{row['width']}x{row['height']} {row_text(row)}, {row['floors']:.1f} x roofline"
                keep("rows", row, text)
        if "nodes" in options.parts:
            for model, engine in product(options.models, options.engine):
                row = node_row(model, engine)
                keep("nodes", row, _node_text(row))
    except (BundleError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    exit_on_sigterm()
    sys.exit(main())
