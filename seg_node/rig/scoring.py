"""What a replay measured: counts that must add up, latencies and accuracy."""

import importlib.metadata
import json
import math
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from seg_node.core.machine import machine
from seg_node.core.metrics import confusion_with_misses, scores
from seg_node.core.taxonomy import EIGHT, Taxonomy
from seg_node.core.timing import DROPS, Outcome, Stage
from seg_node.rig.frames import FrameObservation, Run, UsageSample

SCHEMA = 2
"""Version of the JSON form of ``Result``."""


@dataclass(frozen=True)
class Distribution:
    """Percentiles (linear interpolation) of durations in milliseconds."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Distribution | None":
        """Summarise values; None if there are none."""
        values = np.fromiter(values, float)
        if not values.size:
            return None
        return cls(values.size, *(float(v) for v in np.percentile(values, [50, 95, 99])), float(values.max()))


@dataclass
class Result:
    """One run of one drive through one model. Durations are in milliseconds, scores in percent.

    Counts are of all frames; latencies, intervals, rates and accuracy leave the first ``warm_up`` frames out.
    """

    setup: dict[str, Any]
    """See ``Run.setup``."""
    sent: int
    """Frames published."""
    received: int
    """Frames that reached the node."""
    lost: int
    """Frames lost in transport: sent - received."""
    masked: int
    dropped: dict[str, int]
    """Frames that the node received and did not mask, by reason."""
    masks_arrived: int
    """Masks that reached the harness."""
    late: int
    """Masks later than the node's ``deadline_ms``."""
    faults: list[str]
    """Where the counts do not add up; empty when all is well."""
    camera_to_mask: Distribution | None
    """From publishing a frame until its mask arrived."""
    stages: dict[str, Distribution]
    """Stages of masked frames, as the node measured them; ``total`` among them."""
    accuracy: dict[str, Any] | None
    """``core.metrics.scores`` and the number of ``frames`` scored; None without ground truth."""
    warm_up: int = 0
    """Frames at the start that only the counts include."""
    age_at_publish: Distribution | None = None
    """From publishing a frame until the node published its mask."""
    mask_interval: Distribution | None = None
    """Between one mask's arrival and the next one's."""
    jitter: float | None = None
    """Standard deviation of ``mask_interval``: the RMS period jitter of JEDEC JESD65B."""
    delay_variation: float | None = None
    """99th percentile less minimum of ``camera_to_mask``: the packet delay variation of RFC 5481, section 4.2."""
    longest_blind: float | None = None
    """Longest time, while frames were being sent, in which no mask of a newer frame arrived."""
    age_mean: float | None = None
    """Mean age of information, see ``age_of_information``."""
    age_peak: float | None = None
    """Mean peak of the age of information."""
    masks_per_second: float | None = None
    """Masks arrived per second of sending."""
    usage: dict[str, float | None] | None = None
    """See ``summarise_usage``; None where the process is not known."""
    streaming: dict[str, Any] | None = None
    """See ``seg_node.rig.now.score_streaming``; None without ground truth."""
    now: dict[str, Any] | None = None
    """See ``seg_node.rig.now.NowResult``; None where nobody listened to the mask of now."""
    ages_at_use: dict[str, list] | None = None
    """See ``seg_node.rig.streaming.ages_at_use``; None where nobody asked for it."""
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> str:
        """JSON text; what is not a number becomes null."""
        return json.dumps(without_nan(asdict(self)), indent=2) + "\n"


