"""What templates name in double braces: tables, figures and sentences, each made of result files.

A piece whose file is not there says so, and how to get it.
"""

import re
from collections.abc import Callable
from typing import Any

from note.cameras import cameras_table, ill_cameras_table
from note.claims import claim
from note.origins import how_to_get, manifests, measured, missing, origin_of, source, together
from note.page_tables import (
    mask_now_tables,
    node_checkouts_table,
    plain_path_table,
    profiles_table,
    tune_exhaustive_table,
)
from note.projection import projection_tables
from note.reliability import chaos_table, soak_cameras_table, soak_table
from note.results import PAGES, SOURCES, Results
from note.slide_charts import CHARTS, DEVELOPMENT, Chart
from note.summaries import DATA, summary
from seg_node.compare.comparison import Comparison
from seg_node.compare.plan import Plan
from seg_node.compare.tables import pairs, verdicts
from seg_node.compare.text import made_up
from seg_node.core.report.charts import Figure, study_dots
from seg_node.core.report.tables import NONE, number, origin, signed, study_correction
from seg_node.core.report.tables import markdown as table
from seg_node.core.report.tables import study as study_table
from seg_node.core.taxonomy import CATEGORY_NAMES, PALETTE_RGB
from seg_node.web.dashboard import charts, tables

_PLACEHOLDER = re.compile(r"\{\{ ([\w ]+) \}\}")


class Pieces:
    """Fills templates, and collects the figures that they show.

    Args:
        results: what was measured.

    Attributes:
        figures: that were shown so far, by name.
        charts: of the slides so far, by the name of their figure.
    """

    def __init__(self, results: Results):
        self._results = results
        self.figures: dict[str, Figure | Chart] = {}
        self.charts: dict[str, Chart] = {}

    def fill(self, template: str) -> str:
        """Put a piece in the place of each ``{{ name arguments }}``.

        Raises:
            KeyError: there is no such piece.
        """
        return _PLACEHOLDER.sub(lambda found: self.piece(*found[1].split()), template)

    def piece(self, name: str, *arguments: str) -> str:
        """One piece as Markdown."""
        if name == "figures":
            return self._figures(arguments)
        if name == "chart":
            return self._chart(*arguments)
        return PIECES[name](self._results, *arguments)

    def _chart(self, name: str) -> str:
        """The chart of a slide; nothing where its results are missing, for the slide's title says it."""
        chart = CHARTS[name](self._results)
        if chart is None:
            return ""
        file = f"slide_{name}"
        self.charts[file] = self.figures[file] = chart
        return f"![{chart.caption} {chart.numbers}](figures/{file}.svg)"

    def _figures(self, names: tuple[str, ...]) -> str:
        """Pictures in a row, each with its numbers in place of itself, and their captions below.

        Nothing stands in the place of a figure whose results are missing: the table or sentence beside it says so.
        """
        made = {n: figure for n in names if (figure := self.figures.get(n) or FIGURES[n](self._results))}
        if not made:
            return ""
        self.figures |= made
        images = " ".join(f"![{figure.caption} {figure.numbers}](figures/{name}.svg)" for name, figure in made.items())
        places = ("Left: ", "Right: ") if len(made) == 2 else ("",) * len(made)
        captions = " ".join(place + figure.caption for place, figure in zip(places, made.values(), strict=True))
        return f"{images}\n*{captions}*"


def _coded(header: list[str], names: tuple[str, ...]) -> list[str]:
    """A header with some of its names set as code."""
    return [f"`{cell}`" if cell in names else cell for cell in header]


def _quality(results: Results) -> str:
    header, rows = tables.quality(results.models, DATA)
    if not rows:
        return "*No manifest reports scores.*"
    return f"{table((_coded(header, ('miou_7', 'miou_8')), rows), code=(0, 1))}\n\n{manifests(results)}"


