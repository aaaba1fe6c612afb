"""What a decision module has at each frame while an inference takes several periods of the camera, without a node.

The notebook on the streaming gap scores it, and ``make_pictures.py`` shows it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from seg_node.bags.drive import Frame
from seg_node.core.images import EncodedPixels, to_bgr
from seg_node.core.propagation.picture import picture_of_compressed, picture_of_image
from seg_node.core.propagation.propagator import Propagator


@dataclass(frozen=True, eq=False)
class Late:
    """One frame of a drive, with the masks that are at hand when it is recorded."""

    frame: int
    """Place in the drive."""
    image: np.ndarray
    """uint8 [H, W, 3], BGR."""
    inferred: int
    """Place of the newest frame whose inference has ended."""
    mask: np.ndarray
    """uint8 [H, W], that frame's mask: what ``~/mask`` published last."""
    now: np.ndarray
    """uint8 [H, W], the same mask carried to this frame: what ``~/mask_now`` publishes."""


def late_masks(frames: Sequence[Frame], infer: Callable[[np.ndarray], np.ndarray], periods: int) -> Iterator[Late]:
    """Follow a worker that takes the newest frame whenever it is free, and needs the same time for each.

    Only the frames that it takes are inferred; the others it skips, as the node does. The propagator is the node's.

    Args:
        frames: of a drive, in order.
        infer: makes a mask, uint8 [H, W], of an image, uint8 [H, W, 3] BGR.
        periods: of the camera that an inference lasts, at least 1.

    Yields:
        Each frame from the end of the first inference on.
    """
    propagator = Propagator()
    mask, inferred = None, -1
    ahead = None
    for number, frame in enumerate(frames):
        small = picture_of_compressed if isinstance(frame.image, EncodedPixels) else picture_of_image
        propagator.advance(number, small(frame.image), frame.stamp)
        image = to_bgr(frame.image)
        if number % periods == 0:
            if ahead is not None:
                mask, inferred = ahead, number - periods
                propagator.finish(inferred, mask)
            propagator.begin(number, frame.stamp, frame.stamp)
            # What it will have found is known at once here, and used when the time has passed.
            ahead = infer(image)
        if mask is not None:
            carried = propagator.carry()
            # Where the scene was cut the node has no mask of now either.
            now = np.full_like(mask, 255) if carried is None else carried.mask.copy()
            yield Late(number, image, inferred, mask, now)
