"""Datasets: each yields BGR images with masks of the eight categories, or, from a label table, of others."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from seg_node.core.errors import UserError
from seg_node.core.taxonomy import EIGHT, Taxonomy, in_short
from seg_training.datasets.camvid import CamVid
from seg_training.datasets.cityscapes import Cityscapes
from seg_training.datasets.folder import LabelledFolder
from seg_training.datasets.pairs import ImagePairs
from seg_training.datasets.synthetic import SyntheticScenes


class Dataset(Protocol):
    """What every data set offers."""

    description: str
    """One line for the manifest: what it is, which part, how many images."""
    names: list[str]
    """Names of the samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [H, W, 3] BGR image and uint8 [H, W] mask of categories, 255 where there is no label."""


def synthetic(
    seeds: Sequence[int],
    frames: int = 1,
    stride: int = 30,
    size: Sequence[int] = (360, 640),
    weather: str | None = None,
    light: str | None = None,
    turns: bool = False,
) -> SyntheticScenes:
    """Frames of made-up drives; ``seeds`` are the first and the one after the last, the rest as ``SyntheticScenes``."""
    if not isinstance(seeds, Sequence) or len(seeds) != 2 or not all(type(seed) is int for seed in seeds):
        raise ValueError(f"seeds is {seeds!r}; expected the first and the one after the last, such as [1000, 1300]")
    return SyntheticScenes(range(*seeds), frames, stride, tuple(size), weather, light, turns)


_DATASETS: dict[str, Callable[..., Dataset]] = {
    "camvid": CamVid,
    "cityscapes": Cityscapes,
    "folder": LabelledFolder,
    "synthetic": synthetic,
}


def has_root(kind: str) -> bool:
    """Whether a kind of data set lies in a folder, its ``root``.

    Raises:
        UserError: the kind is unknown.
    """
    return "root" in inspect.signature(_maker(kind)).parameters


def _maker(kind: object) -> Callable[..., Dataset]:
    if kind not in _DATASETS:
        raise UserError(f"unknown dataset {kind!r}; there are {', '.join(_DATASETS)}")
    return _DATASETS[kind]


_CHECKS = ("full", "quick", "none")


def open_dataset(spec: Mapping[str, Any], progress: bool = True, taxonomy: Taxonomy = EIGHT) -> Dataset:
    """Open what one entry of ``train`` or ``val`` of a configuration names, and check its files.

    Args:
        spec: ``dataset`` is the kind, and the rest are arguments of its class. With ``check: full``, the default,
            every image and mask on disk is decoded and label values are looked up; with ``check: quick`` names and
            sizes only, and with ``check: none`` names only.
        progress: show a progress bar.
        taxonomy: categories of the masks; only a folder with a label table has others than the eight.

    Raises:
        ValueError: the kind, an argument or a file's content is wrong; the message names it.
        OSError: a folder or file is missing.
    """
    options = dict(spec)
    kind, check = options.pop("dataset", None), options.pop("check", "full")
    make = _maker(kind)
    if check not in _CHECKS:
        raise ValueError(f"dataset {kind}: check is {check!r}; expected {', '.join(_CHECKS)}")
    keys = dict(inspect.signature(make).parameters)
    if keys.pop("taxonomy", None):
        make = partial(make, taxonomy=taxonomy)
    elif not taxonomy.is_eight:
        raise ValueError(
            f"dataset {kind}: its masks have the eight categories, not {in_short(taxonomy.names)}; use dataset folder,"
            " with a label table of these"
        )
    if unknown := [key for key in options if key not in keys]:
        raise ValueError(f"dataset {kind}: unknown key {', '.join(unknown)}; there are {', '.join(keys)}, check")
    missing = [name for name, key in keys.items() if key.default is key.empty and name not in options]
    if missing:
        raise ValueError(f"dataset {kind}: missing {', '.join(missing)}")
    try:
        dataset = make(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"dataset {kind}: {error}") from error
    if isinstance(dataset, ImagePairs) and check != "none":
        dataset.check(check == "full", progress)
    return dataset


def report(datasets: Iterable[Dataset]) -> str:
    """What became of the files of data sets that lie on disk, for people: a line for each folder, each once."""
    lines = [line for dataset in datasets if isinstance(dataset, ImagePairs) for line in dataset.report()]
    return "\n".join(dict.fromkeys(lines))
