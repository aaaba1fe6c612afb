"""The lines that the benchmark is to reach, each with what was measured and whether it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from engines import BUNDLES_OWN
from nodes import Measured, Played, agreement, ratio


@dataclass(frozen=True)
class Line:
    """One figure, and what it should be."""

    subject: str
    what: str
    value: str
    wanted: str = ""
    """Empty for a figure that is only stated."""
    holds: bool | None = None
    """None where nothing is wanted, or nothing can be said."""


def versus_naive(naive: Sequence[Measured], ours: Sequence[Measured]) -> list[Line]:
    """How much sooner masks arrive than those of the naive node, at 10 Hz and at a rate that each keeps up with."""
    lines = []
    for run, at, wanted in (("fixed", "at 10 Hz", 8.0), ("sustained", "at 0.7 of its own rate", None)):
        slow, fast = _runs(naive, run), _runs(ours, run)
        for q, name in ((0.5, "p50"), (0.99, "p99")):
            found = ratio(slow, fast, q)
            value = (
                f"{_quantile(slow, q):.0f} / {_quantile(fast, q):.0f} ms = {found['value']:.1f}"
                f" [{found['low']:.1f}, {found['high']:.1f}]"
            )
            holds = None if wanted is None else found["value"] >= wanted
            what = (
                f"camera-to-mask {name}, naive / ours, each {at}"
                if wanted is None
                else f"camera-to-mask {name}, naive / ours, {at}"
            )
            lines.append(Line(ours[0].model, what, value, f">= {wanted:g}" if wanted else "", holds))
    lines.append(
        Line(ours[0].model, "masks equal to the naive node's, pixels", f"{agreement(naive[0], ours[0]):.2f} %")
    )
    return lines


def overhead(ours: Sequence[Measured], echo: Sequence[Measured]) -> list[Line]:
    """What a frame costs beyond inference and transport, and how steady it is, beside how steady bare inference is.

    Medians over the repetitions, each of which measures all three one after the other.
    """
    subject = ours[0].model
    totals = [np.median(run.latency) for run in _runs(ours, "sustained")]
    alone = [np.concatenate(one.bare["sustained"]) for one in ours]
    bare = [float(np.median(times)) for times in alone]
    rest = [
        total - np.median(floor.latency) - inference
        for total, floor, inference in zip(totals, _runs(echo, "fixed"), bare, strict=True)
    ]
    share = 100 * float(np.median(rest)) / float(np.median(totals))
    inside = np.median([np.median(run.inference) for run in _runs(ours, "sustained")])
    parts = (
        f"{np.median(totals):.1f} - {np.median(bare):.1f}"
        f" - {np.median([np.median(run.latency) for run in _runs(echo, 'fixed')]):.1f} ms = {share:.1f} %;"
        f" inference in the node {inside:.1f} ms"
    )
    steady = _spread([run.latency for run in _runs(ours, "sustained")])
    both = f"{steady:.2f}; bare inference in between {_spread(alone):.2f}"
    return [
        Line(subject, "p50 - bare inference - transport floor, of the total", parts, "<= 10 %", share <= 10),
        Line(subject, "p99 / p50 at 0.7 of its own rate", both, "<= 1.3", steady <= 1.3),
    ]


def overload(naive: Measured, ours: Measured, floor: Sequence[Measured]) -> list[Line]:
    """Throughput and age of the masks when more frames come than fit.

    The median of the rounds counts; in brackets are the least and the greatest. Each round's rate is held against that
    of the bare inferences around it, a rate against a rate: the mean of their times, not the median, which leaves out
    what is slow now and then.
    """
    subject, lines, times, inferring, around = ours.model, [], [], [], []
    for name, rates in ours.rates.items():
        bare = ours.bare[name]
        times += [time for one in bare for time in one]
        bare_rates = [1e3 / float(np.mean([*before, *after])) for before, after in pairwise(bare)]
        shares = [rate / bare_rate for rate, bare_rate in zip(rates, bare_rates, strict=True)]
        share = float(np.median(shares))
        value = (
            f"{share:.3f} [{min(shares):.3f}, {max(shares):.3f}], {len(shares)} rounds; {np.mean(rates):.2f} masks/s"
        )
        what = f"masks/s at {name} overload / bare inference rate"
        lines.append(Line(subject, what, value, ">= 0.95", share >= 0.95))
        inferring.append(f"{np.mean(ours.runs[name].inference) * np.mean(rates) / 10:.1f}")
        around.append(f"{100 * np.median(ours.around[name]):.1f}")
    # What of the rest is the node's own time between inferences, and what those around take from it.
    what = f"of the time, inference; of all cores, camera and observer: {', '.join(ours.rates)}"
    lines.append(Line(subject, what, f"{', '.join(inferring)} %; {', '.join(around)} %"))
    bound = 2 * float(np.median(times)) + _quantile(_runs(floor, "fixed"), 0.5)
    for name, run in ours.runs.items():
        if name.endswith("x"):
            oldest = float(np.percentile(run.age, 99))
            other = naive.runs.get(name)
            value = f"p50 {np.median(run.age):.0f}, p99 {oldest:.0f} ms" + (
                f"; naive p50 {np.median(other.age):.0f}, p99 {np.percentile(other.age, 99):.0f} ms" if other else ""
            )
            wanted = f"p99 <= 2 inferences + transport = {bound:.0f} ms"
            lines.append(Line(subject, f"age of masks at {name} of its own rate", value, wanted, oldest <= bound))
    return lines


def cost(name: str, measured: Sequence[Measured]) -> list[Line]:
    """Processor, memory and start-up of a node's process, whose first start finds an empty cache."""
    runs = _runs(measured, "sustained")
    lines = [
        Line(
            name,
            "1000 masks",
            f"{np.median([run.cpu_s_per_1000 for run in runs]):.0f} CPU s,"
            f" {max(run.rss_peak for run in runs) / 2**20:.0f} MiB",
        )
    ]
    idle = [one.idle_cores for one in measured if one.idle_cores is not None]
    if idle:
        ours = measured[0].kind == "ours"
        share = 100 * float(np.median(idle))
        lines.append(
            Line(name, "idle", f"{share:.1f} % of a core", "< 1 %" if ours else "", share < 1 if ours else None)
        )
    if starts := [one.start_s for one in measured if one.start_s is not None]:
        cold, *warm = starts
        value = " / ".join(f"{start:.1f}" for start in (cold, *warm[:1])) + " s"
        which = "first start / second" if warm else "first start"
        wanted, holds = ("second < 3 s", warm[0] < 3) if warm else ("", None)
        lines.append(Line(name, f"from the process until active and warmed up, {which}", value, wanted, holds))
    return lines


