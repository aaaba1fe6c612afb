"""Evaluation of a network, or of anything else that turns BGR frames into masks."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset
from tqdm import tqdm

from seg_node.core.bundle import Bundle
from seg_node.core.engines import Engine, create_engine
from seg_node.core.errors import NoResultError, UserError
from seg_node.core.metrics import confusion_matrix
from seg_node.core.network import FrameSegmenter, SegmentationNetwork
from seg_node.core.taxonomy import EIGHT, Taxonomy
from seg_training.datasets import Dataset
from seg_training.quality import BLOCK, Observations, border_f1, confidence_counts, summarise

Sample = tuple[np.ndarray, np.ndarray]
"""uint8 [H, W, 3] BGR image and uint8 [H, W] mask of categories."""


def score(
    bundle: Bundle,
    dataset: Dataset,
    engine: str = "onnxruntime",
    precision: str = "fp32",
    block: int = BLOCK,
    every: int = 1,
    plots: Path | None = None,
) -> dict[str, Any]:
    """Score a bundle on a data set.

    Args:
        bundle: to run.
        dataset: images with their masks.
        engine: see ``create_engine``.
        precision: see ``create_engine``.
        block: see ``quality.intervals``.
        every: of how many images one is evaluated.
        plots: folder to write plots into.

    Returns:
        What ``evaluate`` prints and a manifest keeps: the figures of ``quality.summarise``, on what, and with what.

    Raises:
        NoResultError: no pixel of the data set has a label.
    """
    if getattr(dataset, "unlabelled", None) == len(dataset):
        raise NoResultError(f"nothing to score with: no pixel of {dataset.description} has a label")
    samples = Subset(dataset, range(0, len(dataset), every))
    runner = create_engine(bundle, engine, precision=precision)
    taxonomy = bundle.manifest.taxonomy
    observations = observe(runner, (samples[i] for i in range(len(samples))), len(samples), taxonomy)
    figures = {
        "data": dataset.description + (f", one in {every} of them" if every > 1 else ""),
        "engine": runner.name,
        "computed_in": runner.precision,
        **summarise(observations, block, taxonomy),
    }
    if plots:
        from seg_training.evaluation_plots import write_plots

        write_plots(plots, figures, observations, runner, samples)
    return figures


def scores_table(name: str, figures: dict[str, Any]) -> str:
    """Figures of ``score`` for people; ``name`` is that of the bundle."""
    return table(f"{name} on {figures['data']}, {figures['engine']} {figures['computed_in']}", figures)


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    samples: Iterable[Sample],
    progress: bool = True,
    count: int = len(EIGHT),
) -> np.ndarray:
    """Confusion matrix of a model over samples, at the full resolution of the labels: the one figure of a running loop.

    Args:
        predict: function from a BGR frame to a mask of its size, see ``predictor``.
        samples: pairs of image and mask.
        progress: show a progress bar.
        count: number of categories, N.

    Returns:
        int64 [N, N], see ``core.metrics``.
    """
    confusion = np.zeros((count, count), np.int64)
    for image, truth in tqdm(samples, desc="evaluating", unit="image", disable=not progress):
        confusion += confusion_matrix(truth, predict(image), count)
    return confusion


def observe(
    engine: Engine, samples: Iterable[Sample], total: int | None = None, taxonomy: Taxonomy = EIGHT
) -> Observations:
    """Count what ``quality.summarise`` summarises, of a bundle as the node runs it.

    Args:
        engine: of the bundle.
        samples: pairs of image and mask, at least one, in the order in which the images were taken.
        total: their number, for the progress bar.
        taxonomy: categories of the bundle.

    Raises:
        UserError: there are no samples.
    """
    confusion, borders, confidences = [], [], np.zeros((256, 2), np.int64)
    for image, truth in tqdm(samples, desc="evaluating", unit="image", total=total):
        mask, confidence = engine.infer(image, confidence=True)
        confusion.append(confusion_matrix(truth, mask, len(taxonomy)))
        borders.append(border_f1(truth, mask, taxonomy))
        confidences += confidence_counts(truth, mask, confidence, taxonomy.left_out)
    if not confusion:
        raise UserError("there is no image to evaluate on")
    return Observations(np.stack(confusion), np.stack(borders), confidences)


def table(title: str, figures: dict) -> str:
    """Figures of ``quality.summarise`` for people.

    Args:
        title: what was evaluated on what.
        figures: see ``summarise``.
    """
    made = figures["intervals"]
    of_what = "single images" if made["block"] == 1 else f"blocks of {made['block']} images"
    interval = f"[{made['level']:.0%} bootstrap interval over {of_what}]"
    headline = "miou_7" if "miou_7" in figures else "miou"
    if figures.get(f"{headline}_ci") is None:
        interval = f"without intervals: too little for two {of_what}" + (", see --block" if made["block"] > 1 else "")
    lines = [f"{title}; percent, {interval}"]
    for key in (headline, "miou_8", "pixel_accuracy", "mean_f1", "mean_boundary_f1", "ece"):
        if key not in figures:
            continue
        lines.append(f"  {key:<18}{_number(figures[key])}  {_interval(figures.get(f'{key}_ci'))}".rstrip())
    lines.append(f"  {'':<14}{'IoU':>6}  {'':16}{'precision':>9}{'recall':>8}{'F1':>8}{'boundary F1':>13}")
    for name in figures["iou"]:
        lines.append(
            f"  {name:<14}{_number(figures['iou'][name])}  {_interval(figures['iou_ci'][name]):<16}"
            + "".join(
                f"{_number(figures[key][name]):>{width}}"
                for key, width in (("precision", 9), ("recall", 8), ("f1", 8), ("boundary_f1", 13))
            )
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "     -" if value is None else f"{value:6.2f}"


def _interval(bounds: list[float] | None) -> str:
    return "" if bounds is None else f"[{bounds[0]:.2f}, {bounds[1]:.2f}]"


def predictor(network: SegmentationNetwork, input_size: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
    """Function from a BGR frame to its mask, as a bundle's graph computes it.

    Args:
        network: on any device; its mode is set to ``eval``.
        input_size: (height, width) in pixels, see ``core.network.network_size``.
    """
    device = next(network.parameters()).device
    segmenter = FrameSegmenter(network.eval(), tuple(input_size)).to(device)

    @torch.inference_mode()
    def predict(frame: np.ndarray) -> np.ndarray:
        return segmenter(torch.from_numpy(frame).to(device))[0].cpu().numpy()

    return predict
