"""Live nodes under load: the naive one, the segmentation node and the echo, each in a process of its own over DDS."""

import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from engines import inference_times
from setting import HD, HERE, isolated, profile_environment, python_path, street

from seg_node.bags.drive import Drive
from seg_node.bags.images import decode
from seg_node.core.bundle import load_bundle
from seg_node.core.engines import create_engine
from seg_node.rig.bench import Bench
from seg_node.rig.frames import ArrivedMask, Run
from seg_node.rig.monitor_process import Seen
from seg_node.rig.node_process import NodeProcess
from seg_node.rig.rates import service_rate
from seg_node.rig.schedule import Rate, make_schedule
from seg_node.rig.scoring import summarise
from seg_node.rig.usage import ProcessUsage

KINDS = ("naive", "ours", "echo")
SUSTAINED = 0.7
"""Of a node's own rate: what it keeps up with without a queue."""
FIXED_HZ = 10.0
OVERLOADS = ("2x", "3x")
"""Multiples of a node's own rate at which its throughput is measured."""
BESIDE_BARE = ("sustained", *OVERLOADS)
"""Runs that bare inference is timed right before and after, for the speed of a machine wanders."""
ROUNDS = 6
"""Of each of ``BESIDE_BARE``, bare inference before and after it: the machine may change its speed within seconds."""
"""Frames of so much time are one draw of the bootstrap."""


@dataclass(frozen=True)
class Load:
    """How long each node is measured."""

    frames: int = 30
    """Different frames."""
    sustained: int = 40
    """Frames at ``SUSTAINED`` times the node's own rate, at least."""
    sustained_s: float = 20.0
    """Seconds at the same rate, at least: a 99th percentile needs many frames."""
    fixed_s: float = 10.0
    """At ``FIXED_HZ``."""
    overloads: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0)
    """Multiples of the node's own rate."""
    overload_s: float = 4.0
    idle_s: float = 10.0
    inferences: int = 12
    """Bare, before and after each round of ``BESIDE_BARE``; 0 for none."""


@dataclass
class Played:
    """One run. Times are in milliseconds, of the masks that came while frames did, warm-up left out.

    What comes after the last frame is left out, too: a queue that runs empty only then says nothing about driving.
    """

    name: str
    hz: float
    sent: int
    """Frames published, warm-up included, as in the next two."""
    received: int
    """Frames that reached the node's callback."""
    masked: int
    latency: list[float]
    """From publishing a frame until its mask arrived."""
    age: list[float]
    """From publishing a frame until the node published its mask."""
    frame: list[int]
    """Index of the frame in the drive."""
    masks_per_s: float
    """Between the first and the last mask of the run."""
    cpu_s_per_1000: float | None
    """Processor seconds of the node's process per 1000 masks."""
    rss_peak: int | None
    """Resident memory of that process in bytes."""
    inference: list[float] = field(default_factory=list)
    """The node's own time from the decoded image to the mask."""


@dataclass
class Measured:
    """What one node process did."""

    kind: str
    model: str
    start_s: float | None
    """From the start of the process until the node was active, its model warmed up; of ours only."""
    own_hz: float
    """Frames a second that its own time for one frame allows."""
    idle_cores: float | None
    """Processor seconds a second while no frame comes."""
    runs: dict[str, Played]
    masks: dict[int, ArrivedMask]
    """Of the sustained run, by index of the frame in the drive."""
    bare: dict[str, list[list[float]]] = field(default_factory=dict)
    """Milliseconds of bare inferences, by run of ``BESIDE_BARE``: those before it and after each of its rounds; of ours
    only."""
    rates: dict[str, list[float]] = field(default_factory=dict)
    """Masks a second in each round of a run of ``OVERLOADS``; of ours only."""
    around: dict[str, list[float]] = field(default_factory=dict)
    """Share of all cores that camera and monitor took in each round of a run of ``OVERLOADS``; of ours only."""


