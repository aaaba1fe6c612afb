"""Look at the data before training on it: class shares, samples with their masks, and each augmentation by itself."""

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from seg_node.core.overlay import paint
from seg_node.core.taxonomy import EIGHT, NO_LABEL, Taxonomy
from seg_training.augmentation import Augmentation, AugmentationConfig
from seg_training.config import Stage, TrainingConfig
from seg_training.datasets import Dataset, open_dataset, report

_TILE = 320
"""Width of a picture in a sheet, pixels."""
_ENTRY = 118
"""Width of an entry of the legend, pixels."""
_BAR = 22
"""Height of a line of text in a sheet, pixels."""


def inspect_data(config: TrainingConfig, samples: int, out: Path) -> None:
    """Print the shares of each data set of a configuration, and draw shares, samples and augmentation.

    Args:
        config: whose data sets these are.
        samples: number of images of each data set that are counted.
        out: folder to write the pictures to.

    Raises:
        UserError: a data set or an augmentation is not as the configuration says.
    """
    AugmentationConfig.of(config.augmentation)  # refused before minutes of reading
    taxonomy = config.categories
    specs = {f"{use}{n}": spec for use in ("train", "val") for n, spec in enumerate(getattr(config, use), 1)}
    datasets = {label: open_dataset(spec, taxonomy=taxonomy) for label, spec in specs.items()}
    if text := report(datasets.values()):
        print(text, flush=True)
    shares = {label: category_shares(dataset, samples, len(taxonomy)) for label, dataset in datasets.items()}
    print(shares_table(datasets, shares, taxonomy))
    for label, values in shares.items():
        if values[-1] == 1:
            print(f"warning: no pixel of {label} has a label; there is nothing to learn from it, nor to score with")

    out.mkdir(parents=True, exist_ok=True)
    plot = out / "shares.png"
    _plot_shares(shares, plot, taxonomy)
    print(plot)
    for label, dataset in datasets.items():
        print(_write(out / f"{label}_samples.jpg", sample_sheet(dataset, taxonomy)))
    first = [dataset for label, dataset in datasets.items() if label.startswith("train")]
    print(_write(out / "augmentation.jpg", augmentation_sheet(first, config)))


class _Counts(TorchDataset):
    """Pixels of each label in evenly spaced samples, int64 [256]."""

    def __init__(self, dataset: Dataset, at_most: int):
        self.dataset, self.chosen = dataset, _evenly(len(dataset), at_most)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, position: int) -> np.ndarray:
        return np.bincount(self.dataset[self.chosen[position]][1].ravel(), minlength=256)


def category_shares(dataset: Dataset, at_most: int, count: int = len(EIGHT)) -> np.ndarray:
    """Share of each of ``count`` categories, and behind them of pixels without a label, among all pixels of evenly
    spaced samples, float [count + 1]."""
    # Made-up scenes are drawn when they are read, which takes a processor each.
    loader = DataLoader(_Counts(dataset, at_most), batch_size=None, num_workers=min(8, os.cpu_count() or 1))
    counts = sum(np.asarray(c) for c in tqdm(loader, f"counting {dataset.description}", unit="image", leave=False))
    return np.append(counts[:count], counts[NO_LABEL]) / counts.sum()


def shares_table(datasets: dict[str, Dataset], shares: dict[str, np.ndarray], taxonomy: Taxonomy = EIGHT) -> str:
    """The shares in percent, a line for each data set, and below it what the data sets are."""
    head = "percent of pixels " + "".join(f"{name:>14}" for name in _columns(taxonomy))
    lines = [f"{label:<18}" + "".join(f"{100 * share:14.2f}" for share in shares[label]) for label in shares]
    return "\n".join([head, *lines, *(f"{label}: {dataset.description}" for label, dataset in datasets.items())])


def _columns(taxonomy: Taxonomy) -> list[str]:
    return [*taxonomy.names, "no label"]


