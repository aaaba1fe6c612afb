"""How fast the harness itself is: player and monitor around a node that does nothing, so that what a report says of a
real node is the node's.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_node.bags.drive import Drive, Frame, Masks
from seg_node.core.images import RawPixels
from seg_node.rig.bench import Bench
from seg_node.rig.node_process import NodeProcess
from seg_node.rig.rates import Probe, probe_of
from seg_node.rig.schedule import Rate, make_schedule

SIZES = ((360, 640), (720, 1280))
"""Heights and widths that are measured where no drive is given."""
_SECONDS = 3.0
_FRAMES = 30


def blank_drive(height: int, width: int) -> Drive:
    """Raw bgr8 frames of a drive at 30 Hz that holds nothing to see."""
    pixels = np.zeros(height * width * 3, np.uint8)
    image = RawPixels(height, width, "bgr8", 0, width * 3, pixels)
    frames = [Frame(i * 10**9 // 30, 10**9 + i * 10**9 // 30, "camera", image) for i in range(_FRAMES)]
    return Drive(Path(f"blank_{width}x{height}"), "/camera/image", frames, None, None, Masks({}))


def self_test(
    size: tuple[int, int],
    rates: Sequence[float] = (30.0, 60.0, 100.0, 200.0, 300.0, 400.0),
    progress: Callable[[Probe], None] | None = None,
) -> dict[str, Any]:
    """Find the highest of some rates at which the harness brings every frame to a node and every answer back.

    Args:
        size: height and width of the raw bgr8 images, and of the masks that come back.
        rates: in Hz, rising; the test ends at the first that is not sustained.
        progress: called after each rate.

    Returns:
        ``height``, ``width``; ``sustained_hz``, 0 where none was; ``probes``, per rate ``rate``, ``achieved``,
        ``sent``, ``received``, ``masked``, ``p50_ms`` and ``p99_ms`` from publishing a frame until its mask arrived.

    Raises:
        NodeError, MonitorError: the echo node or the monitor ended.
    """
    drive = blank_drive(*size)
    sustained, probes = 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        node = NodeProcess(
            Path(folder) / "echo.log",
            namespace=f"/self_test_{os.getpid()}",
            command=[sys.executable, "-m", "seg_node.rig.echo"],
        )
        with node, Bench(drive, node, Path(folder)) as bench:
            for rate in rates:
                run = bench.play(make_schedule(drive, Rate("hz", rate), frames=round(rate * _SECONDS)))
                probe = probe_of(run, rate, max_dropped=0.0)
                times = [(frame.mask.arrived - frame.sent) / 1e6 for frame in run.frames if frame.mask]
                p50, p99 = np.percentile(times, [50, 99]).tolist() if times else (None, None)
                probes.append(
                    {
                        "rate": rate,
                        "achieved": probe.achieved,
                        "sent": probe.sent,
                        "received": probe.received,
                        "masked": probe.masked,
                        "p50_ms": p50,
                        "p99_ms": p99,
                    }
                )
                if progress:
                    progress(probe)
                if not probe.passed:
                    break
                sustained = rate
    return {"height": size[0], "width": size[1], "sustained_hz": sustained, "probes": probes}
