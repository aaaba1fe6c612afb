"""What carrying masks of several cameras may take of the cores: who has the next turn, and how long it waits."""

import threading
import time
from collections import Counter
from contextlib import ExitStack

import pytest

from seg_node.core.propagation.budget import Budget


def wait(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "timed out"
        time.sleep(0.001)


class Cores:
    """A budget on cores that are lacking or not, and threads that ask it for turns."""

    def __init__(self, cameras, share=0.25, cores=2):
        self.lacking = True
        self.budget = Budget(cameras, lambda: self.lacking, share, cores)
        self.began, self.threads = [], []

    def ask(self, camera, meanwhile=lambda: None, priority=1):
        """Ask for a turn in a thread of its own; what is done meanwhile is done in it."""

        def work():
            with self.budget.turn(camera, priority):
                self.began.append(camera)
                meanwhile()

        self.threads.append(threading.Thread(target=work, daemon=True))
        self.threads[-1].start()

    @property
    def waiting(self):
        return len(self.budget._turns)

    def end(self):
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def spent(monkeypatch):
    """Processor time as a test says: each reading adds what is in the list's place 0."""
    cost, now = [0.0], [0.0]

    def read():
        now[0] += cost[0]
        return now[0]

    monkeypatch.setattr("seg_node.core.propagation.budget.time.thread_time", read)
    return cost


def test_while_inference_lacks_no_cores_everybody_has_a_turn_at_once(spent):
    cores = Cores(3)
    cores.lacking = False
    spent[0] = 1e6
    with ExitStack() as turns:
        for camera in range(3):
            turns.enter_context(cores.budget.turn(camera))
    cores.lacking = True
    cores.ask(0)
    cores.end()
    assert cores.began == [0], "what was spent while there were cores enough does not count"


def test_turns_are_so_far_apart_that_they_keep_to_the_share(spent):
    """A quarter of two cores: each 20 ms of processor time take 40 ms of time."""
    cores = Cores(2)
    spent[0] = 0.02
    began = time.monotonic()
    for turn in range(6):
        with cores.budget.turn(turn % 2):
            pass
    assert time.monotonic() - began >= 5 * 0.04


def test_another_share_holds_from_the_next_turn_on(spent):
    cores = Cores(1, share=1e-6)
    spent[0] = 0.05
    # Else the next turn would begin in seven hours.
    cores.budget.share = 1.0
    for _ in range(3):
        cores.ask(0)
        cores.end()
    assert cores.began == [0, 0, 0]


def test_what_was_not_spent_is_not_saved_up(spent):
    cores = Cores(1)
    with cores.budget.turn(0):
        pass
    time.sleep(0.3)
    spent[0] = 0.05
    began = time.monotonic()
    for _ in range(3):
        with cores.budget.turn(0):
            pass
    assert time.monotonic() - began >= 2 * 0.1


@pytest.mark.parametrize(("share", "number"), [(0.25, 1), (0.5, 1), (0.5, 2), (1.0, 4)])
def test_at_most_so_many_work_at_once_as_the_share_has_cores(share, number):
    cores, done = Cores(6, share, 2 * number if share < 1 else number), threading.Event()
    most = max(1, int(share * cores.budget._cores))
    for camera in range(6):
        cores.ask(camera, lambda: done.wait(60))
    wait(lambda: len(cores.began) == most)
    time.sleep(0.1)
    assert (len(cores.began), cores.waiting) == (most, 6 - most)
    done.set()
    cores.end()
    assert sorted(cores.began) == list(range(6))


def test_the_next_turn_is_of_whoever_had_the_last_one_longest_ago():
    cores = Cores(4)
    go_on = threading.Event()
    for camera in (2, 0, 3, 1):
        with cores.budget.turn(camera):
            pass
    cores.ask(2, lambda: go_on.wait(60))
    wait(lambda: cores.began == [2])
    for number, camera in enumerate((1, 0, 3)):
        cores.ask(camera)
        wait(lambda number=number: cores.waiting == number + 1)
    go_on.set()
    cores.end()
    assert cores.began == [2, 0, 3, 1]


def test_a_camera_of_a_higher_priority_is_sooner_served_again():
    cores, go_on = Cores(3), threading.Event()
    with cores.budget.turn(1, 1):
        pass
    with cores.budget.turn(0, 2):
        pass
    cores.ask(2, lambda: go_on.wait(60))
    wait(lambda: cores.began == [2])
    for number, camera in enumerate((1, 0)):
        cores.ask(camera)
        wait(lambda number=number: cores.waiting == number + 1)
    go_on.set()
    cores.end()
    assert cores.began == [2, 0, 1]


def test_cameras_that_always_have_work_have_as_many_turns():
    """Each turn ends when all others wait, as they do where cores run out."""
    cores, stop = Cores(4), threading.Event()

    def ask_again_and_again(camera):
        while not stop.is_set():
            with cores.budget.turn(camera):
                cores.began.append(camera)
                wait(lambda: cores.waiting == 3 or stop.is_set())

    cores.threads = [threading.Thread(target=ask_again_and_again, args=(camera,)) for camera in range(4)]
    for thread in cores.threads:
        thread.start()
    wait(lambda: len(cores.began) >= 80)
    stop.set()
    cores.end()
    had = Counter(cores.began[:80])
    assert max(had.values()) - min(had.values()) <= 1, had


def test_whoever_waits_goes_on_once_inference_lacks_no_cores_any_more(spent):
    cores = Cores(3)
    spent[0] = 1e6
    with cores.budget.turn(0):
        pass
    for camera in range(3):
        cores.ask(camera)
    wait(lambda: cores.waiting == 3)
    assert not cores.began
    cores.lacking = False
    cores.end()
    assert sorted(cores.began) == [0, 1, 2]


def test_an_error_ends_the_turn():
    cores = Cores(2)
    with pytest.raises(RuntimeError), cores.budget.turn(0):
        raise RuntimeError("it broke")
    cores.ask(1)
    cores.end()
    assert cores.began == [1]