def _quality_intervals(results: Results) -> str:
    """95 % intervals of ``miou_7``, which manifests report since they are evaluated with them."""
    known = {n: m["metrics"][DATA] for n, m in results.models.items() if "miou_7_ci" in m["metrics"].get(DATA, {})}
    if not known:
        return (
            "The manifests of these bundles report no intervals; `python -m seg_training evaluate BUNDLE` makes them."
        )
    parts = [f"`{name}` {_with_interval(figures)}" for name, figures in known.items()]
    return f"95 % intervals of `miou_7`, from a bootstrap over blocks of images: {', '.join(parts)}."


def _backbones(results: Results) -> str:
    """What each backbone costs and reaches: size, work, ``miou_7`` with intervals."""
    scores = ["`miou_7`, val (95 %)", "`miou_7`, development drive (95 %)", "the same in int8 on OpenVINO"]
    header = ["bundle", "parameters", "GFLOPs", *scores]
    rows = []
    for name, model in results.models.items():
        size, work = model["parameters"], model["gflops"]
        rows.append(
            [
                name,
                tables.NONE if size is None else f"{size / 1e6:.1f} M",
                tables.number(work),
                *(_with_interval(model["metrics"].get(data)) for data in (DATA, DEVELOPMENT)),
                " / ".join(number(_in_int8(model, data)) for data in (DATA, DEVELOPMENT)),
            ]
        )
    return f"{table((header, rows), code=(0,))}\n\n{manifests(results)}"


def _in_int8(model: dict[str, Any], data: str) -> float | None:
    """``miou_7`` of a model in int8, in which the node computes on most processors; None where it was not scored."""
    found = (model["quantisation"] or {}).get("openvino") or {}
    name = model["metrics"].get(data, {}).get("data")
    older = {model["quantisation"].get("scored_on"): found} if found else {}
    return found.get("sets", older).get(name, {}).get("miou_7")


def _engines(results: Results) -> str:
    """Median milliseconds of a 1280x720 frame, by engine and precision, of each bundle."""
    if results.bench is None:
        return missing("bench")
    timed: dict[str, dict[str, float]] = {}
    for row in results.bench["engines"].get("rows", ()):
        timed.setdefault(f"{row['engine']} {row['precision']}", {})[row["model"]] = row["p50_ms"]
    bundles = [name for name in results.models if any(name in times for times in timed.values())]
    header = ["p50, ms", *(f"`{name}`" for name in bundles)]
    rows = [[engine, *(tables.number(times.get(name)) for name in bundles)] for engine, times in timed.items()]
    return f"{table((header, rows))}\n\n{measured(results, 'bench')}"


def _with_interval(figures: dict[str, Any] | None) -> str:
    """``miou_7`` of an evaluation with its interval, where there is one."""
    if figures is None:
        return NONE
    interval = figures.get("miou_7_ci")
    return f"{figures['miou_7']:.1f}" + (f" ({interval[0]:.1f} to {interval[1]:.1f})" if interval else "")


def _budgets(results: Results, form: str = "") -> str:
    """On what each bundle was trained; ``bare`` where the line on its origin stands below another table."""
    header = ["bundle", "encoder", "training data", "images seen", "seed", "trained in", "stored size"]
    rows = []
    for name, model in results.models.items():
        training = model["training"]
        data = training.get("data") or NONE
        minutes, seeds = training.get("minutes"), {r["seed"] for r in training.get("recipes", []) if "seed" in r}
        rows.append(
            [
                name,
                model["backbone"],
                data if isinstance(data, str) else "; ".join(data),
                str(_images_seen(training) or NONE),
                ", ".join(map(str, seeds)) or NONE,
                NONE if minutes is None else f"{minutes:.0f} min, {training['machine']}",
                f"{model['bytes'] / 2**20:.1f} MiB",
            ]
        )
    written = table((header, rows), code=(0, 1))
    return written if form == "bare" else f"{written}\n\n{manifests(results)}"


def _budget_verdict(results: Results) -> str:
    seen = {name: _images_seen(model["training"]) for name, model in results.models.items()}
    if len(set(seen.values())) == 1:
        return "All had the same number of images, so that the table compares the backbones under one budget."
    counts = ", ".join(f"{count} for `{name}`" for name, count in seen.items())
    return (
        f"The budgets differ (images seen, repetitions counted: {counts}): the figures say what is shipped, not which"
        " backbone is better."
    )