def transport(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Frames lost, and the round trip, at 30 Hz."""
    lines = []
    for row in rows:
        demanded = row["profile"] == "shipped" and row["reliability"] == "best_effort"
        trip = "" if row["p50_ms"] is None else f"; {row['p50_ms']:.1f} / {row['p99_ms']:.1f} ms"
        lines.append(
            Line(
                f"{row['width']}x{row['height']}",
                f"{row['reliability']}, {row['profile']} profile: lost, round trip p50 / p99",
                f"{row['lost']} of {row['sent']}{trip}",
                "0" if demanded else "",
                row["lost"] == 0 if demanded else None,
            )
        )
    return lines


def engines(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Each engine and precision; int8 is held against the fp32 row of its bundle on the same engine."""
    lines = []
    for row in rows:
        quality = [f"{row['agreement']:.2f} % as torch fp32"]
        quality += [f"miou_7 {row['miou_7']:.2f}"] if row["miou_7"] is not None else []
        value = "; ".join([f"{row['p50_ms']:.1f} / {row['p99_ms']:.1f} ms", *quality])
        wanted, holds = "", None
        if row["precision"] == "int8":
            same = [o for o in rows if o["bundle"] == row["bundle"] and o["engine"] == row["engine"]]
            full = next((o for o in same if o["precision"] == "fp32"), None)
            best = min((o["p50_ms"] for o in same if o["precision"] != "int8"), default=None)
            wanted = "within 1 point of fp32, and faster than it and bf16"
            value += "" if row["ranges"] == BUNDLES_OWN else f"; ranges {row['ranges']}"
            if full and best and row["miou_7"] is not None:
                holds = full["miou_7"] - row["miou_7"] <= 1 and row["p50_ms"] < best
        lines.append(Line(row["model"], f"{row['engine']} {row['precision']}, p50 / p99", value, wanted, holds))
    return lines


def roofline(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """How near each row of ``engines`` comes to the measured peak of its precision."""
    return [
        Line(
            row["model"],
            f"{row['engine']} {row['precision']}: GFLOP/s of the measured peak",
            f"{row['gflops']:.1f} GFLOP; {row['gflops_per_s']:.0f} / {row['peak']:.0f} = {row['ratio']:.2f}",
        )
        for row in rows
    ]


def profiles(found: Sequence[Mapping[str, Any]], peak: Mapping[str, float]) -> list[Line]:
    """What bounds the time of a frame: arithmetic, at which share of its peak, and what else there is."""
    lines = []
    for one in found:
        total, limit = one["total_ms"], peak[one["precision"]]
        others = [(kind, took) for kind, took in one["by_type"].items() if kind not in one["multiplying"]][:3]
        value = (
            f"{100 * one['multiply_ms'] / total:.0f} % convolutions and products, at"
            f" {one['multiply_rate'] / limit:.2f} of the peak; "
        ) + ", ".join(f"{100 * took / total:.0f} % {kind}" for kind, took in others)
        lines.append(Line(one["model"], f"where OpenVINO's time goes ({one['precision']})", value))
    return lines


def markdown(sections: Mapping[str, Sequence[Line]]) -> str:
    """One table per section."""
    text = []
    for title, lines in sections.items():
        text += [f"### {title}", "", "| | | measured | wanted | holds |", "|---|---|---|---|---|"]
        answers = {True: "yes", False: "**no**", None: ""}
        text += [f"| {x.subject} | {x.what} | {x.value} | {x.wanted} | {answers[x.holds]} |" for x in lines]
        text.append("")
    return "\n".join(text)


def _runs(measured: Sequence[Measured], name: str) -> list[Played]:
    return [one.runs[name] for one in measured]


def _spread(times: Sequence[Sequence[float]]) -> float:
    """99th percentile by median of each repetition; the median of these."""
    return float(np.median([np.percentile(one, 99) / np.median(one) for one in times]))


def _quantile(runs: Sequence[Played], q: float) -> float:
    return float(np.quantile(np.concatenate([run.latency for run in runs]), q))