def measure(
    kind: str, model: str, engine: str, load: Load, overloads: Sequence[float] = (), cache: str = ""
) -> Measured:
    """Start a node in a fresh process, measure it and stop it.

    The camera publishes reliably, because the naive node's subscription would refuse a best-effort one. All processes
    around the naive node use Fast DDS without a profile, those around the others the shipped one.

    Args:
        kind: of ``KINDS``.
        model: bundle; the naive node takes the weights of the same bundle.
        engine: of the segmentation node.
        load: how long.
        overloads: multiples of its own rate that are played too.
        cache: folder for compiled models, by default the user's.
    """
    environment = profile_environment("default" if kind == "naive" else "shipped") | python_path()
    if cache:
        environment["XDG_CACHE_HOME"] = cache
    return isolated(_measure, kind, model, engine, load, tuple(overloads), environment=environment)


def _measure(kind: str, model: str, engine: str, load: Load, overloads: tuple[float, ...]) -> Measured:
    drive = street(HD, load.frames)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "node.log")
        began = time.monotonic()
        with _process(kind, model, engine, log) as node:
            if kind == "ours":
                node.wait_for("active")
            started = time.monotonic() - began
            alone = _Alone(model, engine, drive, load.inferences) if kind == "ours" and load.inferences else None
            with Bench(drive, node, Path(folder), qos="reliable") as bench:
                idle = bench.idle(load.idle_s)
                # A slow first frame is not what the node keeps up with, and the median of seven leaves it out.
                own = service_rate(bench.play(make_schedule(drive, Rate("hz", 2.0), frames=7)))
                plan = [("fixed", FIXED_HZ, round(FIXED_HZ * load.fixed_s))]
                if kind != "echo":
                    hz = SUSTAINED * own
                    frames = max(load.sustained, round(hz * load.sustained_s))
                    plan.insert(0, ("sustained", hz, math.ceil(frames / ROUNDS) if alone else frames))
                plan += [
                    (f"{factor:g}x", factor * own, max(4, round(factor * own * load.overload_s)))
                    for factor in overloads
                ]
                runs, masks, beside, rates, around = {}, {}, {}, {}, {}
                for name, hz, frames in plan:
                    timed = alone is not None and name in BESIDE_BARE
                    times = [alone.times()] if timed else []
                    rounds, shares = [], []
                    for _ in range(ROUNDS if timed else 1):
                        schedule = make_schedule(drive, Rate("hz", hz), frames=frames)
                        harness = _Harness(bench.monitor_pid, frames)
                        run = bench.play(schedule, min(round(hz), frames // 4), harness.progress)
                        rounds.append(played(name, hz, run))
                        shares.append(harness.share)
                        if timed:
                            times.append(alone.times())
                    if timed:
                        beside[name] = times
                    if timed and name in OVERLOADS:
                        rates[name], around[name] = [one.masks_per_s for one in rounds], shares
                    runs[name] = together(rounds)
                    if name == "sustained":
                        masks = {f.frame: f.mask for f in run.frames if f.mask}
                    if not runs[name].latency:
                        raise RuntimeError(
                            f"no mask of the {kind} node came at {hz:.1f} Hz; its last output:\n{node.last_output()}"
                        )
    cores = (idle[-1].cpu_s - idle[0].cpu_s) / ((idle[-1].time - idle[0].time) / 1e9) if len(idle) > 1 else None
    return Measured(kind, model, started if kind == "ours" else None, own, cores, runs, masks, beside, rates, around)


class _Alone:
    """Bare inference in this process, while the node has nothing to do."""

    def __init__(self, model: str, engine: str, drive: Drive, inferences: int):
        self._engine = create_engine(load_bundle(model), engine)
        self._engine.warm_up(HD)
        self._frames = [decode(frame) for frame in drive.frames[:inferences]]

    def times(self) -> list[float]:
        """Milliseconds of inferences back to back, after one that is not counted."""
        return inference_times(self._engine, self._frames, len(self._frames), warm_up=1)


class _Harness:
    """Processor time around the node: of the camera, which is this process, and of the monitor."""

    def __init__(self, monitor_pid: int, frames: int):
        self._monitor = ProcessUsage(monitor_pid)
        self._frames = frames
        self._readings: list[tuple[float, float]] = []

    def progress(self, count: int, seen: Seen) -> None:
        """To be called after the first frame and the last one, at least."""
        if count in (1, self._frames) and (sample := self._monitor.sample()):
            self._readings.append((time.monotonic(), time.process_time() + sample.cpu_s))

    @property
    def share(self) -> float:
        """Of all cores, from the first frame to the last one."""
        (began, before), (ended, after) = self._readings[0], self._readings[-1]
        return (after - before) / (ended - began) / os.cpu_count()


def _process(kind: str, model: str, engine: str, log: Path) -> NodeProcess:
    if kind == "ours":
        return NodeProcess(log, {"model": model, "engine": engine}, namespace="/ours")
    if kind == "naive":
        script = [sys.executable, str(HERE / "counted_naive_node.py")]
        return NodeProcess(log, {"model": model}, namespace="/naive", command=script)
    return NodeProcess(log, namespace="/echo", command=[sys.executable, "-m", "seg_node.rig.echo"])


def played(name: str, hz: float, run: Run) -> Played:
    """What of a run goes into the figures."""
    result = summarise(run)
    begin, end = run.frames[run.warm_up].sent, run.frames[-1].sent + 1e9 / hz
    seen = [frame for frame in run.frames if frame.mask and begin <= frame.mask.arrived <= end]
    arrivals = [frame.mask.arrived / 1e9 for frame in seen]
    usage = run.usage
    masked = sum(frame.mask is not None for frame in run.frames)
    cpu = usage[-1].cpu_s - usage[0].cpu_s if len(usage) > 1 else None
    return Played(
        name=name,
        hz=hz,
        sent=result.sent,
        received=sum(frame.record is not None for frame in run.frames),
        masked=masked,
        latency=[(frame.mask.arrived - frame.sent) / 1e6 for frame in seen],
        age=[(frame.mask.published - frame.sent) / 1e6 for frame in seen if frame.mask.published is not None],
        frame=[frame.frame for frame in seen],
        masks_per_s=(len(arrivals) - 1) / (max(arrivals) - min(arrivals)) if len(arrivals) > 1 else 0.0,
        cpu_s_per_1000=1000 * cpu / masked if cpu is not None and masked else None,
        rss_peak=max((sample.rss for sample in usage), default=None),
        inference=[f.record.stages["inference"] for f in seen if f.record and "inference" in f.record.stages],
    )


def together(rounds: Sequence[Played]) -> Played:
    """One run from several at the same rate; rates and costs are their mean."""
    first = rounds[0]
    if len(rounds) == 1:
        return first
    lists = ("latency", "age", "frame", "inference")
    costs = [one.cpu_s_per_1000 for one in rounds if one.cpu_s_per_1000 is not None]
    return replace(
        first,
        **{name: sum(getattr(one, name) for one in rounds) for name in ("sent", "received", "masked")},
        **{name: [value for one in rounds for value in getattr(one, name)] for name in lists},
        masks_per_s=float(np.mean([one.masks_per_s for one in rounds])),
        cpu_s_per_1000=float(np.mean(costs)) if costs else None,
        rss_peak=max((one.rss_peak for one in rounds if one.rss_peak is not None), default=None),
    )


def ratio(slow: Sequence[Played], fast: Sequence[Played], q: float) -> dict[str, float]:
    """How many times longer a quantile of the latency is.

    Args:
        slow: runs of one node, one per repetition, each in a process of its own.
        fast: runs of the other, at the same times.
        q: 0..1.

    Returns:
        ``value``, the geometric mean over the repetitions; ``low`` and ``high``, the least and the greatest of them:
        so few processes give no interval.
    """
    ratios = [np.quantile(a.latency, q) / np.quantile(b.latency, q) for a, b in zip(slow, fast, strict=True)]
    return {"value": float(np.exp(np.mean(np.log(ratios)))), "low": float(min(ratios)), "high": float(max(ratios))}


def agreement(a: Measured, b: Measured) -> float:
    """Share of pixels, percent, of the same category in the masks of two nodes, over the frames that both masked."""
    shared = sorted(a.masks.keys() & b.masks.keys())
    return float(np.mean([100 * (a.masks[i].decode() == b.masks[i].decode()).mean() for i in shared]))
