"""What the projection of a mask costs, and how near its grid is to the truth of made-up drives.

    python benchmarks/projection.py [--models BUNDLE ...] [--frames N] --out FILE

Times are processor time of one core, in this process, without the middleware. Grids are scored within 20 m, with true
masks and with those of the models, on flat ground and with depth images.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from seg_node.core.bundle import DEFAULT_MODEL, load_bundle
from seg_node.core.engines import create_engine
from seg_node.core.machine import setting
from seg_node.core.projection.camera_model import Calibration
from seg_node.core.projection.cloud import POINT, POINT_STEP
from seg_node.core.projection.grid import DRIVABLE, GridSpec, class_table
from seg_node.core.projection.ground import Pose
from seg_node.core.projection.projector import Projector
from seg_node.core.taxonomy import CATEGORY_NAMES, Category
from seg_training.datasets.synthetic import SyntheticDrive
from seg_training.datasets.synthetic.plan import true_grid

LENSES = {
    "no distortion": ("", ()),
    "plumb_bob": ("plumb_bob", (-0.28, 0.07, 0.0008, -0.0012, 0.01)),
    "rational_polynomial": ("rational_polynomial", (0.4, -0.1, 0.0005, 0.0003, 0.02, 0.8, -0.05, 0.03)),
    "equidistant": ("equidistant", (0.03, -0.01, 0.004, -0.001)),
}
SEEDS = ((3, False), (11, True))
"""Seed and turns of the drives that are scored."""
_REPEATS = 30
_SPEC = GridSpec()
_TABLE = class_table(CATEGORY_NAMES, ["flat"], ["void", "sky"])


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=[DEFAULT_MODEL], help="default: %(default)s")
    parser.add_argument("--frames", type=int, default=10, help="of each drive, a second apart (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    if options.frames < 1:
        parser.error(f"--frames is {options.frames}; it must be at least 1")
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    costs = [cost(size, lens) for size in ((360, 640), (720, 1280)) for lens in LENSES]
    cv2.setNumThreads(threads)
    result = {"machine": setting(), "costs": costs, "scores": scores(options.models, options.frames)}
    options.out.write_text(json.dumps(result, indent=1))
    print("\n".join(map(_text_of_cost, costs)))
    print("\n".join(map(_text_of_score, result["scores"])))
    print(f"written: {options.out}")
    return 0


def cost(size: tuple[int, int], lens: str) -> dict[str, Any]:
    """Milliseconds for one mask.

    Args:
        size: height and width in pixels.
        lens: one of ``LENSES``.

    Returns:
        ``size``, ``lens``, the median milliseconds of processor time of ``flat`` and ``depth``, each cloud and grid
        together, and ``new_pose`` of a grid and cloud on flat ground for a pose that was not there before.
    """
    height, width = size
    drive = SyntheticDrive(3, size)
    _, mask, depth = drive.measured_frame(30)
    depth = np.where(np.isfinite(depth), depth, np.nan).astype(np.float32)
    fx, fy, cx, cy = drive.camera
    calibration = Calibration(height, width, *LENSES[lens], (fx, 0, cx, 0, fy, cy, 0, 0, 1))
    projector = Projector(_SPEC, _TABLE)
    mounting = drive.mounting(30)
    points = np.empty(mask.size * POINT_STEP, np.uint8)

    def both(pose: Pose, measured: np.ndarray | None) -> None:
        projector.write_points(points, mask, mask, calibration, pose, measured)
        projector.grid(mask, calibration, pose, measured)

    pose = Pose.of_mounting(*mounting)
    moved = iter(Pose.of_mounting(mounting[0], mounting[1] + 1e-4 * n) for n in range(1, 1000))
    return {
        "size": f"{width}x{height}",
        "lens": lens,
        "flat": _median_ms(lambda: both(pose, None), _REPEATS),
        "depth": _median_ms(lambda: both(pose, depth), _REPEATS),
        "new_pose": _median_ms(lambda: both(next(moved), None), 5),
    }


def _median_ms(run: Callable[[], None], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    return float(np.median(times)) * 1e3


def scores(models: list[str], frames: int) -> list[dict[str, Any]]:
    """Score true masks and those of models.

    Returns:
        For each of them, and flat ground or depth: ``masks``, ``ground``, the ``iou`` of drivable cells in percent, of
        all frames together, and, for true masks, ``points`` of ``flat`` within 5 cm or 2 % of their true depth up to
        20 m, in percent.
    """
    engines = {name: create_engine(load_bundle(name)) for name in models}
    counts: dict[tuple[str, str], np.ndarray] = {}
    good = {"flat": np.zeros(2), "depth": np.zeros(2)}
    for seed, turns in SEEDS:
        drive = SyntheticDrive(seed, turns=turns)
        for index in tqdm(range(0, 30 * frames, 30), f"drive {seed}", unit="frame"):
            image, truth, depth = drive.measured_frame(index)
            true = true_grid(drive, index, _SPEC, truth, depth) == DRIVABLE
            fx, fy, cx, cy = drive.camera
            calibration = Calibration(*truth.shape, "", (), (fx, 0, cx, 0, fy, cy, 0, 0, 1))
            projector, pose = Projector(_SPEC, _TABLE), Pose.of_mounting(*drive.mounting(index))
            measured = np.where(np.isfinite(depth), depth, np.nan).astype(np.float32)
            masks = {"true": truth} | {name: engine.infer(image)[0] for name, engine in engines.items()}
            for ground, given in (("flat", None), ("depth", measured)):
                for name, mask in masks.items():
                    found = projector.grid(mask, calibration, pose, given) == DRIVABLE
                    pair = np.array(((found & true).sum(), (found | true).sum()))
                    counts[name, ground] = counts.get((name, ground), 0) + pair
                points = np.empty(truth.size * POINT_STEP, np.uint8)
                projector.write_points(points, truth, None, calibration, pose, given)
                near = (truth == Category.FLAT) & (depth <= 20)
                z = points.view(POINT)["z"].reshape(truth.shape)[near]
                right = np.abs(z - depth[near]) <= np.maximum(0.05, 0.02 * depth[near])
                good[ground] += (right.sum(), right.size)
    return [
        {"masks": name, "ground": ground, "iou": 100 * both / either}
        | ({"points": 100 * good[ground][0] / good[ground][1]} if name == "true" else {})
        for (name, ground), (both, either) in counts.items()
    ]


def _text_of_cost(row: dict[str, Any]) -> str:
    return (
        f"{row['size']:9} {row['lens']:20} flat {row['flat']:6.1f} ms, depth {row['depth']:6.1f} ms,"
        f" flat with a new pose {row['new_pose']:6.1f} ms"
    )


def _text_of_score(row: dict[str, Any]) -> str:
    points = f", points of flat within 5 cm or 2 % {row['points']:.2f} %" if "points" in row else ""
    return f"masks {row['masks']:16} {row['ground']:5} ground: IoU of drivable {row['iou']:.1f}{points}"


if __name__ == "__main__":
    raise SystemExit(main())
