"""One bad day: camera, nodes and observer as processes over DDS, and the books that have to balance at its end."""

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orders import Order
from supervisor import Supervisor

from seg_node.core.timing import DROPS, Outcome
from seg_node.rig.node_process import NodeProcess, default_environment

HERE = Path(__file__).resolve().parent
NODE = "/chaos/segmentation"
PROJECTION = "/chaos/projection"
CAMERA_TOPIC = "/chaos/image"
SIZE = (96, 128)

WAIT_S = 60.0
"""Longest wait for anything but the start of a node: far longer than it takes, for a machine that has other work."""
START_S = 240.0
_POLL_S = 0.01


class NotSeen(RuntimeError):
    """What was waited for did not happen."""


def wait(condition: Callable[[], Any], what: str, timeout: float = WAIT_S) -> Any:
    """Wait for a condition and return what it returned.

    Raises:
        NotSeen: it did not come true in ``timeout`` seconds.
    """
    until = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > until:
            raise NotSeen(f"not within {timeout:.0f} s: {what}")
        time.sleep(_POLL_S)
    return found


def prepare(out: Path) -> Path:
    """Make the folder of a run, and set the environment of its processes; returns a new folder for their logs in it."""
    # A domain that no robot uses, unless the user names one, and the same for all processes.
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 101)))
    os.environ.update(default_environment())
    out.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="logs_", dir=out)).resolve()


def environment(**changes: str) -> dict[str, str]:
    """Of a script of this folder: the harness's defaults, and ``seg_node`` where that is not installed."""
    path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **default_environment(), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **changes}


class Lines:
    """The lines of a file that another process writes, read as they come."""

    def __init__(self, file: Path):
        file.touch()
        self._file = file
        self._read = 0

    def new(self) -> list[bytes]:
        """Whole lines since the last call."""
        with self._file.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.splitlines()


class Script:
    """A script of this folder as a process that ends when its stdin is closed.

    Args:
        arguments: name of the script and its arguments.
        log: file that receives what it prints.
        prefix: command that starts it, e.g. in a network namespace.
        changes: to its environment.
    """

    def __init__(self, arguments: Sequence[str], log: Path, prefix: Sequence[str] = (), **changes: str):
        name, *rest = arguments
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*prefix, sys.executable, str(HERE / name), *rest],
                env=environment(**changes),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                text=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process has ended by itself."""
        return self._process.poll() is not None

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclass(frozen=True)
class Sent:
    """One frame of a camera."""

    stamp: int
    at: int
    """``time.monotonic_ns`` just before it was published."""
    order: int
    view: int
    """Rises with each size, and with each scene."""
    subscribers: int
    """That the camera knew of then."""


class Camera(Script):
    """``camera.py``; see there for the options."""

    def __init__(self, folder: Path, name: str, *options: str, topic: str = CAMERA_TOPIC, prefix=(), **changes: str):
        file = folder / f"{name}.txt"
        self._lines, self._sent = Lines(file), []
        arguments = ["camera.py", str(file), "--topic", topic, *options]
        super().__init__(arguments, folder / f"{name}.log", prefix, **changes)

    def command(self, **values: object) -> None:
        """See ``camera.py``."""
        self.tell(json.dumps(values))

    @property
    def sent(self) -> list[Sent]:
        """Every frame so far."""
        self._sent += [Sent(*map(int, line.split())) for line in self._lines.new()]
        return self._sent

    def sent_after(self, moment: int) -> set[int]:
        """Stamps of the frames after a moment (``time.monotonic_ns``)."""
        return {sent.stamp for sent in itertools.takewhile(lambda sent: sent.at > moment, reversed(self.sent))}

    def heard(self) -> Sent:
        """The first frame at which the camera knew a subscriber: wait until the middleware has made them acquainted."""
        return wait(lambda: next((sent for sent in self.sent if sent.subscribers), None), "the camera finds the node")

    def order(self, order: Order, frames: int = 1) -> Sent:
        """Send frames with an order; returns the first once it is sent."""
        before = len(self.sent)
        self.command(order=int(order), frames=frames)
        return wait(lambda: next((s for s in self.sent[before:] if s.order == order), None), f"{order.name} is sent")


class Observer(Script):
    """``observer.py`` and what it has seen, by node."""

    def __init__(self, folder: Path, nodes: Sequence[str], *options: str, prefix=(), **changes: str):
        file = folder / "observed.jsonl"
        self._lines = Lines(file)
        self._seen: dict[tuple[str, str], list[dict]] = defaultdict(list)
        """By node and kind."""
        super().__init__(["observer.py", str(file), *nodes, *options], folder / "observer.log", prefix, **changes)

    def _refresh(self) -> None:
        for line in self._lines.new():
            event = json.loads(line)
            self._seen[event["node"], event["kind"]].append(event)

    def masks(self, node: str = NODE) -> list[dict]:
        """Masks of a node in the order of arrival."""
        self._refresh()
        return self._seen[node, "mask"]

    def records(self, node: str = NODE) -> list[dict]:
        """Timing records of a node in the order of arrival."""
        self._refresh()
        return self._seen[node, "record"]

    def reports(self, node: str = NODE) -> list[dict]:
        """Reports of a node on ``/diagnostics`` in the order of arrival."""
        self._refresh()
        return self._seen[node, "report"]

    def masks_now(self, node: str = NODE) -> list[dict]:
        """Masks of now of a node in the order of arrival; none without ``--now``."""
        self._refresh()
        return self._seen[node, "mask_now"]

    def records_now(self, node: str = NODE) -> list[dict]:
        """Records of masks of now of a node in the order of arrival; none without ``--now``."""
        self._refresh()
        return self._seen[node, "record_now"]

    def clouds(self, node: str = PROJECTION) -> list[dict]:
        """Clouds of a projection node in the order of arrival; none without ``--projection``."""
        self._refresh()
        return self._seen[node, "cloud"]

    def grids(self, node: str = PROJECTION) -> list[dict]:
        """Grids of a projection node in the order of arrival; none without ``--projection``."""
        self._refresh()
        return self._seen[node, "grid"]


@dataclass
class Books:
    """What became of the frames of one node."""

    sent: int = 0
    received: int = 0
    """As the node counts them, over all lives."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Records by outcome."""
    masks: int = 0
    """That arrived at the observer."""
    cut_off: int = 0
    """Masks that came without their record, or the reverse, at the death of a process or before ``Scene.found``."""
    unaccounted: int = 0
    faults: list[str] = field(default_factory=list)
    """What does not balance."""

    @property
    def lost(self) -> int:
        """Frames that the middleware did not deliver, which best effort allows."""
        return self.sent - self.received


