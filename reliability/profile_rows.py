"""A node with a profile on a machine that is no longer as it was when the profile was measured."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from rows import Seen, Stage, fault
from scene import Scene, wait

from seg_node.core.bundle import DEFAULT_MODEL, GRAPH, find_bundle, load_bundle
from seg_node.core.profile.file import write_profile
from seg_node.core.profile.fit import fingerprint
from seg_node.tune.result import SLACK

_OK, _WARN = 0, 1
_ADVICE = "look what else uses the processor; if that is to stay, run `seg_node tune` again"
_TOLD_S = 60.0
"""Within which a drift is told, and forgotten again."""
_SETTINGS = {"engine": "onnxruntime", "precision": "fp32", "threads": 1}


@fault(
    "processor hogged by others, while a profile is in use",
    "WARN with the measured band and the advice within a minute, OK within a minute of its end",
)
def profile_drift(stage: Stage) -> Seen:
    """The band is measured here, in the same node, before anything is wrong."""
    model = str(find_bundle(DEFAULT_MODEL))
    # Each scene writes files of its own.
    before = stage.folder / "before"
    before.mkdir()
    with Scene(before) as scene:
        scene.start_node(model, **_SETTINGS)
        scene.start_camera()
        times, size = _measured(scene, stage.times(15, 8))
    profile = stage.folder / "profile.yaml"
    low, high = np.percentile(times, [5, 95])
    _write(profile, model, size, float(np.median(times)), float(low) / SLACK, float(high) * SLACK)
    with stage.scene() as scene:
        scene.start_node(model, profile=str(profile), **_SETTINGS)
        camera = scene.start_camera()
        scene.mask_after(camera.sent[0].at)
        well = scene.report(
            lambda r: r["level"] == _OK and r["values"].get("profile.state") == "used", "OK, with the profile in use"
        )
        with ExitStack() as hogs:
            began = time.monotonic_ns()
            for _ in range(4 * (os.cpu_count() or 1)):
                hogs.callback(_end, subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            warned = scene.report(
                lambda r: r["level"] == _WARN and _ADVICE in r["message"], "the drift is told", began, timeout=_TOLD_S
            )
        ended = time.monotonic_ns()
        again = scene.mask_after(ended)
        calm = scene.report(lambda r: r["level"] == _OK, "OK again", ended, timeout=_TOLD_S)
        facts = [
            f"WARN after {(warned['at'] - began) / 1e9:.0f} s, OK {(calm['at'] - ended) / 1e9:.0f} s after its end",
            warned["message"].split(": look")[0],
        ]
        checks = {"no warning before": well["level"] == _OK}
        return Seen(facts, checks, [scene.balance()], again)


def _measured(scene: Scene, count: int) -> tuple[list[float], list[int]]:
    """Milliseconds of an inference in each of so many reports, and height and width of the network's input."""

    def enough() -> list[dict]:
        timed = [report for report in scene.observer.reports() if "inference" in report["values"]]
        # The first ones still warm up.
        return timed[2:] if len(timed) >= count + 2 else []

    reports = wait(enough, "inferences are timed", 60.0)
    size = [int(side) for side in reports[-1]["values"]["input_size"].split("x")]
    return [float(report["values"]["inference"]) for report in reports], size


def _write(file: Path, model: str, size: list[int], p50: float, low: float, high: float) -> None:
    bundle = load_bundle(model)
    write_profile(
        file,
        {
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "settings": {"model": model, **_SETTINGS, "input_size": size, "propagate": True, "forecast_ms": 0.0},
            "topic": "~/mask",
            "why": "measured by this row",
            "inference_ms": {"p50": p50, "low": low, "high": high},
            "asked": {},
            "winner": {},
            "runners_up": [],
            "drive": {"path": "the row's camera", "sha256": "0" * 64, "truth": "none"},
            "machine": fingerprint(),
            "bundles": {model: {"name": bundle.name, "sha256": bundle.manifest.files[GRAPH]}},
        },
    )


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
