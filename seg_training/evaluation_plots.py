"""Pictures of an evaluation: confusion matrix, reliability diagram, and the images with the worst masks."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from seg_node.core.engines import Engine
from seg_node.core.taxonomy import EIGHT, NO_LABEL, Taxonomy, colorize
from seg_training.evaluate import Sample
from seg_training.quality import CALIBRATION_BINS, Observations, image_scores

WORST = 6
"""Number of images that are shown."""


def write_plots(
    folder: Path, figures: dict, observations: Observations, engine: Engine, samples: Sequence[Sample]
) -> None:
    """Write ``confusion.png``, ``reliability.png`` and ``worst_1.jpg`` (image, truth, prediction, errors) and so on.

    Args:
        folder: is made.
        figures: see ``quality.summarise``.
        observations: of the samples, in their order.
        engine: for the masks of the worst images, which were not kept.
        samples: the data set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taxonomy = engine.bundle.manifest.taxonomy
    confusion_heat_map(np.array(figures["confusion"]), taxonomy).savefig(folder / "confusion.png", dpi=120)
    reliability_diagram(figures).savefig(folder / "reliability.png", dpi=120)
    single = image_scores(observations.confusion, taxonomy)
    for rank, index in enumerate(_worst(single, figures["intervals"]["block"]), start=1):
        image, truth = samples[index]
        picture = comparison(image, truth, engine.infer(image)[0], taxonomy)
        text = f"image {index}: {taxonomy.headline} {single[index]:.1f}"
        for colour, thickness in (((0, 0, 0), 5), ((255, 255, 255), 2)):
            cv2.putText(picture, text, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, thickness, cv2.LINE_AA)
        cv2.imwrite(str(folder / f"worst_{rank}.jpg"), picture)


def _worst(single: np.ndarray, block: int) -> list[int]:
    """Indices of the lowest scores, lowest first; frames that are nearer than a block would show one scene twice."""
    chosen: list[int] = []
    for index in np.argsort(single).tolist():
        if len(chosen) < WORST and all(abs(index - other) >= block for other in chosen):
            chosen.append(index)
    return chosen


def confusion_heat_map(confusion: np.ndarray, taxonomy: Taxonomy = EIGHT) -> Figure:
    """Confusion matrix, int64 [C, C], in percent of each truth; rows of categories that do not occur are empty."""
    totals = confusion.sum(1, keepdims=True)
    share = np.where(totals > 0, 100 * confusion / np.maximum(totals, 1), np.nan)
    side = max(1.0, len(taxonomy) / 8)
    figure = Figure(figsize=(7 * side, 6 * side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(share):
        if np.isfinite(value):
            axes.text(
                column, row, f"{value:.1f}", ha="center", va="center", color="white" if value > 50 else "black", size=9
            )
    names = range(len(taxonomy))
    axes.set(xlabel="prediction", ylabel="truth", title="Pixels of each truth, percent")
    axes.set_xticks(names, taxonomy.names, rotation=45, ha="right")
    axes.set_yticks(names, taxonomy.names)
    figure.colorbar(image)
    return figure


def reliability_diagram(figures: dict) -> Figure:
    """Accuracy by confidence, above the share of pixels in each bin.

    Args:
        figures: see ``quality.summarise``; ``reliability`` and ``ece`` are used.
    """
    diagram = figures["reliability"]
    pixels = np.array(diagram["pixels"])
    width = 100 / CALIBRATION_BINS
    left = width * np.arange(CALIBRATION_BINS)
    accuracy = np.array([np.nan if value is None else value for value in diagram["accuracy"]])
    figure = Figure(figsize=(6, 7), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    upper.bar(left, accuracy, width, align="edge", edgecolor="white", label="accuracy")
    upper.plot([0, 100], [0, 100], color="black", linestyle="--", label="perfectly calibrated")
    upper.set(ylabel="accuracy, percent", ylim=(0, 100), title=f"Expected calibration error {figures['ece']} points")
    upper.legend()
    lower.bar(left, 100 * pixels / max(pixels.sum(), 1), width, align="edge", edgecolor="white")
    lower.set(xlabel="confidence, percent", ylabel="pixels, percent", xlim=(0, 100))
    return figure


def comparison(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, taxonomy: Taxonomy = EIGHT) -> np.ndarray:
    """Image, truth, prediction and errors side by side.

    Args:
        image: uint8 [H, W, 3], BGR.
        truth: uint8 [H, W]; white where there is no label.
        prediction: uint8 [H, W].
        taxonomy: categories of both.

    Returns:
        uint8 [H, 4 W, 3], BGR; errors are red over the darkened image, pixels without label white.
    """
    errors = cv2.cvtColor(cv2.cvtColor(image // 2, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    errors[truth != prediction] = (0, 0, 255)
    errors[truth == NO_LABEL] = 255
    return np.hstack([image, colorize(truth, taxonomy), colorize(prediction, taxonomy), errors])
