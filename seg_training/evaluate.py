"""Evaluation of a network, or of anything else that turns BGR frames into masks."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from tqdm import tqdm

from seg_node.core.metrics import confusion_matrix
from seg_node.core.network import SegmentationNetwork
from seg_node.core.taxonomy import Category

Sample = tuple[np.ndarray, np.ndarray]
"""uint8 [H, W, 3] BGR image and uint8 [H, W] mask of categories."""


def evaluate(
    model: SegmentationNetwork | Callable[[np.ndarray], np.ndarray], samples: Iterable[Sample], progress: bool = True
) -> np.ndarray:
    """Confusion matrix of a model over samples, at the full resolution of the labels.

    Args:
        model: a network (its mode is set to ``eval``), or a function from a BGR frame to a mask.
        samples: pairs of image and mask.
        progress: show a progress bar.

    Returns:
        int64 [8, 8], see ``core.metrics``.
    """
    predict = _predictor(model) if isinstance(model, SegmentationNetwork) else model
    confusion = np.zeros((len(Category), len(Category)), np.int64)
    for image, truth in tqdm(samples, desc="evaluating", unit="image", disable=not progress):
        confusion += confusion_matrix(truth, predict(image))
    return confusion


def _predictor(network: SegmentationNetwork) -> Callable[[np.ndarray], np.ndarray]:
    network.eval()
    device = next(network.parameters()).device

    @torch.inference_mode()
    def predict(image: np.ndarray) -> np.ndarray:
        bgr = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float()
        return network(bgr.contiguous(memory_format=torch.channels_last))[0].argmax(0).to(torch.uint8).cpu().numpy()

    return predict
