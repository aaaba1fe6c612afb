"""The piece of docs/planner.md: what the projection of a mask costs, and how near it is to the truth."""

from typing import Any

from seg_node.core.report.tables import markdown as table
from seg_node.core.report.tables import number

_MASKS = {"true": "true masks"}


def projection_tables(measured: dict[str, Any]) -> str:
    """Costs and scores as Markdown.

    Args:
        measured: what ``benchmarks/projection.py`` wrote.
    """
    costs = [
        [row["size"], row["lens"], *(number(row[kind], 1) for kind in ("flat", "depth", "new_pose"))]
        for row in measured["costs"]
    ]
    scores = [
        [_MASKS.get(row["masks"], row["masks"]), row["ground"], number(row["iou"], 1), _points(row)]
        for row in measured["scores"]
    ]
    header = ["mask", "lens", "flat ground, ms", "depth, ms", "flat ground with a new pose, ms"]
    return (
        "Processor time of one core for cloud and grid of one mask:\n\n"
        f"{table((header, costs))}\n\n"
        "Grids of made-up drives against the true ones within 20 m, with the camera's true pose:\n\n"
        f"{table((['masks', 'ground', 'IoU of drivable, %', 'points of `flat` within 5 cm or 2 %, %'], scores))}"
    )


def _points(row: dict[str, Any]) -> str:
    return number(row["points"], 2) if "points" in row else ""
