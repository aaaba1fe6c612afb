"""Made-up comparisons: nodes that take so many milliseconds, and are right so often."""

import numpy as np

from seg_node.compare.comparison import (
    Backbone,
    Comparison,
    Disagreement,
    DriveFacts,
    FrameColumns,
    Measured,
    Scored,
    Sustained,
)
from seg_node.compare.now_gain import gains
from seg_node.compare.now_results import AgeScored, NowMeasured
from seg_node.compare.verdict import RULE, judge
from seg_node.core.timing import FrameRecord, Outcome, Stage
from seg_node.rig.frames import ArrivedMask, FrameObservation, Run

MS = 10**6
FRAMES = 300
HZ = 30.0
PAIRS = 6
NAMES = ("alpha", "beta", "gamma")


def simulated_run(service_ms: float, seed: int, hz: float = HZ, frames: int = 2 * FRAMES, drive: int = FRAMES) -> Run:
    """A node that takes about ``service_ms`` per frame and always goes on with the newest one."""
    rng = np.random.default_rng(seed)
    sent = np.round(np.arange(frames) * 1e9 / hz).astype(int)
    fates: dict[int, tuple[float, float]] = {}
    free = 0.0
    i = 0
    while i < frames:
        start = max(free, sent[i])
        # The newest frame that has come by then.
        i = int(np.searchsorted(sent, start, side="right")) - 1
        free = start + rng.normal(service_ms, service_ms / 20) * MS
        fates[i] = (start, free)
        i += 1
    observations = []
    for i in range(frames):
        if i in fates:
            start, end = fates[i]
            wait, inference = (start - sent[i]) / MS, (end - start) / MS
            stages = {Stage.WAIT: wait, Stage.DECODE: 3.0, Stage.INFERENCE: inference - 4.0, Stage.PUBLISH: 1.0}
            record = FrameRecord(Outcome.MASKED, "model", stages, total=wait + inference)
            mask = ArrivedMask(round(end + 2 * MS), (1, 1), b"")
        else:
            record, mask = FrameRecord(Outcome.SUPERSEDED, "model", {Stage.WAIT: 10.0}, total=10.0), None
        at = int(sent[i])
        observations.append(FrameObservation(i, i % drive, i, at, at, record, at, mask))
    return Run({}, observations, {}, warm_up=round(hz))


def measured(run: Run, model: int, repetition: int, purpose: str, rate: str, hz: float) -> Measured:
    outcomes = [frame.record.outcome.value for frame in run.frames]
    counts = {"sent": len(outcomes), "lost": 0, "received": len(outcomes)}
    counts |= {name: outcomes.count(name) for name in ("masked", "superseded", "stale", "undecodable", "failed")}
    return Measured(
        model, repetition, purpose, rate, hz, run.warm_up, counts, [], FrameColumns.of(run), 3.0, 400.0, 9.0
    )


def scored(model: int, repetition: int, quality: float, seed: int, frames: int = FRAMES) -> Scored:
    """Accuracy of about ``quality`` (0..1) that varies slowly along the drive, as the scene does for both backbones."""
    scene = 0.05 * np.sin(np.arange(frames) / 20)
    rng = np.random.default_rng(seed)
    confusions = []
    for wave in scene:
        share = np.clip(quality + wave + rng.normal(0, 0.01), 0, 1)
        hit = round(1000 * share)
        confusion = np.diag([0] + 7 * [hit])
        confusion[1:, 1] += 1000 - hit
        confusions.append(confusion)
    return Scored.of(model, repetition, list(range(frames)), confusions)


