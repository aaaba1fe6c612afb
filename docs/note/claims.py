"""What the slides' titles claim: sentences made of result files, so that they change where the results do."""

from collections.abc import Callable
from typing import Any

from note.results import Results
from note.slide_charts import CHARTS
from note.summaries import DATA
from seg_node.compare.verdict import missing_pairs
from seg_node.core.taxonomy import SCORED_NAMES

_UNKNOWN = "Not measured yet"


def claim(results: Results, name: str) -> str:
    """One sentence without a full stop, for the title of a slide."""
    return _CLAIMS[name](results) or _UNKNOWN


def _decision(results: Results) -> str:
    comparison = results.comparison
    if comparison is None:
        return ""
    if missing_pairs(comparison):
        return "There are not enough pairs of processes to say which model should drive"
    decision = comparison.decision
    if decision.winner is not None:
        return f"`{comparison.models[decision.winner].name}` should drive here"
    won = {v.winner for v in comparison.verdicts if v.question == "streaming" and v.winner is not None}
    if decision.trade and len(won) == 1:
        name = comparison.models[won.pop()].name
        return f"`{name}` is the better one at the moment of use; on single images it is not"
    return "The choice is a trade" if decision.trade else "There is no clear winner"


def _streaming(results: Results) -> str:
    chart = CHARTS["streaming"](results)
    if chart is None or len(chart.series) < 2:
        return ""
    offline, streaming, *_ = chart.series.values()
    lost = [o - s for o, s in zip(offline, streaming, strict=True) if o is not None and s is not None]
    return f"Latency costs accuracy: {min(lost):.0f} to {max(lost):.0f} points of `miou_7` at the moment of use"


def _now(results: Results) -> str:
    gains = results.comparison.gains if results.comparison else []
    gain = next((g for g in gains if g.name == "miou_7" and g.estimate is not None), None)
    if gain is None:
        return ""
    people = next((g for g in gains if g.name == "human" and g.model == gain.model and g.estimate is not None), None)
    more = f", and {people.estimate:.0f} for people" if people else ""
    return f"Masks carried to the present win {gain.estimate:.0f} points back{more}"


def _latency(results: Results) -> str:
    chart = CHARTS["latency"](results)
    if chart is None or "median" not in chart.series:
        return ""
    known = {n: v for n, v in zip(chart.categories, chart.series["median"], strict=True) if v is not None}
    fastest = min(known, key=known.__getitem__)
    factor = max(known.values()) / known[fastest]
    return f"`{fastest}` has its masks out in {known[fastest]:.0f} ms, {factor:.1f} times as fast as the slowest"


def _stages(results: Results) -> str:
    chart = CHARTS["stages"](results)
    if chart is None:
        return ""
    totals = [sum(v for v in values if v) for values in zip(*chart.series.values(), strict=True)]
    shares = [100 * (i or 0) / total for i, total in zip(chart.series["inference"], totals, strict=True) if total]
    return f"Waiting and inference take the time: inference alone {min(shares):.0f} to {max(shares):.0f} % of it"


def _fates(results: Results) -> str:
    chart = CHARTS["fates"](results)
    if chart is None:
        return ""
    masked = [value for value in chart.series["masked"] if value is not None]
    return (
        f"{min(masked):.0f} to {max(masked):.0f} % of the frames get a mask of their own, and every other one a reason"
    )


def _quality(results: Results) -> str:
    scored = {n: m["metrics"][DATA]["miou_7"] for n, m in results.models.items() if DATA in m["metrics"]}
    if len(scored) < 2:
        return ""
    spread = max(scored.values()) - min(scored.values())
    return f"On single images the models lie within {spread:.1f} points"


def _categories(results: Results) -> str:
    scored = [m["metrics"][DATA]["iou"] for m in results.models.values() if DATA in m["metrics"]]
    if not scored:
        return ""
    lowest = {min((iou[name], name) for name in SCORED_NAMES if iou.get(name) is not None)[1] for iou in scored}
    return f"Hardest on single images: {' or '.join(f'`{name}`' for name in sorted(lowest))}, in every model"


def _study(name: str, data: str, subject: str) -> Callable[[Results], str]:
    """The variant that is surely best on a data set, against the first; or that there is none."""

    def say(results: Results) -> str:
        study: dict[str, Any] | None = getattr(results, f"{name}_study")
        rows = (study or {"summary": {}})["summary"].get(data)
        if not rows:
            return ""
        first, *others = rows.items()
        surely = {
            variant: row["difference"]["mean"]
            for variant, row in others
            if row["difference"] and row["difference"]["low"] is not None and row["difference"]["low"] > 0
        }
        if not surely:
            return f"No {subject} is surely better than `{first[0]}` on the development drive"
        best = max(surely, key=surely.__getitem__)
        return f"The {subject} `{best}` gains {surely[best]:.0f} points over `{first[0]}` on the development drive"

    return say


def _decoder(results: Results) -> str:
    rows = results.decoder_study and results.decoder_study["summary"].get("development drive")
    if not rows:
        return ""
    first, *others = (row["miou_7"]["mean"] for row in rows.values())
    lost = first - min(others, default=first)
    return f"A narrower decoder costs {lost:.0f} points at most on the development drive"


_CLAIMS: dict[str, Callable[[Results], str]] = {
    "decision": _decision,
    "streaming": _streaming,
    "now": _now,
    "latency": _latency,
    "stages": _stages,
    "fates": _fates,
    "quality": _quality,
    "categories": _categories,
    "encoder": _study("encoder", "development drive", "encoder"),
    "loss": _study("loss", "development drive", "loss"),
    "augmentation": _study("augmentation", "development drive", "augmentation"),
    "decoder": _decoder,
}
"""Titles by name; empty where there is nothing to say yet."""
CLAIMS = frozenset(_CLAIMS)
"""Names of the titles."""
