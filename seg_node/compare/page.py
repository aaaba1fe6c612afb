"""A comparison in words: console text, and one self-contained web page with its figures and pictures."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from seg_node.compare.comparison import Comparison, Difference, Verdict
from seg_node.compare.statistics import LEVEL
from seg_node.compare.tables import Table, aligned
from seg_node.core.taxonomy import CATEGORY_NAMES, PALETTE_RGB
from seg_node.core.timing import DROPS

if TYPE_CHECKING:
    from seg_node.compare.plots import Figure

_MINUS = "\N{MINUS SIGN}"
_BUSY = 0.25
"""Share of the cores in use above which the machine was not idle."""
_LEVEL = f"{100 * LEVEL:.0f} %"


def to_text(comparison: Comparison) -> str:
    """The console report."""
    parts = [
        "\n".join(_caption(comparison)),
        aligned(_verdict_table(comparison)),
        "\n".join(f"{verdict.title}: {verdict.reason}" for verdict in comparison.verdicts),
        aligned(_rate_table(comparison)),
        "\n".join(_notes(comparison)),
        f"Which backbone should drive, on this machine, on this drive?\n{comparison.decision.sentence}",
        *_caution(comparison),
    ]
    return "\n\n".join(part for part in parts if part)


def to_html(comparison: Comparison) -> str:
    """The page; it needs nothing but a browser."""
    # Drawing needs matplotlib, the console report does not.
    from seg_node.compare.plots import MODEL_COLOURS, figures

    names = [model.name for model in comparison.models]
    figure_parts = [
        f"<figure>{_described(figure)}<figcaption>{html.escape(figure.caption)}"
        f"<details><summary>in numbers</summary>{html.escape(figure.numbers)}</details></figcaption></figure>"
        for figure in figures(comparison)
    ]
    keys = " and ".join(
        f'<b style="color:{colour}">{html.escape(name)}</b>' for name, colour in zip(names, MODEL_COLOURS, strict=True)
    )
    body = [
        f"<h1>Which backbone should drive?</h1><p class=verdict>{html.escape(comparison.decision.sentence)}</p>",
        f"<p>{keys} on {html.escape(_drive(comparison))}, on {html.escape(_machine(comparison))}.</p>",
        *(f"<p class=fault>{html.escape(text)}</p>" for text in (*comparison.faults, *_caution(comparison))),
        "<h2>The questions</h2>",
        _html_table(_verdict_table(comparison)),
        "<ul>"
        + "".join(
            f"<li><b>{html.escape(v.title)}.</b> {html.escape(v.reason)}{html.escape(_paired(v))}</li>"
            for v in comparison.verdicts
        )
        + "</ul>",
        "<h2>What was measured</h2>",
        f"<div class=figures>{''.join(figure_parts)}</div>",
    ]
    if comparison.pictures:
        body += ["<h2>Worst frames</h2>", _legend(), *map(_picture, comparison.pictures)]
    body += [
        "<h2>Each rate</h2>",
        _html_table(_rate_table(comparison)),
        *(f"<p>{html.escape(note)}</p>" for note in _notes(comparison)),
        f"<h2>Method</h2><p>{html.escape(_method(comparison))}</p>",
        "<h2>Set-up</h2>",
        _html_table(_setup_table(comparison)),
    ]
    title = html.escape(f"{' or '.join(names)}: a comparison")
    return _PAGE.format(title=title, body="\n".join(body))


def _caution(comparison: Comparison) -> list[str]:
    """What makes the figures doubtful; belongs beside the verdict."""
    busy, cores = comparison.machine.get("busy_cores") or 0.0, comparison.machine.get("cores", 1)
    if busy <= _BUSY * cores:
        return []
    return [
        f"Caution: at the start other programs kept {busy:.1f} of {cores} cores busy. Compare again when the machine is"
        " idle before you trust a latency or a sustained rate."
    ]


def _caption(comparison: Comparison) -> list[str]:
    return [
        f"drive    {_drive(comparison)}",
        f"models   {' and '.join(f'{m.name} ({m.backbone})' if m.backbone else m.name for m in comparison.models)}",
        f"machine  {_machine(comparison)}",
    ]


def _drive(comparison: Comparison) -> str:
    drive = comparison.drive
    truth = f"ground truth for {drive.truth_frames} frames" if drive.truth else "no ground truth"
    return (
        f"{drive.path}, {len(drive.times_s)} frames {drive.width}x{drive.height} {drive.transport} at"
        f" {drive.rate_hz:.1f} Hz, {truth}"
    )


def _machine(comparison: Comparison) -> str:
    engines = " and ".join(dict.fromkeys(model.engine for model in comparison.models if model.engine))
    return f"{comparison.machine.get('cpu')}, {comparison.machine.get('cores')} cores" + (
        f", engine {engines}" if engines else ""
    )


def _verdict_table(comparison: Comparison) -> Table:
    names = [model.name for model in comparison.models]
    rows = []
    for verdict in comparison.verdicts:
        rows.append(
            [
                verdict.title,
                *(_number(value) + _unit(verdict) if value is not None else "-" for value in verdict.values),
                _interval(verdict.difference),
                "no winner" if verdict.winner is None else names[verdict.winner],
            ]
        )
    return ["", *names, f"difference, {_LEVEL} interval", "better"], rows


def _unit(verdict: Verdict) -> str:
    return " %" if verdict.unit == "points" else f" {verdict.unit}"


def _interval(difference: Difference | None) -> str:
    if difference is None:
        return "-"
    if difference.low is None and difference.high is None:
        return f"{_signed(difference.estimate)} (not bounded)"
    low, high = ("unbounded" if v is None else _signed(v) for v in (difference.low, difference.high))
    return f"{_signed(difference.estimate)} ({low} to {high})"


def _paired(verdict: Verdict) -> str:
    if verdict.paired is None:
        return ""
    return f" Of the {verdict.paired_frames} frames that both masked: median difference {_interval(verdict.paired)} ms."


def _rate_table(comparison: Comparison) -> Table:
    """One row per rate and backbone; reasons for which no frame was dropped have no column."""
    reasons = [r for r in ("lost", *(d.value for d in DROPS)) if any(run.counts.get(r) for run in comparison.runs)]
    counted = ["sent", "masked", *reasons]
    header = ["rate", "backbone", "Hz", *counted, "masks/s", "p50 ms", "p99 ms", "max ms", "blind ms"]
    rows = []
    for rate in dict.fromkeys(run.rate for run in comparison.runs):
        for i, model in enumerate(comparison.models):
            runs = [run for run in comparison.runs if run.rate == rate and run.model == i]
            if not runs:
                continue
            latencies = np.concatenate([run.latencies()[0] for run in runs])
            percentiles = [*np.percentile(latencies, [50, 99, 100])] if latencies.size else [None] * 3
            counts = [str(sum(run.counts.get(key, 0) for run in runs)) for key in counted]
            rows.append(
                [
                    rate,
                    model.name,
                    f"{np.mean([run.hz for run in runs]):.1f}",
                    *counts,
                    _number(_mean([run.masks_per_second for run in runs])),
                    *(_whole(value) for value in percentiles),
                    _whole(max((run.longest_blind_ms or 0.0 for run in runs), default=None)),
                ]
            )
    return header, rows


def _notes(comparison: Comparison) -> list[str]:
    """What is worth a sentence besides the verdicts."""
    notes = [f"FAULT: {fault}" for fault in comparison.faults]
    if not notes:
        notes.append("sent = received + lost and received = masked + dropped in every run: the counts add up.")
    for i, model in enumerate(comparison.models):
        usage = [run.usage for run in comparison.runs if run.model == i and run.purpose == "recorded" and run.usage]
        parts = []
        if usage:
            idle, busy = (_mean([u.get(key) for u in usage]) for key in ("idle_cpu_cores", "cpu_cores"))
            memory = max((u.get("rss_peak_bytes") or 0) for u in usage) / 2**20
            parts.append(f"{_number(busy)} cores busy and {_number(idle, 2)} idle, {memory:.0f} MiB")
        if flicker := next((f for f in comparison.flicker if f.model == i and f.frame), None):
            parts.append(
                f"flicker {np.mean(flicker.changed):.2f} % of the pixels between neighbouring frames,"
                f" {_number(_mean(flicker.unexplained), 2)} % where they are first moved along the optical flow"
            )
        unanswered = sum(s.unanswered for s in comparison.streaming if s.model == i)
        if unanswered:
            parts.append(f"{unanswered} frames before the first mask, scored as wrong")
        if parts:
            notes.append(f"{model.name}: {'; '.join(parts)}.")
    if comparison.disagreement and comparison.disagreement.share:
        notes.append(f"The backbones disagree about {np.mean(comparison.disagreement.share):.1f} % of the pixels.")
    if hz := comparison.harness.get("sustained_hz"):
        size = f"{comparison.harness['width']}x{comparison.harness['height']}"
        notes.append(
            f"Self-test: without a model the harness brings {size} raw frames there and masks back at {hz:.0f} Hz"
            f" without a loss{_echo(comparison)}, so it is not what is measured here."
        )
    elif comparison.harness:
        notes.append("In its self-test the harness lost frames without any model: do not trust the latencies here.")
    return notes


def _echo(comparison: Comparison) -> str:
    sustained = [p for p in comparison.harness.get("probes", []) if p["rate"] == comparison.harness["sustained_hz"]]
    return f" (median {sustained[0]['p50_ms']:.1f} ms)" if sustained else ""


def _method(comparison: Comparison) -> str:
    plan = comparison.configuration.get("plan", {})
    offline = len(comparison.disagreement.frame) if comparison.disagreement else 0
    attached = comparison.configuration.get("attached")
    how = (
        "The nodes were running already, so their processes are not fresh."
        if attached
        else f"Each backbone ran {comparison.repetitions} times in a fresh node process, alternately (A B A B)."
    )
    return (
        f"{how} Every process got the same frames at the same times: first none, then a search for the sustained rate,"
        f" the highest at which at most 1 % of {plan.get('probe_frames', '?')} or more frames get no mask, then the"
        " fixed rates, multiples of its own sustained rate, and the drive at its recorded rate. The first"
        f" {plan.get('warm_up_s', '?')} s of each run are counted but are in no latency and no accuracy; nor is the"
        " latency of a run's last frame, which nothing supersedes. Latency is camera to mask, from publishing a frame"
        " until its mask has arrived at a monitor process, on a steady clock. Streaming accuracy compares ground truth"
        " at the moment of each frame with the newest mask that had arrived by then (Li, Wang and Ramanan, ECCV 2020);"
        f" before the first mask there is no answer, which is wrong everywhere. Offline accuracy compares {offline} of"
        f" {len(comparison.drive.times_s)} frames with their own masks."
        " miou_7 is the mean IoU of seven categories, each from one sum over all frames; void is not scored. Intervals"
        f" are {_LEVEL} paired bootstrap intervals over blocks of one second, because neighbouring frames are not"
        " independent, and over repetitions; both backbones get the same draws. The interval of the sustained rate is"
        " what the searches leave open. No winner is named where an interval includes zero or where there is too little"
        " data."
    )


def _setup_table(comparison: Comparison) -> Table:
    rows = [["drive", comparison.drive.path], ["drive hash", comparison.drive.hash], ["topic", comparison.drive.topic]]
    rows += [["ground truth", comparison.drive.truth or "none"]]
    for model in comparison.models:
        facts = [model.backbone, model.precision, model.engine, model.device, model.training, model.sha256[:12]]
        rows.append([model.name, ", ".join(fact for fact in facts if fact)])
    rows += [[key, str(value)] for key, value in comparison.machine.items()]
    rows.append(["versions", ", ".join(f"{key} {value}" for key, value in comparison.versions.items())])
    for key, value in comparison.configuration.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        rows.append([key, text])
    rows += [["created", comparison.created], ["took", f"{comparison.duration_s / 60:.1f} minutes"]]
    return ["", ""], rows


def _picture(picture) -> str:
    panels = "".join(
        f'<div><img alt="{html.escape(title)}, frame {picture.frame}" src="data:image/jpeg;base64,{data}">'
        f"<span>{html.escape(title)}</span></div>"
        for title, data in picture.panels.items()
    )
    caption = f"Frame {picture.frame}, {picture.time_s:.1f} s: {picture.text}."
    return (
        f"<figure class=wide><div class=panels>{panels}</div><figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _legend() -> str:
    entries = "".join(
        f'<span class=key><i style="background:rgb({r},{g},{b})"></i>{name}</span>'
        for name, (r, g, b) in zip(CATEGORY_NAMES, PALETTE_RGB.tolist(), strict=True)
    )
    return f"<p>{entries}</p>"


def _described(figure: Figure) -> str:
    text = f"{figure.caption} {figure.numbers}"
    return figure.svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(text)}"', 1)


def _html_table(table: Table) -> str:
    header, rows = table
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    top = f"<tr>{head}</tr>" if any(header) else ""
    kind = "" if any(header) else " class=facts"
    return f"<div class=scroll tabindex=0><table{kind}>{top}{lines}</table></div>"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", _MINUS)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #111; background: #fff; max-width: 1080px; margin: 1.5em auto;
  padding: 0 1em; }}
h1 {{ font-size: 1.2em; margin: 0; color: #555; font-weight: 600; }}
h2 {{ font-size: 1.2em; margin: 2em 0 .5em; }}
.verdict {{ font-size: clamp(1.15em, 3vw, 1.5em); line-height: 1.35; font-weight: 600; margin: .3em 0 1em; }}
.fault {{ color: #a00; font-weight: 600; }}
.scroll {{ overflow-x: auto; }}
summary {{ cursor: pointer; }}
table {{ border-collapse: collapse; font-size: .9em; }}
th, td {{ padding: .25em .7em; text-align: right; border-bottom: 1px solid #ccc; font-variant-numeric: tabular-nums;
  vertical-align: top; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
td:first-child {{ white-space: normal; min-width: 7em; }}
.facts td {{ text-align: left; white-space: normal; overflow-wrap: anywhere; }}
.figures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 2em 2.5em; }}
figure {{ margin: 0; break-inside: avoid; }}
figure svg {{ width: 100%; max-width: 520px; height: auto; display: block; }}
figcaption {{ font-size: .85em; color: #444; }}
.wide {{ margin: 0 0 1.5em; }}
.panels {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(45%, 190px), 1fr)); gap: .4em; }}
.panels img {{ width: 100%; display: block; }}
.panels span {{ font-size: .8em; }}
.key {{ display: inline-block; margin-right: 1em; font-size: .85em; }}
.key i {{ display: inline-block; width: 1.4em; height: .9em; margin-right: .3em; vertical-align: baseline; }}
li {{ margin: .3em 0; }}
@media print {{
  body {{ font-size: 11px; max-width: none; margin: 0; }}
  .scroll {{ overflow: visible; }}
  details {{ display: none; }}
  .figures {{ grid-template-columns: 1fr 1fr; }}
  * {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
}}
</style>
<main>
{body}
</main>
</html>
"""
