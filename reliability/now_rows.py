"""Bad days of the mask of now, with somebody who listens to it: when it must end, and when it must come again."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from now_books import NowBooks
from orders import Order
from rows import Seen, Stage, fault
from scene import Camera, Scene, wait
from supervisor import ACTIVATE, CLEAN_UP, CONFIGURE

_MAX_AGE_MS = 700.0


@contextmanager
def _listened(stage: Stage, max_age: float = _MAX_AGE_MS, **parameters: object) -> Iterator[tuple]:
    """A node that carries masks, a camera whose scene moves, and the books."""
    with stage.scene(options=["--now"]) as scene:
        node = scene.start_node(stage.one, propagate_max_age_ms=max_age, **parameters)
        camera = scene.start_camera("--moving", *(["--clock"] if parameters.get("use_sim_time") else []))
        books = NowBooks(scene, max_age)
        _wait_for_now(books, camera.sent[0].at - 1)
        yield scene, node, camera, books


def _wait_for_now(books: NowBooks, moment: int) -> None:
    wait(lambda: books.carried_after(moment), "a mask of now after the fault")


def _seen(scene: Scene, books: NowBooks, facts: list[str], checks: dict[str, bool], began: int) -> Seen:
    """What all rows have in common: masks come again, nothing is missing, and no mask of now is what it must not be."""
    again = scene.mask_after(began)
    _wait_for_now(books, began)
    balanced = [scene.balance(), books.balance()]
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(balanced[1].outcomes.items()))
    return Seen([*facts, outcomes], {**checks, **books.checks()}, balanced, again)


def _ended(scene: Scene, since: int, reason: Callable[[dict], bool], what: str) -> dict:
    """Wait until a frame has no mask of now for a reason; returns its record."""
    records = scene.observer.records_now
    return wait(lambda: next((r for r in records() if r["at"] > since and reason(r)), None), what)


@fault("mask of now: inference that never returns", "none after it is given up, until a new engine has masked a frame")
def now_stuck_inference(stage: Stage) -> Seen:
    """The age alone would allow it for longer than the inference may take."""
    limits = {"inference_timeout_ms": 300.0, "failure_limit": 40, "on_give_up": "stay"}
    with (
        _listened(stage, 5000.0, **limits) as (scene, node, camera, books),
        scene.supervisor() as supervisor,
    ):
        sent, record = scene.ordered(camera, Order.HANG)
        given_up = time.monotonic_ns()
        reason = _ended(scene, sent.at, lambda r: "has not returned" in r["detail"], "the reason in a record")
        wait(lambda: supervisor.state() == "inactive", "the node deactivates itself")
        scene.settle()
        carried = len(books.carried_after(given_up))
        scene.end_of_life()
        books.end_of_life()
        checks = {
            "none after it was given up": carried == 0,
            "recovered": all(supervisor.change(to) for to in (CLEAN_UP, CONFIGURE, ACTIVATE)),
        }
        node.check()
        return _seen(scene, books, [reason["detail"]], checks, time.monotonic_ns())


@fault(
    "mask of now: inference that takes 2 s",
    "expired after propagate_max_age_ms, then carried from its mask or a later one",
)
def now_slow_inference(stage: Stage) -> Seen:
    """It is not given up, but what it will say is long past."""
    with _listened(stage, inference_timeout_ms=0.0) as (scene, _, camera, books):
        # More than one, for best effort may lose one; those that come while it works are superseded.
        sent = camera.order(Order.NAP, frames=3)
        _ended(scene, sent.at, lambda r: r["outcome"] == "expired", "a record that says expired")
        return _seen(scene, books, [], {}, sent.at + 2 * 10**9)


@fault("mask of now: camera killed and restarted", "none from before, then masks again")
def now_camera_killed(stage: Stage) -> Seen:
    """For longer than a mask may be old."""
    with _listened(stage) as (scene, _, camera, books):
        camera.kill()
        time.sleep(1.5 * _MAX_AGE_MS / 1e3)
        began = time.monotonic_ns()
        scene.start_camera("--moving")
        return _seen(scene, books, [], {}, began)


@fault("mask of now: clock that jumps an hour ahead, then two back", "none across a jump, then masks again")
def now_clock_jump(stage: Stage) -> Seen:
    """Of the simulated clock and the camera's stamps alike."""
    with _listened(stage, use_sim_time=True) as (scene, _, camera, books):
        for jump in (3600.0, -7200.0):
            moment, stamp = time.monotonic_ns(), camera.sent[-1].stamp
            camera.command(jump=jump)
            jumped = wait(lambda m=moment, s=stamp: _jumped(camera, m, s), "the clock jumps")
            wait(lambda j=jumped: books.carried_after(j), "a mask of now after the jump")
        return _seen(scene, books, [], {}, moment)


