"""The FPN, defined once: what is trained here is what is exported, and what the torch engine runs.

Feature Pyramid Network decoder for semantic segmentation (Kirillov et al., "Panoptic Feature Pyramid
Networks", CVPR 2019) as implemented by segmentation-models-pytorch, over any encoder it or timm offers:
ResNet (He et al., CVPR 2016), ConvNeXt V2 (Woo et al., CVPR 2023).
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import segmentation_models_pytorch as smp
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from seg_node.core.bundle.decoder import complete_decoder
from seg_node.core.machine import has_fast_bf16
from seg_node.core.taxonomy import EIGHT

STRIDE = 32
"""The encoders halve the resolution five times, so their input sides must be multiples of this."""

MAX_ENLARGEMENT = 1.5
"""Greatest factor by which a frame is enlarged for the network; beyond it there is nothing more to see."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SegmentationNetwork(nn.Module):
    """Logits of each category for a batch of BGR images of any size.

    Args:
        encoder: name known to segmentation-models-pytorch, e.g. ``resnet50`` or ``tu-convnextv2_tiny``.
        mean: RGB mean of the input in 0..1, subtracted.
        std: RGB standard deviation of the input in 0..1, divided by.
        encoder_weights: ``None`` for random initialisation or ``imagenet`` (needs a network).
        drop_path_rate: stochastic depth; only timm encoders (``tu-``) that have it accept it.
        decoder: what differs from ``DECODER``.
        categories: number of them.

    Raises:
        ValueError: the decoder has an unknown option or value; the message names it.
    """

    def __init__(
        self,
        encoder: str,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        encoder_weights: str | None = None,
        drop_path_rate: float = 0.0,
        decoder: Mapping[str, int | str] = MappingProxyType({}),
        categories: int = len(EIGHT),
    ):
        super().__init__()
        options = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}
        width = complete_decoder(decoder)
        self.fpn = smp.FPN(
            encoder,
            encoder_weights=encoder_weights,
            decoder_pyramid_channels=width["pyramid"],
            decoder_segmentation_channels=width["segmentation"],
            decoder_merge_policy=width["merge"],
            classes=categories,
            **options,
        )
        _fix_same_padding(self.fpn.encoder)
        # Scaling 0..1 and 0..255 are one operation: the statistics are kept in the unit of the input.
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, bgr: Tensor) -> Tensor:
        """Compute logits.

        Args:
            bgr: float32 [N, 3, H, W], 0..255, channels in OpenCV's order.

        Returns:
            float [N, categories, H, W].
        """
        height, width = bgr.shape[-2:]
        rgb = (bgr.flip(1) - self.mean) / self.std
        # Zeros after normalisation are the mean colour, the least surprising border.
        padded = F.pad(rgb, (0, -width % STRIDE, 0, -height % STRIDE))
        dtype = next(self.fpn.parameters()).dtype
        return self.fpn(padded.to(dtype))[..., :height, :width]


class _SamePadded(nn.Conv2d):
    """Convolution with TensorFlow's ``SAME`` padding of images whose sides are multiples of ``STRIDE``.

    For those the padding is a constant, less at the top and left than at the bottom and right. timm computes it anew
    from the size of each image, which a graph for any size would have to do as well.
    """

    def forward(self, image: Tensor) -> Tensor:
        missing = self.kernel_size[0] - self.stride[0]
        before, after = missing // 2, missing - missing // 2
        return F.conv2d(
            F.pad(image, (before, after, before, after)), self.weight, self.bias, self.stride, 0, 1, self.groups
        )


def _fix_same_padding(encoder: nn.Module) -> None:
    """Replace timm's convolutions that pad by the image's size; parameters keep their names and values."""
    for module in encoder.modules():
        if isinstance(module, Conv2dSame):
            if module.dilation != (1, 1) or module.kernel_size[0] != module.kernel_size[1]:
                raise ValueError(f"{module} cannot have a constant padding")
            module.__class__ = _SamePadded


def network_size(camera: tuple[int, int], trained: tuple[int, int]) -> tuple[int, int]:
    """Choose the size at which a camera's frames pass through the network.

    The frame keeps its aspect ratio and gets as many pixels as the network was trained on, so that neither the cost
    of a frame nor the size of things in it depends on the camera. A smaller frame is enlarged, for a pole one pixel
    wide is below what a decoder of stride 4 resolves, but by no more than ``MAX_ENLARGEMENT``.

    Args:
        camera: (height, width) of the frame in pixels.
        trained: (height, width) of the manifest's input size in pixels.

    Returns:
        (height, width), at least one pixel each.
    """
    scale = min(MAX_ENLARGEMENT, math.sqrt(trained[0] * trained[1] / (camera[0] * camera[1])))
    return max(1, round(camera[0] * scale)), max(1, round(camera[1] * scale))


def computes_faster_in_bf16(device: torch.device) -> bool:
    """Whether a device is faster in bf16 than in fp32; where it has to emulate bf16, it is several times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return has_fast_bf16()


class FrameSegmenter(nn.Module):
    """From the camera's frame to a mask of the camera's size: what a bundle's graph computes, in torch.

    Args:
        network: in ``eval`` mode.
        input_size: (height, width) of the manifest in pixels.
    """

    def __init__(self, network: SegmentationNetwork, input_size: tuple[int, int]):
        super().__init__()
        self.network = network
        self.input_size = input_size

    def forward(self, frame: Tensor, confidence: bool = False) -> tuple[Tensor, Tensor | None]:
        """Segment one frame.

        Args:
            frame: uint8 [H, W, 3], BGR.
            confidence: compute it too.

        Returns:
            Mask, uint8 [H, W], and confidence, uint8 [H, W] (greatest softmax in 0..255) or None.
        """
        masks, confidences = self.batch(frame[None], confidence)
        return masks[0], None if confidences is None else confidences[0]

    def batch(self, frames: Tensor, confidence: bool = False) -> tuple[Tensor, Tensor | None]:
        """Segment frames of one size: as ``forward`` with uint8 [N, H, W, 3] and uint8 [N, H, W]."""
        camera = frames.shape[1:3]
        bgr = frames.permute(0, 3, 1, 2).float()
        size = network_size(tuple(camera), self.input_size)
        logits = self.network(F.interpolate(bgr, size=size, mode="bilinear", align_corners=False)).float()
        peak, mask = logits.max(1, keepdim=True)
        # nearest-exact samples at pixel centres; torch's plain "nearest" shifts the mask by half a pixel.
        full = F.interpolate(mask.to(torch.uint8), size=camera, mode="nearest-exact")[:, 0]
        if not confidence:
            return full, None
        softmax = 255 / (logits - peak).exp().sum(1, keepdim=True)
        return full, F.interpolate(softmax.round().to(torch.uint8), size=camera, mode="nearest-exact")[:, 0]
