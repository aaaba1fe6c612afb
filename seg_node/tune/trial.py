"""One candidate in the real node, under the load of a camera: score at the moment of use, ages, and cost."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seg_node.bags.drive import Drive
from seg_node.compare.statistics import hits_and_unions, mean_iou
from seg_node.core.timing import Stage
from seg_node.rig.bench import Bench
from seg_node.rig.frames import FrameObservation, Run
from seg_node.rig.node_process import NodeProcess
from seg_node.rig.now import summarise_now
from seg_node.rig.schedule import RECORDED, make_schedule
from seg_node.rig.scoring import Distribution, summarise
from seg_node.rig.streaming import now_confusions, streaming_confusions

WARM_UP_S = 1.0
"""Start of a piece whose frames are in no figure."""


def run_trial(
    drive: Drive, truth: Mapping[int, np.ndarray], node: NodeProcess, folder: Path, listen: bool
) -> dict[str, Any]:
    """Play a drive once through a fresh node.

    Args:
        drive: a piece, or all of it.
        truth: ground truth, uint8 [H, W], by header stamp.
        node: not started yet.
        folder: for logs.
        listen: to the mask of now, too, which makes the node compute it.

    Returns:
        ``scored``, for ``mask`` and, where it was listened to, ``mask_now``: columns ``stamp``, ``hits`` and ``unions``
        of each scored instant, and ``use_ms``, the median age of the inferred mask then; ``age_ms``, percentiles from
        a frame until its mask arrived; ``inference_ms``; ``masks_per_s``; ``cpu_cores``; ``rss_mb``; ``faults``.

    Raises:
        NodeError, MonitorError: see ``Bench``.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(node)
        node.wait_for("active")
        bench = stack.enter_context(Bench(drive, node, folder, name="tune", now=listen))
        schedule = make_schedule(drive, RECORDED)
        run = bench.play(schedule, min(round(WARM_UP_S * schedule.hz), len(schedule.frames) // 2))
    result, now = summarise(run), summarise_now(run)
    usage = result.usage or {}
    rss = usage.get("rss_peak_bytes")
    return {
        "scored": scored(run, truth.get),
        "age_ms": _percentiles(result.camera_to_mask),
        "inference_ms": _inference(run),
        "masks_per_s": _rounded(result.masks_per_second),
        "cpu_cores": _rounded(usage.get("cpu_cores")),
        "rss_mb": None if rss is None else round(rss / 1e6),
        "faults": [*result.faults, *(now.faults if now else [])],
    }


def scored(run: Run, truth_of_stamp: Callable[[int], np.ndarray | None]) -> dict[str, dict[str, Any]]:
    """Columns of the instants of a run, by topic; see ``run_trial``."""

    def truth_of(frame: FrameObservation) -> np.ndarray | None:
        return truth_of_stamp(frame.stamp)

    topics = {"mask": streaming_confusions(run, truth_of)}
    if run.nows is not None:
        topics["mask_now"] = now_confusions(run, truth_of)
    found = {}
    for topic, pairs in topics.items():
        columns: dict[str, Any] = {"stamp": [], "hits": [], "unions": []}
        ages = []
        for instant, confusion in pairs:
            hits, unions = hits_and_unions(confusion)
            columns["stamp"].append(instant.now.stamp)
            columns["hits"].append(hits.tolist())
            columns["unions"].append(unions.tolist())
            if instant.age_ms is not None:
                ages.append(instant.age_ms)
        columns["use_ms"] = round(float(np.median(ages)), 1) if ages else None
        found[topic] = columns
    return found


def score(columns: Mapping[str, Any]) -> float | None:
    """Streaming ``miou_7`` of scored instants, percent; None without any."""
    if not columns["stamp"]:
        return None
    return float(mean_iou(np.sum(columns["hits"], 0), np.sum(columns["unions"], 0)))


def _inference(run: Run) -> dict[str, float] | None:
    records = [frame.record for frame in run.frames[run.warm_up :] if frame.record]
    times = [record.stages[Stage.INFERENCE] for record in records if Stage.INFERENCE in record.stages]
    if not times:
        return None
    low, middle, high = np.percentile(times, [5, 50, 95])
    return {"p05": round(float(low), 2), "p50": round(float(middle), 2), "p95": round(float(high), 2)}


def _percentiles(found: Distribution | None) -> dict[str, float] | None:
    return {"p50": round(found.p50, 1), "p95": round(found.p95, 1)} if found else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
