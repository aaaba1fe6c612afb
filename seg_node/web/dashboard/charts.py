"""Figures of training runs and manifests, see ``core.report.charts``."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

from seg_node.core.report.charts import (
    BLACK,
    BLUE,
    COLOURS,
    DASHES,
    HATCHES,
    MARKERS,
    STYLE,
    VERMILION,
    Figure,
    canvas,
)
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


def ages(ages_at_use: Mapping[str, Sequence[float | None]], rate_hz: float) -> Figure:
    """Age of what was inferred at the moment of use, over the drive.

    Args:
        ages_at_use: see ``seg_node.rig.streaming.ages_at_use``.
        rate_hz: of the drive, which gives each frame its time.
    """
    seconds = np.array(ages_at_use["frame"], float) / rate_hz
    said = []
    with matplotlib.rc_context(STYLE):
        fig = canvas(2.6)
        axes = fig.subplots()
        topics = [("~/mask", "mask_ms", VERMILION, "-"), ("~/mask_now", "mask_now_ms", BLUE, (0, (4, 1.5)))]
        for topic, key, colour, dashes in topics:
            values = np.array([np.nan if age is None else age for age in ages_at_use.get(key, ())], float)
            known = values[np.isfinite(values)]
            if known.size:
                axes.plot(seconds, values, color=colour, ls=dashes, lw=1, label=topic)
                said.append(f"{topic}: {known.min():.0f} to {known.max():.0f} ms, median {np.median(known):.0f} ms")
        axes.set(title="Age at the moment of use", xlabel="time in the drive, s", ylabel="ms")
        axes.set_ylim(bottom=0)
        fig.legend(loc="outside lower center", ncols=2)
    return Figure(
        fig,
        "How long before each frame that was inferred what is at hand when the frame comes; the mask of now is of the"
        " same age, and carried on to the frame.",
        "; ".join(said) + ".",
    )


def as_used(models: Sequence[Mapping[str, Any]], headline: str = "miou_7") -> Figure:
    """Mean IoU at the moment of use with and without propagation, and offline.

    Args:
        models: ``name``; ``mask``, ``mask_now`` and ``offline`` in percent, None where they were not measured.
        headline: name of the mean.
    """
    bars = (("mask", "~/mask at the moment of use", VERMILION), ("mask_now", "~/mask_now at that moment", BLUE))
    with matplotlib.rc_context(STYLE):
        fig = canvas(1.5 + 0.55 * len(models))
        axes = fig.subplots()
        for place, (key, label, colour) in enumerate(bars):
            shown = [(row + 0.36 * (place - 0.5), of[key]) for row, of in enumerate(models) if of[key] is not None]
            axes.barh([at for at, _ in shown], [value for _, value in shown], 0.34, color=colour, label=label)
            for at, value in shown:
                axes.text(2, at, f"{value:.1f}", va="center", fontsize=9, color="white", weight="bold")
        offline = [(row, of["offline"]) for row, of in enumerate(models) if of["offline"] is not None]
        for row, value in offline:
            axes.plot([value] * 2, [row - 0.4, row + 0.4], color=BLACK, lw=1.5, label=None if row else "offline")
        axes.set_yticks(range(len(models)), [of["name"] for of in models])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel=f"{headline}, %", xlim=(0, 100), title="With and without propagation")
        fig.legend(loc="outside lower center", ncols=1)
    said = []
    for of in models:
        now = "not measured" if of["mask_now"] is None else f"{of['mask_now']:.1f} %"
        said.append(f"{of['name']}: ~/mask {number(of['mask'])} %, ~/mask_now {now}, offline {number(of['offline'])} %")
    caption = (
        "What a decision module has when a frame comes, against the truth of that frame; the line is offline accuracy."
    )
    return Figure(fig, caption, "; ".join(said) + ".")


def reliability(name: str, confidences: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Share of right pixels by confidence.

    Args:
        name: of the drive.
        confidences: by what they are made of, ``ece`` and ``bins``, which are ``confidence``, ``right`` (shares, 0 to
            1) and ``pixels`` of each class that has some.
    """
    with matplotlib.rc_context(STYLE):
        fig = canvas(3.6)
        axes = fig.subplots()
        axes.plot([0, 1], [0, 1], color=BLACK, lw=1, ls=":", label="as often right as it says")
        for i, (made_of, judged) in enumerate(confidences.items()):
            bins = judged["bins"]
            style = {"color": COLOURS[i], "marker": MARKERS[i], "ls": DASHES[i % len(DASHES)], "ms": 4, "lw": 1}
            axes.plot(bins["confidence"], bins["right"], label=f"{made_of}, ECE {100 * judged['ece']:.1f} %", **style)
        axes.set(title=f"Calibration on {name}", xlabel="confidence", ylabel="share of right pixels")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        fig.legend(loc="outside lower center", ncols=2)
    said = [f"{made_of}: error of calibration {100 * judged['ece']:.1f} %" for made_of, judged in confidences.items()]
    caption = (
        "Pixels of the mask of now by their confidence. On the line they are right as often as their confidence says."
    )
    return Figure(fig, caption, "; ".join(said) + ".")
