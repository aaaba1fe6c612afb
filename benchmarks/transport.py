"""The transport floor: an image goes to another process, a mask of its size comes back, and nothing is computed.

    python benchmarks/transport.py

Rows with the profile ``shipped`` are the floor under every node; those with ``default`` show what the profile is for.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from setting import FULL_HD, HD, PROFILES, isolated, percentiles, profile_environment, python_path

from seg_node.rig.bench import Bench
from seg_node.rig.loopback import blank_drive
from seg_node.rig.node_process import NodeProcess
from seg_node.rig.schedule import Rate, make_schedule

RELIABILITIES = ("best_effort", "reliable")


def measure(
    size: tuple[int, int], reliability: str, profile: str, frames: int = 900, hz: float = 30.0
) -> dict[str, Any]:
    """Round trips at one setting, in a fresh process.

    Args:
        size: height and width of the bgr8 images and of the masks.
        reliability: one of ``RELIABILITIES``, of the camera's publisher and of the node's subscription.
        profile: one of ``setting.PROFILES``, for camera, node and receiver of the masks.
        frames: how many.
        hz: how fast.

    Returns:
        The setting; ``sent``, ``lost`` (frames that never reached the node), ``masks_lost``; ``p50_ms`` and ``p99_ms``
        from publishing a frame until its mask arrived, None where none did.
    """
    times, sent, received = isolated(
        _round_trips, size, reliability, frames, hz, environment=profile_environment(profile) | python_path()
    )
    return {
        "height": size[0],
        "width": size[1],
        "reliability": reliability,
        "profile": profile,
        "hz": hz,
        "sent": sent,
        "lost": sent - received,
        "masks_lost": received - len(times),
        **(percentiles(np.array(times)) if times else {"p50_ms": None, "p99_ms": None}),
    }


def _round_trips(size: tuple[int, int], reliability: str, frames: int, hz: float) -> tuple[list[float], int, int]:
    drive = blank_drive(*size)
    command = [sys.executable, "-m", "seg_node.rig.echo"]
    parameters = {"qos_overrides./floor/image.subscription.reliability": reliability}
    with tempfile.TemporaryDirectory() as folder:
        node = NodeProcess(Path(folder, "echo.log"), parameters, namespace="/floor", command=command)
        with node, Bench(drive, node, Path(folder), qos=reliability) as bench:
            run = bench.play(make_schedule(drive, Rate("hz", hz), frames=frames))
    times = [(frame.mask.arrived - frame.sent) / 1e6 for frame in run.frames if frame.mask]
    return times, len(run.frames), sum(frame.record is not None for frame in run.frames)


def settings(reliable: bool = True) -> list[tuple[tuple[int, int], str, str]]:
    """Arguments of ``measure`` for every row."""
    kinds = RELIABILITIES if reliable else RELIABILITIES[:1]
    return [(size, kind, profile) for size in (HD, FULL_HD) for kind in kinds for profile in PROFILES]


def row_text(row: dict[str, Any]) -> str:
    """One row for people."""
    trip = f"{row['p50_ms']:.1f} / {row['p99_ms']:.1f} ms" if row["p50_ms"] is not None else "-"
    setting = f"{row['width']}x{row['height']} {row['reliability']:<11} {row['profile']:<7}"
    return f"{setting} lost {row['lost']:>3} of {row['sent']}  p50 / p99 {trip}"


if __name__ == "__main__":
    for setting in settings():
        print(row_text(measure(*setting)), flush=True)
