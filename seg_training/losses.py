"""Training losses, each a term that a configuration names and weights: ``loss: {cross_entropy: 1, lovasz: 1}``."""

import numpy as np
import torch
from segmentation_models_pytorch.losses import DiceLoss, LovaszLoss
from torch import Tensor, nn
from torch.nn import functional

from seg_node.core.errors import UserError
from seg_node.core.taxonomy import NO_LABEL

LOSS_TERMS = ("cross_entropy", "weighted_cross_entropy", "dice", "focal", "lovasz", "ohem", "boundary")
"""Names that ``make_loss`` knows."""


def make_loss(terms: dict[str, float], category_shares: np.ndarray, softness: float) -> "WeightedSum":
    """Make a loss out of named terms.

    * ``cross_entropy``: mean over the labelled pixels.
    * ``weighted_cross_entropy``: the same with the weights of ``category_weights``.
    * ``dice``: Milletari et al., "V-Net", 3DV 2016: 1 - Dice of each category that the batch's labels hold, summed and
      divided by their number.
    * ``focal``: see ``Focal``.
    * ``lovasz``: Berman et al., "The Lovasz-Softmax loss", CVPR 2018, over the batch as a whole and the categories that
      its labels hold: the convex extension of 1 - IoU, hence the nearest to the metric; see ``SparseLovasz``.
    * ``ohem``: see ``HardExamples``.
    * ``boundary``: see ``Boundary``.

    Args:
        terms: weight of each term, above 0.
        category_shares: float [categories], share of each category among the labelled training pixels.
        softness: of ``category_weights``.

    Raises:
        UserError: no terms, an unknown one, or a weight that is not a positive number.
    """
    if not terms:
        raise UserError(f"loss names no terms; choose from {', '.join(LOSS_TERMS)}")
    modules = {}
    for name, weight in terms.items():
        if name not in LOSS_TERMS:
            raise UserError(f"unknown loss {name!r}; choose from {', '.join(LOSS_TERMS)}")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
            raise UserError(f"the weight of loss {name} is {weight!r}; give a number above 0, or leave the term out")
        match name:
            case "cross_entropy":
                modules[name] = nn.CrossEntropyLoss(ignore_index=NO_LABEL)
            case "weighted_cross_entropy":
                weights = category_weights(category_shares, softness)
                modules[name] = nn.CrossEntropyLoss(weights, ignore_index=NO_LABEL)
            case "dice":
                modules[name] = DiceLoss("multiclass", ignore_index=NO_LABEL)
            case "focal":
                modules[name] = Focal()
            case "lovasz":
                modules[name] = SparseLovasz()
            case "ohem":
                modules[name] = HardExamples()
            case "boundary":
                modules[name] = Boundary()
    return WeightedSum(modules, {name: float(weight) for name, weight in terms.items()})