def _plot_shares(shares: dict[str, np.ndarray], path: Path, taxonomy: Taxonomy) -> None:
    columns = _columns(taxonomy)
    figure = Figure(figsize=(max(10, len(columns)), 4.5), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(shares)
    for number, (label, values) in enumerate(shares.items()):
        places = np.arange(len(columns)) + (number - (len(shares) - 1) / 2) * width
        bars = axes.bar(places, 100 * values, width, label=label)
        axes.bar_label(bars, fmt=lambda value: f"{value:.2g}", fontsize=7, padding=1)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, 110)
    axes.set_yticks([0, 0.5, 1, 2, 5, 10, 20, 50, 100], labels=["0", "0.5", "1", "2", "5", "10", "20", "50", "100"])
    axes.set_xticks(range(len(columns)), labels=columns, rotation=0 if len(columns) < 10 else 45)
    axes.set_ylabel("percent of pixels (logarithmic above 1)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def sample_sheet(dataset: Dataset, taxonomy: Taxonomy = EIGHT, count: int = 12) -> np.ndarray:
    """Evenly spaced samples, each beside its mask, with the legend, uint8 [H, W, 3] BGR."""
    pairs = []
    for index in _evenly(len(dataset), count):
        image, mask = dataset[index]
        painted = paint(image, mask, 0.75, taxonomy)
        pairs.append(_captioned(np.hstack([_tile(image), _tile(painted)]), dataset.names[index]))
    return _page(_grid(pairs, 3), dataset.description, _legend(taxonomy))


def augmentation_sheet(datasets: Sequence[Dataset], config: TrainingConfig, count: int = 4) -> np.ndarray:
    """Crops of the last stage as they are, with each switch by itself, and with all as configured.

    Returns:
        uint8 [H, W, 3] BGR.
    """
    stage: Stage = config.stages[-1]
    configured = AugmentationConfig.of(config.augmentation)
    switches = [field.name for field in fields(AugmentationConfig)]
    off = dict.fromkeys(switches, 0.0)
    variants = {"original": AugmentationConfig(**off)}
    for name in switches:
        variants[f"{name} ({getattr(configured, name):g})"] = AugmentationConfig(**off | {name: 1.0})
    variants["as configured"] = configured

    tiles = []
    for number in range(count):
        dataset = datasets[number % len(datasets)]
        image, mask = dataset[_evenly(len(dataset), count)[number % len(dataset)]]
        for label, variant in variants.items():
            augmented, _ = Augmentation(tuple(stage.crop), tuple(stage.scale), variant)(image, mask, seed=number)
            tiles.append(_captioned(_tile(augmented.permute(1, 2, 0).numpy()), label))
    title = f"{config.name}: crop {stage.crop[0]}x{stage.crop[1]}, scale {stage.scale[0]} to {stage.scale[1]}"
    return _page(_grid(tiles, len(variants) // 2), f"{title}; probability of each switch in brackets")


def _evenly(count: int, at_most: int) -> list[int]:
    return np.linspace(0, count - 1, min(count, at_most)).round().astype(int).tolist()


def _tile(image: np.ndarray) -> np.ndarray:
    height = max(1, round(image.shape[0] * _TILE / image.shape[1]))
    return cv2.resize(np.ascontiguousarray(image), (_TILE, height), interpolation=cv2.INTER_AREA)


def _captioned(image: np.ndarray, text: str) -> np.ndarray:
    return np.vstack([_text(text, image.shape[1]), image])


def _text(text: str, width: int) -> np.ndarray:
    bar = np.full((_BAR, width, 3), 255, np.uint8)
    return cv2.putText(bar, text, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)


def _grid(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    columns = min(columns, len(tiles))
    height = max(tile.shape[0] for tile in tiles)
    framed = [
        cv2.copyMakeBorder(tile, 0, height - tile.shape[0] + 4, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        for tile in tiles
    ]
    framed += [np.full_like(framed[0], 255)] * (-len(framed) % columns)
    return np.vstack([np.hstack(framed[start : start + columns]) for start in range(0, len(framed), columns)])


def _legend(taxonomy: Taxonomy) -> Sequence[tuple[str, tuple[int, int, int] | None]]:
    return [*zip(taxonomy.names, taxonomy.palette, strict=True), ("no label", None)]


def _page(body: np.ndarray, title: str, legend: Sequence = ()) -> np.ndarray:
    """Put a title, and a legend where there is one, over a sheet."""
    parts = [_text(title, body.shape[1])]
    fit = max(1, (body.shape[1] - 4) // _ENTRY)
    for first in range(0, len(legend), fit):
        bar = _text("", body.shape[1])
        for number, (name, rgb) in enumerate(legend[first : first + fit]):
            left = 4 + number * _ENTRY
            cv2.rectangle(bar, (left, 4), (left + 14, 17), (255, 255, 255) if rgb is None else rgb[::-1], cv2.FILLED)
            cv2.rectangle(bar, (left, 4), (left + 14, 17), (120, 120, 120))
            cv2.putText(bar, name, (left + 19, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        parts.append(bar)
    return np.vstack([*parts, body])


def _write(path: Path, image: np.ndarray) -> Path:
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise OSError(f"cannot write {path}")
    return path