def _jumped(camera: Camera, since: int, stamp: int) -> int | None:
    """Just before the first frame after a moment was sent whose stamp is more than 1000 s from that one."""
    return next((s.at - 1 for s in camera.sent if s.at > since and abs(s.stamp - stamp) > 1e12), None)


@fault("mask of now: hot swap to another model at 30 Hz", "after the answer none of the old model's masks is carried")
def now_hot_swap(stage: Stage) -> Seen:
    """A mask's category tells which bundle made it, carried or not."""
    switches = stage.times(40, 4)
    with _listened(stage) as (scene, _, camera, books), scene.supervisor() as supervisor:
        spans = []
        for number in range(switches):
            path = (stage.two, stage.one)[number % 2]
            asked = time.monotonic_ns()
            refused = supervisor.set("model", str(path))
            if not refused:
                # It is loaded beside the frames: the first that it masks tells that the swap is over.
                scene.record_by(path.name, asked)
            answered = time.monotonic_ns()
            _wait_for_now(books, answered)
            # The next swap may take effect at any time after it was asked for.
            spans.append((answered, time.monotonic_ns(), path.name, refused))
        seen = _seen(scene, books, [f"{switches} swaps"], {}, answered)
        makers = books.makers()
        old = sum(
            makers.get(int(record["values"]["keyframe"])) != name
            for since, until, name, _ in spans
            for record in books.carried_after(since, until)
        )
        carried = [record for record in scene.observer.records_now() if record["outcome"] == "propagated"]
        pairs = {
            (makers.get(int(record["values"]["keyframe"])), mask["category"])
            for record, mask in zip(carried, scene.observer.masks_now(), strict=True)
        }
        seen.checks |= {
            "accepted each": not any(refused for *_, refused in spans),
            "none of the old model": old == 0,
            "none mixed": pairs == {("one", 1), ("two", 2)},
        }
        return seen


@fault("mask of now: camera that changes its size", "none of the old size, then masks of the new one")
def now_size_change(stage: Stage) -> Seen:
    """Half the size, and back."""
    with _listened(stage) as (scene, _, camera, books):
        for size in ([48, 64], [96, 128]):
            view = camera.sent[-1].view
            camera.command(size=size)
            first = wait(lambda v=view: next((s for s in camera.sent if s.view > v), None), "another size")
            wait(lambda f=first: books.carried_after(f.at - 1), "a mask of now of the new size")
        seen = _seen(scene, books, [], {}, first.at)
        views = {sent.stamp: sent.view for sent in camera.sent}
        sizes = {(views[mask["stamp"]], tuple(mask["size"])) for mask in scene.observer.masks_now()}
        seen.checks["one size in each scene"] = len(sizes) == len({view for view, _ in sizes}) == 3
        return seen


@fault("mask of now: scene that changes from one frame to the next", "none across the cut, then masks again")
def now_scene_cut(stage: Stage) -> Seen:
    """As with another video, or a lens that is covered."""
    cuts = stage.times(10, 3)
    with _listened(stage) as (scene, _, camera, books):
        for _ in range(cuts):
            view = camera.sent[-1].view
            camera.command(cut=True)
            first = wait(lambda v=view: next((s for s in camera.sent if s.view > v), None), "another scene")
            wait(lambda f=first: books.carried_after(f.at - 1), "a mask of now of the new scene")
        return _seen(scene, books, [f"{cuts} cuts"], {}, first.at)


@fault("mask of now: no frame for 2 s", "none from before, then masks again")
def now_drop_out(stage: Stage) -> Seen:
    """The camera's process lives on, and its stamps go on."""
    with _listened(stage) as (scene, _, camera, books):
        camera.command(paused=True)
        time.sleep(2.0)
        began = time.monotonic_ns()
        camera.command(paused=False)
        seen = _seen(scene, books, [], {}, began)
        first = next(s for s in camera.sent if s.at > began)
        records = [
            r for r in scene.observer.records_now() if r["stamp"] == first.stamp and r["values"]["again"] == "false"
        ]
        seen.checks["the first frame has none from before"] = all(r["outcome"] != "propagated" for r in records)
        return seen
