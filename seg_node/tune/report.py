"""A tuning for people: text, tables, and one self-contained web page with the Pareto front."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seg_node.compare.page import filled, html_figure, html_table
from seg_node.core.report.tables import NONE, Table, aligned, number, origin, signed
from seg_node.tune.choice import fronts
from seg_node.tune.final import LEVEL

if TYPE_CHECKING:
    from seg_node.core.report.charts import Figure

Result = Mapping[str, Any]
"""What ``result.make_result`` returns."""

_SHOWN = 8
"""Candidates of the rounds that the console shows."""


def to_text(result: Result) -> str:
    """The report for the console."""
    parts = [result["why"], "", f"{drive(result)}; {origin(result['machine'])}"]
    if result["finals"]:
        parts += ["", "in the finals:", aligned(finals(result), 2)]
    if result["trials"]:
        table = rounds(result)
        more = len(table[1]) - _SHOWN
        parts += ["", "on pieces of the drive:", aligned((table[0], table[1][:_SHOWN]), 2)]
        parts += [f"and {more} more"] * (more > 0)
    elif result["screened"]:
        parts += ["", "by themselves:", aligned(screened(result))]
    return "\n".join([*parts, *(f"note: {note}" for note in result["notes"])])


def of_profile(values: Mapping[str, Any]) -> Result:
    """What a profile keeps of its tuning, for ``pareto``.

    Args:
        values: of ``core.profile.file.Profile``.
    """
    rows = [
        {"low": None, "high": None, "age_ms": None} | row | {"topic": row["candidate"].rpartition(", ")[2]}
        for row in (values["winner"], *values["runners_up"])
    ]
    return {
        "trials": [row for row in rows if "round" in row],
        "finals": [row for row in rows if "round" not in row],
        "winner": values["winner"]["candidate"],
        "asked": values["asked"],
    }


def drive(result: Result) -> str:
    """The drive and what scores are against, in words."""
    about = result["drive"]
    text = f"{about['path']}: {about['frames']} frames of {about['width']}x{about['height']} at {about['rate_hz']:g} Hz"
    return f"{text}; every miou_7 here is against {about['truth']}"


def finals(result: Result) -> Table:
    """The finalists, the winner first."""
    header = ["setting", "topic", "miou_7", f"{LEVEL:.0%} interval", "behind", "age p95, ms", "masks/s", "cores", "MB"]
    rows = []
    for row in result["finals"]:
        gap = row["behind"]
        between = NONE if row["low"] is None else f"{row['low']:.1f} to {row['high']:.1f}"
        lead = NONE if gap is None else f"{signed(-gap['points'])} ({signed(-gap['high'])} to {signed(-gap['low'])})"
        rows.append([row["setting"], row["topic"], number(row["score"]), between, lead, *_cost(row)])
    return header, rows


def rounds(result: Result) -> Table:
    """Candidates on pieces of the drive, the latest round and the best of it first."""
    header = ["setting", "topic", "round", "miou_7", "age p95, ms", "masks/s", "cores", "MB"]
    ordered = sorted(result["trials"], key=lambda row: (-row["round"], -row["score"]))
    return header, [
        [row["setting"], row["topic"], str(row["round"]), number(row["score"]), *_cost(row)] for row in ordered
    ]


def screened(result: Result) -> Table:
    """Every setting by itself, the fastest first."""
    ordered = sorted(result["screened"], key=lambda row: (row["inference_ms"] is None, row["inference_ms"]))
    return ["setting", "inference, ms", "miou_7 offline", ""], [
        [row["setting"], number(row["inference_ms"]), number(row["miou_7"]), row["refusal"] or _unscored(row)]
        for row in ordered
    ]


def _unscored(row: Mapping[str, Any]) -> str:
    return "" if row["miou_7"] is not None else "another one is as exact and faster"


def _cost(row: Mapping[str, Any]) -> list[str]:
    return [
        number(row["age_ms"], 0),
        number(row["masks_per_s"]),
        number(row["cpu_cores"]),
        NONE if row["rss_mb"] is None else f"{row['rss_mb']:.0f}",
    ]


def to_html(result: Result) -> str:
    """The page; it needs nothing but a browser."""
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in result["notes"])
    points = _points(result)
    verdict, _, rest = result["why"].partition("; ")
    body = [
        f"<h1>What this machine can do</h1><p class=verdict>{html.escape(verdict)}</p>",
        f"<p>{html.escape(rest[:1].upper() + rest[1:])}.</p>" if rest else "",
        f"<p>{html.escape(drive(result))}; {html.escape(origin(result['machine']))}.</p>",
        f"<div class=figures>{html_figure(pareto(result))}</div>" if points else "",
    ]
    if result["finals"]:
        body += [
            "<h2>The finals</h2>",
            "<p>Means over fresh processes that ran in turns. The interval of a lead is over pairs of processes or over"
            " blocks of the drive, whichever is wider.</p>",
            html_table(finals(result), stacked=True),
        ]
    if result["trials"]:
        body += ["<h2>In the real node, on pieces of the drive</h2>", html_table(rounds(result), stacked=True)]
    if result["screened"]:
        body += ["<h2>Every setting by itself</h2>", html_table(screened(result), stacked=True)]
    body += [
        f"<h2>Notes</h2><ul>{notes}</ul>" if notes else "",
        "<h2>What is meant</h2><p>miou_7 is the streaming score: at the time of each camera frame, ground truth against"
        " the newest mask that has arrived on the topic. The age is that within which 95 % of the inferred masks arrive"
        " after their frame; what comes on ~/mask_now is carried from these.</p>",
    ]
    return filled("page.html", "A tuning of seg_node", body)


def _points(result: Result) -> list[Mapping[str, Any]]:
    """Each candidate once, by the last that was measured of it."""
    latest = {row["candidate"]: row for row in sorted(result["trials"], key=lambda row: row["round"])}
    latest |= {row["candidate"]: row for row in result["finals"]}
    return [row for row in latest.values() if row["age_ms"] is not None]


def pareto(result: Result) -> Figure:
    """Score against age of every candidate, with the front of those that no other one beats in both."""
    # Slow to import, and the console needs none.
    import matplotlib

    from seg_node.core.report.charts import BLACK, BLUE, GREY, STYLE, VERMILION, Figure, canvas

    points = _points(result)
    numbers = fronts([(row["age_ms"], row["score"]) for row in points])
    front = sorted((row for row, n in zip(points, numbers, strict=True) if n == 0), key=lambda row: row["age_ms"])
    finalists = {row["candidate"] for row in result["finals"]}
    with matplotlib.rc_context(STYLE):
        fig = canvas(3.4)
        axes = fig.subplots()
        axes.step([r["age_ms"] for r in front], [r["score"] for r in front], where="post", color=GREY, zorder=1)
        for topic, colour, marker in (("~/mask_now", BLUE, "o"), ("~/mask", VERMILION, "s")):
            of_topic = [row for row in points if row["topic"] == topic]
            for final in (False, True):
                some = [row for row in of_topic if (row["candidate"] in finalists) == final]
                axes.plot(
                    [row["age_ms"] for row in some],
                    [row["score"] for row in some],
                    marker,
                    color=colour,
                    mfc=colour if final else "none",
                    label=topic if final == any(row["candidate"] in finalists for row in of_topic) else None,
                )
        for row in result["finals"]:
            if row["low"] is not None and row["age_ms"] is not None:
                axes.plot([row["age_ms"]] * 2, [row["low"], row["high"]], color=BLACK, lw=1, zorder=0)
        winner = next((row for row in points if row["candidate"] == result["winner"]), None)
        if winner:
            axes.plot(winner["age_ms"], winner["score"], "D", mec=BLACK, mfc="none", ms=11, label="first of the finals")
        if deadline := result["asked"].get("deadline_ms"):
            axes.axvline(deadline, color=BLACK, ls=":", lw=1, label=f"deadline, {deadline:g} ms")
        axes.set(title="Score against age", xlabel="age of inferred masks, p95, ms", ylabel="streaming miou_7, %")
        axes.legend(loc="best")
    said = "; ".join(f"{row['candidate']} {row['score']:.1f} % at {row['age_ms']:.0f} ms" for row in front)
    caption = (
        "Filled: in the finals, with the interval of the mean; hollow: on a piece of the drive. The line is the front."
    )
    return Figure(fig, caption, f"On the front: {said}.")
