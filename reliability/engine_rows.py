"""Bad days of the engine and its bundles."""

import time
from collections import Counter

from bundles import broken_bundles
from orders import Order
from rows import Seen, Stage, fault
from scene import Scene, wait
from supervisor import ACTIVATE, CLEAN_UP, CONFIGURE, DEACTIVATE, Supervisor

from seg_node.core.bundle import GRAPH

_ERROR = 2
_LIMITS = {"inference_timeout_ms": 500.0, "failure_limit": 10}
_SUPERVISED = {**_LIMITS, "on_give_up": "stay"}
_SHIPPED = "fpn_resnet50"
"""The largest of the shipped models."""
_ANSWER_S = 0.2
"""Longest answer of a service while a model is loaded."""


@fault("exception in an inference", "its frame fails with the reason, the next is masked")
def exception(stage: Stage) -> Seen:
    """One error."""
    with stage.scene() as scene:
        scene.start_node(stage.one)
        camera = scene.start_camera()
        sent, record = scene.ordered(camera, Order.RAISE)
        again = scene.mask_after(sent.at)
        scene.report(lambda r: "dropped.failed +" in r["message"], "WARN on /diagnostics", sent.at)
        return Seen([record["detail"]], {"as ordered": "as ordered" in record["detail"]}, [scene.balance()], again)


@fault("mask of wrong size, type, category; out of memory", "each frame fails with its own reason, the next is masked")
def wrong_output(stage: Stage) -> Seen:
    """What an engine must not hand on."""
    reasons = {
        Order.SHAPE: "mask is uint8 (95, 128)",
        Order.DTYPE: "mask is int64",
        Order.CATEGORY: "mask holds category 200",
        Order.MEMORY: "MemoryError: in inference of 128x96 pixels",
    }
    with stage.scene() as scene:
        scene.start_node(stage.one)
        camera = scene.start_camera()
        found, slowest = {}, 0.0
        for order in reasons:
            sent, record = scene.ordered(camera, order)
            found[order] = record["detail"]
            slowest = max(slowest, scene.mask_after(sent.at))
        checks = {f"named {order.name}": reason in found[order] for order, reason in reasons.items()}
        return Seen([f"{len(found)} reasons named"], checks, [scene.balance()], slowest)


@fault("NaN logits, while the confidence is subscribed", "the frame fails with the reason, the next is masked")
def nan_logits(stage: Stage) -> Seen:
    """Seen by the confidence only: the greatest of eight numbers that are none is some category."""
    with stage.scene(options=["--confidence"]) as scene:
        scene.start_node(stage.one)
        camera = scene.start_camera()
        sent, record = scene.ordered(camera, Order.NAN)
        again = scene.mask_after(sent.at)
        checks = {"said that logits are not finite": "not finite" in record["detail"]}
        return Seen([record["detail"]], checks, [scene.balance()], again)


@fault("inference that returns too late", "its frame fails in time, its result is discarded, then masks come again")
def slow_inference(stage: Stage) -> Seen:
    """The worker comes back by itself."""
    with stage.scene() as scene:
        scene.start_node(stage.one, inference_timeout_ms=500.0, failure_limit=0)
        camera = scene.start_camera()
        sent, record = scene.ordered(camera, Order.NAP)
        scene.report(lambda r: r["level"] == _ERROR, "ERROR on /diagnostics", sent.at)
        again = scene.mask_after(sent.at)
        books = scene.balance()
        checks = {
            "named the limit": "has not returned within 500 ms" in record["detail"],
            "discarded its result": sent.stamp not in {mask["stamp"] for mask in scene.observer.masks()},
        }
        return Seen([f"{books.outcomes['failed']} frames failed", "ERROR on /diagnostics"], checks, [books], again)


@fault("inference that never returns", "ERROR, services answer, deactivated; clean up + configure loads a new engine")
def stuck_inference(stage: Stage) -> Seen:
    """Only a new engine helps, in the same process."""
    with stage.scene() as scene, scene.supervisor() as supervisor:
        node = scene.start_node(stage.one, **_SUPERVISED)
        camera = scene.start_camera()
        sent, record = scene.ordered(camera, Order.HANG)
        refusal = supervisor.set("model", str(stage.two))
        error = _wait_for_deactivation(scene, supervisor, sent.at)
        checks = {
            "named the limit": "has not returned within 500 ms" in record["detail"],
            "refused another model meanwhile": "stuck" in refusal or "inactive" in refusal,
            "refused to activate the stuck engine": not supervisor.change(ACTIVATE),
            "ERROR while inactive": error["level"] == _ERROR,
        }
        checks["recovered by transitions"] = _load_anew(scene, supervisor)
        again = scene.mask_after(sent.at)
        node.check()
        return Seen([error["message"]], checks, [scene.balance()], again)