def summarise(run: Run, accuracy: dict[str, Any] | None = None) -> Result:
    """Count and summarise; nothing is assumed to be consistent, what is not is listed in ``faults``.

    Args:
        run: see ``Bench.play``.
        accuracy: of ``score_masks``.
    """
    outcomes = Counter(frame.record.outcome for frame in run.frames if frame.record)
    received = run.counters.get("received", outcomes.total())
    counted = run.frames[run.warm_up :]
    masked = [f.record for f in counted if f.record and f.record.outcome is Outcome.MASKED]
    stages = {stage.value: Distribution.of(r.stages[stage] for r in masked if stage in r.stages) for stage in Stage}
    stages["total"] = Distribution.of(record.total for record in masked)
    seen = [frame for frame in counted if frame.mask]
    latencies = [(frame.mask.arrived - frame.sent) / 1e6 for frame in seen]
    intervals = np.diff(sorted(frame.mask.arrived for frame in seen)) / 1e6
    sending = (counted[-1].sent - counted[0].sent) / 1e9 if counted else 0.0
    age_mean, age_peak = age_of_information(run)
    return Result(
        setup=run.setup,
        sent=len(run.frames),
        received=received,
        lost=len(run.frames) - received,
        masked=outcomes[Outcome.MASKED],
        dropped={outcome.value: outcomes[outcome] for outcome in DROPS},
        masks_arrived=sum(frame.mask is not None for frame in run.frames),
        late=sum(bool(frame.record and frame.record.late) for frame in run.frames),
        faults=faults(run),
        camera_to_mask=Distribution.of(latencies),
        stages={name: distribution for name, distribution in stages.items() if distribution},
        accuracy=accuracy,
        warm_up=run.warm_up,
        age_at_publish=Distribution.of((f.mask.published - f.sent) / 1e6 for f in seen if f.mask.published is not None),
        mask_interval=Distribution.of(intervals),
        jitter=float(np.std(intervals)) if intervals.size else None,
        delay_variation=float(np.percentile(latencies, 99) - min(latencies)) if latencies else None,
        longest_blind=longest_blind(counted),
        age_mean=age_mean,
        age_peak=age_peak,
        # The last frame, too, takes a period.
        masks_per_second=len(seen) * (len(counted) - 1) / len(counted) / sending if sending > 0 else None,
        usage=summarise_usage(run),
        machine=machine(),
        versions=versions(),
    )


def faults(run: Run) -> list[str]:
    """Where the counts of a run do not add up, in words; empty when all is well."""
    records = [frame.record for frame in run.frames if frame.record]
    outcomes = Counter(record.outcome for record in records)
    found = []
    if run.strangers:
        found.append(f"{run.strangers} records or masks bear a header stamp that was never sent")
    if run.repeated:
        found.append(f"{run.repeated} records or masks came twice for one frame")
    ends = [frame.record.outcome if frame.record else None for frame in run.frames if frame.mask]
    if unmasked := sum(end is not Outcome.MASKED for end in ends):
        found.append(f"{unmasked} masks arrived for frames that the node does not report as masked")
    if not run.counters:
        return [*found, "the node's /diagnostics never arrived, so its counts cannot be checked"]

    received, pending = run.counters["received"], run.counters["pending"]
    counts = {Outcome.MASKED: run.counters["masked"]} | {o: run.counters[f"dropped.{o.value}"] for o in DROPS}
    if received > len(run.frames):
        found.append(f"the node received {received} frames but only {len(run.frames)} were sent")
    if received != sum(counts.values()) + pending:
        sums = " + ".join(f"{count} {outcome.value}" for outcome, count in counts.items())
        found.append(f"the node received {received} frames, which is not {sums} + {pending} pending")
    if pending:
        found.append(f"{pending} frames were still pending in the node at the end")
    for outcome, count in counts.items():
        if outcomes[outcome] != count:
            found.append(f"the node counted {count} frames {outcome.value}, its timing records {outcomes[outcome]}")
    return found


def longest_blind(frames: Sequence[FrameObservation]) -> float | None:
    """Longest time between the first frame sent and the last in which no mask of a newer frame arrived, milliseconds.

    A mask that a newer one has overtaken tells a decision module nothing new, so it ends no blind interval.

    Returns:
        None without frames.
    """
    if not frames:
        return None
    begin, end = frames[0].sent, frames[-1].sent
    instants, newest = [begin], -1
    for arrived, index in sorted((frame.mask.arrived, frame.index) for frame in frames if frame.mask):
        if index > newest and arrived < end:
            newest = index
            instants.append(arrived)
    return float(max(np.diff([*instants, end]), default=0)) / 1e6