class WeightedSum(nn.Module):
    """Weighted sum of losses, in float32, which half precision logits would drown in rounding.

    Args:
        terms: losses of (logits, target), each a mean of some kind over labelled pixels. None is called on a batch
            without any, where a mean is undefined.
        weights: of each term.
    """

    def __init__(self, terms: dict[str, nn.Module], weights: dict[str, float]):
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.weights = weights

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; 0 with zero gradients where no pixel is labelled.

        Args:
            logits: float [N, 8, H, W].
            target: int64 [N, H, W], categories, 255 ignored.

        Returns:
            float32 scalar.
        """
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            if not (target != NO_LABEL).any():
                return logits.sum() * 0.0
            return sum(weight * self.terms[name](logits, target) for name, weight in self.weights.items())


class SparseLovasz(nn.Module):
    """Lovasz-softmax on a regular grid of pixels.

    Sorting every pixel of every category costs half as much as the rest of a step on a processor; a quarter of the
    pixels orders the errors nearly alike.

    Args:
        stride: of the grid, in both directions; 1 takes every pixel.
    """

    def __init__(self, stride: int = 2):
        super().__init__()
        self.stride = stride
        self.lovasz = LovaszLoss("multiclass", per_image=False, ignore_index=NO_LABEL)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """See ``WeightedSum.forward``."""
        logits, target = (tensor[..., :: self.stride, :: self.stride] for tensor in (logits, target))
        return self.lovasz(logits, target) if (target != NO_LABEL).any() else logits.sum() * 0.0


class Focal(nn.Module):
    """Focal loss, mean over labelled pixels of ``-(1 - p)^gamma ln p`` with p the softmax of the true category.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, in its softmax form. (smp's ``FocalLoss`` scores
    eight sigmoids instead, which is not the distribution that the network's argmax and confidence are taken from.)

    Args:
        gamma: how much pixels that are already right are turned down; 0 is cross-entropy.
    """

    def __init__(self, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """See ``WeightedSum.forward``."""
        surprise = _labelled_cross_entropy(logits, target)
        return ((1 - torch.exp(-surprise)) ** self.gamma * surprise).mean()


class HardExamples(nn.Module):
    """Cross-entropy, mean over the hard pixels: online hard example mining.

    Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example Mining", CVPR 2016, in the form
    that segmentation took over (Wu et al., "Bridging Category-level and Instance-level Semantic Image Segmentation",
    2016): pixels whose true category has a probability below ``threshold``, and in any case the ``least`` hardest.

    Args:
        threshold: probability, in (0, 1).
        least: share of the labelled pixels, in (0, 1]; at least one pixel.
    """

    def __init__(self, threshold: float = 0.7, least: float = 1 / 16):
        super().__init__()
        self.surprise = -float(np.log(threshold))
        self.least = least

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """See ``WeightedSum.forward``."""
        surprise = _labelled_cross_entropy(logits, target)
        hard = surprise[surprise > self.surprise]
        least = max(1, int(self.least * surprise.numel()))
        return (hard if hard.numel() >= least else surprise.topk(least, sorted=False).values).mean()


class Boundary(nn.Module):
    """Cross-entropy, mean over the pixels near a border between two categories; 0 where there is none.

    A border is where a human sees an error first and where a network has most of them. Restricting a cross-entropy to
    border pixels is the boundary-awareness loss of Xu et al., "PIDNet", CVPR 2023, with the labels' own borders in
    place of a border head's; add ``cross_entropy`` for the pixels inside.

    Args:
        radius: pixels; a pixel is near a border if a labelled pixel of another category lies within that many rows and
            columns. Pixels without label make no border.
    """

    def __init__(self, radius: int = 2):
        super().__init__()
        self.radius = radius

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """See ``WeightedSum.forward``."""
        near = self.near_border(target)
        surprise = functional.cross_entropy(logits, target, ignore_index=NO_LABEL, reduction="none")
        return (surprise * near).sum() / near.sum().clamp(min=1)

    def near_border(self, target: Tensor) -> Tensor:
        """Labelled pixels near a border: bool [N, H, W]."""
        labels, labelled = target.float(), target != NO_LABEL
        highest = self._greatest_around(torch.where(labelled, labels, -1.0))
        lowest = -self._greatest_around(torch.where(labelled, -labels, -float(NO_LABEL)))
        return labelled & (highest > lowest)

    def _greatest_around(self, values: Tensor) -> Tensor:
        return functional.max_pool2d(values[:, None], 2 * self.radius + 1, stride=1, padding=self.radius)[:, 0]


def _labelled_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each labelled pixel, float [P]."""
    surprise = functional.cross_entropy(logits, target, ignore_index=NO_LABEL, reduction="none")
    return surprise[target != NO_LABEL]


def category_weights(shares: np.ndarray, softness: float) -> Tensor:
    """Weight rare categories up: 1 / ln(softness + share), scaled to mean 1 under the data's own shares.

    The form is that of Paszke et al., "ENet", 2016, with 1.02; a greater softness weights less extremely.

    Args:
        shares: float [categories], share of each category among the labelled pixels.
        softness: above 1.

    Returns:
        float32 [categories]; a category that never occurs gets weight 1.
    """
    if softness <= 1:
        raise UserError(f"expected a softness above 1, got {softness}")
    weights = 1 / np.log(softness + shares)
    weights /= (weights * shares).sum()
    return torch.tensor(np.where(shares > 0, weights, 1.0), dtype=torch.float32)
