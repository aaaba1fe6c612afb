"""Whether a confidence of the mask of now is worth its time: how well it tells right pixels from wrong ones.

    python benchmarks/confidence_now.py [--drive NAME ...] [--bag DRIVE ...] [--model BUNDLE] --out FILE

Offline, without a node. Every ``--inference`` milliseconds a mask and its confidence are inferred and carried along the
optical flow as the node does it; while the next inference lasts, which is as long again, their pixels are compared with
the truth. A pixel has the confidence that the network had where it came from, the residual around it (how far the
keyframe's picture, carried, is from the frame there), and its age. How often pixels of each such class are right is
learnt on the first drive, and is then the confidence on all others; so no formula of confidence, residual and age can
do much better. It is judged by

* AUROC: the chance that a right pixel has the higher confidence of the two, one right and one wrong;
* the error of calibration (ECE): how far confidence and share of right pixels are apart, on average;
* the Brier score: mean square distance of confidence and outcome, which holds both.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import drives
import numpy as np
from tqdm import tqdm

from seg_node.bags.drive import Drive, open_drive
from seg_node.bags.images import decode
from seg_node.commands.options import exit_on_sigterm
from seg_node.core.bundle import DEFAULT_MODEL, load_bundle
from seg_node.core.engines import create_engine
from seg_node.core.engines.base import Engine
from seg_node.core.machine import setting
from seg_node.core.propagation.flow import Grid, LabelWarp, dis_flow, resized
from seg_node.core.propagation.picture import reduction
from seg_node.core.report.tables import aligned, number
from seg_node.core.taxonomy import NO_LABEL, Category

CONFIDENCES = 32
"""Classes of the network's confidence, 0 to 255 in equal parts."""
RESIDUALS = (2.0, 4.0, 8.0, 12.0, 20.0, 32.0, 48.0)
"""Grey levels between the classes of the residual around a pixel."""
AGES_MS = (100.0, 150.0, 200.0, 300.0, 400.0, 600.0)
"""Milliseconds between the classes of age."""
AROUND = 7
"""Side in pixels of the grid of flows of what is around a pixel."""
EVERY = 2
"""Every so many pixels of the camera are looked at, in both directions."""
SCORES: dict[str, tuple[int, ...]] = {
    "as inferred": (),
    "with age": (0, 2),
    "with residual": (0, 1),
    "with both": (0, 1, 2),
}
"""What each confidence is made of: axes of the counts, 0 the network's, 1 the residual, 2 the age."""


