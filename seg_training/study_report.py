"""What came out of a study: figures with their spread over the seeds, a table and plots."""

import json
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from seg_node.core.report.charts import STYLE, canvas, study_canvas
from seg_node.core.report.tables import aligned, markdown, number, study, study_correction
from seg_node.core.statistics import holm, mean_known, student_interval
from seg_node.core.taxonomy import SCORED_NAMES

LEVEL = 0.95
"""Confidence that no difference of a study is told from chance by chance."""
_OF_A_MACHINE = ("gpu", "cpu", "cores", "instructions", "commit", "dirty")
"""Fields of a cell's setting in which those of one machine and one code agree."""


def summarise(cells: list[dict[str, Any]], variants: list[str], sets: list[str]) -> dict[str, Any]:
    """Summarise the finished cells of a grid.

    Args:
        cells: ``variant``, ``seed`` and ``figures`` by data set of each, as ``study`` writes them.
        variants: names in the order of the table; differences are those to the first.
        sets: names of the data sets.

    Returns:
        ``cells``; ``machines``, a setting of each machine and code that trained cells; what ``with_differences`` adds;
        and ``summary`` by data set and variant: ``miou_7`` with ``mean``, ``sd`` (None with one seed) and ``values`` by
        seed; ``iou``, the mean over seeds by category, percent. Variants without a finished cell are left out.
    """
    summary: dict[str, dict[str, Any]] = {name: {} for name in sets}
    for name in sets:
        values = {variant: {} for variant in variants}
        for cell in cells:
            values[cell["variant"]][cell["seed"]] = cell["figures"][name]
        for variant, by_seed in values.items():
            if by_seed:
                miou = {seed: figures["miou_7"] for seed, figures in by_seed.items()}
                summary[name][variant] = {
                    "miou_7": {"mean": mean(miou.values()), "sd": _sd(list(miou.values())), "values": miou},
                    "iou": {
                        category: mean_known(figures["iou"][category] for figures in by_seed.values())
                        for category in SCORED_NAMES
                    },
                }
    settings = [cell["machine"] for cell in cells if "machine" in cell]
    machines = {repr([setting.get(key) for key in _OF_A_MACHINE]): setting for setting in settings}
    return with_differences({"cells": cells, "machines": list(machines.values()), "summary": summary}, variants[0])


def with_differences(results: dict[str, Any], first: str) -> dict[str, Any]:
    """Results of a study with the differences of all variants to one of them, on all data sets.

    Each is a mean over the seeds that both variants have, with Student's interval: a seed's luck with the order of the
    samples is common to both members of its pair. The more differences a study has, the likelier one of them is large
    by chance, so they are one family, corrected by Holm.

    Args:
        results: with ``summary``; it is not changed.
        first: name of the variant that the others are held against.

    Returns:
        ``results`` with ``level``; ``differences``, how many the family has; and in each row of ``summary``
        ``difference``: ``mean``, ``low`` and ``high`` (None with one seed in common), ``level`` of this interval. It is
        None for the first variant, and where no seed is in common.
    """
    gains: dict[tuple[str, str], list[float]] = {}
    for data, rows in results["summary"].items():
        values = {variant: row["miou_7"]["values"] for variant, row in rows.items()}
        for variant in values.keys() - {first}:
            common = values[variant].keys() & values.get(first, {}).keys()
            gains[data, variant] = [values[variant][seed] - values[first][seed] for seed in sorted(common)]
    family = [key for key, gain in gains.items() if len(gain) > 1]
    intervals = holm(
        [partial(student_interval, gains[key]) for key in family], lambda ends: ends[0] * ends[1] > 0, LEVEL
    )
    bounds = dict(zip(family, intervals, strict=True))

    def difference(data: str, variant: str) -> dict[str, float | None] | None:
        if not (gain := gains.get((data, variant))):
            return None
        (low, high), level = bounds.get((data, variant), ((None, None), None))
        return {"mean": mean(gain), "low": low, "high": high, "level": level}

    summary = {
        data: {variant: row | {"difference": difference(data, variant)} for variant, row in rows.items()}
        for data, rows in results["summary"].items()
    }
    return results | {"level": LEVEL, "differences": len(family), "summary": summary}


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
        f"Mean ± standard deviation over {len(results['seeds'])} seeds; in brackets Student's {LEVEL:.0%} interval of"
        f" the paired difference to the first row, {study_correction(results)}. Percent IoU.",
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
