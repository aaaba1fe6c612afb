"""Bad days of the projection: a camera that is not calibrated, depth that does not fit, a view into the sky, twins."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from bundles import bundle_of_twins
from projection_books import ProjectionBooks
from rows import Seen, Stage, fault
from scene import PROJECTION, Camera, Scene, Script, wait

from seg_node.core.projection.errors import Drop
from seg_node.core.taxonomy import CATEGORY_NAMES

_OK, _WARN = 0, 1
_RATE_HZ = 10.0
_MOUNTED = {"camera_height": 1.4, "camera_pitch": 0.1}
_UP = -1.4
"""Radians of pitch at which no pixel of the camera sees the ground."""


@contextmanager
def _projected(stage: Stage, depth: bool = False) -> Iterator[tuple[Scene, Camera, Script, ProjectionBooks]]:
    """A camera, its calibration, a segmentation node and a projection node that somebody listens to, and the books."""
    with stage.scene(options=["--projection", PROJECTION]) as scene:
        scene.start_node(stage.one)
        calibration = scene.start_calibration(*(["--depth"] if depth else []))
        camera = scene.start_camera(rate=_RATE_HZ)
        scene.start_projection(depth=depth, **_MOUNTED)
        wait(lambda: scene.observer.clouds(PROJECTION) and scene.observer.grids(PROJECTION), "a cloud and a grid")
        books = ProjectionBooks(scene)
        camera.command(paused=False)
        yield scene, camera, calibration, books


def _dropped(scene: Scene, drop: Drop, since: int) -> dict:
    """Wait until masks are dropped for a reason; returns the report that says so."""
    key = f"dropped.{drop.value}"
    before = next((int(r["values"][key]) for r in reversed(_until(scene, since))), 0)
    return scene.report(lambda r: int(r["values"][key]) > before, f"masks dropped as {drop.value}", since, PROJECTION)


def _until(scene: Scene, moment: int) -> list[dict]:
    return [report for report in scene.observer.reports(PROJECTION) if report["at"] <= moment]


def _cloud_after(scene: Scene, moment: int) -> float:
    """Seconds from a moment until the first cloud after it."""
    clouds = scene.observer.clouds
    found = wait(lambda: next((c for c in clouds(PROJECTION) if c["at"] > moment), None), "a cloud after the fault")
    return (found["at"] - moment) / 1e9


def _told(report: dict, words: str) -> dict[str, bool]:
    return {"WARN": report["level"] == _WARN, f"said {words!r}": words in report["message"]}


def _good_again(scene: Scene, moment: int) -> bool:
    return bool(scene.report(lambda r: r["level"] == _OK, "OK on /diagnostics again", moment, PROJECTION))


@fault("projection: CameraInfo of zeros", "each mask dropped as camera_info, WARN; masks go on, then clouds again")
def projection_zeros(stage: Stage) -> Seen:
    """As drivers send it whose camera was never calibrated."""
    with _projected(stage) as (scene, _, calibration, books):
        began = time.monotonic_ns()
        calibration.tell('{"zeros": true}')
        report = _dropped(scene, Drop.CAMERA_INFO, began)
        checks = _told(report, "all zeros: the camera is not calibrated")
        checks["masks go on"] = bool(scene.mask_after(report["at"]))
        healed = time.monotonic_ns()
        calibration.tell('{"zeros": false}')
        again = _cloud_after(scene, healed)
        checks["OK again"] = _good_again(scene, healed + 2 * 10**9)
        return Seen([report["message"]], checks, [scene.balance(), books.balance()], again)


@fault("projection: depth of another size", "each mask dropped as depth, WARN with both sizes; then clouds again")
def projection_depth_size(stage: Stage) -> Seen:
    """As of a depth camera that is not registered to the one that is masked."""
    with _projected(stage, depth=True) as (scene, _, calibration, books):
        began = time.monotonic_ns()
        calibration.tell('{"scale": 0.5}')
        report = _dropped(scene, Drop.DEPTH, began)
        checks = _told(report, "depth image is 64x48, the mask 128x96; register the depth image")
        checks["masks go on"] = bool(scene.mask_after(report["at"]))
        healed = time.monotonic_ns()
        calibration.tell('{"scale": 1.0}')
        again = _cloud_after(scene, healed)
        checks["OK again"] = _good_again(scene, healed + 2 * 10**9)
        return Seen([report["message"]], checks, [scene.balance(), books.balance()], again)


@fault("projection: pitch beyond the horizon", "each mask dropped as ground, WARN; with the right pitch, clouds")
def projection_horizon(stage: Stage) -> Seen:
    """The camera is said to look into the sky; a node that is started with the right pitch projects."""
    with stage.scene(options=["--projection", PROJECTION]) as scene:
        scene.start_node(stage.one)
        scene.start_calibration()
        camera = scene.start_camera(rate=_RATE_HZ)
        wrong = scene.start_projection(**_MOUNTED | {"camera_pitch": _UP})
        report = _dropped(scene, Drop.GROUND, camera.sent[0].at)
        checks = _told(report, "no pixel sees the ground: the camera looks above the horizon")
        above = ProjectionBooks(scene)
        camera.command(paused=False)
        _dropped(scene, Drop.GROUND, time.monotonic_ns())
        books = [above.balance()]
        checks["no cloud, no grid"] = not scene.observer.clouds(PROJECTION) and not scene.observer.grids(PROJECTION)
        wrong.stop()
        scene.start_projection(**_MOUNTED)
        moment = time.monotonic_ns()
        camera.command(paused=False)
        again = _cloud_after(scene, moment)
        after = ProjectionBooks(scene)
        camera.command(paused=False)
        _cloud_after(scene, time.monotonic_ns())
        books += [after.balance(), scene.balance()]
        return Seen([report["message"]], checks, books, again)


@fault(
    "projection: a bundle whose classes have duplicate names",
    "refused by name, set or given to the projection; clouds go on",
)
def projection_twins(stage: Stage) -> Seen:
    """Two categories of one name cannot be told apart by who plans with names."""
    names = list(CATEGORY_NAMES)
    with _projected(stage) as (scene, _, _, books), scene.supervisor() as supervisor:
        began = time.monotonic_ns()
        said = supervisor.set("model", bundle_of_twins(stage.folder))
        checks = {"named the twins": "category 2 is 'flat', and so is category 1; names differ" in said}
        names[2] = names[1]
        other = scene.make_projection(f"{PROJECTION}_of_twins", category_names=names, **_MOUNTED)
        other.start()
        wait(lambda: other.exit_code is not None, "the projection of twins ends")
        checks["the projection ended with status 2"] = other.exit_code == 2
        checks["and named them"] = "category_names has flat more than once" in other.last_output()
        moment = time.monotonic_ns()
        again = _cloud_after(scene, moment)
        seen = [scene.balance(), books.balance()]
        models = {record["model"] for record in scene.observer.records() if record["at"] > began}
        checks["kept its model"] = models == {"one"}
        checks["dropped nothing"] = set(seen[1].outcomes) == {"projected"}
        return Seen([said.rpartition("manifest.yaml: ")[2]], checks, seen, again)
