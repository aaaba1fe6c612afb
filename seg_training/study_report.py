"""What came out of a study: figures with their spread over the seeds, a table and plots."""

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from seg_node.core.report.charts import STYLE, canvas, study_canvas
from seg_node.core.report.tables import aligned, markdown, number, study
from seg_node.core.statistics import mean_known, student_interval
from seg_node.core.taxonomy import SCORED_NAMES

LEVEL = 0.95
"""Confidence of the intervals."""


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
                        category: mean_known(figures["iou"][category] for figures in by_seed.values())
                        for category in SCORED_NAMES
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
    low, high = student_interval(differences, LEVEL)
    return {"mean": middle, "low": low, "high": high}


def write_report(out: Path, results: dict[str, Any]) -> None:
    """Write ``results.json``, ``table.md``, ``dots.png`` and ``categories.png``.

    Args:
        out: folder, which exists.
        results: of ``summarise``, and what describes the study.
    """
    (out / "results.json").write_text(json.dumps(results, indent=1))
    (out / "table.md").write_text(markdown_table(results))
    with matplotlib.rc_context(STYLE):
        study_canvas(results).savefig(out / "dots.png", dpi=120)
    heat_map(results).savefig(out / "categories.png", dpi=120)


def markdown_table(results: dict[str, Any]) -> str:
    """The summary as Markdown: a table for each data set."""
    lines = [f"# {results['question']}", ""]
    lines += [
        f"Mean ± standard deviation over {len(results['seeds'])} seeds; in brackets the {LEVEL:.0%} interval of the"
        " paired difference to the first row. Percent IoU.",
        "",
    ]
    for name in results["summary"]:
        lines += [f"## {name}", "", markdown(study(results, name)), ""]
    return "\n".join(lines)


def console_table(results: dict[str, Any]) -> str:
    """The summary for a terminal."""
    return "\n\n".join(f"{name}, IoU in percent\n{aligned(study(results, name))}" for name in results["summary"])


def heat_map(results: dict[str, Any]) -> Figure:
    """Mean IoU by variant and category, a panel for each data set."""
    summary, columns = results["summary"], len(SCORED_NAMES)
    figure = canvas(1.8 + 0.4 * max(map(len, summary.values())), 5.5 * len(summary))
    panels = figure.subplots(1, len(summary), squeeze=False)[0]
    for axes, (name, rows) in zip(panels, summary.items(), strict=True):
        values = np.array([[row["iou"][c] for c in SCORED_NAMES] for row in rows.values()], float).reshape(-1, columns)
        axes.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
        for (line, column), value in np.ndenumerate(values):
            colour = "white" if value < 50 else "black"
            axes.text(column, line, number(value), ha="center", va="center", color=colour, size=8)
        axes.set(title=f"{name}: IoU, percent")
        axes.set_xticks(range(columns), SCORED_NAMES, rotation=45, ha="right")
        axes.set_yticks(range(len(rows)), list(rows))
    return figure


def _sd(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
