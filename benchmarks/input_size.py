"""What a smaller network input gains and costs: the same weights at several sizes, timed and scored in one run.

    python benchmarks/input_size.py [--models BUNDLE ...] [--engine ENGINE] [--out FOLDER]

Each size is exported from the bundle again, as ``python -m seg_training export BUNDLE ANOTHER --input-size`` does it.
With CamVid, it computes in int8 with ranges from CamVid train, and is scored on val. Writes ``input_size.json``.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engines import bare, masks, miou_7, row_text, with_ranges
from setting import HD, camvid_root, isolated

from seg_node.core.bundle import BundleError, load_bundle, shipped_bundles
from seg_node.core.machine import setting
from seg_node.rig.scoring import versions

SCALES = (1.0, 0.85, 0.7, 0.5)
"""Of both sides of a bundle's input size."""


def rows(
    models: Sequence[str], engine: str, inferences: int, every: int, scales: Sequence[float] = SCALES
) -> Iterator[dict[str, Any]]:
    """A row of ``engines.bare`` for each bundle and scale, with ``input_size``, ``gflops`` and ``miou_7``.

    Args:
        models: bundles.
        engine: of ``ENGINES``.
        inferences: how many are timed, of frames of 1280x720.
        every: which images of CamVid val are scored.
        scales: of the sides.
    """
    precision = "int8" if camvid_root() else "auto"
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            bundle = load_bundle(model)
            for scale in scales:
                height, width = (round(scale * side) for side in bundle.manifest.input_size)
                out = Path(folder, "plain", f"{bundle.name}_{height}x{width}")
                work = isolated(_resized, model, out, (height, width))
                run, _ = with_ranges(str(out), Path(folder, "with_ranges"))
                row = bare(run, engine, precision, 0, inferences, size=HD)
                predicted = masks(run, engine, precision, every)
                row |= {"model": bundle.name, "input_size": [height, width], "gflops": work}
                yield row | {"miou_7": miou_7(predicted, every)}


def _resized(model: str, out: Path, size: tuple[int, int]) -> float:
    from seg_training.export import export_again

    return export_again(load_bundle(model), out, input_size=size).manifest.gflops


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(shipped_bundles()), metavar="BUNDLE", help="default: all")
    parser.add_argument("--engine", default="openvino", choices=("onnxruntime", "openvino"))
    parser.add_argument("--inferences", type=int, default=60, help="for each row; default: %(default)s")
    parser.add_argument("--every", type=int, default=1, help="score each so many images of val; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("bench_output"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    found = []
    try:
        for row in rows(options.models, options.engine, options.inferences, options.every):
            found.append(row)
            print(f"{row['input_size'][0]}x{row['input_size'][1]} {row_text(row)}", flush=True)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"machine": setting(), "versions": versions(), "every": options.every, "input_sizes": found}
    (options.out / "input_size.json").write_text(json.dumps(about, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
