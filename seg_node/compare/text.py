"""A comparison in words: the console report, and the sentences that it shares with the page."""

import numpy as np

from seg_node.compare import tables
from seg_node.compare.comparison import Comparison, Sustained, Verdict
from seg_node.compare.now_gain import pace
from seg_node.compare.statistics import LEVEL
from seg_node.compare.verdict import MIN_PAIRS, estimated_block_seconds
from seg_node.core.report.tables import NONE, aligned, number, origin, signed
from seg_node.core.statistics import mean_known
from seg_node.core.taxonomy import in_short

_BUSY = 0.25
"""Share of the cores in use above which the machine was not idle."""
_LEVEL = f"{100 * LEVEL:.0f} %"


def to_text(comparison: Comparison) -> str:
    """The console report."""
    parts = [
        "\n".join(_caption(comparison)),
        aligned(tables.verdicts(comparison)),
        aligned(pairs) if (pairs := tables.pairs(comparison)) else "",
        "\n".join(f"{heading(comparison, verdict)}: {verdict.reason}" for verdict in comparison.verdicts),
        *now(comparison),
        *(aligned(table) for table in (tables.now(comparison), tables.now_by_age(comparison)) if table),
        aligned(tables.rates(comparison)),
        "\n".join(notes(comparison)),
        f"Which backbone should drive, on this machine, on this drive?\n{comparison.decision.sentence}",
        *caution(comparison),
    ]
    return "\n\n".join(part for part in parts if part)


def heading(comparison: Comparison, verdict: Verdict) -> str:
    """The question, and of which two backbones where there are more."""
    names = [comparison.models[model].name for model in verdict.models]
    return verdict.title if len(comparison.models) == 2 else f"{verdict.title}, {' and '.join(names)}"


def caution(comparison: Comparison) -> list[str]:
    """What makes the figures doubtful; belongs beside the verdict."""
    busy, cores = comparison.machine.get("busy_cores") or 0.0, comparison.machine.get("cores", 1)
    if busy <= _BUSY * cores:
        return []
    return [
        f"Caution: at the start other programs kept {busy:.1f} of {cores} cores busy. Compare again when the machine is"
        " idle before you trust a latency or a sustained rate."
    ]


def now(comparison: Comparison) -> list[str]:
    """A sentence for each backbone on what its mask of now gives and costs."""
    said, headline = [], comparison.taxonomy.headline
    for model in dict.fromkeys(measured.model for measured in comparison.now):
        runs = [measured for measured in comparison.now if measured.model == model]
        horizon = mean_known(run.horizon_ms for run in runs)
        parts = [] if horizon is None else [f"holds for {horizon:.0f} ms after its frame"]
        covered = mean_known(run.covered for run in runs)
        if covered is not None:
            parts.append(f"is there for {100 * covered:.1f} % of the frames")
        times = [run.camera_to_mask for run in runs if run.camera_to_mask]
        if times:
            p50, p99 = (mean_known(time[quantile] for time in times) for quantile in ("p50", "p99"))
            parts.append(f"comes {p50:.1f} ms after the camera (99th percentile {p99:.1f})")
        without, with_it = pace(comparison, model)
        if without is not None and with_it is not None:
            parts.append(f"leaves {with_it:.1f} inferred masks per second of {without:.1f}")
        whole = next((gain for gain in comparison.gains if (gain.model, gain.name) == (model, headline)), None)
        if whole is not None and whole.estimate is not None:
            gap = "" if tables.closed(whole) == NONE else f", {tables.closed(whole)} of the gap to offline"
            parts.append(f"adds {signed(whole.estimate)} points of streaming {headline} to ~/mask{gap}")
        if parts:
            said.append(f"{comparison.models[model].name}: ~/mask_now {'; '.join(parts)}.")
    return said


