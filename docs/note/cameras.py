"""Pieces of docs/cameras.md: one process against one for each camera, and what an ill camera takes from the others."""

from statistics import mean
from typing import Any

from seg_node.core.report.tables import bounded, number
from seg_node.core.report.tables import markdown as table

_PROCESSES = {"one": "one", "many": "one each", "one, now": "one, masks of now too"}


def cameras_table(measured: dict[str, Any]) -> str:
    """Rates, waiting times and memory as Markdown, means over the rounds.

    Args:
        measured: what ``benchmarks/cameras.py`` wrote.
    """
    rows: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in measured["rows"]:
        rows.setdefault((row["count"], row["kind"]), []).append(row)
    lines = []
    for (count, kind), runs in rows.items():
        figures = {name: mean(run["in_all"][name] for run in runs) for name in ("masks_per_s", "nows_per_s", "jain")}
        worst = max(run["in_all"]["blind_s"] for run in runs)
        inference = mean(run["inference_ms"] or 0.0 for run in runs)
        now = number(figures["nows_per_s"], 1) if kind == "one, now" else ""
        memory = [number(mean(run[name] for run in runs), 0) for name in ("rss_mib", "pss_mib")]
        lines.append(
            [str(count), _PROCESSES[kind], number(figures["masks_per_s"], 2), now, number(1e3 * worst, 0)]
            + [number(inference, 0), number(figures["jain"], 4), *memory]
        )
    header = ["cameras", "processes", "masks/s", "masks of now/s", "longest blind, ms", "inference, ms"]
    height, width = measured["size"]
    return (
        f"Each camera {width}x{height} at {measured['hz']:.0f} Hz, the same frames; `{measured['model']}`. Masks of all"
        " cameras together, the longest time without a mask of the worst camera, Jain's fairness index, memory of all"
        f" processes; means of the rounds, of blind times the greatest:\n\n"
        f"{table(([*header, 'Jain', 'RSS, MiB', 'PSS, MiB'], lines))}"
    )


def ill_cameras_table(measured: dict[str, Any]) -> str:
    """What the others have beside each kind of ill camera, as Markdown.

    Args:
        measured: what ``benchmarks/ill_cameras.py`` wrote.
    """
    lines = [
        [
            state,
            number(row["masks_per_s"], 2),
            number(row["p99_ms"], 0),
            *(
                bounded(of["median"], of["low"], of["high"], 3) if (of := row.get(name)) else ""
                for name in ("masks", "p99")
            ),
        ]
        for state, row in measured["ill_cameras"].items()
    ]
    header = ["the fourth camera", "masks/s of the three others", "their p99, ms", "masks/s to well", "p99 to well"]
    height, width = measured["size"]
    return (
        f"Three cameras of {width}x{height} at {measured['hz']:.0f} Hz and a fourth one in one process with"
        f" `{measured['model']}`: the fourth is well, or ill, in turns. Medians of {measured['cycles']} cycles;"
        f" quotients to the well turn of the same cycle, with their 95 % intervals:\n\n{table((header, lines))}"
    )