def _starts(results: Results) -> str:
    """From which weights each encoder started."""
    starts: dict[str, list[str]] = {}
    for name, model in results.models.items():
        starts.setdefault(model["encoder_weights"] or "random values", []).append(f"`{name}`")
    parts = [
        f"{' and '.join(names)} {'starts' if len(names) == 1 else 'start'} from {source}"
        for source, names in starts.items()
    ]
    return f"{'; '.join(parts)}."


def _images_seen(training: dict[str, Any]) -> int:
    return sum(recipe["steps"] * recipe["batch_size"] for recipe in training.get("recipes", []))


def _categories(_: Results) -> str:
    rows = [
        [str(value), name, _EXAMPLES[name], "#" + "".join(f"{part:02x}" for part in rgb)]
        for value, (name, rgb) in enumerate(zip(CATEGORY_NAMES, PALETTE_RGB.tolist(), strict=True))
    ]
    return table((["value", "category", "such as", "colour"], rows))


_EXAMPLES = {
    "void": "the own bonnet, what is none of these",
    "flat": "road, pavement",
    "construction": "building, wall, fence",
    "object": "pole, sign, traffic light",
    "nature": "vegetation, terrain",
    "sky": "sky",
    "human": "pedestrian, rider",
    "vehicle": "car, truck, bus, train, bicycle",
}


def _verdicts(results: Results, name: str = "comparison", form: str = "") -> str:
    """One row for each question; with ``pairs`` also the differences of each two, where there are more than two."""
    comparison = getattr(results, name)
    if comparison is None:
        return missing(name)
    header, rows = verdicts(comparison)
    models = tuple(model.name for model in comparison.models)
    rows = [[*row[:-1], f"`{row[-1]}`" if row[-1] in models else row[-1]] for row in rows]
    shown = [(_coded(header, models), rows)]
    if form == "pairs" and (between := pairs(comparison)):
        shown.append(between)
    written = [table((head, [[re.sub(r"\bmiou_7\b", "`miou_7`", row[0]), *row[1:]] for row in rows]))
               for head, rows in shown]  # fmt: skip
    return "\n\n".join([*written, measured(results, name)])


def _decision(results: Results, name: str = "comparison") -> str:
    comparison = getattr(results, name)
    return f"> {comparison.decision.sentence}" if comparison else missing(name)


def _setting(results: Results, name: str = "comparison") -> str:
    comparison: Comparison | None = getattr(results, name)
    if comparison is None:
        return missing(name)
    drive = comparison.drive
    truth = f"ground truth for {drive.truth_frames} of them" if drive.truth else "no ground truth"
    engines = ", ".join(dict.fromkeys(f"{model.engine} on {model.device}" for model in comparison.models))
    return (
        f"{len(drive.times_s)} frames of {drive.width}x{drive.height} ({drive.transport}), {drive.rate_hz:.0f} Hz,"
        f" {truth}{made_up(comparison)}; {engines}; {comparison.repetitions} fresh processes of each backbone."
    )


def _lost_and_drops(results: Results) -> str:
    """What became of all frames at the recorded rate, in one sentence."""
    comparison = results.comparison
    if comparison is None:
        return missing("comparison")
    runs = [run for run in comparison.runs if run.purpose == "recorded"]
    sent, lost, masked = (sum(run.counts[key] for run in runs) for key in ("sent", "lost", "masked"))
    reasons = ("superseded", "stale", "undecodable", "failed")
    dropped = {reason: sum(run.counts.get(reason, 0) for run in runs) for reason in reasons}
    drops = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count) or "none dropped"
    faults = len(comparison.faults)
    return (
        f"Of {sent} frames sent at the recorded rate {lost} were lost in transport, {masked} masked, {drops};"
        f" the counts of {'every run add up' if not faults else f'{faults} runs do not add up'}."
    )


