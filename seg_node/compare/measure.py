"""Measures one node process at every rate of the plan, for a comparison of two backbones."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from seg_node.bags.drive import Drive
from seg_node.compare.comparison import Backbone, Comparison, FrameColumns, Measured, Scored, Sustained
from seg_node.compare.plan import Plan
from seg_node.rig.bench import AttachedNode, Bench
from seg_node.rig.frames import Run, UsageSample
from seg_node.rig.node_process import NodeProcess
from seg_node.rig.plan_bar import PlanBar
from seg_node.rig.rates import highest_rate, saturated_rate, service_rate
from seg_node.rig.schedule import RECORDED, Rate, Schedule, make_schedule
from seg_node.rig.scoring import summarise
from seg_node.rig.streaming import instants, streaming_confusions

MAX_DROPPED = 0.01
"""Share of frames without a mask at which a rate still counts as sustained."""


def measure_process(
    comparison: Comparison,
    plan: Plan,
    drive: Drive,
    truth: Mapping[int, np.ndarray],
    model: int,
    repetition: int,
    target: NodeProcess | AttachedNode,
    folder: Path,
    bar: PlanBar,
) -> None:
    """Measure one node process at the recorded rate and saturated; the first of a backbone at all other rates, too.

    Args:
        comparison: gets the results.
        plan: what to measure.
        drive: what to play.
        truth: ground truth, uint8 [H, W], by index in the drive.
        model: place of the backbone in ``comparison.models``.
        repetition: number of the process, from 0.
        target: a process that was not started, or a node that somebody else started.
        folder: for logs.
        bar: shows the progress.

    Raises:
        NodeError, MonitorError: see ``Bench``.
    """
    facts = comparison.models[model]
    expected = plan.seconds(drive)
    title = f"{facts.name} {repetition + 1}/{plan.repetitions}"
    idle: list[UsageSample] = []
    with contextlib.ExitStack() as stack:
        with bar.step(f"{title}: start", expected["start"]):
            if isinstance(target, NodeProcess):
                stack.enter_context(target)
                target.wait_for("active")
            bench = stack.enter_context(Bench(drive, target, folder, name="compare"))
        if repetition == 0:
            with bar.step(f"{title}: idle", expected["idle"]):
                idle = bench.idle(plan.idle_s)
        _learn(facts, bench)

        def play(purpose: str, name: str, schedule: Schedule) -> Run:
            warm_up = min(round(plan.warm_up_s * schedule.hz), len(schedule.frames) // 2)
            run = bench.play(schedule, warm_up)
            run.idle = idle
            comparison.runs.append(_measured(run, model, repetition, purpose, name, schedule.hz))
            return run

        def play_at(purpose: str, name: str, hz: float, seconds: float) -> Run:
            return play(purpose, name, make_schedule(drive, Rate("hz", hz), frames=max(2, round(hz * seconds))))

        with bar.step(f"{title}: recorded rate", expected["recorded"]):
            run = play("recorded", "recorded", make_schedule(drive, RECORDED, loops=plan.loops(drive)))
        if scored := _streaming(run, truth, model, repetition):
            comparison.streaming.append(scored)
        possible = service_rate(run)
        with bar.step(f"{title}: saturated", expected["saturation"]):
            run = play_at("saturation", "saturated", plan.saturation * possible, plan.saturation_s)
        kept_up = Sustained(model, repetition, None, None, MAX_DROPPED, [], saturated_rate(run))
        comparison.sustained.append(kept_up)
        if repetition:
            return
        with bar.step(f"{title}: bracket of the sustained rate", expected["search"]):
            found = highest_rate(
                bench,
                MAX_DROPPED,
                seconds=plan.probe_s,
                min_frames=plan.probe_frames,
                max_probes=plan.max_probes,
                start=possible,
            )
        kept_up.hz, kept_up.ceiling = found.hz, found.ceiling
        kept_up.probes = [dataclasses.asdict(probe) for probe in found.probes]
        sustained = found.hz or min(probe.rate for probe in found.probes)
        others = [("fixed", f"{hz:g} Hz", hz) for hz in plan.rates]
        others += [("overload", f"{factor:g}x sustained", factor * sustained) for factor in plan.overloads]
        for purpose, name, hz in others:
            with bar.step(f"{title}: {name}", expected["rate"]):
                play_at(purpose, name, hz, plan.rate_s)


def _learn(facts: Backbone, bench: Bench) -> None:
    """Note what the node says of itself."""
    facts.engine = bench.status.get("engine", facts.engine)
    told = [bench.status[key] for key in ("device", "precision") if key in bench.status]
    facts.device = ", ".join(told) or facts.device
    # What an attached node runs is known from its diagnostics only.
    facts.backbone = facts.backbone or bench.model


def _measured(run: Run, model: int, repetition: int, purpose: str, name: str, hz: float) -> Measured:
    result = summarise(run)
    counts = {
        "sent": result.sent,
        "lost": result.lost,
        "received": result.received,
        "masked": result.masked,
        **result.dropped,
    }
    return Measured(
        model=model,
        repetition=repetition,
        purpose=purpose,
        rate=name,
        hz=hz,
        warm_up=run.warm_up,
        counts=counts,
        faults=list(result.faults),
        frames=FrameColumns.of(run),
        masks_per_second=result.masks_per_second,
        longest_blind_ms=result.longest_blind,
        jitter_ms=result.jitter,
        usage=result.usage,
        age_mean_ms=result.age_mean,
        age_peak_ms=result.age_peak,
    )


def _streaming(run: Run, truth: Mapping[int, np.ndarray], model: int, repetition: int) -> Scored | None:
    frames, confusions, unanswered = [], [], 0
    for instant, confusion in streaming_confusions(run, lambda frame: truth.get(frame.frame)):
        frames.append(instant.now.frame)
        confusions.append(confusion)
        unanswered += instant.newest is None
    across_seam = sum(instant.across_seam and instant.now.frame in truth for instant in instants(run))
    return Scored.of(model, repetition, frames, confusions, unanswered, across_seam) if frames else None
