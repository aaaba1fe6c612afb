"""What can be said of masks without ground truth: how they flicker, and where two backbones disagree."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_MAX_ROUND_TRIP = 1.0
"""Pixels by which following the flow there and back may miss its start; more means hidden, or a failed match."""


@dataclass(frozen=True)
class Flicker:
    """Change between the masks of two consecutive frames, in percent of the pixels."""

    changed: float
    """Whose category changed."""
    unexplained: float
    """Whose category changed although the earlier mask was moved along with the picture: of the pixels that can be
    followed from one frame to the other, those that the moved mask gets wrong."""
    followed: float
    """That can be followed."""


def flicker(before: np.ndarray, now: np.ndarray, mask_before: np.ndarray, mask_now: np.ndarray) -> Flicker:
    """Compare the masks of two consecutive frames.

    The earlier mask is moved into the later frame by dense optical flow (Kroeger et al., "Fast optical flow using dense
    inverse search", ECCV 2016) and compared there, as in Varghese et al., "Unsupervised temporal consistency metric
    for video segmentation in highly-automated driving", CVPR workshops 2020, and Liu et al., "Efficient semantic video
    segmentation with per-frame inference", ECCV 2020. Those take a mean IoU; a share of pixels is used here, because
    an IoU of two predictions jumps when a few pixels of a rare category come and go. Pixels that were hidden before or
    whose match fails are left out by the round trip of forward and backward flow.

    Args:
        before, now: the frames, uint8 [H, W, 3] BGR.
        mask_before, mask_now: their masks, uint8 [H, W].
    """
    grey_before, grey_now = (cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in (before, now))
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    # From each pixel of the later frame to its place in the earlier one, and back.
    back = dis.calc(grey_now, grey_before, None)
    forth = dis.calc(grey_before, grey_now, None)
    height, width = grey_now.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    source_x, source_y = x + back[..., 0], y + back[..., 1]
    returned = cv2.remap(forth, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) + back
    inside = (source_x >= 0) & (source_x <= width - 1) & (source_y >= 0) & (source_y <= height - 1)
    followed = inside & (np.hypot(returned[..., 0], returned[..., 1]) <= _MAX_ROUND_TRIP)
    moved = cv2.remap(mask_before, source_x, source_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    wrong = (moved != mask_now)[followed]
    return Flicker(
        100 * float((mask_before != mask_now).mean()),
        100 * float(wrong.mean()) if wrong.size else float("nan"),
        100 * float(followed.mean()),
    )


def disagreement(masks: Sequence[np.ndarray]) -> float:
    """Share of pixels to which masks of one frame, uint8 [H, W] each, give different categories, in percent."""
    return 100 * float(np.any([mask != masks[0] for mask in masks[1:]], axis=0).mean())