@fault("device that vanishes", "deactivated after failure_limit; activating again fails again; a new engine recovers")
def vanished_device(stage: Stage) -> Seen:
    """Every inference fails until the engine is made anew."""
    with stage.scene() as scene, scene.supervisor() as supervisor:
        node = scene.start_node(stage.one, **_SUPERVISED)
        camera = scene.start_camera()
        sent, _ = scene.ordered(camera, Order.VANISH)
        error = _wait_for_deactivation(scene, supervisor, sent.at)
        before = time.monotonic_ns()
        checks = {"activated again": supervisor.change(ACTIVATE)}
        _wait_for_deactivation(scene, supervisor, before)
        checks["recovered by transitions"] = _load_anew(scene, supervisor)
        again = scene.mask_after(sent.at)
        node.check()
        return Seen([error["message"]], checks, [scene.balance()], again)


@fault("device that vanishes, nobody supervises", "deactivated, then active with a new engine by itself")
def vanished_device_alone(stage: Stage) -> Seen:
    """The first attempt comes after a second, and loads the model anew."""
    with stage.scene() as scene:
        scene.start_node(stage.one, **_LIMITS)
        camera = scene.start_camera()
        sent, _ = scene.ordered(camera, Order.VANISH)
        error = scene.report(lambda r: r["message"].startswith("inactive: "), "a report while inactive", sent.at)
        back = scene.report(lambda r: r["message"].startswith("active"), "it is active again", error["at"])
        scene.end_of_life_at(back["at"])
        scene.mask_after(back["at"])
        checks = {"said when it would try again": "attempt " in error["message"], "ERROR": error["level"] == _ERROR}
        return Seen([error["message"]], checks, [scene.balance()], (back["at"] - sent.at) / 1e9)


@fault("corrupt and missing bundles, set while running", "each refused by the file's name; no mask is missing")
def bad_bundle_while_running(stage: Stage) -> Seen:
    """Also the running bundle's own file, changed."""
    with stage.scene() as scene, scene.supervisor() as supervisor:
        scene.start_node(stage.one)
        camera = scene.start_camera()
        scene.mask_after(camera.sent[0].at)
        began = time.monotonic_ns()
        checks = {}
        for path, named in broken_bundles(stage.folder / "broken").items():
            moment = time.monotonic_ns()
            # What only an engine finds is said on /diagnostics, where the loading ends.
            said = supervisor.set("model", path) or _refused(scene, path, moment)
            checks[f"named {named}"] = named in said
        with (stage.one / GRAPH).open("ab") as graph:
            graph.write(b"changed")
        checks["named the file changed under it"] = str(stage.one / GRAPH) in supervisor.set("model", str(stage.one))
        again = scene.mask_after(time.monotonic_ns())
        books = scene.balance()
        models = {record["model"] for record in scene.observer.records() if record["at"] > began}
        checks["kept its model"] = models == {"one"}
        checks["dropped none but superseded ones"] = set(books.outcomes) <= {"masked", "superseded"}
        return Seen([f"{len(checks) - 2} refusals"], checks, [books], again)