def listened(comparison: Comparison, gain: float, service_ms: float = 300.0) -> Comparison:
    """Add the mask of now of the first backbone, right so much more often (0..1) than its mask."""
    frames, truth = len(comparison.drive.times_s), bool(comparison.drive.truth)
    for repetition in range(comparison.repetitions):
        run = simulated_run(service_ms, 10 * repetition, HZ, frames, frames)
        comparison.runs.append(measured(run, 0, repetition, "listened", "with ~/mask_now", HZ))
        rows = []
        if truth:
            own = next(s for s in comparison.streaming if (s.model, s.repetition) == (0, repetition))
            quality = own.miou_7 / 100
            comparison.streaming_listened.append(scored(0, repetition, quality, 200 + repetition, frames))
            now = scored(0, repetition, quality + gain, 300 + repetition, frames)
            comparison.streaming_now.append(now)
            for topic, of_run in (("mask", own), ("mask_now", now)):
                rows.append(
                    AgeScored(topic, 300, 350, 200, *(np.sum(c, 0).tolist() for c in (of_run.hits, of_run.unions)))
                )
        counts = {"received": frames, "propagated": frames - 10, "again": 30, "no_keyframe": 10}
        times = {"p50": 9.0, "p99": 14.0}
        comparison.now.append(NowMeasured(0, repetition, 33.3, counts, 0.97, times, {"p50": 350.0, "p99": 600.0}, rows))
    comparison.gains = gains(comparison)
    return comparison


def experiment(
    services: tuple[float, ...] = (300.0, 240.0),
    qualities: tuple[float, ...] | None = (0.6, 0.6),
    repetitions: int = PAIRS,
    frames: int = FRAMES,
    spread_ms: float = 3.0,
) -> Comparison:
    """Backbones with these milliseconds per frame and accuracies; processes of one differ by ``spread_ms``."""
    models = range(len(services))
    comparison = Comparison(
        created="2026-11-21T00:00:00+00:00",
        machine={"cpu": "made-up processor", "cores": 2, "system": "made-up system", "commit": "abc", "dirty": False},
        versions={"python": "3"},
        configuration={
            "plan": {"repetitions": repetitions, "warm_up_s": 1.0, "probe_frames": 20, "saturation": 3.0},
            "attached": None,
        },
        harness={
            "height": 360,
            "width": 640,
            "sustained_hz": 200.0,
            "probes": [{"rate": 200.0, "p50_ms": 2.5, "p99_ms": 4.0}],
        },
        drive=DriveFacts(
            path="made_up",
            topic="/camera/image",
            hash="0" * 64,
            width=640,
            height=360,
            rate_hz=HZ,
            transport="compressed",
            truth="/camera/mask" if qualities else "",
            truth_frames=frames if qualities else 0,
            times_s=[i / HZ for i in range(frames)],
        ),
        models=[Backbone(NAMES[model], "resnet50", engine="openvino") for model in models],
        rule=RULE,
    )
    rng = np.random.default_rng(0)
    for repetition in range(repetitions):
        for model in models:
            seed = 10 * repetition + model
            service = services[model] + spread_ms * rng.standard_normal()
            hz = 1e3 / service
            probes = [{"rate": 1.04 * hz, "passed": False}] if repetition == 0 else []
            comparison.sustained.append(
                Sustained(model, repetition, hz if probes else None, 1.04 * hz if probes else None, 0.01, probes, hz)
            )
            run = simulated_run(service, seed, HZ, frames, frames)
            comparison.runs.append(measured(run, model, repetition, "recorded", "recorded", HZ))
            run = simulated_run(service, seed, 3 * hz, round(12 * hz), frames)
            comparison.runs.append(measured(run, model, repetition, "saturation", "saturated", 3 * hz))
            if repetition == 0:
                for rate in (10.0, 20.0, 30.0):
                    run = simulated_run(service, seed, rate, round(4 * rate), frames)
                    comparison.runs.append(measured(run, model, repetition, "fixed", f"{rate:g} Hz", rate))
            if qualities:
                comparison.streaming.append(scored(model, repetition, qualities[model] - 0.05, seed + 100, frames))
    if qualities:
        comparison.offline = [scored(model, 0, qualities[model], 50 + model, frames) for model in models]
    comparison.disagreement = Disagreement([0, 1, 30, 31], [10.0, 11.0, 12.0, 13.0])
    comparison.verdicts, comparison.decision = judge(comparison)
    return comparison
