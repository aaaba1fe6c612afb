"""Tables of a comparison."""

import numpy as np

from seg_node.compare.comparison import Comparison, Difference, Verdict
from seg_node.compare.now_gain import by_age, iou_of_age
from seg_node.compare.now_results import Gain
from seg_node.compare.statistics import LEVEL
from seg_node.core.report.tables import MINUS, NONE, Table, interval, number
from seg_node.core.statistics import mean_known
from seg_node.core.timing import DROPS

NO_WINNER = "no clear winner"
NO_VERDICT = "no verdict"
"""Cell of a question that could not be asked."""
LEAST_GAP = 1.0
"""Points between offline and streaming accuracy below which no share of them is told."""
_INTERVAL = f"difference, {100 * LEVEL:.0f} % interval"


def verdicts(comparison: Comparison) -> Table:
    """One row for each question, with the differences where there are but two backbones; see ``pairs``."""
    names = [model.name for model in comparison.models]
    rows = []
    for question in dict.fromkeys(verdict.question for verdict in comparison.verdicts):
        asked = [verdict for verdict in comparison.verdicts if verdict.question == question]
        values = {model: value for v in asked for model, value in zip(v.models, v.values, strict=True)}
        clear = [f"{names[v.winner]}{_over(names, v)}" for v in asked if v.winner is not None]
        cells = [
            NONE if values.get(model) is None else number(values[model]) + _unit(asked[0])
            for model in range(len(names))
        ]
        between = [difference(asked[0].difference)] if len(names) == 2 else []
        none = NO_WINNER if any(v.difference for v in asked) else NO_VERDICT
        rows.append([asked[0].title, *cells, *between, ", ".join(clear) or none])
    return ["", *names, *([_INTERVAL] if len(names) == 2 else []), "better"], rows


def pairs(comparison: Comparison) -> Table | None:
    """One row for each question and two backbones; None where there are but two."""
    names = [model.name for model in comparison.models]
    if len(names) == 2:
        return None
    rows = [
        [
            verdict.title,
            " minus ".join(names[model] for model in reversed(verdict.models)),
            difference(verdict.difference),
            names[verdict.winner] if verdict.winner is not None else NO_WINNER if verdict.difference else NO_VERDICT,
        ]
        for verdict in comparison.verdicts
    ]
    return ["", "backbones", _INTERVAL, "better"], rows


def _over(names: list[str], verdict: Verdict) -> str:
    """Whom the winner is ahead of, where there is more than one other."""
    return "" if len(names) == 2 else f" over {names[next(m for m in verdict.models if m != verdict.winner)]}"


def difference(found: Difference | None) -> str:
    """A difference with its interval; a dash where the question could not be asked."""
    return NONE if found is None else interval(found.estimate, found.low, found.high)


def _unit(verdict: Verdict) -> str:
    return " %" if verdict.unit == "points" else f" {verdict.unit}"


def now(comparison: Comparison) -> Table | None:
    """What the mask of now adds to each figure of streaming accuracy; None where it was not measured."""
    if not comparison.gains:
        return None
    header = ["", "~/mask", "~/mask, listened", "~/mask_now", "offline", "gain, interval", "gap closed"]
    rows = []
    for gain in comparison.gains:
        title = gain.name if len(_listened(comparison)) == 1 else f"{comparison.models[gain.model].name}, {gain.name}"
        values = [gain.mask, gain.mask_listened, gain.mask_now, gain.offline]
        added = NONE if gain.estimate is None else interval(gain.estimate, gain.low, gain.high)
        rows.append([title, *map(number, values), added, closed(gain)])
    return header, rows


def closed(gain: Gain) -> str:
    """Share of the gap between offline and streaming accuracy that the mask of now closes; a dash without a gap."""
    if None in (gain.estimate, gain.offline, gain.mask) or gain.offline - gain.mask < LEAST_GAP:
        return NONE
    return f"{100 * gain.estimate / (gain.offline - gain.mask):.0f} %".replace("-", MINUS)


def now_by_age(comparison: Comparison) -> Table | None:
    """Both topics by the age of the inferred mask, in the same runs; None without ground truth."""
    taxonomy = comparison.taxonomy
    categories = (None, "human", "vehicle") if taxonomy.is_eight else (None,)
    figures = [category or taxonomy.headline for category in categories]
    header = ["age of the inferred mask", "instants", *figures, *(f"now {name}" for name in figures)]
    rows = []
    for model in _listened(comparison):
        for age, topics in by_age(comparison, model).items():
            title = f"{age} to {next(iter(topics.values())).to_ms} ms"
            title = title if len(_listened(comparison)) == 1 else f"{comparison.models[model].name}, {title}"
            counts = [str(topics[topic].frames) if topic in topics else "0" for topic in ("mask", "mask_now")]
            cells = [
                number(iou_of_age(topics[topic], category, taxonomy)) if topic in topics else NONE
                for topic in ("mask", "mask_now")
                for category in categories
            ]
            rows.append([title, " / ".join(counts), *cells])
    return (header, rows) if rows else None


def _listened(comparison: Comparison) -> list[int]:
    return list(dict.fromkeys(measured.model for measured in comparison.now))


def rates(comparison: Comparison) -> Table:
    """One row per rate and backbone; reasons for which no frame was dropped have no column."""
    reasons = [r for r in ("lost", *(d.value for d in DROPS)) if any(run.counts.get(r) for run in comparison.runs)]
    counted = ["sent", "masked", *reasons]
    header = [
        "rate",
        "backbone",
        "Hz",
        *counted,
        "masks/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "blind ms",
        "age ms",
        "peak age ms",
    ]
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
                    number(mean_known(run.masks_per_second for run in runs)),
                    *(number(value, 0) for value in percentiles),
                    number(max(run.longest_blind_ms or 0.0 for run in runs), 0),
                    *(
                        number(mean_known(getattr(run, age) for run in runs), 0)
                        for age in ("age_mean_ms", "age_peak_ms")
                    ),
                ]
            )
    return header, rows


def setup(comparison: Comparison) -> Table:
    """What was compared, on what, with which options."""
    rows = [["drive", comparison.drive.path], ["drive hash", comparison.drive.hash], ["topic", comparison.drive.topic]]
    rows += [["ground truth", comparison.drive.truth or "none"]]
    rows += [["drawn by the generator that also trained", "yes" if comparison.drive.made_up else "no"]]
    for model in comparison.models:
        facts = [model.backbone, model.precision, model.engine, model.device, model.training, model.sha256[:12]]
        rows.append([model.name, ", ".join(fact for fact in facts if fact)])
    rows += [[key, str(value)] for key, value in comparison.machine.items()]
    rows.append(["versions", ", ".join(f"{key} {value}" for key, value in comparison.versions.items())])
    for key, value in comparison.configuration.items():
        rows.append([key, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)])
    rows += [["created", comparison.created], ["took", f"{comparison.duration_s / 60:.1f} minutes"]]
    return ["", ""], rows
