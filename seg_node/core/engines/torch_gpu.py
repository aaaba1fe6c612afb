"""The network for a GPU: the same function in fewer and faster kernels than torch takes layer by layer."""

import warnings

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.library import triton_op, wrap_triton
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval
from torchvision.models.resnet import Bottleneck

_TILE = 1024
"""Count of numbers that one program of the depthwise kernel computes."""
_CHANNELS = 64
"""Greatest number of channels in such a tile."""


def for_gpu(root: nn.Module, dtype: torch.dtype) -> None:
    """Replace layers of a network in place, where what replaces them works.

    Args:
        root: in ``eval`` mode, with its weights, on the device where it will run, channels last.
        dtype: type in which it will run.
    """
    for module in list(root.modules()):
        for name, child in list(module.named_children()):
            if (faster := _faster(child, dtype)) is not None:
                setattr(module, name, faster)


def _faster(layer: nn.Module, dtype: torch.dtype) -> nn.Module | None:
    faster: nn.Module
    if isinstance(layer, Bottleneck) and torch.version.cuda:
        faster, weight = FusedBottleneck(layer), layer.conv1.weight
        channels = layer.conv1.in_channels
    elif Depthwise.fits(layer):
        faster, weight = Depthwise(layer), layer.weight
        channels = layer.in_channels
    else:
        return None
    faster = faster.to(dtype=dtype, memory_format=torch.channels_last)
    tried = torch.zeros(1, channels, 8, 8, dtype=dtype, device=weight.device).to(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            faster(tried)
    except Exception as error:
        # Triton misses a C compiler, say, or cuDNN has no such kernel for the card. What torch brings works anywhere.
        warnings.warn(f"{type(faster).__name__} does not run here and is left out: {error}", stacklevel=2)
        return None
    return faster


class FusedBottleneck(nn.Module):
    """A block of a ResNet whose convolutions take BatchNorm, the addition and ReLU along, as cuDNN can.

    Args:
        block: in ``eval`` mode; its weights are copied.
    """

    def __init__(self, block: Bottleneck):
        super().__init__()
        self.conv1 = fuse_conv_bn_eval(block.conv1, block.bn1)
        self.conv2 = fuse_conv_bn_eval(block.conv2, block.bn2)
        self.conv3 = fuse_conv_bn_eval(block.conv3, block.bn3)
        self.shortcut = fuse_conv_bn_eval(*block.downsample) if block.downsample is not None else None

    def forward(self, features: Tensor) -> Tensor:
        """Compute what ``Bottleneck.forward`` does."""
        added = features if self.shortcut is None else self.shortcut(features)
        return _relu(self.conv3, _relu(self.conv2, _relu(self.conv1, features)), added)


def _relu(convolution: nn.Conv2d, features: Tensor, added: Tensor | None = None) -> Tensor:
    """ReLU of a convolution and, if given, of what is added to it."""
    if not features.is_cuda:
        out = convolution(features)
        return F.relu(out if added is None else out + added)
    weight, bias = convolution.weight, convolution.bias
    how = convolution.stride, convolution.padding, convolution.dilation, convolution.groups
    if added is None:
        return torch.cudnn_convolution_relu(features, weight, bias, *how)
    return torch.cudnn_convolution_add_relu(features, weight, added, 1.0, bias, *how)


class Depthwise(nn.Module):
    """The same function as a convolution that ``fits``, in Triton.

    cuDNN has no fast kernel for large depthwise convolutions: on an H100 those of 7x7 took a third of ConvNeXt's time.

    Args:
        convolution: its weights are copied.
    """

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        weight, bias = convolution.weight.detach(), convolution.bias
        # Channels last, as the features are.
        self.register_buffer("taps", weight.flatten(1).T.contiguous())
        self.register_buffer("bias", weight.new_zeros(len(weight)) if bias is None else bias.detach().clone())

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether a module is a square depthwise convolution whose output is as large as its input."""
        if not isinstance(module, nn.Conv2d) or not module.groups == module.in_channels == module.out_channels > 1:
            return False
        side = module.kernel_size[0]
        same = module.kernel_size == (side, side) and side % 2 == 1 and module.padding == (side // 2, side // 2)
        return same and module.stride == module.dilation == (1, 1) and module.padding_mode == "zeros"

    def forward(self, features: Tensor) -> Tensor:
        """Convolve as ``nn.Conv2d`` does: float [N, C, H, W] to [N, C, H, W]."""
        return _depthwise(features.contiguous(memory_format=torch.channels_last), self.taps, self.bias)


@triton_op("seg_node::depthwise", mutates_args=())
def _depthwise(features: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    count, channels, height, width = features.shape
    out = torch.empty_like(features)
    # The largest power of two that divides them, so that no program computes channels that there are not.
    block = min(_CHANNELS, channels & -channels)
    columns = _TILE // block
    wrap_triton(_kernel)[count * height, triton.cdiv(width, columns), channels // block](
        features, taps, bias, out, height, width, channels, int(len(taps) ** 0.5), columns, block
    )
    return out


@triton.jit(do_not_specialize=["height", "width"])
def _kernel(
    features,
    taps,
    bias,
    out,
    height,
    width,
    channels,
    side: tl.constexpr,
    columns: tl.constexpr,
    block: tl.constexpr,
):
    # Some columns of a row, some of the channels.
    image_row = tl.program_id(0)
    x = tl.program_id(1) * columns + tl.arange(0, columns)
    y = tl.zeros_like(x) + image_row % height
    channel = tl.program_id(2) * block + tl.arange(0, block)
    total = tl.zeros((columns, block), tl.float32) + tl.load(bias + channel).to(tl.float32)[None, :]
    # Unrolled, both loops together would take seconds to compile.
    for i in range(side):
        above = i - side // 2
        inside = (y + above >= 0) & (y + above < height)
        line = (image_row + above) * width
        for j in tl.static_range(side):
            at = x + (j - side // 2)
            there = inside & (at >= 0) & (at < width)
            pixels = features + (line + at)[:, None] * channels + channel[None, :]
            value = tl.load(pixels, mask=there[:, None], other=0.0).to(tl.float32)
            tap = tl.load(taps + (i * side + j) * channels + channel).to(tl.float32)
            total += value * tap[None, :]
    where = out + (image_row * width + x)[:, None] * channels + channel[None, :]
    tl.store(where, total.to(out.dtype.element_ty), mask=(x < width)[:, None])