def _study(results: Results, name: str) -> str:
    study = getattr(results, f"{name}_study")
    if study is None:
        return missing(f"{name}_study")
    machines = len(results.settings(f"{name}_study"))
    parts = [
        f"{study['question']}; {len(study['seeds'])} seeds{f', on {machines} machines or commits' * (machines > 1)}."
        " IoU in percent; in brackets Student's interval of the difference to the first row,"
        f" {study_correction(study)}."
    ]
    for data in study["summary"]:
        header, rows = study_table(study, data)
        parts.append(f"On {data}:\n\n{table((_coded(header, ('miou_7',)), rows), code=(0,))}")
    return "\n\n".join([*parts, measured(results, f"{name}_study")])


def _study_verdict(results: Results, name: str) -> str:
    study = getattr(results, f"{name}_study")
    if study is None:
        return missing(f"{name}_study")
    parts = []
    for data, variants in study["summary"].items():
        if not variants:
            # No cell has finished yet.
            continue
        first, *others = variants.items()
        surely = [
            f"`{variant}` ({signed(row['difference']['mean'])}, {signed(row['difference']['low'])} to"
            f" {signed(row['difference']['high'])})"
            for variant, row in others
            if row["difference"]
            and row["difference"]["low"] is not None
            and row["difference"]["low"] * row["difference"]["high"] > 0
        ]
        differ = ", ".join(surely) or "no variant"
        parts.append(f"On {data}, differences to `{first[0]}` that are not chance: {differ}.")
    return " ".join([*parts, f"The intervals are {study_correction(study)}."])


def _bench(results: Results, which: str = "all") -> str:
    """Lines of the benchmark; as a ``summary``, how many of those that say beforehand what is wanted hold."""
    if results.bench is None:
        return missing("bench")
    if which == "summary":
        return _bench_summary(results.bench["lines"]) + f"\n\n{measured(results, 'bench')}"
    parts = [f"All of it by `{results.bench['command']}`."]
    for title, lines in results.bench["lines"].items():
        rows = [[x["subject"], x["what"], x["value"], x["wanted"], _HOLDS[x["holds"]]] for x in lines]
        if rows:
            parts.append(f"**{title}**\n\n{table((['', '', 'measured', 'wanted', 'holds'], rows))}")
    return "\n\n".join([*parts, measured(results, "bench")])


def _bench_summary(lines: dict[str, list[dict[str, Any]]]) -> str:
    """What was wanted beforehand: how much of it holds, and for which bundle what does not."""
    rows: list[list[str]] = []
    failed: dict[tuple[str, str], list[str]] = {}
    for title, of_title in lines.items():
        wanted = [x for x in of_title if x["wanted"]]
        if wanted:
            rows.append([title, str(len(wanted)), str(sum(x["holds"] is True for x in wanted))])
        for x in wanted:
            if not x["holds"]:
                # A limit that is worked out for each bundle stands with its figure.
                common, _, limit = x["wanted"].partition(" = ")
                value = re.sub(r", \d+ rounds$", "", x["value"].partition(";")[0])
                figure = f"`{x['subject']}` {value}{f', limit {limit}' if limit else ''}"
                failed.setdefault((x["what"], common), []).append(figure)
    shown = table((["measured", "wanted beforehand", "of these hold"], rows))
    if not failed:
        return f"{shown}\n\nAll of it holds."
    missed = [[what, common, "; ".join(figures)] for (what, common), figures in failed.items()]
    return f"{shown}\n\n{table((['what does not hold', 'wanted', 'measured'], missed))}"


def _input_sizes(results: Results) -> str:
    """Milliseconds and ``miou_7`` of the same weights at several sizes of the network's input."""
    found = results.input_size
    if found is None:
        return missing("input_size")
    header = ["bundle", "input", "GFLOPs", "p50, ms", "p99, ms", "`miou_7`"]
    rows = [
        [
            row["model"],
            "x".join(map(str, reversed(row["input_size"]))),
            *(number(row[key]) for key in ("gflops", "p50_ms", "p99_ms", "miou_7")),
        ]
        for row in found["input_sizes"]
    ]
    first = found["input_sizes"][0]
    images = "all images" if found["every"] == 1 else f"one image in {found['every']}"
    return (
        f"A 1280x720 frame on {first['engine']} in {first['precision']}; `miou_7` on {images} of CamVid val.\n\n"
        f"{table((header, rows), code=(0,))}\n\n{measured(results, 'input_size')}"
    )


