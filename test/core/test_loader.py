"""A model is loaded beside the one that runs: the newest request counts, and nobody waits for what hangs."""

import threading
import time

import pytest

from seg_node.core.errors import RunError
from seg_node.core.upkeep.loader import ModelLoader


class Gate:
    """Makes engines by name, once it is opened."""

    def __init__(self):
        self.opened, self.inside, self.most_inside = threading.Event(), 0, 0
        self.made, self.used, self.refused = [], [], []
        self.loader = ModelLoader(lambda *refusal: self.refused.append(refusal))

    def begin(self, name):
        def make():
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
            assert self.opened.wait(60)
            self.inside -= 1
            self.made.append(name)
            if name.startswith("bad"):
                raise RuntimeError(f"{name} does not fit")
            return name

        self.loader.begin(name, make, self.used.append)

    def rest(self):
        wait(lambda: not self.loader.working, "the loader rests")


def wait(condition, what, timeout=60.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.002)


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.opened.set()
    made.rest()


def test_a_request_returns_at_once_and_is_followed_by_its_status(gate):
    assert gate.loader.status() == {}
    gate.begin("a")
    assert gate.loader.busy and gate.used == []
    assert gate.loader.status() | {"load.seconds": ""} == {
        "load.model": "a",
        "load.state": "loading",
        "load.seconds": "",
    }
    gate.opened.set()
    gate.rest()
    assert gate.used == ["a"] and not gate.loader.busy
    assert gate.loader.status()["load.state"] == "loaded" and "load.reason" not in gate.loader.status()


@pytest.mark.parametrize(
    ("names", "made", "used", "refused"),
    [
        (["a", "b", "c"], ["a", "c"], ["c"], []),
        (["bad a", "b"], ["bad a", "b"], ["b"], []),
        (["a", "bad b"], ["a", "bad b"], [], [("bad b", "bad b does not fit")]),
        (["a", "bad b", "a"], ["a", "a"], ["a"], []),
    ],
)
def test_the_newest_request_counts(gate, names, made, used, refused):
    gate.begin(names[0])
    wait(lambda: gate.inside, "the first is being loaded")
    for name in names[1:]:
        gate.begin(name)
    gate.opened.set()
    gate.rest()
    assert (gate.made, gate.used, gate.refused) == (made, used, refused)
    assert gate.most_inside == 1
    status = gate.loader.status()
    assert status["load.model"] == names[-1]
    assert status["load.state"] == ("refused" if refused else "loaded")
    assert status.get("load.reason", "") == (refused[0][1] if refused else "")


def test_a_closed_loader_takes_nothing_over(gate):
    gate.begin("a")
    wait(lambda: gate.inside, "it is being loaded")
    gate.begin("b")
    gate.loader.close()
    assert not gate.loader.busy and gate.loader.working
    gate.opened.set()
    gate.rest()
    assert (gate.made, gate.used, gate.refused) == (["a"], [], [])


def test_who_waits_gets_the_engine_the_reason_or_his_freedom(gate):
    assert gate.loader.load("x", lambda: "an engine") == "an engine"
    with pytest.raises(RunError, match="^it is broken$"):
        gate.loader.load("x", lambda: 1 if 1 > 2 else (_ for _ in ()).throw(ValueError("it is broken")))
    with pytest.raises(RunError, match="MemoryError"):
        gate.loader.load("x", lambda: (_ for _ in ()).throw(MemoryError()))
    waiting = threading.Thread(target=lambda: pytest.raises(RunError, gate.loader.load, "y", gate.opened.wait))
    waiting.start()
    wait(lambda: gate.loader.busy, "it is being loaded")
    gate.loader.close()
    waiting.join(60)
    assert not waiting.is_alive()


def test_no_thread_is_left_and_no_engine_kept(gate):
    import weakref

    class Engine:
        pass

    gate.opened.set()
    before, kept = threading.active_count(), []
    for _ in range(5):
        gate.loader.begin("e", Engine, lambda engine: kept.append(weakref.ref(engine)))
        gate.rest()
    wait(lambda: threading.active_count() == before, "its thread ends")
    wait(lambda: len(kept) == 5 and not any(engine() for engine in kept), "nobody holds an engine")
