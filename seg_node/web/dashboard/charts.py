"""Figures of training runs, studies and manifests, in the manner of those of a comparison (``replay.plots``)."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure as Canvas

from seg_node.compare.plots import MODEL_COLOURS, STYLE, Figure, to_svg
from seg_node.web.dashboard.tables import SCORED_NAMES, number

_COLOURS = (*MODEL_COLOURS, "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")
_SHORT = 20
"""Characters of a name; two longer ones are too wide for one line."""


def training_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Loss by step, and ``miou_7`` on a few validation images where a run was scored while it ran.

    Args:
        runs: lines of ``log.jsonl`` by name, at least one run.
    """
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(4.6, 3.7), layout="constrained")
        above, below = canvas.subplots(2, 1, sharex=True)
        said = []
        for i, (name, records) in enumerate(runs.items()):
            style = {"color": _COLOURS[i % len(_COLOURS)], "ls": _DASHES[i % len(_DASHES)]}
            steps, losses = (np.array([record[key] for record in records], float) for key in ("step", "loss"))
            window = max(1, len(losses) // 40)
            smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
            above.plot(steps[window - 1 :], smooth, label=name, **style)
            words = f"{name}: {len(steps)} steps, loss {smooth[0]:.2f} to {smooth[-1]:.2f}"
            if scored := _scored(records):
                below.plot(*zip(*scored, strict=True), marker=_MARKERS[i % len(_MARKERS)], ms=5, **style)
                words += f", miou_7 {scored[-1][1]:.1f} % at step {scored[-1][0]:.0f}"
            said.append(words)
        above.set(ylabel="loss", title="Training")
        below.set(ylabel="miou_7, %", xlabel="step", ylim=(0, 100))
        canvas.legend(loc="outside lower center", ncols=2 if max(map(len, runs)) <= _SHORT else 1)
        text = to_svg(canvas)
    return Figure(
        text,
        "Above the loss, a moving mean; below miou_7 on a few validation images, where a run was scored on the way.",
        "; ".join(said) + ".",
    )


def _scored(records: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Step and ``miou_7`` on the first validation set; older runs knew only one."""
    points = []
    for record in records:
        if sets := record.get("val_few"):
            first = sets[0] if isinstance(sets, list) else sets
            points.append((record["step"], first["miou_7"]))
    return points


def study_dots(results: Mapping[str, Any]) -> Figure:
    """``miou_7`` of each variant: every seed and the mean, a panel for each data set."""
    summary = results["summary"]
    with matplotlib.rc_context(STYLE):
        rows = max(map(len, summary.values()))
        canvas = Canvas(figsize=(1.6 + 2.2 * len(summary), 1.1 + 0.3 * rows), layout="constrained")
        panels = canvas.subplots(1, len(summary), sharey=True, squeeze=False)[0]
        said = []
        for axes, (name, variants) in zip(panels, summary.items(), strict=True):
            for place, row in enumerate(variants.values()):
                values = list(row["miou_7"]["values"].values())
                axes.plot(values, [place] * len(values), "o", color=_COLOURS[0], alpha=0.6, ms=5)
                axes.plot(row["miou_7"]["mean"], place, "D", mec=_COLOURS[1], mfc="none", ms=7, mew=1.5)
            axes.set(title=name, xlabel="miou_7, %")
            axes.set_yticks(range(len(variants)), list(variants))
            axes.set_ylim(rows - 0.5, -0.5)
            means = ", ".join(f"{variant} {row['miou_7']['mean']:.1f} %" for variant, row in variants.items())
            said.append(f"{name}: {means}")
        text = to_svg(canvas)
    return Figure(text, "miou_7 of each seed (dots) and mean (diamond).", "; ".join(said) + ".")


def category_bars(models: Mapping[str, Mapping[str, float | None]], title: str) -> Figure:
    """IoU of each category.

    Args:
        models: by name, IoU in percent by category; None where a category does not occur.
        title: over the figure.
    """
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(4.6, 3.2), layout="constrained")
        axes = canvas.subplots()
        width = 0.8 / max(len(models), 1)
        for i, (name, iou) in enumerate(models.items()):
            places = np.arange(len(SCORED_NAMES)) + width * (i - (len(models) - 1) / 2)
            values = [iou.get(category) or 0.0 for category in SCORED_NAMES]
            style = {"color": _COLOURS[i % len(_COLOURS)], "hatch": _HATCHES[i % len(_HATCHES)], "ec": "white"}
            axes.bar(places, values, width, label=name, **style)
        axes.set(ylabel="IoU, %", ylim=(0, 100), title=title)
        axes.set_xticks(range(len(SCORED_NAMES)), SCORED_NAMES, rotation=30)
        axes.grid(axis="x", visible=False)
        canvas.legend(loc="outside lower center", ncols=2)
        text = to_svg(canvas)
    said = [
        f"{name}: " + ", ".join(f"{category} {number(iou.get(category))}" for category in SCORED_NAMES)
        for name, iou in models.items()
    ]
    return Figure(text, "IoU in percent of each category.", "; ".join(said) + ".")
