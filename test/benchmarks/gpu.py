"""``make bench-gpu``: inference on a GPU, host to host, held against what the GPU can do.

    python test/benchmarks/gpu.py [--models BUNDLE ...] [--engine ENGINE ...] [--inferences 200]

A frame goes to the GPU and its mask comes back, both as uint8, within each measured time. ONNX Runtime needs its GPU
build (``pip install onnxruntime-gpu`` in place of ``onnxruntime``), and torch one for CUDA. Writes ``gpu.json``.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import roofline
from engines import bare, row_text
from setting import HD

from seg_node.core.bundle import BundleError, shipped_bundles
from seg_node.core.machine import machine
from seg_node.replay.scoring import versions

SIZES = (HD, (1024, 2048))
"""Height and width in pixels."""
ENGINES = {"onnxruntime": ("fp32",), "torch": ("fp32", "bf16")}
"""Engines that have a path to a GPU, with the precisions in which they compute there."""


def rows(
    models: Sequence[str], engines: Sequence[str], inferences: int, sizes: Sequence[tuple[int, int]] = SIZES
) -> Iterator[dict[str, Any]]:
    """A row of ``engines.bare`` for each bundle, engine, precision and size, with what ``roofline.limits`` adds.

    Raises:
        RuntimeError: an engine does not run on a GPU here.
    """
    peak = roofline.peaks("cuda")
    for model in models:
        for engine in engines:
            for precision in ENGINES[engine]:
                for size in sizes:
                    row = bare(model, engine, precision, 0, inferences, size=size)
                    if row["device"].lower() == "cpu":
                        raise RuntimeError(f"{engine} runs on the processor here: install its build for CUDA")
                    yield row | roofline.limits(row, model, peak)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(shipped_bundles()), metavar="BUNDLE", help="default: all")
    parser.add_argument("--engine", nargs="+", default=list(ENGINES), choices=ENGINES, help="default: all")
    parser.add_argument("--inferences", type=int, default=200, help="for each row; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("bench_output"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    import torch

    if not torch.cuda.is_available():
        print("error: torch sees no GPU here", file=sys.stderr)
        return 2
    found = []
    try:
        for row in rows(options.models, options.engine, options.inferences):
            found.append(row)
            print(f"{row['width']}x{row['height']} {row_text(row)}, roofline ratio {row['ratio']:.2f}", flush=True)
    except (BundleError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"gpu": torch.cuda.get_device_name(), "machine": machine(), "versions": versions(), "rows": found}
    (options.out / "gpu.json").write_text(json.dumps(about, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