def now_method(comparison: Comparison) -> str:
    """How the mask of now was measured."""
    pairs = max((gain.pairs for gain in comparison.gains), default=0)
    few = f" Intervals need {MIN_PAIRS} pairs." if pairs < MIN_PAIRS else ""
    return (
        f"Each of {pairs} processes played the drive twice: first as everywhere else on this page, with nobody who"
        " listens to ~/mask_now, which is then not computed; then with a listener. The gain is ~/mask_now in the second"
        " run less ~/mask in the first; what the listener costs ~/mask itself is in the column beside."
        f" {_LEVEL} intervals are Student's over these pairs of runs, and over blocks of the drive, the wider of both,"
        " each of one degree of freedom fewer."
        f"{few} Gap closed: the gain as a share of what lies between ~/mask and offline accuracy, which no mask that"
        " takes time can reach. By age: instants at which the inferred mask was equally old, in the runs with a"
        " listener; ~/mask shows it as it was, ~/mask_now carries it to the present."
    )


def _caption(comparison: Comparison) -> list[str]:
    return [
        f"drive    {drive(comparison)}",
        f"models   {' and '.join(f'{m.name} ({m.backbone})' if m.backbone else m.name for m in comparison.models)}",
        f"machine  {machine(comparison)}",
    ]


def drive(comparison: Comparison) -> str:
    """What was played, and whether it can surprise the models."""
    drive = comparison.drive
    truth = f"ground truth for {drive.truth_frames} frames" if drive.truth else "no ground truth"
    if grouping := comparison.configuration.get("grouping"):
        common = "the eight categories" if comparison.taxonomy.is_eight else in_short(comparison.taxonomy.names)
        truth += f", scored in {common} by {grouping}"
    return (
        f"{drive.path}, {len(drive.times_s)} frames {drive.width}x{drive.height} {drive.transport} at"
        f" {drive.rate_hz:.1f} Hz, {truth}{made_up(comparison)}"
    )


def made_up(comparison: Comparison) -> str:
    """A clause on a drive that is of the same making as images that the models were trained on; else empty."""
    if not comparison.drive.made_up:
        return ""
    trained = [model.name for model in comparison.models if "made-up" in model.training]
    if not trained:
        return ", made up"
    return f", made up by the generator of images that {' and '.join(trained)} were trained on, from another seed"


def machine(comparison: Comparison) -> str:
    """On what it was measured, and of which commit."""
    engines = " and ".join(dict.fromkeys(model.engine for model in comparison.models if model.engine))
    return origin({"measured": comparison.created} | comparison.machine) + (f", engine {engines}" if engines else "")


def notes(comparison: Comparison) -> list[str]:
    """What is worth a sentence besides the verdicts."""
    notes = [f"FAULT: {fault}" for fault in comparison.faults]
    if not notes:
        notes.append("sent = received + lost and received = masked + dropped in every run: the counts add up.")
    for i, model in enumerate(comparison.models):
        usage = [run.usage for run in comparison.runs if run.model == i and run.purpose == "recorded" and run.usage]
        parts = []
        if usage:
            idle, busy = (mean_known(u.get(key) for u in usage) for key in ("idle_cpu_cores", "cpu_cores"))
            memory = max((u.get("rss_peak_bytes") or 0) for u in usage) / 2**20
            parts.append(f"{number(busy)} cores busy and {number(idle, 2)} idle, {memory:.0f} MiB")
        if flicker := next((f for f in comparison.flicker if f.model == i and f.frame), None):
            parts.append(
                f"flicker {np.mean(flicker.changed):.2f} % of the pixels between neighbouring frames,"
                f" {number(mean_known(flicker.unexplained), 2)} % where they are first moved along the optical flow"
            )
        parts += _ages(comparison, i)
        if unanswered := sum(s.unanswered for s in comparison.streaming if s.model == i):
            parts.append(f"{unanswered} frames before the first mask, scored as wrong")
        if across := sum(s.across_seam for s in comparison.streaming if s.model == i):
            parts.append(f"{across} frames after the drive had begun anew and before a mask of that round, not scored")
        parts += [_bracket(found) for found in comparison.sustained if found.model == i and found.probes]
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


def _ages(comparison: Comparison, model: int) -> list[str]:
    runs = [run for run in comparison.runs if run.model == model and run.purpose == "recorded"]
    mean, peak = (mean_known(getattr(run, age) for run in runs) for age in ("age_mean_ms", "age_peak_ms"))
    if mean is None:
        return []
    return [f"what the newest mask shows is {mean:.0f} ms old on average, {peak:.0f} ms just before the next one"]


