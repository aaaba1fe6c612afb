"""What every part of the benchmark needs: processes of its own, frames, data, and where the files are."""

import dataclasses
import math
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seg_node.bags.drive import Drive, open_drive
from seg_node.bags.images import decode
from seg_node.core.images import RawPixels
from seg_node.core.share import shared_path
from seg_node.core.statistics import student_interval
from seg_node.rig.node_process import default_profile_environment

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent

HD = (720, 1280)
FULL_HD = (1080, 1920)
"""Height and width in pixels."""

LEVEL = 0.95
"""Of the intervals of quotients."""

PROFILES = ("default", "shipped")
"""Of Fast DDS: none, or ``config/fastdds_shm.xml``."""


def isolated(function: Callable, *arguments: Any, environment: Mapping[str, str] | None = None) -> Any:
    """Call a function in a fresh process: no thread pool, cache or DDS participant of another measurement is there.

    Args:
        function: of a module, with arguments and a result that can be pickled; what it raises is raised here.
        environment: variables to set there first.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_enter, initargs=(dict(environment or {}),)) as pool:
        return pool.submit(function, *arguments).result()


def _enter(environment: dict[str, str]) -> None:
    os.environ.update(environment)


def profile_environment(profile: str) -> dict[str, str]:
    """Environment that gives a process, and the nodes that it starts, one of ``PROFILES``."""
    if profile == "shipped":
        return default_profile_environment()
    variables = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    return dict.fromkeys(variables, str(HERE / "fastdds_default.xml"))


def quotient(values: Sequence[float]) -> dict[str, float]:
    """Quotients of pairs put together: ``median``, and ``low`` and ``high`` of Student's interval, by their logarithms.

    Args:
        values: at least two.
    """
    logarithms = np.log(values)
    low, high = student_interval(logarithms, LEVEL)
    return {"median": math.exp(np.median(logarithms)), "low": math.exp(low), "high": math.exp(high)}


def python_path() -> dict[str, str]:
    """Environment in which a script of this folder finds ``seg_node``, where that is not installed."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))}


def street(size: tuple[int, int], frames: int) -> Drive:
    """Frames from all over the shipped drive, scaled to one size, raw bgr8.

    Args:
        size: height and width in pixels.
        frames: at most so many different ones.
    """
    drive = open_drive(shared_path("rosbags/synthetic_drive"))
    kept = drive.frames[:: max(1, len(drive.frames) // frames)][:frames]
    return dataclasses.replace(
        drive, frames=[dataclasses.replace(f, image=raw_image(cv2.resize(decode(f), size[::-1]))) for f in kept]
    )


def raw_image(bgr: np.ndarray) -> RawPixels:
    """A bgr8 image of uint8 [H, W, 3]."""
    height, width = bgr.shape[:2]
    return RawPixels(height, width, "bgr8", 0, width * 3, bgr.ravel())


def camvid_root() -> Path | None:
    """CamVid in ``SEG_NODE_DATA``, or in the folder ``shared/data`` beside the repository; None where it is not."""
    root = Path(os.environ.get("SEG_NODE_DATA", REPOSITORY.parent / "shared" / "data")) / "camvid"
    return root if (root / "val").is_dir() else None


def percentiles(values: np.ndarray) -> dict[str, float]:
    """``p50_ms`` and ``p99_ms`` of durations in milliseconds."""
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99)}
