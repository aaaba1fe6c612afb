"""Figures of training runs and manifests, see ``core.report.charts``."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

from seg_node.core.report.charts import COLOURS, DASHES, HATCHES, MARKERS, STYLE, Figure, canvas
from seg_node.core.report.tables import number
from seg_node.core.taxonomy import SCORED_NAMES

_SHORT = 20
"""Characters of a name; two longer ones are too wide for one line."""
_MOST_TIMES = 10
"""Times the length of the shortest run that the longest may have, for both to be drawn by step."""
_FEW = 30
"""Points of a line below which each is marked."""


def training_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Loss by step, and ``miou_7`` on a few validation images where a run was scored while it ran.

    Args:
        runs: lines of ``log.jsonl`` by name, at least one run.
    """
    with matplotlib.rc_context(STYLE):
        fig = canvas(3.7)
        above, below = fig.subplots(2, 1, sharex=True)
        said = []
        lengths = [records[-1]["step"] for records in runs.values()]
        # Beside a run of thousands of steps, one of a few would be a dash at the edge.
        relative = max(lengths) > _MOST_TIMES * max(min(lengths), 1)
        for i, (name, records) in enumerate(runs.items()):
            whole = records[-1]["step"] / 100 if relative else 1
            style = {"color": COLOURS[i % len(COLOURS)], "ls": DASHES[i % len(DASHES)]}
            steps, losses = (np.array([record[key] for record in records], float) for key in ("step", "loss"))
            window = max(1, len(losses) // 40)
            smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
            label = f"{name}, {len(steps)} steps" if relative else name
            # A line of few points is hard to see, and one of a single point is none.
            dots = {"marker": ".", "ms": 4} if len(smooth) <= _FEW else {}
            above.plot(steps[window - 1 :] / whole, smooth, label=label, **style, **dots)
            words = f"{name}: {len(steps)} steps, loss {smooth[0]:.2f} to {smooth[-1]:.2f}"
            if scored := _scored(records):
                points = [(step / whole, score) for step, score in scored]
                below.plot(*zip(*points, strict=True), marker=MARKERS[i % len(MARKERS)], ms=5, **style)
                words += f", miou_7 {scored[-1][1]:.1f} % at step {scored[-1][0]:.0f}"
            said.append(words)
        above.set(ylabel="loss", title="Training")
        below.set(ylabel="miou_7, %", xlabel="share of the run, %" if relative else "step", ylim=(0, 100))
        fig.legend(loc="outside lower center", ncols=2 if max(map(len, runs)) <= _SHORT else 1)
    return Figure(
        fig,
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


def category_bars(models: Mapping[str, Mapping[str, float | None]], title: str) -> Figure:
    """IoU of each category.

    Args:
        models: by name, IoU in percent by category; None where a category does not occur.
        title: over the figure.
    """
    with matplotlib.rc_context(STYLE):
        fig = canvas(3.2)
        axes = fig.subplots()
        width = 0.8 / max(len(models), 1)
        for i, (name, iou) in enumerate(models.items()):
            places = np.arange(len(SCORED_NAMES)) + width * (i - (len(models) - 1) / 2)
            values = [iou.get(category) or 0.0 for category in SCORED_NAMES]
            style = {"color": COLOURS[i % len(COLOURS)], "hatch": HATCHES[i % len(HATCHES)], "ec": "white"}
            axes.bar(places, values, width, label=name, **style)
        axes.set(ylabel="IoU, %", ylim=(0, 100), title=title)
        axes.set_xticks(range(len(SCORED_NAMES)), SCORED_NAMES, rotation=30)
        axes.grid(axis="x", visible=False)
        fig.legend(loc="outside lower center", ncols=2)
    said = [
        f"{name}: " + ", ".join(f"{category} {number(iou.get(category))}" for category in SCORED_NAMES)
        for name, iou in models.items()
    ]
    return Figure(fig, "IoU in percent of each category.", "; ".join(said) + ".")