def _bracket(found: Sustained) -> str:
    """Between which rates the first frames were dropped; one search, which decides nothing."""
    if found.hz is None:
        return f"at {min(probe['rate'] for probe in found.probes):.1f} Hz more than 1 % of the frames were dropped"
    above = "" if found.ceiling is None else f", more at {found.ceiling:.1f} Hz"
    return f"at most 1 % of the frames dropped at {found.hz:.1f} Hz{above} (a bracket of one search)"


def _echo(comparison: Comparison) -> str:
    sustained = [p for p in comparison.harness.get("probes", []) if p["rate"] == comparison.harness["sustained_hz"]]
    return f" (median {sustained[0]['p50_ms']:.1f} ms)" if sustained else ""


def method(comparison: Comparison) -> str:
    """How it was measured and judged, in a paragraph."""
    plan = comparison.configuration.get("plan", {})
    offline = len(comparison.disagreement.frame) if comparison.disagreement else 0
    how = (
        "The nodes were running already, so their processes are not fresh, and there is one of each."
        if comparison.configuration.get("attached")
        else f"Each backbone ran in {comparison.repetitions} fresh node processes, in pairs and in random orders, so"
        " that neither a machine that grows slower nor one that swings favours any."
    )
    return (
        f"{how} Every process got the drive at its recorded rate, and then {plan.get('saturation', '?')} times as many"
        " frames as it can mask: masks per second are those that came while it was saturated. The first process of"
        " each also got no frame at all, a search for the highest rate at which at most 1 % of"
        f" {plan.get('probe_frames', '?')} or more frames get no mask, fixed rates, and multiples of the rate that was"
        f" found; these are shown and decide nothing. The first {plan.get('warm_up_s', '?')} s of each run are counted"
        " but are in no latency and no accuracy; nor is the latency of a run's last frame, which nothing supersedes."
        " Latency is camera to mask, from publishing a frame until its mask has arrived at a monitor process, on a"
        " steady clock; a figure is the mean over the processes of the quantile of each, and of a process with more"
        " masks only as many enter a difference as the other one has. Streaming accuracy compares ground truth at the"
        " moment of each frame with the newest mask that had arrived by then (Li, Wang and Ramanan, ECCV 2020; Courdier"
        " and Fleuret, ACCV 2020); before the first mask there is no answer, which is wrong everywhere, and where a"
        " drive begins anew nothing is scored until a mask of the new round has come. Offline accuracy compares"
        f" {offline} of {len(comparison.drive.times_s)} frames with their own masks. {_headline(comparison)}"
        f" Intervals are Student's of one degree of freedom fewer, at {_LEVEL} for each question: over pairs of"
        " processes for what varies from one process to the next, over blocks of the drive for offline accuracy, the"
        " wider of both for streaming."
        f"{_blocks(comparison)}{_corrections(comparison)} No winner is named where an interval includes zero or where"
        " there is too little data."
    )


def _headline(comparison: Comparison) -> str:
    """What the figure of accuracy is."""
    if comparison.taxonomy.is_eight:
        return "miou_7 is the mean IoU of seven categories, each from one sum over all frames; void is not scored."
    count = len(comparison.taxonomy)
    return f"miou is the mean IoU of {count} categories, each from one sum over all frames."


def _blocks(comparison: Comparison) -> str:
    used = next((verdict.block_s for verdict in comparison.verdicts if verdict.block_s), None)
    if used is None:
        return ""
    asked = estimated_block_seconds(comparison)
    why = (
        ""
        if asked is None
        else f"; the autocorrelation of the difference asks for {asked:.1f} s (Politis and White, 2004)"
    )
    return f" Blocks last {used:.1f} s{why}."


def _corrections(comparison: Comparison) -> str:
    parts = []
    if len(comparison.models) > 2:
        parts.append("for the pairs of backbones by Holm")
    if (looks := comparison.configuration.get("looks", 1)) > 1:
        parts.append(f"for {looks} possible looks at the growing data by Bonferroni")
    return f" They are corrected {' and '.join(parts)}, and so wider." if parts else ""


def paired(verdict: Verdict) -> str:
    """A sentence on the frames that both masked; empty where nothing is known of them."""
    if verdict.paired is None:
        return ""
    median = tables.difference(verdict.paired)
    return f" Of the {verdict.paired_frames} frames that both masked: median difference {median} ms."
