"""The training loss: weighted cross-entropy plus Dice."""

import numpy as np
import torch
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor, nn

from seg_node.core.taxonomy import NO_LABEL, Category


class CrossEntropyDice(nn.Module):
    """Cross-entropy for calibrated pixels plus Dice for the categories of few pixels, equally weighted.

    Dice is that of Milletari et al., "V-Net", 3DV 2016, over the categories present in the batch.

    Args:
        weight: float32 [8], weight of each category in the cross-entropy; ``None`` for equal weights.
    """

    def __init__(self, weight: Tensor | None = None):
        super().__init__()
        self.cross_entropy = nn.CrossEntropyLoss(weight, ignore_index=NO_LABEL)
        self.dice = DiceLoss("multiclass", ignore_index=NO_LABEL)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss in float32, which half precision logits would drown in rounding.

        Args:
            logits: float [N, 8, H, W].
            target: int64 [N, H, W], categories, 255 ignored.
        """
        logits = logits.float()
        return self.cross_entropy(logits, target) + self.dice(logits, target)


def category_weights(shares: np.ndarray, softness: float) -> Tensor:
    """Weight rare categories up: 1 / ln(softness + share), scaled to mean 1 under the data's own shares.

    The form is that of Paszke et al., "ENet", 2016, with 1.02; a greater softness weights less extremely.

    Args:
        shares: float [8], share of each category among the labelled pixels.
        softness: above 1.

    Returns:
        float32 [8]; a category that never occurs gets weight 1.
    """
    if len(shares) != len(Category) or softness <= 1:
        raise ValueError(f"expected {len(Category)} shares and a softness above 1, got {len(shares)} and {softness}")
    weights = 1 / np.log(softness + shares)
    weights /= (weights * shares).sum()
    return torch.tensor(np.where(shares > 0, weights, 1.0), dtype=torch.float32)