@dataclass
class Counts:
    """Pixels by class of confidence, residual and age."""

    right: np.ndarray
    """int64 [CONFIDENCES, residuals, ages]."""
    all: np.ndarray

    @classmethod
    def none(cls) -> "Counts":
        """Of no pixel."""
        shape = CONFIDENCES, len(RESIDUALS) + 1, len(AGES_MS) + 1
        return cls(np.zeros(shape, np.int64), np.zeros(shape, np.int64))

    def add(self, right: np.ndarray, confidence: np.ndarray, residual: np.ndarray, age_ms: float) -> None:
        """Count pixels: bool [N], uint8 [N], float [N], all of one age."""
        age = int(np.searchsorted(AGES_MS, age_ms))
        places = (confidence.astype(int) * CONFIDENCES // 256) * (len(RESIDUALS) + 1)
        places += np.searchsorted(RESIDUALS, residual)
        size = CONFIDENCES * (len(RESIDUALS) + 1)
        for counts, chosen in ((self.all, places), (self.right, places[right])):
            counts[..., age] += np.bincount(chosen, minlength=size).reshape(counts.shape[:2])


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drive", nargs="+", choices=list(drives.known()), help="known drives (default: all)")
    parser.add_argument("--bag", nargs="+", type=Path, help="other drives with ground truth")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of made-up drives (default: %(default)s)")
    parser.add_argument("--frames", type=int, help="look at only so many frames of each drive")
    parser.add_argument("--inference", type=float, default=170.0, help="ms of an inference (default: %(default)s)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="default: %(default)s")
    parser.add_argument("--engine", default="auto", help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    engine = create_engine(load_bundle(options.model), options.engine, threads=1)
    known = drives.known(options.seconds)
    names = options.drive or ([] if options.bag else list(known))
    counts: dict[str, Counts] = {}
    with tempfile.TemporaryDirectory() as folder:
        bags = {name: known[name](Path(folder)) for name in names} | {bag.name: bag for bag in options.bag or ()}
        for name, bag in bags.items():
            if bag is None:
                print(f"{name}: left out, its data is not here (SEG_NODE_DATA)")
                continue
            counts[name] = count(name, open_drive(bag), engine, options.inference, options.frames)
    learnt, *others = counts
    rows = [
        {"drive": name, "pixels": int(counts[name].all.sum()), "right": rate(counts[name])}
        | {score: judged(counts[name], table_of(counts[learnt], axes)) for score, axes in SCORES.items()}
        for name in others
    ]
    about = {name: getattr(options, name) for name in ("model", "engine", "inference", "frames")}
    document = {"machine": setting(), **about, "learnt_on": learnt, "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"learnt on {learnt}, {100 * rate(counts[learnt]):.1f} % of its pixels right\n\n{text(rows)}")
    print(f"\nwritten: {options.out}")
    return 0


def count(name: str, drive: Drive, engine: Engine, inference_ms: float, frames: int | None = None) -> Counts:
    """Carry masks through a drive, and count its pixels by class."""
    found = Counts.none()
    period = 1e3 / drive.rate
    lasts = max(1, round(inference_ms / period))
    used = drive.frames[:frames]
    flow_of = dis_flow()
    with tqdm(total=len(used), desc=name, unit="frame") as bar:
        for begin in range(0, len(used) - 1, lasts):
            bar.update(min(lasts, len(used) - begin))
            for frame, mask, confidence, residual in carried(used, begin, 2 * lasts, engine, flow_of):
                truth = drive.masks.get(used[frame].stamp)
                # Before its end an inference has nothing to carry.
                if truth is None or frame < begin + lasts:
                    continue
                places = np.s_[::EVERY, ::EVERY]
                labelled = (truth[places] != NO_LABEL) & (truth[places] != Category.VOID)
                right = (mask[places] == truth[places])[labelled]
                found.add(right, confidence[places][labelled], residual[places][labelled], (frame - begin) * period)
    return found


def carried(
    frames: list, begin: int, steps: int, engine: Engine, flow_of
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Infer one frame and carry what came of it along.

    Yields:
        Index of a later frame; mask and confidence, uint8 [H, W], valid until the next one; residual around each pixel
        in grey levels, float32 [H, W].
    """
    bgr = decode(frames[begin])
    mask, confidence = (kept.copy() for kept in engine.infer(bgr, confidence=True))
    before = _grey(bgr)
    size = before.shape[0] // 2, before.shape[1] // 2
    grid, warps = Grid(size), (LabelWarp(mask.shape), LabelWarp(mask.shape))
    first = cv2.resize(before, size[::-1], interpolation=cv2.INTER_AREA)
    flow = np.zeros((*size, 2), np.float32)
    for frame in range(begin + 1, min(begin + steps, len(frames))):
        now = _grey(decode(frames[frame]))
        step = resized(flow_of(now, before), size)
        flow = grid.compose(step, flow, np.empty_like(flow))
        small = cv2.resize(now, size[::-1], interpolation=cv2.INTER_AREA)
        residual = cv2.blur(cv2.absdiff(grid.warp(first, flow), small).astype(np.float32), (AROUND, AROUND))
        yield frame, warps[0](mask, flow), warps[1](confidence, flow), cv2.resize(residual, mask.shape[::-1])
        before = now


def _grey(bgr: np.ndarray) -> np.ndarray:
    """The node's small grey picture."""
    factor = reduction(bgr.shape[1])
    small = -(-bgr.shape[1] // factor), -(-bgr.shape[0] // factor)
    return cv2.cvtColor(cv2.resize(bgr, small, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)


def rate(counts: Counts) -> float:
    """Share of pixels that are right, 0 to 1."""
    return float(counts.right.sum() / max(counts.all.sum(), 1))


def table_of(learnt: Counts, axes: tuple[int, ...]) -> np.ndarray:
    """Confidence of each class, float [CONFIDENCES, residuals, ages], 0 to 1.

    Args:
        learnt: counts that are learnt from.
        axes: classes that are told apart; none for the network's own confidence as it is.
    """
    shape = learnt.all.shape
    if not axes:
        own = (np.arange(CONFIDENCES) + 0.5) / CONFIDENCES
        return np.broadcast_to(own[:, np.newaxis, np.newaxis], shape)
    rest = tuple(axis for axis in range(3) if axis not in axes)
    right, everything = (counts.sum(rest, keepdims=True) for counts in (learnt.right, learnt.all))
    # A class of few pixels says what its confidence alone says.
    beyond = learnt.right.sum((1, 2), keepdims=True) + rate(learnt)
    prior = beyond / (learnt.all.sum((1, 2), keepdims=True) + 1)
    return np.broadcast_to((right + 1000 * prior) / (everything + 1000), shape)


def judged(counts: Counts, table: np.ndarray) -> dict[str, Any]:
    """``auroc``, ``ece`` and ``brier`` of a confidence on a drive, 0 to 1.

    ``bins`` are of the reliability diagram: mean ``confidence``, share of ``right`` pixels and ``pixels`` of each
    twentieth of the confidence that has some.
    """
    order = np.argsort(table, axis=None)
    score, right, everything = (values.ravel()[order] for values in (table, counts.right, counts.all))
    wrong = everything - right
    # Classes of one score are one class: ties count half.
    starts = np.flatnonzero(np.r_[True, np.diff(score) > 1e-12])
    right, wrong = (np.add.reduceat(values, starts).astype(float) for values in (right, wrong))
    score = score[starts]
    below = np.cumsum(wrong) - wrong
    both = right.sum() * wrong.sum()
    total = right + wrong
    share = np.divide(right, total, out=np.zeros_like(right), where=total > 0)
    bins = np.minimum((score * 20).astype(int), 19)
    sums = [np.bincount(bins, weights, 20) for weights in (right, score * total)]
    pixels = np.bincount(bins, total, 20)
    some = pixels > 0
    return {
        "auroc": float(((below + wrong / 2) * right).sum() / both) if both else float("nan"),
        "ece": float(np.abs(sums[0] - sums[1]).sum() / total.sum()),
        "brier": float((total * (share * (1 - score) ** 2 + (1 - share) * score**2)).sum() / total.sum()),
        "bins": {
            "confidence": (sums[1][some] / pixels[some]).tolist(),
            "right": (sums[0][some] / pixels[some]).tolist(),
            "pixels": pixels[some].astype(int).tolist(),
        },
    }


def text(rows: list[dict[str, Any]]) -> str:
    """All drives as a table."""
    figures = {"auroc": "AUROC", "ece": "ECE", "brier": "Brier"}
    header = ["drive", "right %", *(f"{title}, {score}" for title in figures.values() for score in SCORES)]
    lines = [
        [row["drive"], number(100 * row["right"])]
        + [number(row[score][figure], 3) for figure in figures for score in SCORES]
        for row in rows
    ]
    return aligned((header, lines))


if __name__ == "__main__":
    exit_on_sigterm()
    sys.exit(main())
