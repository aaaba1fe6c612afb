"""Measures one node process at every rate of the plan, for a comparison of two backbones."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from seg_node.bags.drive import Drive
from seg_node.compare.comparison import Backbone, Comparison, FrameColumns, Measured, Scored, Sustained
from seg_node.compare.now_results import AgeScored, NowMeasured
from seg_node.compare.plan import Plan
from seg_node.compare.statistics import hits_and_unions
from seg_node.core.grouping import IN_THE_EIGHT, Scoring
from seg_node.core.taxonomy import Taxonomy
from seg_node.rig.bench import AttachedNode, Bench
from seg_node.rig.frames import FrameObservation, Run, UsageSample
from seg_node.rig.node_process import NodeProcess
from seg_node.rig.now import AGE_STEP_MS, by_age, summarise_now
from seg_node.rig.plan_bar import PlanBar
from seg_node.rig.rates import highest_rate, saturated_rate, service_rate
from seg_node.rig.schedule import RECORDED, Rate, Schedule, make_schedule
from seg_node.rig.scoring import Distribution, summarise
from seg_node.rig.streaming import Instant, NowInstant, instants, now_confusions, streaming_confusions

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
    now: bool = False,
    scoring: Scoring = IN_THE_EIGHT,
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
        now: play the recorded rate once more, with somebody who listens to the mask of now.
        scoring: of the backbone's masks; the truth is in these categories already.

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
            connected = stack.enter_context(contextlib.ExitStack())
            bench = connected.enter_context(Bench(drive, target, folder, name="compare"))
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
        if scored := _streaming(run, truth, model, repetition, scoring):
            comparison.streaming.append(scored)
        possible = service_rate(run)
        if now:
            with bar.step(f"{title}: ~/mask_now", expected["now"]):
                connected.close()
                bench = connected.enter_context(Bench(drive, target, folder, name="compare", now=True))
                listened = play("listened", "with ~/mask_now", make_schedule(drive, RECORDED, loops=plan.loops(drive)))
                _keep_now(comparison, listened, truth, model, repetition, scoring)
                connected.close()
                bench = connected.enter_context(Bench(drive, target, folder, name="compare"))
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


def _keep_now(
    comparison: Comparison, run: Run, truth: Mapping[int, np.ndarray], model: int, repetition: int, scoring: Scoring
) -> None:
    """Keep what a run with a listener says of the mask of now, and of the other one beside it."""

    def truth_of(frame: FrameObservation) -> np.ndarray | None:
        return truth.get(frame.frame)

    of_topic = {
        "mask": list(streaming_confusions(run, truth_of, scoring)),
        "mask_now": list(now_confusions(run, truth_of, scoring)),
    }
    result = summarise_now(run)
    comparison.runs[-1].faults += result.faults
    comparison.now.append(
        NowMeasured(
            model=model,
            repetition=repetition,
            horizon_ms=result.horizon.p50 if result.horizon else None,
            counts={
                "received": result.received,
                "propagated": result.propagated,
                "again": result.again,
                **result.dropped,
            },
            covered=result.covered,
            camera_to_mask=_percentiles(result.camera_to_mask),
            keyframe_age=_percentiles(result.keyframe_age),
            by_age=[row for topic, pairs in of_topic.items() for row in _by_age(topic, pairs, scoring.taxonomy)],
        )
    )
    if own := _streaming(run, truth, model, repetition, scoring):
        comparison.streaming_listened.append(own)
        frames = [instant.now.frame for instant, _ in of_topic["mask_now"]]
        unanswered = sum(instant.newest is None for instant, _ in of_topic["mask_now"])
        confusions = [confusion for _, confusion in of_topic["mask_now"]]
        comparison.streaming_now.append(
            Scored.of(model, repetition, frames, confusions, unanswered, own.across_seam, scoring.taxonomy)
        )


def _percentiles(found: Distribution | None) -> dict[str, float] | None:
    return {"p50": round(found.p50, 3), "p99": round(found.p99, 3)} if found else None


def _by_age(topic: str, pairs: list[tuple[Instant | NowInstant, np.ndarray]], taxonomy: Taxonomy) -> list[AgeScored]:
    rows = []
    for age, confusions in by_age(pairs).items():
        hits, unions = hits_and_unions(sum(confusions[1:], confusions[0]), taxonomy)
        rows.append(AgeScored(topic, age, age + AGE_STEP_MS, len(confusions), hits.tolist(), unions.tolist()))
    return rows


def _streaming(
    run: Run, truth: Mapping[int, np.ndarray], model: int, repetition: int, scoring: Scoring = IN_THE_EIGHT
) -> Scored | None:
    frames, confusions, unanswered = [], [], 0
    for instant, confusion in streaming_confusions(run, lambda frame: truth.get(frame.frame), scoring):
        frames.append(instant.now.frame)
        confusions.append(confusion)
        unanswered += instant.newest is None
    across_seam = sum(instant.across_seam and instant.now.frame in truth for instant in instants(run))
    if not frames:
        return None
    return Scored.of(model, repetition, frames, confusions, unanswered, across_seam, scoring.taxonomy)