@fault("corrupt bundle at configuration", "FAILURE and ERROR with the file's name; repaired, it configures")
def bad_bundle_at_configuration(stage: Stage) -> Seen:
    """A supervisor repairs it."""
    with stage.scene() as scene, scene.supervisor() as supervisor:
        scene.start_node(stage.one)
        camera = scene.start_camera()
        scene.mask_after(camera.sent[0].at)
        checks = {"deactivated": supervisor.change(DEACTIVATE)}
        scene.settle()
        scene.end_of_life()
        whole = (stage.one / GRAPH).read_bytes()
        (stage.one / GRAPH).write_bytes(whole[: len(whole) // 2])
        moment = time.monotonic_ns()
        checks["cleaned up"] = supervisor.change(CLEAN_UP)
        checks["refused to configure"] = not supervisor.change(CONFIGURE)
        error = scene.report(lambda r: r["level"] == _ERROR, "ERROR on /diagnostics", moment)
        checks["named the file"] = str(stage.one / GRAPH) in error["message"]
        (stage.one / GRAPH).write_bytes(whole)
        checks["configured"] = supervisor.change(CONFIGURE)
        checks["activated"] = supervisor.change(ACTIVATE)
        again = scene.mask_after(moment)
        return Seen([f"refused, naming {GRAPH}"], checks, [scene.balance()], again)


@fault(
    "hot swap at 30 Hz, every other time to a broken bundle",
    "no frame lost, no mixed mask, every record names its maker",
)
def hot_swap(stage: Stage) -> Seen:
    """A mask's category tells which bundle made it."""
    switches = stage.times(100, 6)
    with stage.scene() as scene, scene.supervisor() as supervisor:
        scene.start_node(stage.one)
        camera = scene.start_camera()
        scene.mask_after(camera.sent[0].at)
        broken = list(broken_bundles(stage.folder / "broken"))
        refused = accepted = 0
        for number in range(switches):
            moment = time.monotonic_ns()
            if number % 2:
                path = broken[number // 2 % len(broken)]
                refused += bool(supervisor.set("model", path) or _refused(scene, path, moment))
            else:
                path = (stage.two, stage.one)[number // 2 % 2]
                accepted += not supervisor.set("model", str(path)) and bool(scene.record_by(path.name, moment))
            # A few frames with each model.
            scene.mask_after(time.monotonic_ns())
        again = scene.mask_after(time.monotonic_ns())
        books = scene.balance()
        makers = {record["stamp"]: record["model"] for record in scene.observer.records()}
        pairs = Counter((makers.get(mask["stamp"]), mask["category"]) for mask in scene.observer.masks())
        checks = {
            "accepted the good": accepted == switches - switches // 2,
            "refused the broken": refused == switches // 2,
            "named the maker of every mask": set(pairs) == {("one", 1), ("two", 2)},
            "dropped none but superseded ones": set(books.outcomes) <= {"masked", "superseded"},
        }
        facts = [f"{accepted} swaps, {refused} refusals", f"{pairs['one', 1]} + {pairs['two', 2]} masks"]
        return Seen([*facts, f"{books.outcomes.get('superseded', 0)} superseded"], checks, [books], again)


@fault(
    "hot swap under use_sim_time, by a library that compiles for 3 s",
    "clock, transitions and diagnostics go on, no frame is stale or older than it is",
)
def swap_under_sim_time(stage: Stage) -> Seen:
    """The camera's stamps are the clock: where the node's stands still, frames come from up to 3 s ahead of it."""
    with stage.scene() as scene, scene.supervisor() as supervisor:
        scene.start_node(stage.one, use_sim_time=True, max_age_ms=1000.0)
        camera = scene.start_camera("--clock")
        scene.mask_after(camera.sent[0].at)
        scene.report(lambda r: r["message"] == "active", "OK on /diagnostics")
        moment = time.monotonic_ns()
        with scene.held_loads():
            checks = {"accepted": not supervisor.set("model", str(stage.two))}
            answered = (time.monotonic_ns() - moment) / 1e9
            loading = scene.report(lambda r: r["values"].get("load.state") == "loading", "that it loads", moment)
            while time.monotonic_ns() < moment + 3 * 10**9:
                scene.mask_after(time.monotonic_ns())
            asked = time.monotonic_ns()
            checks["transitions meanwhile"] = supervisor.change(DEACTIVATE) and supervisor.change(ACTIVATE)
            took = (time.monotonic_ns() - asked) / 1e9
            scene.mask_after(time.monotonic_ns())
            held = [r for r in scene.observer.records() if r["at"] > moment]
            released = time.monotonic_ns()
        again = (scene.record_by("two", released)["at"] - released) / 1e9
        books = scene.balance()
        ages = [r["age"] for r in held if r["age"] is not None]
        checks["no frame was stale"] = "stale" not in books.outcomes
        checks["every record has an age of its time"] = len(ages) == len(held) and all(
            -100 < age < 1000 for age in ages
        )
        checks["the old model masked meanwhile"] = {r["model"] for r in held} == {"one"}
        checks["diagnostics named the model"] = loading["values"]["load.model"] == str(stage.two)
        facts = [f"the parameter answered after {answered:.2f} s, two transitions after {took:.2f} s"]
        return Seen(
            [*facts, f"{len(held)} frames meanwhile, {min(ages):.0f} to {max(ages):.0f} ms old"], checks, [books], again
        )


@fault(
    "a shipped model that was never compiled here, set under use_sim_time, and set again",
    "every answer within 0.2 s while it is loaded, no frame is stale or older than it is",
)
def first_load(stage: Stage) -> Seen:
    """The libraries as they are: what they compile, and keep for the next time."""
    changes = {"XDG_CACHE_HOME": str(stage.folder / "cache")}
    with stage.scene(changes=changes) as scene, scene.supervisor() as supervisor:
        scene.start_node(stage.one, engine="auto", threads=0, use_sim_time=True, max_age_ms=1000.0)
        camera = scene.start_camera("--clock")
        scene.mask_after(camera.sent[0].at)
        facts, checks, meanwhile = [], {}, []
        for time_of in ("first", "second"):
            moment = time.monotonic_ns()
            checks[f"accepted, {time_of}"] = not supervisor.set("model", _SHIPPED)
            slowest = _slowest_answer(scene, supervisor, moment)
            meanwhile += [r for r in scene.observer.records() if r["at"] > moment]
            took = (meanwhile[-1]["at"] - moment) / 1e9
            checks |= {f"{what} in time, {time_of}": seconds <= _ANSWER_S for what, seconds in slowest.items()}
            answers = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in slowest.items())
            facts.append(f"{time_of} load {took:.1f} s, slowest answer: {answers}")
            moment = time.monotonic_ns()
            supervisor.set("model", str(stage.one))
            scene.record_by("one", moment)
        again = scene.mask_after(time.monotonic_ns())
        books = scene.balance()
        ages = [r["age"] for r in meanwhile if r["age"] is not None]
        checks["no frame was stale"] = "stale" not in books.outcomes
        checks["every record has an age of its time"] = len(ages) == len(meanwhile) and all(
            -100 < age < 1000 for age in ages
        )
        facts.append(f"{len(meanwhile)} frames meanwhile, {min(ages):.0f} to {max(ages):.0f} ms old")
        return Seen(facts, checks, [books], again)


def _slowest_answer(scene: Scene, supervisor: Supervisor, since: int) -> dict[str, float]:
    """Ask a node again and again until it has masked by the shipped model; seconds of the slowest answer, by call."""
    calls = {
        "get_state": supervisor.state,
        "deactivate": lambda: supervisor.change(DEACTIVATE),
        "activate": lambda: supervisor.change(ACTIVATE),
    }
    slowest = dict.fromkeys(calls, 0.0)

    def ask(call: str) -> None:
        began = time.monotonic()
        calls[call]()
        slowest[call] = max(slowest[call], time.monotonic() - began)

    def masked() -> bool:
        return any((r["model"], r["outcome"]) == (_SHIPPED, "masked") for r in new())

    def new() -> list[dict]:
        return [r for r in scene.observer.records() if r["at"] > since]

    ask("deactivate")
    ask("activate")
    wait(lambda: ask("get_state") or masked(), f"a mask by {_SHIPPED}")
    return slowest


def _refused(scene: Scene, path: str, since: int) -> str:
    """Wait until a model that was accepted is refused after all; returns the reason."""
    report = scene.report(
        lambda r: r["values"].get("load.model") == path and r["values"].get("load.state") == "refused", "its end", since
    )
    return report["values"]["load.reason"]


def _wait_for_deactivation(scene: Scene, supervisor: Supervisor, since: int) -> dict:
    """Wait until a node has deactivated itself and its books are final; returns its report."""
    wait(lambda: supervisor.state() == "inactive", "the node deactivates itself")
    error = scene.report(lambda r: r["message"].startswith("inactive: "), "a report while inactive", since)
    scene.settle()
    return error


def _load_anew(scene: Scene, supervisor: Supervisor) -> bool:
    """Bring an inactive node back with a new engine; returns whether every transition succeeded."""
    scene.end_of_life()
    return all(supervisor.change(transition) for transition in (CLEAN_UP, CONFIGURE, ACTIVATE))