def age_of_information(run: Run) -> tuple[float | None, float | None]:
    """How old what a decision module knows is: the time since the frame of the newest mask that has arrived was sent.

    That age grows with time and falls with each mask of a newer frame (Kaul, Yates and Gruteser, "Real-time status: How
    often should one update?", INFOCOM 2012). It is looked at from the first frame after the warm-up, or the first mask
    if that comes later, to the last frame sent; it needs no ground truth.

    Returns:
        Mean over that time, and mean of the peaks just before each newer mask (Costa, Codreanu and Ephremides, "Age of
        information with packet management", ISIT 2014), in milliseconds; None where no newer mask arrived in it.
    """
    counted = run.frames[run.warm_up :]
    if not counted:
        return None, None
    begin, end = counted[0].sent, counted[-1].sent
    newest, since, at, area, peaks = None, begin, begin, 0.0, []
    for arrived, index, sent in sorted((f.mask.arrived, f.index, f.sent) for f in run.frames if f.mask):
        if arrived > end or (newest is not None and index <= newest[0]):
            continue
        if newest is None:
            since = at = max(begin, arrived)
        elif arrived > begin:
            area += (arrived - at) * ((arrived + at) / 2 - newest[1])
            peaks.append(arrived - newest[1])
            at = arrived
        newest = index, sent
    if not peaks:
        return None, None
    area += (end - at) * ((end + at) / 2 - newest[1])
    return area / (end - since) / 1e6, float(np.mean(peaks)) / 1e6


def summarise_usage(run: Run) -> dict[str, float | None] | None:
    """What the node's process used during the run.

    Returns:
        ``cpu_cores``, processor seconds per second, and ``idle_cpu_cores``, the same before the first frame;
        ``rss_peak_bytes``; ``gpu_percent`` (mean) and ``gpu_peak_bytes``. Values that were not measured are None; all
        is None where nothing was.
    """
    if not run.usage:
        return None
    percents = [sample.gpu_percent for sample in run.usage if sample.gpu_percent is not None]
    held = [sample.gpu_bytes for sample in run.usage if sample.gpu_bytes is not None]
    return {
        "cpu_cores": _cores(run.usage),
        "idle_cpu_cores": _cores(run.idle),
        "rss_peak_bytes": max(sample.rss for sample in run.usage),
        "gpu_percent": float(np.mean(percents)) if percents else None,
        "gpu_peak_bytes": max(held, default=None),
    }


def _cores(samples: Sequence[UsageSample]) -> float | None:
    if len(samples) < 2 or samples[-1].time <= samples[0].time:
        return None
    return (samples[-1].cpu_s - samples[0].cpu_s) / ((samples[-1].time - samples[0].time) / 1e9)


def score_masks(pairs: Iterable[tuple[np.ndarray, np.ndarray]], taxonomy: Taxonomy = EIGHT) -> dict[str, Any] | None:
    """Accuracy from one confusion matrix over all pairs.

    Args:
        pairs: ground truth and mask of the same frame, each uint8 [H, W].
        taxonomy: categories of both.

    Returns:
        ``core.metrics.scores`` and ``frames``, the number of pairs; None if there are none.

    Raises:
        ValueError: a mask is not of its ground truth's size.
    """
    count = len(taxonomy)
    confusion = np.zeros((count, count + 1), np.int64)
    frames = 0
    for truth, mask in pairs:
        confusion += confusion_with_misses(truth, mask, count)
        frames += 1
    return {**scores(confusion, taxonomy), "frames": frames} if frames else None


def versions() -> dict[str, str]:
    """Versions of what takes part in a replay and is installed here."""
    found = {"python": platform.python_version()}
    for package in ("seg_node", "numpy", "onnxruntime", "openvino", "torch", "ros-jazzy-rclpy", "ros-kilted-rclpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "ROS_DISTRO" in os.environ:
        found["ros"] = os.environ["ROS_DISTRO"]
    if rclpy := sys.modules.get("rclpy"):
        found["rmw"] = rclpy.get_rmw_implementation_identifier()
    return found


def without_nan(value: Any) -> Any:
    """A copy of nested dicts and lists with None for every float that is not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
