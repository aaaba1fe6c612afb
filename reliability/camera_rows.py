"""Bad days of one of several cameras of a node, and what the others have of it."""

from collections.abc import Callable

import numpy as np
from rows import Seen, Stage, fault
from scene import Books

from seg_node.bags.drive import Drive, Frame
from seg_node.core.images import RawPixels
from seg_node.core.timing import FAULTS, Outcome
from seg_node.rig.cameras import CameraRun, Feed, Traffic
from seg_node.rig.node_process import NodeProcess

_NAMESPACE = "/chaos"
SIZE = (96, 128)
HZ = 30.0
_WELL = ("front", "right", "rear")
_ILL = "left"
_KEPT = 0.95
"""Share of their masks that the others keep, where nothing else wants the machine."""


def drive(images: list[RawPixels], instants: list[float]) -> Drive:
    """Images at instants in seconds; each has a stamp of its own."""
    frames = [
        Frame(round(1e9 * at), 10**18 + round(1e9 * at), "camera", image)
        for at, image in zip(instants, images, strict=True)
    ]
    return Drive("made up", "image", frames, None, None, {})


def noise(count: int, encoding: str = "bgr8") -> list[RawPixels]:
    height, width = SIZE
    rng = np.random.default_rng(0)
    pictures = rng.integers(60, 200, (count, height * width * 3), np.uint8)
    return [RawPixels(height, width, encoding, 0, 3 * width, picture) for picture in pictures]


def at(hz: float, seconds: float) -> list[float]:
    return [number / hz for number in range(round(hz * seconds))]


def _play(stage: Stage, ill: Drive | None) -> tuple[list[CameraRun], dict[str, dict[str, str]]]:
    """Play four cameras, or without one the three others; what came of each, and the newest report of each."""
    seconds = stage.times(10, 3)
    well = drive(noise(30), at(HZ, 1.0))
    drives = dict.fromkeys(_WELL, well) | ({} if ill is None else {_ILL: ill})
    parameters = {"model": str(stage.one), "engine": "onnxruntime", "cameras": [*_WELL, _ILL], "camera_timeout_ms": 0.0}
    parameters |= {f"{name}.warm_up_size": list(SIZE) for name in parameters["cameras"]}
    with NodeProcess(stage.folder / "node.log", parameters, namespace=_NAMESPACE) as node:
        node.wait_for("active")
        feeds = [
            Feed(name, drive, f"{_NAMESPACE}/{name}/image", f"{node.full_name}/{name}", number / len(drives) / HZ)
            for number, (name, drive) in enumerate(drives.items())
        ]
        with Traffic(feeds, check=node.check) as traffic:
            return traffic.play(float(seconds), 1.0), traffic.status


def _compared(stage: Stage, ill: Drive, checks: Callable[[CameraRun, dict[str, str]], dict[str, bool]]) -> Seen:
    """The others with an ill camera and without it; the row holds where it is ill alone."""
    before, _ = _play(stage, None)
    runs, status = _play(stage, ill)
    found = {run.name: run for run in runs}
    alone = {run.name: run for run in before}
    kept = min(found[name].masks_per_s / max(alone[name].masks_per_s, 1e-9) for name in _WELL)
    slower = max((found[name].p99_ms or np.inf) / (alone[name].p99_ms or np.inf) for name in _WELL)
    faults = [outcome.value for outcome in FAULTS]
    clean = {
        "the others have no fault": not any(found[name].outcomes.get(fault) for name in _WELL for fault in faults),
        "the others have no oddity of it": not any(
            int(status[name][f"camera.{oddity}"]) for name in _WELL for oddity in ("frozen", "black", "size_change")
        ),
        "the others are masked": all(found[name].outcomes.get(Outcome.MASKED.value) for name in _WELL),
    }
    if not stage.quick:
        clean[f"the others keep {_KEPT:.0%} of their masks"] = kept >= _KEPT
    facts = [f"{name}: {run.outcomes}" for name, run in found.items() if name == _ILL]
    facts.append(f"the others had {100 * kept:.0f} % of their masks, and {slower:.2f} of their 99th percentile")
    next_mask = found[_WELL[0]].p50_ms
    books = [_books(run) for run in (*before, *runs)]
    return Seen(facts, clean | checks(found[_ILL], status[_ILL]), books, next_mask and next_mask / 1e3)


def _books(run: CameraRun) -> Books:
    ends = sum(run.outcomes.values())
    masks = run.outcomes.get(Outcome.MASKED.value, 0)
    wrong = [] if run.balanced else [f"{run.name}: the node's count is not that of the records"]
    return Books(run.sent, ends, run.outcomes, masks, 0, int(not run.balanced), wrong)


@fault("one camera floods at 200 Hz", "the others keep their masks; its own frames supersede each other")
def camera_floods(stage: Stage) -> Seen:
    """Its slot holds one frame, however many come."""
    return _compared(
        stage, drive(noise(100), at(200.0, 0.5)), lambda run, _: {"it is masked": "masked" in run.outcomes}
    )


@fault("one camera freezes", "its own report counts frozen frames, no other's does")
def camera_freezes(stage: Stage) -> Seen:
    """The same picture again and again, with new stamps."""
    same = noise(1) * 30
    return _compared(
        stage, drive(same, at(HZ, 1.0)), lambda _, status: {"it is frozen": int(status["camera.frozen"]) > 0}
    )


@fault("one camera sends what is no image", "undecodable, counted for it alone")
def camera_sends_rubbish(stage: Stage) -> Seen:
    """An encoding that nobody knows."""
    rubbish = drive(noise(30, "no_such_encoding"), at(HZ, 1.0))
    # On a busy machine some of it is superseded before anybody looks at it.
    ends = {"undecodable", "superseded"}
    return _compared(
        stage,
        rubbish,
        lambda run, _: {
            "it is undecodable, none of it is masked": "undecodable" in run.outcomes and {*run.outcomes} <= ends
        },
    )


@fault("one camera comes and goes", "its masks come again each time, and the others' never stop")
def camera_comes_and_goes(stage: Stage) -> Seen:
    """Half a second of frames, then none for as long."""
    bursts = [at for at in at(HZ, 2.0) if at % 1.0 < 0.5]
    return _compared(
        stage, drive(noise(len(bursts)), bursts), lambda run, _: {"it is masked": "masked" in run.outcomes}
    )
