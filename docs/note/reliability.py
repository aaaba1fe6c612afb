"""Pieces of docs/reliability.md: what the node did on bad days, and in half an hour of them."""

from typing import Any

from seg_node.core.report.tables import markdown as table
from seg_node.core.report.tables import number, signed


def chaos_table(measured: dict[str, Any]) -> str:
    """Every row as Markdown, and which failed.

    Args:
        measured: what ``reliability/chaos.py`` wrote.
    """
    rows = []
    for row in measured["rows"]:
        next_mask = "" if row["next_mask_s"] is None else f"{row['next_mask_s']:.2f} s"
        unaccounted = "" if row["unaccounted"] is None else str(row["unaccounted"])
        failed = "**failed**: " if row["holds"] is False else ""
        rows.append([row["fault"], row["expected"], failed + row["seen"], next_mask, unaccounted])
    kinds = [[row["holds"] for row in measured["rows"]].count(holds) for holds in (True, False, None)]
    length = "A quick run" if measured["quick"] else "A full run"
    return (
        f"{length}: {kinds[0]} rows are as expected, {kinds[1]} are not, {kinds[2]} were skipped.\n\n"
        f"{table((['fault', 'expected', 'seen', 'next mask', 'unaccounted'], rows))}"
    )


def soak_table(measured: dict[str, Any]) -> str:
    """One run as Markdown.

    Args:
        measured: what ``reliability/soak.py`` wrote.
    """
    trends, rows = measured["trends"], []
    for title, books in (("frames", measured["books"]), ("masks of now", measured["books_now"])):
        ends = ", ".join(f"{count} {outcome}" for outcome, count in books["outcomes"].items())
        rows.append([f"{title}: sent / received", f"{books['sent']} / {books['received']}"])
        rows.append([f"{title}: what became of them", ends])
        rows.append([f"{title}: unaccounted", str(books["unaccounted"])])
    rows += _trends(trends)
    verdicts = measured["verdicts"] | {f"masks of now: {name}": holds for name, holds in measured["checks_now"].items()}
    rows += _verdicts(verdicts)
    faults = sum(measured["faults"].values())
    return (
        f"A run of {measured['minutes']:.0f} minutes with {faults} faults of {len(measured['faults'])} kinds:\n\n"
        f"{table((['', 'seen'], rows))}"
    )


def soak_cameras_table(measured: dict[str, Any]) -> str:
    """One run of several cameras as Markdown.

    Args:
        measured: what ``reliability/soak_cameras.py`` wrote.
    """
    cameras = [
        [
            f"`{name}`",
            str(camera["sent"]),
            ", ".join(f"{count} {outcome}" for outcome, count in camera["outcomes"].items()),
            number(camera["masks_per_s"]),
            number(camera["nows_per_s"]),
        ]
        for name, camera in measured["cameras"].items()
    ]
    rows = _trends(measured["trends"]) + _verdicts(measured["checks"] | measured["verdicts"])
    header = ["camera", "frames sent", "what became of those received", "masks/s", "masks of now/s"]
    return f"A run of {measured['minutes']:.0f} minutes:\n\n{table((header, cameras))}\n\n{table((['', 'seen'], rows))}"


def _trends(trends: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, title in (("handles", ""), ("threads", ""), ("p99_ms", "99th percentile from camera to mask, ms")):
        if name in trends:
            ends = [number(trends[name][part], int(bool(title))) for part in ("first_fifth", "last_fifth")]
            rows.append([f"{title or name}: first / last fifth", " / ".join(ends)])
    return [*rows, ["slope of resident memory, MB/h", signed(trends["rss_mb_per_h"], 2)]]


def _verdicts(verdicts: dict[str, bool]) -> list[list[str]]:
    return [[name, "yes" if holds else "**no**"] for name, holds in verdicts.items()]
