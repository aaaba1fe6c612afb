"""What a replay measured: counts that must add up, latencies and accuracy."""

import importlib.metadata
import json
import math
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seg_node.core.metrics import confusion_matrix, scores
from seg_node.core.taxonomy import Category
from seg_node.core.timing import DROPS, FrameRecord, Outcome, Stage

SCHEMA = 1
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
    """One replay of one drive through one model. Durations are in milliseconds, scores in percent."""

    setup: dict[str, Any]
    """Drive, frames, size, rate, transport, model, engine."""
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
    """Of masked frames, as the node measured them; ``total`` among them."""
    accuracy: dict[str, Any] | None
    """``core.metrics.scores`` and the number of ``frames`` scored; None without ground truth."""
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> str:
        """JSON text; what is not a number becomes null."""
        return json.dumps(_without_nan(asdict(self)), indent=2) + "\n"


def summarise(
    published: Mapping[int, int],
    records: Mapping[int, FrameRecord],
    arrivals: Mapping[int, int],
    counters: Mapping[str, str],
    repeated: int = 0,
    accuracy: dict[str, Any] | None = None,
    setup: dict[str, Any] | None = None,
) -> Result:
    """Count and summarise; nothing is assumed to be consistent, what is not is listed in ``faults``.

    Args:
        published: time of publishing each frame, nanoseconds, by header stamp.
        records: timing record of each frame that the node received, by header stamp.
        arrivals: time of arrival of each mask, nanoseconds on the clock of ``published``, by header stamp.
        counters: values of the node's status on ``/diagnostics`` after the last frame; empty if none came.
        repeated: masks and records that came twice.
        accuracy: of ``score_masks``.
        setup: see ``Result``.
    """
    outcomes = {outcome: 0 for outcome in Outcome}
    for record in records.values():
        outcomes[record.outcome] += 1
    masked = [record for record in records.values() if record.outcome is Outcome.MASKED]
    received = int(counters.get("received", len(records)))
    stages = {stage.value: Distribution.of(r.stages[stage] for r in masked if stage in r.stages) for stage in Stage}
    stages["total"] = Distribution.of(record.total for record in masked)
    return Result(
        setup=setup or {},
        sent=len(published),
        received=received,
        lost=len(published) - received,
        masked=outcomes[Outcome.MASKED],
        dropped={outcome.value: outcomes[outcome] for outcome in DROPS},
        masks_arrived=len(arrivals),
        late=sum(record.late for record in masked),
        faults=_faults(published, records, arrivals, counters, outcomes, repeated),
        camera_to_mask=Distribution.of((arrivals[s] - published[s]) / 1e6 for s in arrivals if s in published),
        stages={name: distribution for name, distribution in stages.items() if distribution},
        accuracy=accuracy,
        machine=machine(),
        versions=versions(),
    )


def _faults(
    published: Mapping[int, int],
    records: Mapping[int, FrameRecord],
    arrivals: Mapping[int, int],
    counters: Mapping[str, str],
    outcomes: Mapping[Outcome, int],
    repeated: int,
) -> list[str]:
    faults = []
    if unknown := len((records.keys() | arrivals.keys()) - published.keys()):
        faults.append(f"{unknown} records or masks bear a header stamp that was never sent")
    if repeated:
        faults.append(f"{repeated} records or masks came twice for one header stamp")
    if unmasked := sum(stamp not in records or records[stamp].outcome is not Outcome.MASKED for stamp in arrivals):
        faults.append(f"{unmasked} masks arrived for frames that the node does not report as masked")
    if not counters:
        return [*faults, "the node's /diagnostics never arrived, so its counts cannot be checked"]

    received, pending = int(counters["received"]), int(counters["pending"])
    counts = {Outcome.MASKED: int(counters["masked"])} | {o: int(counters[f"dropped.{o.value}"]) for o in DROPS}
    if received > len(published):
        faults.append(f"the node received {received} frames but only {len(published)} were sent")
    if received != sum(counts.values()) + pending:
        sums = " + ".join(f"{count} {outcome.value}" for outcome, count in counts.items())
        faults.append(f"the node received {received} frames, which is not {sums} + {pending} pending")
    if pending:
        faults.append(f"{pending} frames were still pending in the node at the end")
    for outcome, count in counts.items():
        if outcomes[outcome] != count:
            faults.append(f"the node counted {count} frames {outcome.value}, its timing records {outcomes[outcome]}")
    return faults


def score_masks(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any] | None:
    """Accuracy from one confusion matrix over all pairs.

    Args:
        pairs: ground truth and mask of the same frame, each uint8 [H, W].

    Returns:
        ``core.metrics.scores`` and ``frames``, the number of pairs; None if there are none.

    Raises:
        ValueError: a mask is not of its ground truth's size.
    """
    confusion = np.zeros((len(Category), len(Category)), np.int64)
    frames = 0
    for truth, mask in pairs:
        confusion += confusion_matrix(truth, mask)
        frames += 1
    return {**scores(confusion), "frames": frames} if frames else None


def machine() -> dict[str, Any]:
    """Processor and system that this runs on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = (line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line)
        model = next(names, model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": model, "cores": cores, "system": platform.platform()}


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


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
