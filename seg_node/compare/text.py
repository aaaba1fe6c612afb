"""A comparison in words: the console report, and the sentences that it shares with the page."""

import numpy as np

from seg_node.compare import tables
from seg_node.compare.comparison import Comparison, Verdict
from seg_node.compare.statistics import LEVEL
from seg_node.core.report.tables import aligned, number
from seg_node.core.statistics import mean_known

_BUSY = 0.25
"""Share of the cores in use above which the machine was not idle."""
_LEVEL = f"{100 * LEVEL:.0f} %"


def to_text(comparison: Comparison) -> str:
    """The console report."""
    parts = [
        "\n".join(_caption(comparison)),
        aligned(tables.verdicts(comparison)),
        "\n".join(f"{verdict.title}: {verdict.reason}" for verdict in comparison.verdicts),
        aligned(tables.rates(comparison)),
        "\n".join(notes(comparison)),
        f"Which backbone should drive, on this machine, on this drive?\n{comparison.decision.sentence}",
        *caution(comparison),
    ]
    return "\n\n".join(part for part in parts if part)


def caution(comparison: Comparison) -> list[str]:
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
        f"drive    {drive(comparison)}",
        f"models   {' and '.join(f'{m.name} ({m.backbone})' if m.backbone else m.name for m in comparison.models)}",
        f"machine  {machine(comparison)}",
    ]


def drive(comparison: Comparison) -> str:
    drive = comparison.drive
    truth = f"ground truth for {drive.truth_frames} frames" if drive.truth else "no ground truth"
    return (
        f"{drive.path}, {len(drive.times_s)} frames {drive.width}x{drive.height} {drive.transport} at"
        f" {drive.rate_hz:.1f} Hz, {truth}"
    )


def machine(comparison: Comparison) -> str:
    engines = " and ".join(dict.fromkeys(model.engine for model in comparison.models if model.engine))
    return f"{comparison.machine.get('cpu')}, {comparison.machine.get('cores')} cores" + (
        f", engine {engines}" if engines else ""
    )


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


def method(comparison: Comparison) -> str:
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


def paired(verdict: Verdict) -> str:
    if verdict.paired is None:
        return ""
    median = tables.difference(verdict.paired)
    return f" Of the {verdict.paired_frames} frames that both masked: median difference {median} ms."
