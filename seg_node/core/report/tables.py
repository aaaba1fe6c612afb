"""How figures are written, in the console, on pages, in documents: numbers, intervals, and tables of text."""

import math
from collections.abc import Mapping
from typing import Any

from seg_node.core.taxonomy import SCORED_NAMES

Table = tuple[list[str], list[list[str]]]
"""Header and rows of cells; the first column is text, the others are numbers."""

NONE = "-"
"""Cell of what was not measured."""
MINUS = "\N{MINUS SIGN}"
"""A true minus sign: a hyphen before a number reads as a dash."""


def number(value: float | None, digits: int = 1) -> str:
    """A figure with some decimals, or a dash where there is none."""
    return NONE if value is None or math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 1) -> str:
    """A difference with its sign; None and infinity are not bounded."""
    if value is None or not math.isfinite(value):
        return "unbounded"
    return f"{value:+.{digits}f}".replace("-", MINUS)


def interval(estimate: float, low: float | None, high: float | None) -> str:
    """A difference with the ends of its interval, where it has any."""
    if low is None and high is None:
        return signed(estimate)
    return f"{signed(estimate)} ({signed(low)} to {signed(high)})"


def bounded(value: float, low: float, high: float, digits: int = 1) -> str:
    """A figure with the ends of its interval."""
    return f"{number(value, digits)} ({number(low, digits)} to {number(high, digits)})"


def origin(machine: Mapping[str, Any]) -> str:
    """On which machine, when and of which commit figures are, in a few words; see ``core.machine.setting``.

    Result files that are older than these notes lack some of them, and that is said.
    """
    parts = [machine["gpu"]] if machine.get("gpu") else []
    parts.append(f"{machine['cpu']}, {machine['cores']} cores" if "cpu" in machine else "machine not recorded")
    if "instructions" in machine:
        parts.append("/".join(machine["instructions"]) or "no vector instructions")
    else:
        parts.append("instructions not recorded")
    if machine.get("gflops"):
        parts.append(f"{machine['gflops']:.0f} GFLOP/s")
    parts.append(machine["measured"][:10] if machine.get("measured") else "date not recorded")
    commit = (machine.get("commit") or "")[:9]
    parts.append(f"commit {commit}{' with changes' * bool(machine.get('dirty'))}" if commit else "commit not recorded")
    return ", ".join(parts)


def aligned(table: Table, texts: int = 1) -> str:
    """Lay a table out in columns: the first ``texts`` to the left, the others, which are numbers, to the right."""
    header, rows = table
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(table: Table, code: tuple[int, ...] = ()) -> str:
    """A Markdown table; the cells of the columns ``code`` are set as code."""
    header, rows = table
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        cells = [f"`{cell}`" if i in code and cell else cell for i, cell in enumerate(row)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def study(results: Mapping[str, Any], data: str) -> Table:
    """Variants of a study on one of its data sets: mean and spread over seeds, difference to the first variant.

    Args:
        results: what ``seg_training study`` writes as ``results.json``.
        data: name of the data set.
    """
    rows = []
    for variant, row in results["summary"][data].items():
        miou, difference = row["miou_7"], row["difference"]
        spread = "" if miou["sd"] is None else f" ± {miou['sd']:.1f}"
        between = interval(difference["mean"], difference["low"], difference["high"]) if difference else NONE
        iou = [number(row["iou"][category]) for category in SCORED_NAMES]
        rows.append([variant, number(miou["mean"]) + spread, between, *iou])
    return ["variant", "miou_7", f"difference, {100 * results['level']:.0f} % interval", *SCORED_NAMES], rows


def study_correction(results: Mapping[str, Any]) -> str:
    """For how many differences the intervals of a study are corrected, in words."""
    count = results["differences"]
    return f"corrected by Holm for all {count} differences of the study" if count > 1 else "of one difference"
