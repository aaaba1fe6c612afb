"""Training augmentation, from torchvision.transforms.v2."""

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from seg_node.core.taxonomy import NO_LABEL


class Augmentation:
    """Scale jitter, crop, flip, colour, blur and JPEG artefacts on an image and its mask together.

    Args:
        crop: (height, width) of the result in pixels.
        scale: least and greatest zoom of the source image before the crop.
    """

    def __init__(self, crop: tuple[int, int], scale: tuple[float, float]):
        self.scale = scale
        self.crop = v2.RandomCrop(
            crop, pad_if_needed=True, fill={tv_tensors.Image: 114, tv_tensors.Mask: NO_LABEL, "others": 0}
        )
        self.rest = v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05),
                v2.RandomApply([v2.GaussianBlur(5, (0.1, 1.5))], p=0.2),
                v2.RandomApply([v2.JPEG((40, 95))], p=0.2),
            ]
        )

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment one sample; the same seed gives the same result in any process.

        Args:
            image: uint8 [H, W, 3], BGR.
            mask: uint8 [H, W].
            seed: of this sample's random choices.

        Returns:
            uint8 [3, h, w] and int64 [h, w].
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # v2.ColorJitter and JPEG assume RGB.
            sample = (
                tv_tensors.Image(torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)),
                tv_tensors.Mask(torch.from_numpy(mask)),
            )
            zoom = torch.empty(1).uniform_(*self.scale).item()
            size = [round(side * zoom) for side in mask.shape]
            resized = v2.Resize(size, antialias=True)(*sample)
            image_out, mask_out = self.rest(*self.crop(*resized))
        return image_out.flip(0).as_subclass(torch.Tensor), mask_out.as_subclass(torch.Tensor).long()