class Scene:
    """Camera, nodes and observer of one run; a context manager that ends them.

    Args:
        folder: for logs.
        nodes: fully qualified names of the nodes that are observed.
        options: of the observer.
        prefix: command that starts observer and nodes, e.g. in a network namespace.
        changes: to the environment of all processes.
    """

    def __init__(
        self,
        folder: Path,
        nodes: Sequence[str] = (NODE,),
        options: Sequence[str] = (),
        prefix: Sequence[str] = (),
        changes: dict[str, str] | None = None,
    ):
        self.folder = folder
        self._hold = folder / "hold"
        self._nodes, self._options, self._prefix, self._changes = nodes, options, list(prefix), changes or {}
        self._stack = contextlib.ExitStack()
        self.cameras: list[Camera] = []
        self._lives: dict[str, tuple[int, int]] = dict.fromkeys(nodes, (0, 0))
        self._cut_off: dict[str, set[int]] = {node: set() for node in nodes}

    def __enter__(self) -> "Scene":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.observer = Observer(self.folder, self._nodes, *self._options, prefix=self._prefix, **self._changes)
        self._stack.callback(self.observer.close)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def start_node(self, model: Path | str, name: str = NODE, **parameters: object) -> NodeProcess:
        """Start a node whose runtime obeys orders, and wait until it is active."""
        namespace, _, short = name.rpartition("/")
        node = NodeProcess(
            self.folder / f"{namespace.strip('/').replace('/', '_')}_{time.monotonic_ns()}.log",
            {"model": str(model), "engine": "onnxruntime", "threads": 1, "warm_up_size": list(SIZE)} | parameters,
            {"image": CAMERA_TOPIC},
            name=short,
            namespace=namespace,
            environment=environment(FAULTY_HOLD=str(self._hold), **self._changes),
            command=[*self._prefix, sys.executable, str(HERE / "faulty_node.py")],
        )
        began = time.monotonic_ns()
        node.start()
        self._stack.callback(node.stop)

        def active() -> bool:
            node.check()
            return any(r["at"] > began and r["message"].startswith("active") for r in self.observer.reports(name))

        wait(active, f"{name} is active", START_S)
        return node

    @contextlib.contextmanager
    def held_loads(self) -> Iterator[None]:
        """No model is loaded meanwhile: the library that compiles it does not come back."""
        self._hold.touch()
        try:
            yield
        finally:
            self._hold.unlink()

    def start_camera(self, *options: str, prefix: Sequence[str] = (), rate: float = 30.0) -> Camera:
        """Start a camera and wait for its first frame."""
        name = f"camera{len(self.cameras)}"
        options = ("--rate", str(rate), *options)
        camera = Camera(self.folder, name, *options, prefix=prefix, **self._changes)
        self._stack.callback(camera.close)
        self.cameras.append(camera)
        wait(lambda: camera.sent, "the camera sends")
        return camera

    def make_projection(self, name: str = PROJECTION, **parameters: object) -> NodeProcess:
        """A projection node that is not started; it is stopped at the end."""
        namespace, _, short = name.rpartition("/")
        node = NodeProcess(
            self.folder / f"{short}_{time.monotonic_ns()}.log",
            parameters,
            name=short,
            namespace=namespace,
            environment=environment(**self._changes),
            command=[*self._prefix, sys.executable, "-m", "seg_node", "projection"],
        )
        self._stack.callback(node.stop)
        return node

    def start_projection(self, **parameters: object) -> NodeProcess:
        """Start a projection node, and wait until it listens to what the observer asks of it."""
        node = self.make_projection(**parameters)
        began = time.monotonic_ns()
        node.start()

        def listens() -> bool:
            node.check()
            return any(
                r["at"] > began and r["message"].startswith("projecting") for r in self.observer.reports(PROJECTION)
            )

        wait(listens, f"{PROJECTION} listens", START_S)
        return node

    def start_calibration(self, *options: str) -> Script:
        """Start ``calibration.py`` beside the camera."""
        return self.start(["calibration.py", "--image", CAMERA_TOPIC, *options])

    def start(self, script: Sequence[str]) -> Script:
        """Start another script of this folder."""
        started = Script(script, self.folder / f"{script[0]}.log", **self._changes)
        self._stack.callback(started.close)
        return started

    @contextlib.contextmanager
    def supervisor(self, name: str = NODE) -> Iterator[Supervisor]:
        """Who calls the services of a node."""
        supervisor = Supervisor(name)
        try:
            yield supervisor
        finally:
            supervisor.close()

    def ordered(self, camera: Camera, order: Order, outcome: str = "failed") -> tuple[Sent, dict]:
        """Have a frame with an order come to an end in a node; returns it and its record.

        A frame that the middleware lost, that was superseded or whose order took no effect yet is sent again.
        """
        for _ in range(10):
            sent = camera.order(order)
            with contextlib.suppress(NotSeen):
                record = self._record_of(sent)
                if record["outcome"] == outcome:
                    return sent, record
        raise NotSeen(f"no frame with order {order.name} {outcome}")

    def _record_of(self, sent: Sent) -> dict:
        records = self.observer.records
        return wait(lambda: next((r for r in records() if r["stamp"] == sent.stamp), None), "a record", 10.0)

    def mask_after(self, moment: int, name: str = NODE) -> float:
        """Seconds from a moment (``time.monotonic_ns``) until the arrival of the mask of a frame sent after it."""

        def first() -> dict | None:
            newer = set().union(*(camera.sent_after(moment) for camera in self.cameras))
            masks = itertools.takewhile(lambda mask: mask["at"] > moment, reversed(self.observer.masks(name)))
            return min((mask for mask in masks if mask["stamp"] in newer), key=lambda mask: mask["at"], default=None)

        return (wait(first, "a mask after the fault")["at"] - moment) / 1e9

    def record_by(self, model: str, since: int, name: str = NODE) -> dict:
        """The first record since a moment of a frame that a model masked."""

        def first() -> dict | None:
            records = self.observer.records(name)
            return next(
                (r for r in records if r["at"] > since and (r["model"], r["outcome"]) == (model, "masked")), None
            )

        return wait(first, f"a mask by {model}")

    def report(
        self, condition: Callable[[dict], bool], what: str, since: int = 0, name: str = NODE, timeout: float = WAIT_S
    ) -> dict:
        """The first report since a moment of which a condition holds."""

        def first() -> dict | None:
            return next((r for r in self.observer.reports(name) if r["at"] > since and condition(r)), None)

        return wait(first, what, timeout)

    def settle(self, name: str = NODE) -> None:
        """Wait until a node reports that nothing is pending and nothing more comes; the cameras must be still."""

        def still() -> bool:
            last = self.observer.reports(name)[-2:]
            counts = [(r["values"].get("received"), r["values"].get("pending")) for r in last]
            return len(last) == 2 and last[0]["at"] > began and counts[0] == counts[1] and counts[1][1] in (None, "0")

        began = time.monotonic_ns()
        wait(still, f"{name} has nothing pending")

    def end_of_life(self, name: str = NODE, killed: bool = False) -> None:
        """Note that a node's counts begin anew: call it when it has settled, or after it was killed."""
        counted, records = self._lives[name]
        seen = len(self.observer.records(name))
        # What a node that was killed had counted, nobody knows but by its records.
        grown = seen - records if killed else _received(self.observer.reports(name))
        self._lives[name] = (counted + grown, seen)
        if killed:
            self._leave_unpaired(name)

    def end_of_life_at(self, moment: int, name: str = NODE) -> None:
        """Note that the counts of a node that leads itself began anew after its last report before a moment."""
        before = [r for r in self.observer.reports(name) if r["at"] < moment and "received" in r["values"]]
        self._lives[name] = (self._lives[name][0] + _received(before), len(self.observer.records(name)))

    def found(self, name: str = NODE) -> int:
        """Begin the books of a node that was started amid frames anew, now that the observer hears it.

        The middleware hands nobody what was published before it knew of him, so what a node did in its first instants
        nobody has seen but itself.

        Returns:
            Frames that the node has counted, but the observer not seen.
        """
        self.pause()
        self.settle(name)
        unseen = self._lives[name][0] + _received(self.observer.reports(name)) - len(self.observer.records(name))
        self._lives[name] = (self._lives[name][0] - unseen, self._lives[name][1])
        self._leave_unpaired(name)
        self.cameras[-1].command(paused=False)
        return unseen

    def _leave_unpaired(self, name: str) -> None:
        masked = {r["stamp"] for r in self.observer.records(name) if r["outcome"] == Outcome.MASKED.value}
        self._cut_off[name] |= masked ^ {mask["stamp"] for mask in self.observer.masks(name)}

    def pause(self) -> None:
        """Hold all cameras."""
        for camera in self.cameras:
            with contextlib.suppress(OSError):
                camera.command(paused=True)

    def balance(self, name: str = NODE) -> Books:
        """Hold the cameras, let the node settle, and balance its books."""
        self.pause()
        self.settle(name)
        masks, records, reports = (f(name) for f in (self.observer.masks, self.observer.records, self.observer.reports))
        sent = Counter(s.stamp for camera in self.cameras for s in camera.sent)
        books = Books(sent=sent.total(), received=self._lives[name][0] + _received(reports), masks=len(masks))
        books.outcomes = dict(Counter(record["outcome"] for record in records))
        recorded = Counter(record["stamp"] for record in records)
        with_mask = [r["stamp"] for r in records if r["outcome"] == Outcome.MASKED.value]
        masked = Counter(stamp for stamp in with_mask if stamp not in self._cut_off[name])
        arrived = Counter(mask["stamp"] for mask in masks if mask["stamp"] not in self._cut_off[name])
        books.cut_off = len(self._cut_off[name])
        unbalanced = sum(1 for report in reports if "received" in report["values"] and not _adds_up(report["values"]))
        for count, what in (
            (abs(books.received - len(records)), "frames counted as received, but not recorded, or the reverse"),
            ((recorded - sent).total(), "records too many, or of frames that nobody sent"),
            ((masked - arrived).total(), "frames recorded as masked whose mask did not come"),
            ((arrived - masked).total(), "masks of frames that are not recorded as masked"),
            (unbalanced, "reports whose counts do not add up"),
        ):
            if count:
                books.unaccounted += count
                books.faults.append(f"{count} {what}")
        return books


def _received(reports: list[dict]) -> int:
    return int(reports[-1]["values"].get("received", 0)) if reports else 0


def _adds_up(values: dict[str, str]) -> bool:
    """The identity of the README, with at most three frames pending."""
    ends = sum(int(values[f"dropped.{drop.value}"]) for drop in DROPS) + int(values["masked"])
    return int(values["received"]) == ends + int(values["pending"]) and 0 <= int(values["pending"]) <= 3
