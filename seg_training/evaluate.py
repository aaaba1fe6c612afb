"""Evaluation of a network, or of anything else that turns BGR frames into masks."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from tqdm import tqdm

from seg_node.core.engines import Engine
from seg_node.core.metrics import confusion_matrix
from seg_node.core.network import FrameSegmenter, SegmentationNetwork
from seg_node.core.taxonomy import CATEGORY_NAMES, Category
from seg_training.quality import Observations, border_f1, confidence_counts

Sample = tuple[np.ndarray, np.ndarray]
"""uint8 [H, W, 3] BGR image and uint8 [H, W] mask of categories."""


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray], samples: Iterable[Sample], progress: bool = True
) -> np.ndarray:
    """Confusion matrix of a model over samples, at the full resolution of the labels: the one figure of a running loop.

    Args:
        predict: function from a BGR frame to a mask of its size, see ``predictor``.
        samples: pairs of image and mask.
        progress: show a progress bar.

    Returns:
        int64 [8, 8], see ``core.metrics``.
    """
    confusion = np.zeros((len(Category), len(Category)), np.int64)
    for image, truth in tqdm(samples, desc="evaluating", unit="image", disable=not progress):
        confusion += confusion_matrix(truth, predict(image))
    return confusion


def observe(engine: Engine, samples: Iterable[Sample], total: int | None = None) -> Observations:
    """Count what ``quality.summarise`` summarises, of a bundle as the node runs it.

    Args:
        engine: of the bundle.
        samples: pairs of image and mask, at least one, in the order in which the images were taken.
        total: their number, for the progress bar.

    Raises:
        ValueError: there are no samples.
    """
    confusion, borders, confidences = [], [], np.zeros((256, 2), np.int64)
    for image, truth in tqdm(samples, desc="evaluating", unit="image", total=total):
        mask, confidence = engine.infer(image, confidence=True)
        confusion.append(confusion_matrix(truth, mask))
        borders.append(border_f1(truth, mask))
        confidences += confidence_counts(truth, mask, confidence)
    if not confusion:
        raise ValueError("there is no image to evaluate on")
    return Observations(np.stack(confusion), np.stack(borders), confidences)


def table(title: str, figures: dict) -> str:
    """Figures of ``quality.summarise`` for people.

    Args:
        title: what was evaluated on what.
        figures: see ``summarise``.
    """
    made = figures["intervals"]
    of_what = "single images" if made["block"] == 1 else f"blocks of {made['block']} images"
    lines = [f"{title}; percent, [{made['level']:.0%} bootstrap interval over {of_what}]"]
    for key in ("miou_7", "miou_8", "pixel_accuracy", "mean_f1", "mean_boundary_f1", "ece"):
        lines.append(f"  {key:<18}{_number(figures[key])}  {_interval(figures.get(f'{key}_ci'))}".rstrip())
    lines.append(f"  {'':<14}{'IoU':>6}  {'':16}{'precision':>9}{'recall':>8}{'F1':>8}{'boundary F1':>13}")
    for name in CATEGORY_NAMES:
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