_HOLDS = {True: "yes", False: "**no**", None: ""}


def _load(results: Results) -> str:
    """What became of many requests at once: good and bad ones, times, memory."""
    load = results.serve_load
    if load is None:
        return missing("serve_load")
    header = ["request", "answered right", "wrong", "asked to come again", "p50, ms", "p99, ms"]
    rows = [
        [
            name,
            *(str(row[key]) for key in ("right", "wrong", "refused")),
            *(number(row[k], 0) for k in ("p50_ms", "p99_ms")),
        ]
        for name, row in load["kinds"].items()
    ]
    memory = ", ".join(f"{value:.0f}" for value in load["memory_mib"])
    requests = load["requests"] * load["rounds"]
    options = " ".join(f"--{name} {load[name]}" for name in ("requests", "rounds", "width", "model", "engine", "queue"))
    return (
        f"{load['requests']} requests at once, good and bad, in {_rounds(load['rounds'])} (`{options}`). What the queue"
        " cannot hold gets 503 with `Retry-After` and is sent again, later each time; the times are those of the last"
        " try.\n\n"
        f"{table((header, rows))}\n\n{measured(results, 'serve_load')}\n\n"
        f"{requests / load['seconds']:.1f} answers per second. Memory of the server at first and after each tenth of"
        f" the answers: {memory} MiB."
    )


def _rounds(count: int) -> str:
    return "one round" if count == 1 else f"{count} rounds"


def _worst(row: dict[str, Any], waves: bool) -> float:
    """Most false winners of a row of the simulation, percent, over its questions and what drifts or waves."""
    shares = [max(of.values()) for name, of in row["false_percent"].items() if ("wave" in name) == waves]
    return max(shares)


def _simulation(results: Results, form: str = "table") -> str:
    """How often the rule of the verdicts errs, as a table, or the row of ``make compare`` as a ``sentence``."""
    found = results.verdict_simulation
    if found is None:
        return missing("verdict_simulation")
    claimed = f"{100 - 100 * found['level']:.0f} %"
    if form == "sentence":
        rows = [row for row in found["rows"] if row["pairs"] == Plan().repetitions]
        false = max(_worst(row, waves) for row in rows for waves in (True, False))
        finds = ", ".join(f"{row['detectable_ms']:.0f} ms" for row in rows)
        spreads = ", ".join(f"{row['spread_ms']:.0f} ms" for row in rows)
        return (
            f"Two equal backbones that run in {rows[0]['pairs']} pairs were simulated {found['trials']} times in each"
            f" of {len(rows) * len(rows[0]['false_percent'])} cases. A question has a false winner in at most"
            f" {false:.1f} % of the comparisons of any case, where {claimed} is claimed. Of a median of"
            f" {found['latency_ms']:.0f} ms a difference of {finds} is found in nine comparisons of ten, where the"
            f" medians of the processes spread by {spreads}."
        )
    header = ["pairs", "spread between processes", "drift, step or walk of the machine", "a wave of 20 ms", "finds"]
    rows = [
        [
            str(row["pairs"]),
            f"{row['spread_ms']:.0f} ms",
            *(f"{_worst(row, waves):.1f} %" for waves in (False, True)),
            f"{row['detectable_ms']:.0f} ms",
        ]
        for row in found["rows"]
    ]
    error = 100 * (0.02 * 0.98 / found["trials"]) ** 0.5
    return (
        f"Two models that do not differ are simulated {found['trials']} times for each cell. The table has the most"
        " false winners of three questions (median, 99th percentile, masks per second), at a claimed"
        f" {claimed}, and the smallest difference of a median of {found['latency_ms']:.0f} ms that is found in nine"
        " comparisons of ten. Each figure is the greatest of several shares, whose standard error is"
        f" {error:.1f} points.\n\n{table((header, rows))}\n\n"
        f"{measured(results, 'verdict_simulation')}"
    )


