"""The charts of the slides as numbers, of which the PDF gets a picture and PowerPoint a chart that can be edited."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np

from note.results import Results
from note.summaries import DATA
from seg_node.compare.comparison import Comparison, Measured
from seg_node.core.report.charts import COLOURS, HATCHES, STYLE, canvas, to_svg
from seg_node.core.taxonomy import SCORED_NAMES
from seg_node.core.timing import DROPS, Stage

WIDTH_IN, HEIGHT_IN = 8.9, 3.75
"""Size at which a chart stands on a slide, so that its letters have the size they are given here."""
POINTS = 14
"""Size of the letters of a chart, of tables and of the foot of a slide."""

DEVELOPMENT = "camvid_0001TP"
"""The manifests' scores on the development drive: never trained on, but choices were made on it."""


@dataclass(frozen=True)
class Chart:
    """Bars: for each category one of every series, beside each other or, ``stacked``, behind each other."""

    categories: tuple[str, ...]
    series: Mapping[str, tuple[float | None, ...]]
    axis: str
    """What is measured, and its unit."""
    caption: str
    decimals: int = 0
    stacked: bool = False

    @property
    def numbers(self) -> str:
        """All values in words, for those who do not see the picture."""
        parts = []
        for place, category in enumerate(self.categories):
            values = ", ".join(
                f"{name} {values[place]:.{self.decimals}f}"
                for name, values in self.series.items()
                if values[place] is not None
            )
            parts.append(f"{category}: {values}")
        return f"{'; '.join(parts)}."

    @property
    def svg(self) -> str:
        """The picture as SVG, drawn for who asks for it."""
        with matplotlib.rc_context(STYLE | {"font.size": POINTS, "legend.fontsize": POINTS}):
            return to_svg(self._drawn())

    def _drawn(self):
        fig = canvas(HEIGHT_IN, WIDTH_IN)
        ax = fig.subplots()
        places = np.arange(len(self.categories))
        thickness = 0.62 if self.stacked else 0.8 / len(self.series)
        ends = np.zeros(len(places))
        for i, (name, values) in enumerate(self.series.items()):
            shown = np.array([np.nan if value is None else value for value in values], float)
            offset = 0 if self.stacked else (i - (len(self.series) - 1) / 2) * thickness
            bars = ax.bar(
                places + offset,
                np.nan_to_num(shown),
                thickness * 0.92,
                bottom=ends if self.stacked else None,
                color=COLOURS[i],
                hatch=HATCHES[i] if self.stacked else "",
                ec="white",
                lw=0.5,
                label=name,
            )
            if self.stacked:
                ends += np.nan_to_num(shown)
            elif len(places) * len(self.series) <= _MOST_LABELS:
                labels = ["" if np.isnan(value) else f"{value:.{self.decimals}f}" for value in shown]
                ax.bar_label(bars, labels, padding=2, fontsize=POINTS - 1)
        ax.set_xticks(places, self.categories)
        ax.set_ylabel(self.axis)
        ax.grid(axis="x", visible=False)
        if len(self.series) > 1:
            fig.legend(ncols=min(len(self.series), 4), loc="outside upper center")
        return fig


_MOST_LABELS = 24
"""Bars whose values stand above them; more would print over each other."""


def _of_comparison(make: Callable[[Comparison], Chart | None]) -> Callable[[Results], Chart | None]:
    return lambda results: results.comparison and make(results.comparison)


def _answers(comparison: Comparison, question: str) -> tuple[float | None, ...] | None:
    """Figure of each model to one question of the comparison; None where it could not be asked."""
    values: dict[int, float | None] = {}
    for verdict in comparison.verdicts:
        if verdict.question == question:
            values |= dict(zip(verdict.models, verdict.values, strict=True))
    answers = tuple(values.get(model) for model in range(len(comparison.models)))
    return None if all(value is None for value in answers) else answers


def _names(comparison: Comparison) -> tuple[str, ...]:
    return tuple(model.name for model in comparison.models)


def _streaming(comparison: Comparison) -> Chart | None:
    now = {gain.model: gain.mask_now for gain in comparison.gains if gain.name == "miou_7"}
    series = {
        "offline": _answers(comparison, "offline"),
        "streaming": _answers(comparison, "streaming"),
    }
    if now:
        series["streaming, carried to the present"] = tuple(now.get(model) for model in range(len(comparison.models)))
    known = {name: values for name, values in series.items() if values}
    caption = "miou_7 of each model on the made-up drive, offline and at the moment of use."
    return Chart(_names(comparison), known, "miou_7, %", caption, 1) if known else None


