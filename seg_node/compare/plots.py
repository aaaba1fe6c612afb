"""Figures of a comparison, see ``core.report.charts``."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from string import ascii_uppercase

import matplotlib
import numpy as np

from seg_node.compare.comparison import Comparison, Measured
from seg_node.core.report.charts import (
    BLACK,
    COLOURS,
    DASHES,
    GREEN,
    GREY,
    MARKERS,
    ORANGE,
    PURPLE,
    SKY,
    STYLE,
    VERMILION,
    YELLOW,
    Figure,
    canvas,
)
from seg_node.core.statistics import mean_known
from seg_node.core.timing import DROPS, Stage

_STAGES = {
    Stage.WAIT.value: (GREY, ""),
    Stage.DECODE.value: (SKY, "//"),
    Stage.INFERENCE.value: (GREEN, ""),
    Stage.PUBLISH.value: (YELLOW, "\\\\"),
    "transport": (PURPLE, ".."),
}
_FATES = dict(
    zip(
        ("masked", *(drop.value for drop in DROPS), "lost"),
        ((GREEN, ""), (ORANGE, "//"), (PURPLE, ".."), (BLACK, ""), (VERMILION, "xx"), (GREY, "\\\\")),
        strict=True,
    )
)
_MOST_POINTS = 3000
_LABEL_COLUMNS = 48
"""Letters in a line below an axis, for a figure of the usual width."""
_NAME_LETTERS = 16
"""Letters of the name of a model, so that two of them and a word beside each fit into a line."""


def figures(comparison: Comparison) -> list[Figure]:
    """All figures for which the comparison holds data; long names of models are shortened to fit into them."""
    shown = replace(comparison, models=[replace(model, name=_short(model.name)) for model in comparison.models])
    makers: list[Callable[[Comparison], Figure | None]] = [
        _latency_distribution,
        _stages,
        _processes,
        _fates,
        _accuracy_against_latency,
        _categories,
        _gap,
        _disagreement,
    ]
    with matplotlib.rc_context(STYLE):
        return [figure for make in makers if (figure := make(shown))]


def _short(name: str) -> str:
    if len(name) <= _NAME_LETTERS:
        return name
    end = _NAME_LETTERS // 3
    return f"{name[: _NAME_LETTERS - end - 1]}…{name[-end:]}"


def _recorded(comparison: Comparison, model: int) -> list[Measured]:
    return [run for run in comparison.runs if run.model == model and run.purpose == "recorded"]


def _latencies(comparison: Comparison, model: int) -> np.ndarray:
    return np.concatenate([run.latencies()[0] for run in _recorded(comparison, model)] or [np.empty(0)])


def _latency_distribution(comparison: Comparison) -> Figure | None:
    values = [_latencies(comparison, model) for model in range(len(comparison.models))]
    if not all(v.size for v in values):
        return None
    fig, ax = _axes()
    said = []
    for i, (model, latencies) in enumerate(zip(comparison.models, values, strict=True)):
        shares = np.linspace(0, 1, min(len(latencies), _MOST_POINTS) + 1)
        ax.plot(np.quantile(latencies, shares), 100 * shares, color=COLOURS[i], ls=DASHES[i], label=model.name)
        p50, p99 = np.quantile(latencies, [0.5, 0.99])
        ax.plot([p50, p99], [50, 99], MARKERS[i], color=COLOURS[i], ms=5)
        said.append(f"{model.name}: median {p50:.0f} ms, 99th percentile {p99:.0f} ms, {len(latencies)} masks")
    ax.set(xlabel="camera to mask, ms", ylabel="masks, %", ylim=(0, 101), title="Latency at the recorded rate")
    ax.set_xlim(left=0)
    fig.legend(ncols=2, loc="outside lower center")
    return Figure(fig, "Share of the masks that came within a time, with median and 99th percentile.", _said(said))


def _stages(comparison: Comparison) -> Figure | None:
    means = [_mean_stages(comparison, model) for model in range(len(comparison.models))]
    if not all(means):
        return None
    fig, ax = _axes(1.3 + 0.4 * len(means))
    for i, of_model in enumerate(means):
        left = 0.0
        for name, value in of_model.items():
            colour, hatch = _STAGES[name]
            ax.barh(1 - i, value, 0.55, left, color=colour, hatch=hatch, ec="white", lw=0.5, label=None if i else name)
            left += value
        ax.annotate(f"{left:.0f} ms", (left, 1 - i), (3, 0), textcoords="offset points", va="center", fontsize=9)
    _name_rows(ax, [1 - i for i in range(len(means))], [model.name for model in comparison.models])
    ax.set(xlabel="mean per masked frame, ms", title="Where the time goes")
    ax.margins(x=0.12)
    fig.legend(ncols=3, loc="outside lower center")
    said = [
        f"{model.name}: " + ", ".join(f"{name} {value:.1f} ms" for name, value in of_model.items())
        for model, of_model in zip(comparison.models, means, strict=True)
    ]
    return Figure(
        fig,
        "Stages of a frame as the node measured them; transport is the rest of camera to mask.",
        _said(said),
    )


def _mean_stages(comparison: Comparison, model: int) -> dict[str, float]:
    rows = []
    for run in _recorded(comparison, model):
        columns = run.frames
        for i in range(len(columns.frame))[run.settled]:
            stages = [columns.stages[stage.value][i] for stage in Stage]
            if columns.mask[i] is not None and None not in stages:
                rows.append([*stages, columns.mask[i] - sum(stages)])
    return dict(zip(_STAGES, np.mean(rows, 0).clip(0).tolist(), strict=True)) if rows else {}


def _processes(comparison: Comparison) -> Figure | None:
    """The unit of the verdicts: what one process did."""
    fig, ax = _axes()
    said = []
    for i, model in enumerate(comparison.models):
        medians = {
            run.repetition + 1: float(np.median(latencies))
            for run in _recorded(comparison, i)
            if (latencies := run.latencies()[0]).size
        }
        if medians:
            ax.plot(*zip(*sorted(medians.items()), strict=True), MARKERS[i], color=COLOURS[i], ms=6, label=model.name)
            said.append(f"{model.name}: " + ", ".join(f"{value:.0f}" for _, value in sorted(medians.items())) + " ms")
    if not said:
        return None
    ax.set(xlabel="pair of processes", ylabel="median camera to mask, ms", title="Latency of each process")
    ax.set_xticks(range(1, comparison.repetitions + 1))
    ax.set_ylim(bottom=0)
    fig.legend(ncols=2, loc="outside lower center")
    return Figure(
        fig,
        "Median latency of each process at the recorded rate; processes above one another ran one after the other.",
        _said(said),
    )


def _fates(comparison: Comparison) -> Figure | None:
    rates = list(dict.fromkeys(run.rate for run in comparison.runs))
    if not rates:
        return None
    models = len(comparison.models)
    fig, ax = _axes(0.9 + 0.21 * models * len(rates))
    said = []
    used: dict[str, None] = {}
    places, names = [], []
    for row, rate in enumerate(rates):
        for i, model in enumerate(comparison.models):
            runs = [run for run in comparison.runs if run.rate == rate and run.model == i]
            sent = sum(run.counts["sent"] for run in runs)
            if not sent:
                continue
            place, left = -row + 0.4 * (1 - 2 * i / (models - 1)) * (models - 1) / models, 0.0
            for fate, (colour, hatch) in _FATES.items():
                share = 100 * sum(run.counts.get(fate, 0) for run in runs) / sent
                if not share:
                    continue
                label = None if fate in used else fate
                used[fate] = None
                ax.barh(place, share, 0.68 / models, left, color=colour, hatch=hatch, ec="white", lw=0.5, label=label)
                left += share
            masked = 100 * sum(run.counts["masked"] for run in runs) / sent
            ax.annotate(
                ascii_uppercase[i], (101, place), va="center", fontsize=8, color=COLOURS[i], annotation_clip=False
            )
            said.append(f"{rate}, {model.name}: {masked:.0f} % masked")
        places.append(-row)
        names.append(rate.replace(" sustained", "\nsustained"))
    ax.set_yticks(places, names)
    ax.grid(axis="y", visible=False)
    key = ", ".join(f"{letter} {model.name}" for letter, model in zip(ascii_uppercase, comparison.models, strict=False))
    label = "\n".join(("frames sent, %", *textwrap.wrap(key, _LABEL_COLUMNS)))
    ax.set(xlabel=label, xlim=(0, 100), title="Frames at each rate")
    fig.legend(ncols=3, loc="outside lower center")
    return Figure(fig, "All frames of all runs, warm-up included, by what became of them.", _said(said))


def _accuracy_against_latency(comparison: Comparison) -> Figure | None:
    points = []
    for i, model in enumerate(comparison.models):
        latency = _latencies(comparison, i)
        offline = [s.headline for s in comparison.offline if s.model == i and s.headline is not None]
        streaming = [s.headline for s in comparison.streaming if s.model == i and s.headline is not None]
        if latency.size and (offline or streaming):
            points.append((i, model.name, float(np.median(latency)), offline, streaming))
    if not points:
        return None
    fig, ax = _axes()
    said = []
    for i, name, latency, offline, streaming in points:
        values = ([np.mean(offline)] if offline else []) + ([np.mean(streaming)] if streaming else [])
        # Two that are alike stand close together, so that their names do not fit beside them.
        ax.plot([latency] * len(values), values, MARKERS[i], ls="-", color=COLOURS[i], mfc="none", lw=1, label=name)
        words = []
        if offline:
            ax.plot(latency, np.mean(offline), MARKERS[i], mec=COLOURS[i], mfc="none", ms=8, mew=1.5)
            words.append(f"offline {np.mean(offline):.1f} %")
        if streaming:
            ax.plot(latency, np.mean(streaming), MARKERS[i], color=COLOURS[i], ms=8)
            words.append(f"streaming {np.mean(streaming):.1f} %")
        said.append(f"{name}: {', '.join(words)} at {latency:.0f} ms")
    ylabel = f"{comparison.taxonomy.headline}, %"
    ax.set(xlabel="median camera to mask, ms", ylabel=ylabel, title="Accuracy against latency")
    ax.margins(x=0.3, y=0.25)
    fig.legend(ncols=2, loc="outside lower center")
    ax.text(0.02, 0.98, "better: up and left", transform=ax.transAxes, va="top", fontsize=9, color="#555555")
    return Figure(
        fig,
        "Offline accuracy (hollow) forgives latency, streaming accuracy (filled) does not; the line is what latency"
        " costs.",
        _said(said),
    )


def _categories(comparison: Comparison) -> Figure | None:
    if not comparison.offline and not comparison.streaming:
        return None
    categories = comparison.taxonomy.scored_names
    fig, ax = _axes(_height(len(categories)))
    said = []
    for i, model in enumerate(comparison.models):
        of_kind = {}
        for kind, all_scored in (("offline", comparison.offline), ("streaming", comparison.streaming)):
            scored = [s for s in all_scored if s.model == i]
            means = [mean_known(s.iou.get(name) for s in scored) for name in categories]
            of_kind[kind] = [np.nan if mean is None else mean for mean in means]
        rows = -np.arange(len(categories)) + 0.17 - 0.34 * i / max(len(comparison.models) - 1, 1)
        ax.hlines(rows, of_kind["streaming"], of_kind["offline"], color=COLOURS[i], lw=1)
        options = {"ls": "none", "marker": MARKERS[i], "ms": 5, "mec": COLOURS[i]}
        ax.plot(of_kind["offline"], rows, mfc="white", label=f"{model.name}, offline", **options)
        ax.plot(of_kind["streaming"], rows, mfc=COLOURS[i], label=f"{model.name}, streaming", **options)
        words = [
            f"{name} {of_kind['offline'][k]:.0f} to {of_kind['streaming'][k]:.0f}"
            for k, name in enumerate(categories)
            if np.isfinite(of_kind["offline"][k]) and np.isfinite(of_kind["streaming"][k])
        ]
        if words:
            said.append(f"{model.name}: {', '.join(words)}")
    _name_rows(ax, -np.arange(len(categories)), categories)
    ax.set(xlabel="IoU, %", xlim=(-2, 102), title="Accuracy by category")
    fig.legend(ncols=2, loc="outside lower center")
    return Figure(fig, "IoU in percent of each category, offline and streaming.", _said(said))


def _gap(comparison: Comparison) -> Figure | None:
    """The gap between offline and streaming, and what the mask of now closes of it."""
    model = next((gain.model for gain in comparison.gains), None)
    gains = [g for g in comparison.gains if g.model == model and g.mask is not None and g.mask_now is not None]
    if not gains:
        return None
    fig, ax = _axes(_height(len(gains)))
    rows = -np.arange(len(gains))
    for row, gain in zip(rows, gains, strict=True):
        if gain.offline is not None:
            ax.plot([gain.mask, gain.offline], [row, row], color=GREY, lw=5, alpha=0.35, solid_capstyle="butt")
        ax.plot([gain.mask, gain.mask_now], [row, row], color=COLOURS[model], lw=2)
    options = {"ls": "none", "ms": 6, "mec": COLOURS[model]}
    ax.plot([g.mask for g in gains], rows, marker="o", mfc=COLOURS[model], label="~/mask", **options)
    ax.plot([g.mask_now for g in gains], rows, marker=">", mfc=COLOURS[model], label="~/mask_now", **options)
    offline = [np.nan if g.offline is None else g.offline for g in gains]
    ax.plot(offline, rows, marker="o", mfc="white", label="offline", **options)
    _name_rows(ax, rows, [gain.name for gain in gains])
    title = f"~/mask_now of {comparison.models[model].name}"
    ax.set(xlabel="streaming IoU, %", xlim=(-2, 102), title=title)
    fig.legend(ncols=3, loc="outside lower center")
    said = [
        f"{g.name} {g.mask:.0f} to {g.mask_now:.0f}" + ("" if g.offline is None else f" of {g.offline:.0f}")
        for g in gains
    ]
    return Figure(
        fig,
        "At the moment of use: the newest inferred mask, the same carried to the present, and, as the end of the grey"
        " bar, masks that take no time.",
        _said(said),
    )


def _disagreement(comparison: Comparison) -> Figure | None:
    found = comparison.disagreement
    if not found or not found.share:
        return None
    fig, ax = _axes(2.2)
    times = [comparison.drive.times_s[frame] for frame in found.frame]
    ax.plot(times, found.share, ".", color=BLACK, ms=5)
    ax.set(xlabel="seconds of the drive", ylabel="pixels, %", title="Disagreement of the backbones")
    ax.set_ylim(bottom=0)
    median, most = np.median(found.share), int(np.argmax(found.share))
    return Figure(
        fig,
        "Share of the pixels to which the backbones give different categories, offline.",
        f"Median {median:.1f} %, greatest {found.share[most]:.1f} % at {times[most]:.1f} s.",
    )


def _axes(height: float = 2.8):
    fig = canvas(height)
    return fig, fig.subplots()


def _height(rows: int) -> float:
    """Inches of a figure with a row for each category, which the eight leave as it is."""
    return max(3.4, 1.4 + 0.25 * rows)


def _name_rows(ax, places, names: Sequence[str]) -> None:
    ax.set_yticks(places, names)
    ax.grid(axis="y", visible=False)


def _said(parts: list[str]) -> str:
    return "; ".join(parts) + "." if parts else ""