def _files(results: Results) -> str:
    rows = [
        [f"docs/results/{source.file}", source.command, "yes" if getattr(results, name) is not None else "not yet"]
        for name, source in SOURCES.items()
    ]
    rows.append(
        ["docs/results/runs/NAME.jsonl", "python -m seg_training train CONFIG", "yes" if results.runs else "not yet"]
    )
    return table((["result file", "made by", "measured"], rows), code=(0, 1))


def _page(name: str, text: Callable[[dict[str, Any]], str]) -> Callable[[Results], str]:
    """The piece of one of ``PAGES``: what is made of its file and where that is of, or how to get the file."""

    def piece(results: Results) -> str:
        source, measured = PAGES[name], results.pages[name]
        if measured is None:
            return how_to_get(source)
        return f"{text(measured)}\n\n*Measured: {origin(measured['machine'])}; `{source.command}`.*"

    return piece


_PAGES = {
    "cameras": cameras_table,
    "chaos": chaos_table,
    "ill_cameras": ill_cameras_table,
    "mask_now": mask_now_tables,
    "node_checkouts": node_checkouts_table,
    "plain_path": plain_path_table,
    "projection": projection_tables,
    "soak": soak_table,
    "soak_cameras": soak_cameras_table,
    "tune_exhaustive": tune_exhaustive_table,
    "tune_exhaustive_video": tune_exhaustive_table,
}
PIECES: dict[str, Callable[..., str]] = {
    **{name: _page(name, text) for name, text in _PAGES.items()},
    "backbones": _backbones,
    "bench": _bench,
    "budget_verdict": _budget_verdict,
    "budgets": _budgets,
    "categories": _categories,
    "claim": claim,
    "decision": _decision,
    "engines": _engines,
    "files": _files,
    "input_sizes": _input_sizes,
    "load": _load,
    "lost_and_drops": _lost_and_drops,
    "origin": origin_of,
    "profiles": lambda results: profiles_table(results.profiles),
    "quality": _quality,
    "quality_intervals": _quality_intervals,
    "setting": _setting,
    "simulation": _simulation,
    "source": source,
    "starts": _starts,
    "study": _study,
    "study_verdict": _study_verdict,
    "summary": summary,
    "together": together,
    "verdicts": _verdicts,
}
"""Pieces by name; the words after a name in a template are their arguments."""


def _of_comparison(title: str) -> Callable[[Results], Figure | None]:
    def find(results: Results) -> Figure | None:
        return next((figure for figure in results.comparison_figures if figure.shows(title)), None)

    return find


def _study_figure(name: str) -> Callable[[Results], Figure | None]:
    def draw(results: Results) -> Figure | None:
        study = getattr(results, f"{name}_study")
        return study and study_dots(study)

    return draw


def _training(results: Results) -> Figure | None:
    return charts.training_curves(results.runs) if results.runs else None


def _category_bars(results: Results) -> Figure | None:
    scored = {n: m["metrics"][DATA]["iou"] for n, m in results.models.items() if DATA in m["metrics"]}
    return charts.category_bars(scored, "IoU on CamVid val") if scored else None


FIGURES: dict[str, Callable[[Results], Figure | None]] = {
    "latency": _of_comparison("Latency at the recorded rate"),
    "stages": _of_comparison("Where the time goes"),
    "fates": _of_comparison("Frames at each rate"),
    "accuracy": _of_comparison("Accuracy against latency"),
    "streaming_categories": _of_comparison("Accuracy by category"),
    "gap": lambda results: next(
        (f for f in results.comparison_figures if f.caption.startswith("At the moment of use")), None
    ),
    "categories": _category_bars,
    "training": _training,
    "loss_study": _study_figure("loss"),
    "augmentation_study": _study_figure("augmentation"),
    "backbone_study": _study_figure("backbone"),
}
"""Figures by name; None where there is nothing to draw."""