def _gap(comparison: Comparison) -> Chart | None:
    found = {gain.name: gain for gain in comparison.gains if gain.model == comparison.gains[0].model}
    names = tuple(name for name in SCORED_NAMES if name in found)
    if not names:
        return None
    series = {
        "newest mask": tuple(found[name].mask for name in names),
        "carried to the present": tuple(found[name].mask_now for name in names),
        "a mask that takes no time": tuple(found[name].offline for name in names),
    }
    model = comparison.models[comparison.gains[0].model].name
    return Chart(names, series, "IoU, %", f"Streaming IoU by category, {model}.")


def _latency(comparison: Comparison) -> Chart | None:
    asked = {"median": "latency_p50", "99th percentile": "latency_p99"}
    series = {name: values for name, question in asked.items() if (values := _answers(comparison, question))}
    caption = "From publishing a camera frame until its mask has arrived, at the recorded rate."
    return Chart(_names(comparison), series, "camera to mask, ms", caption) if series else None


def _recorded(comparison: Comparison, model: int) -> list[Measured]:
    return [run for run in comparison.runs if run.purpose == "recorded" and run.model == model]


def _stages(comparison: Comparison) -> Chart | None:
    series: dict[str, list[float | None]] = {stage.value: [] for stage in Stage}
    for model in range(len(comparison.models)):
        for stage in Stage:
            values = [
                value
                for run in _recorded(comparison, model)
                for value in run.frames.stages.get(stage.value, ())
                if value
            ]
            series[stage.value].append(float(np.mean(values)) if values else None)
    if not any(value for values in series.values() for value in values):
        return None
    shown = {name: tuple(values) for name, values in series.items()}
    return Chart(_names(comparison), shown, "mean, ms", "Stages of a frame in the node.", 1, stacked=True)


def _fates(comparison: Comparison) -> Chart | None:
    series: dict[str, tuple[float | None, ...]] = {}
    for fate in ("masked", *(drop.value for drop in DROPS), "lost"):
        shares = []
        for model in range(len(comparison.models)):
            counts = [run.counts for run in _recorded(comparison, model)]
            sent = sum(count["sent"] for count in counts)
            shares.append(100 * sum(count.get(fate, 0) for count in counts) / sent if sent else None)
        if any(shares):
            series[fate] = tuple(shares)
    hz = f"{comparison.drive.rate_hz:.0f} Hz"
    caption = f"What became of the frames of a {hz} camera."
    return Chart(_names(comparison), series, "frames, %", caption, 1, stacked=True) if series else None


def _study(name: str) -> Callable[[Results], Chart | None]:
    def make(results: Results) -> Chart | None:
        study: dict[str, Any] | None = getattr(results, f"{name}_study")
        if not study or not any(study["summary"].values()):
            return None
        variants = tuple(next(rows for rows in study["summary"].values() if rows))
        series = {
            data: tuple(rows[v]["miou_7"]["mean"] if v in rows else None for v in variants)
            for data, rows in study["summary"].items()
        }
        labels = tuple(re.sub("pyramid|segmentation", "", variant).replace("_", "\n") for variant in variants)
        of = "; channels of the pyramid, and of the part behind it" if name == "decoder" else ""
        return Chart(labels, series, "miou_7, %", f"Mean of {len(study['seeds'])} seeds, short runs{of}.")

    return make


def _quality(results: Results) -> Chart | None:
    sets = {"CamVid val": DATA, "development drive": DEVELOPMENT}
    series = {
        shown: tuple(model["metrics"].get(name, {}).get("miou_7") for model in results.models.values())
        for shown, name in sets.items()
    }
    known = {name: values for name, values in series.items() if any(values)}
    caption = "miou_7 of the shipped models on single images; no model was trained on either."
    return Chart(tuple(results.models), known, "miou_7, %", caption, 1) if known else None


def _categories(results: Results) -> Chart | None:
    scored = {n: m["metrics"][DATA]["iou"] for n, m in results.models.items() if DATA in m["metrics"]}
    series = {name: tuple(iou.get(category) for category in SCORED_NAMES) for name, iou in scored.items()}
    return Chart(SCORED_NAMES, series, "IoU, %", "IoU of each category on CamVid val.") if series else None


CHARTS: dict[str, Callable[[Results], Chart | None]] = {
    "streaming": _of_comparison(_streaming),
    "gap": _of_comparison(_gap),
    "latency": _of_comparison(_latency),
    "stages": _of_comparison(_stages),
    "fates": _of_comparison(_fates),
    "quality": _quality,
    "categories": _categories,
    **{name: _study(name) for name in ("encoder", "decoder", "loss", "augmentation")},
}
"""Charts by name; None where there is nothing to draw."""
