"""Bad days on which no frame fails, but no mask, or no useful one, comes out: what ``/diagnostics`` says of them."""

import time
from contextlib import contextmanager

from rows import Seen, Stage, fault
from scene import Camera, Scene

_OK, _WARN, _ERROR = 0, 1, 2
_NOTICED_S = 3.0
"""Longest time until the report says what is wrong."""


@contextmanager
def _masking(stage: Stage, **parameters: object):
    """A scene in which everything is well: the scene and its camera."""
    with stage.scene() as scene:
        scene.start_node(stage.one, **parameters)
        camera = scene.start_camera()
        scene.mask_after(camera.sent[0].at)
        _well_again(scene, time.monotonic_ns())
        yield scene, camera


def _well_again(scene: Scene, moment: int) -> None:
    scene.report(lambda r: r["level"] == _OK and r["message"] == "active", "OK on /diagnostics", moment)


def _named(scene: Scene, moment: int, level: int, *words: str) -> tuple[dict[str, bool], str]:
    """Whether the report says so in time, and what it says."""
    text = " ".join(words)
    report = scene.report(
        lambda r: r["level"] == level and all(word in r["message"] for word in words), f"{text} on /diagnostics", moment
    )
    seconds = (report["at"] - moment) / 1e9
    return {f"named within {_NOTICED_S:g} s": seconds <= _NOTICED_S}, f"after {seconds:.1f} s: {report['message']}"


def _end(scene: Scene, checks: dict[str, bool], said: str, moment: int) -> Seen:
    """The node masks again, and says OK."""
    again = scene.mask_after(moment)
    _well_again(scene, moment)
    return Seen([said], checks, [scene.balance()], again)


@fault("camera pulled out and put back", "ERROR with its topic and publishers within 3 s, then OK again")
def pulled_camera(stage: Stage) -> Seen:
    """By SIGKILL: the middleware does not hear of it at once."""
    with _masking(stage) as (scene, camera):
        moment = time.monotonic_ns()
        camera.kill()
        checks, said = _named(scene, moment, _ERROR, "no frames on /chaos/image for", "publishers: ")
        return _end(scene, checks, said, scene.start_camera().sent[0].at - 1)


@fault("camera's clock a second behind, max_age_ms 300", "ERROR that asks for the clocks within 3 s, then OK again")
def clocks_apart(stage: Stage) -> Seen:
    """Every frame is stale when it comes."""
    with _masking(stage, max_age_ms=300.0) as (scene, camera):
        moment = _jump(camera, -1.0)
        checks, said = _named(scene, moment, _ERROR, "stale, older than max_age_ms, which is 300", "synchronised")
        return _end(scene, checks, said, _jump(camera, 1.0))


@fault("camera's clock a second ahead", "WARN within 3 s, then OK again")
def clock_ahead(stage: Stage) -> Seen:
    """Frames are never stale then, so masks go on."""
    with _masking(stage, max_age_ms=300.0) as (scene, camera):
        moment = _jump(camera, 1.0)
        checks, said = _named(scene, moment, _WARN, "camera.future_stamp +")
        return _end(scene, checks, said, _jump(camera, -1.0))


@fault("every mask later than deadline_ms", "ERROR within 3 s, then OK again")
def all_late(stage: Stage) -> Seen:
    """The deadline moves instead of the processor."""
    with _masking(stage) as (scene, _), scene.supervisor() as supervisor:
        moment = time.monotonic_ns()
        checks = {"deadline set": not supervisor.set("deadline_ms", 0.001)}
        named, said = _named(scene, moment, _ERROR, "all ", " masks late: more than deadline_ms, which is 0.001")
        moment = time.monotonic_ns()
        checks["deadline taken back"] = not supervisor.set("deadline_ms", 0.0)
        return _end(scene, checks | named, said, moment)


@fault("camera that slows down to 5 Hz, expected_rate_hz 15", "WARN that names the camera within 3 s, then OK again")
def slow_camera(stage: Stage) -> Seen:
    """Another camera takes over, as one in a power-saving mode would."""
    with _masking(stage, expected_rate_hz=15.0) as (scene, camera):
        camera.kill()
        slow = scene.start_camera(rate=5.0)
        checks, said = _named(scene, slow.sent[0].at, _WARN, "expected_rate_hz is 15", "the camera is slow")
        slow.kill()
        return _end(scene, checks, said, scene.start_camera().sent[0].at - 1)


def _jump(camera: Camera, seconds: float) -> int:
    """Have the camera's stamps jump; returns ``time.monotonic_ns`` before."""
    moment = time.monotonic_ns()
    camera.command(jump=seconds)
    return moment
