"""What came out of a study: figures with their spread over the seeds, a table and plots."""

import json
import math
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from seg_node.core.statistics import student_quantile
from seg_node.core.taxonomy import CATEGORY_NAMES, SCORED_CATEGORIES

LEVEL = 0.95
"""Confidence of the intervals."""
SCORED = [CATEGORY_NAMES[category] for category in SCORED_CATEGORIES]


def summarise(cells: list[dict[str, Any]], variants: list[str], sets: list[str]) -> dict[str, Any]:
    """Summarise the finished cells of a grid.

    Args:
        cells: ``variant``, ``seed`` and ``figures`` by data set of each, as ``study`` writes them.
        variants: names in the order of the table; differences are those to the first.
        sets: names of the data sets.

    Returns:
        ``cells``, and ``summary`` by data set and variant: ``miou_7`` with ``mean``, ``sd`` (None with one seed) and
        ``values`` by seed; ``iou``, the mean over seeds by category, percent; ``difference`` of ``miou_7`` to the first
        variant over the seeds that both have, with ``low`` and ``high``, see ``paired_difference``, None for the first.
        Variants without a finished cell are left out.
    """
    summary: dict[str, dict[str, Any]] = {name: {} for name in sets}
    for name in sets:
        values = {variant: {} for variant in variants}
        for cell in cells:
            values[cell["variant"]][cell["seed"]] = cell["figures"][name]
        first = values[variants[0]]
        for variant, by_seed in values.items():
            if by_seed:
                miou = {seed: figures["miou_7"] for seed, figures in by_seed.items()}
                common = [(miou[seed], first[seed]["miou_7"]) for seed in miou if seed in first]
                summary[name][variant] = {
                    "miou_7": {"mean": mean(miou.values()), "sd": _sd(list(miou.values())), "values": miou},
                    "iou": {
                        category: _mean([figures["iou"][category] for figures in by_seed.values()])
                        for category in SCORED
                    },
                    "difference": paired_difference(common) if common and variant != variants[0] else None,
                }
    return {"cells": cells, "level": LEVEL, "summary": summary}


def paired_difference(pairs: list[tuple[float, float]]) -> dict[str, float | None]:
    """Mean difference of pairs, first minus second, with Student's interval; a seed's luck with the order of the
    samples is common to both members of its pair.

    Returns:
        ``mean``, ``low`` and ``high``; the last two are None with one pair.
    """
    differences = [one - other for one, other in pairs]
    middle = mean(differences)
    if len(differences) < 2:
        return {"mean": middle, "low": None, "high": None}
    half = t_quantile((1 + LEVEL) / 2, len(differences) - 1) * stdev(differences) / math.sqrt(len(differences))
    return {"mean": middle, "low": middle - half, "high": middle + half}


def t_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t distribution: exact for one and two degrees of freedom, where its expansion is coarse."""
    if freedom == 1:
        return math.tan(math.pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) * math.sqrt(1 / (2 * p * (1 - p)))
    return student_quantile(p, freedom)


def write_report(out: Path, results: dict[str, Any]) -> None:
    """Write ``results.json``, ``table.md``, ``dots.png`` and ``categories.png``.

    Args:
        out: folder, which exists.
        results: of ``summarise``, and what describes the study.
    """
    (out / "results.json").write_text(json.dumps(results, indent=1))
    (out / "table.md").write_text(markdown_table(results))
    dots(results).savefig(out / "dots.png", dpi=120)
    heat_map(results).savefig(out / "categories.png", dpi=120)


def markdown_table(results: dict[str, Any]) -> str:
    """The summary as Markdown: a table for each data set."""
    lines = [f"# {results['question']}", ""]
    lines += [
        f"Mean ± standard deviation over {len(results['seeds'])} seeds; in brackets the {LEVEL:.0%} interval of the"
        " paired difference to the first row. Percent IoU.",
        "",
    ]
    for name, rows in results["summary"].items():
        lines += [f"## {name}", "", "| variant | `miou_7` | difference | " + " | ".join(SCORED) + " |"]
        lines += ["|---|---|---|" + "---|" * len(SCORED)]
        for variant, row in rows.items():
            categories = " | ".join(_number(row["iou"][category]) for category in SCORED)
            lines += [f"| {variant} | {_spread(row['miou_7'])} | {_difference(row['difference'])} | {categories} |"]
        lines += [""]
    return "\n".join(lines)


def console_table(results: dict[str, Any]) -> str:
    """The summary for a terminal."""
    width = max(len(variant) for rows in results["summary"].values() for variant in rows)
    lines = []
    for name, rows in results["summary"].items():
        lines += [f"{name}: miou_7, difference to the first, IoU of " + ", ".join(SCORED)]
        for variant, row in rows.items():
            categories = " ".join(f"{_number(row['iou'][category]):>5}" for category in SCORED)
            difference = _difference(row["difference"])
            lines += [f"  {variant:<{width}}  {_spread(row['miou_7']):<11}  {difference:<21}  {categories}"]
    return "\n".join(lines)


def dots(results: dict[str, Any]) -> Figure:
    """``miou_7`` of every seed and its mean, a row for each variant, a panel for each data set."""
    figure, panels = _panels(results, 4.5)
    for axes, (name, rows) in zip(panels, results["summary"].items(), strict=True):
        for place, row in enumerate(rows.values()):
            values = list(row["miou_7"]["values"].values())
            axes.plot(values, [place] * len(values), "o", color="#0072B2", alpha=0.6)
            axes.plot(row["miou_7"]["mean"], place, "D", color="#D55E00", markersize=7, markerfacecolor="none")
        axes.set(title=name, xlabel="miou_7, percent; dots: seeds, diamond: mean")
        axes.set_yticks(range(len(rows)), list(rows))
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
    return figure


def heat_map(results: dict[str, Any]) -> Figure:
    """Mean IoU by variant and category, a panel for each data set."""
    figure, panels = _panels(results, 5.5)
    for axes, (name, rows) in zip(panels, results["summary"].items(), strict=True):
        values = np.array([[row["iou"][c] for c in SCORED] for row in rows.values()], float).reshape(-1, len(SCORED))
        axes.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
        for (line, column), value in np.ndenumerate(values):
            colour = "white" if value < 50 else "black"
            axes.text(column, line, _number(value), ha="center", va="center", color=colour, size=8)
        axes.set(title=f"{name}: IoU, percent")
        axes.set_xticks(range(len(SCORED)), SCORED, rotation=45, ha="right")
        axes.set_yticks(range(len(rows)), list(rows))
    return figure


def _panels(results: dict[str, Any], width: float) -> tuple[Figure, list]:
    rows = max(len(rows) for rows in results["summary"].values())
    figure = Figure(figsize=(width * len(results["summary"]), 1.8 + 0.4 * rows), layout="constrained")
    return figure, list(figure.subplots(1, len(results["summary"]), squeeze=False)[0])


def _sd(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _number(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.1f}"


def _spread(figure: dict[str, Any]) -> str:
    return f"{figure['mean']:.1f}" + ("" if figure["sd"] is None else f" ± {figure['sd']:.1f}")


def _difference(figure: dict[str, float | None] | None) -> str:
    if figure is None:
        return "-"
    interval = "" if figure["low"] is None else f" [{figure['low']:+.1f}, {figure['high']:+.1f}]"
    return f"{figure['mean']:+.1f}{interval}"
