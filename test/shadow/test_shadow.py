"""Shadow mode: pairs, agreement by hand, and two real nodes on one topic."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.blue_bundle import blue_bundle, blue_scene
from helpers.paths import DRIVE

from seg_node.__main__ import main
from seg_node.bags.drive import open_drive
from seg_node.core.taxonomy import CATEGORY_NAMES, Category
from seg_node.core.timing import FrameRecord, Outcome, Stage, stamp_ns
from seg_node.shadow.following import Following
from seg_node.shadow.pairing import CHALLENGER, INCUMBENT, Agreement, Pair, Pairing, compare
from seg_node.shadow.seen import Seen

MASK = np.zeros((2, 3), np.uint8)
MASKED = FrameRecord(Outcome.MASKED, "fpn_x", {Stage.WAIT: 1.0}, 20.0)


def dropped(outcome: Outcome) -> FrameRecord:
    return FrameRecord(outcome, "fpn_x", {}, 5.0)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_frames_are_paired_in_whatever_order_they_come(order):
    pairing = Pairing()
    records = (MASKED, replace(MASKED, model="fpn_y"))
    masks = (MASK, MASK + 1)
    steps: list[Callable[[], Pair | None]] = [
        lambda: pairing.add_mask(0, 7, masks[0]),
        lambda: pairing.add_record(0, 7, records[0]),
        lambda: pairing.add_mask(1, 7, masks[1]),
        lambda: pairing.add_record(1, 7, records[1]),
    ]
    results = [steps[i]() for i in order]
    assert results[:3] == [None] * 3
    assert results[3] == Pair(7, masks, records)
    assert (pairing.pairs, pairing.waiting, pairing.unpaired) == (1, 0, {})


def test_frames_without_a_pair_are_counted_by_side_and_reason():
    pairing = Pairing()
    for stamp, records in enumerate(
        [
            (MASKED, dropped(Outcome.SUPERSEDED)),
            (MASKED, dropped(Outcome.SUPERSEDED)),
            (dropped(Outcome.STALE), MASKED),
            (dropped(Outcome.UNDECODABLE), dropped(Outcome.UNDECODABLE)),
            (dropped(Outcome.SUPERSEDED), dropped(Outcome.STALE)),
        ]
    ):
        for side, record in enumerate(records):
            assert pairing.add_record(side, stamp, record) is None
            if record is MASKED:
                assert pairing.add_mask(side, stamp, MASK) is None
    assert pairing.unpaired == {
        "challenger.superseded": 2,
        "incumbent.stale": 1,
        "both.undecodable": 1,
        "both.superseded": 1,
    }
    assert (pairing.pairs, pairing.waiting) == (0, 0)


def test_frames_that_wait_too_long_are_given_up():
    pairing = Pairing(capacity=3)

    def arrive(stamp: int, side: int, mask: bool = True, record: bool = True) -> None:
        if record:
            pairing.add_record(side, stamp, MASKED)
        if mask:
            pairing.add_mask(side, stamp, MASK)

    arrive(1, 0)
    arrive(2, 0)
    arrive(2, 1, mask=False)
    arrive(3, 1)
    arrive(3, 0, record=False)
    assert (pairing.waiting, pairing.unpaired) == (3, {})
    for stamp in (4, 5, 6, 7):
        arrive(stamp, 0)
    assert pairing.waiting == 3
    assert pairing.unpaired == {"challenger.unseen": 2, "challenger.mask_lost": 1, "incumbent.record_lost": 1}


class Followed:
    """A ``Following`` with its pairing, what it handed on, and a clock that stands still unless told."""

    def __init__(self, **options):
        self.pairing = Pairing(beginners=(INCUMBENT,))
        self.given: list[int] = []
        self.now, self.listens = 0.0, True
        self.following = Following(self._forward, self.pairing, clock=lambda: self.now, **options)

    def _forward(self, stamp: int, frame: str) -> bool:
        assert frame == f"frame {stamp}"
        if self.listens:
            self.given.append(stamp)
        return self.listens

    def frame(self, *stamps: int) -> None:
        for stamp in stamps:
            self.following.add_frame(stamp, f"frame {stamp}")

    def say(self, side: int, stamp: int, outcome: Outcome = Outcome.MASKED) -> None:
        """What a node publishes of a frame, heard as the shadow node hears it."""
        if outcome is Outcome.MASKED:
            self.pairing.add_mask(side, stamp, MASK)
        self.pairing.add_record(side, stamp, replace(MASKED, outcome=outcome))
        if side == CHALLENGER:
            self.following.answered(stamp)
        elif outcome is Outcome.MASKED:
            self.following.masked(stamp)
        else:
            self.following.dropped(stamp)

    def books(self) -> tuple[int, dict[str, int], int]:
        """Pairs, frames without one, and frames that wait."""
        return self.pairing.pairs, dict(self.pairing.unpaired), self.pairing.waiting + self.following.waiting


def test_challenger_is_given_what_the_incumbent_masked_one_at_a_time():
    followed = Followed()
    followed.frame(1, 2, 3, 4, 5)
    followed.say(INCUMBENT, 2, Outcome.SUPERSEDED)
    followed.say(INCUMBENT, 1)
    assert followed.given == [1]
    # The newest that came to be masked meanwhile is next.
    followed.say(INCUMBENT, 3)
    followed.say(INCUMBENT, 4)
    assert followed.given == [1]
    followed.say(CHALLENGER, 1)
    assert followed.given == [1, 4]
    followed.say(CHALLENGER, 4, Outcome.FAILED)
    assert followed.given == [1, 4]
    followed.say(INCUMBENT, 5)
    followed.say(CHALLENGER, 5)
    assert followed.books() == (2, {"both.superseded": 1, "challenger.busy": 1, "challenger.failed": 1}, 0)


def test_frame_that_is_masked_before_it_arrives_is_waited_for():
    followed = Followed()
    followed.say(INCUMBENT, 1)
    followed.say(INCUMBENT, 2)
    followed.frame(1)
    followed.say(CHALLENGER, 1)
    assert followed.given == [1] and followed.books() == (1, {}, 1)
    for stamp in range(3, 12):
        followed.say(INCUMBENT, stamp)
    assert followed.books()[1] == {"challenger.missed": 2}


def test_frames_of_which_nobody_says_anything_are_let_go():
    followed = Followed(capacity=2)
    followed.frame(1, 2, 3, 3, 4)
    assert followed.books() == (0, {"both.unseen": 2, "both.same_stamp": 1}, 2)
    assert followed.following.received == 5


def test_challenger_that_says_nothing_is_given_another_frame_after_a_while():
    followed = Followed(patience=10.0)
    followed.frame(1, 2)
    followed.say(INCUMBENT, 1)
    followed.say(INCUMBENT, 2)
    followed.now = 10.0
    followed.following.look_at_the_clock()
    assert followed.given == [1] and followed.following.working == 10.0
    followed.now = 10.1
    followed.following.look_at_the_clock()
    assert followed.given == [1, 2]
    # An answer to what was given up changes nothing any more.
    followed.say(CHALLENGER, 1)
    assert followed.books() == (0, {"challenger.unseen": 1}, 1)
    followed.say(CHALLENGER, 2)
    assert followed.books() == (1, {"challenger.unseen": 1}, 0) and followed.following.working == 0.0


def test_challenger_that_does_not_listen_yet_is_waited_for_by_nobody():
    followed = Followed()
    followed.listens = False
    followed.frame(1, 2)
    followed.say(INCUMBENT, 1)
    followed.listens = True
    followed.say(INCUMBENT, 2)
    followed.say(CHALLENGER, 2)
    assert followed.given == [2] and followed.books() == (1, {"challenger.absent": 1}, 0)


def test_books_balance_whatever_comes_in_whatever_order():
    rng = random.Random(5)
    followed = Followed(capacity=1000)
    unsaid: list[int] = []
    answered = 0
    for stamp in range(1, 500):
        followed.frame(stamp)
        unsaid.append(stamp)
        while unsaid and rng.random() < 0.5:
            outcome = rng.choice([Outcome.MASKED, Outcome.MASKED, Outcome.SUPERSEDED, Outcome.FAILED])
            followed.say(INCUMBENT, unsaid.pop(rng.randrange(len(unsaid))), outcome)
        while answered < len(followed.given) and rng.random() < 0.5:
            answered += 1
            followed.say(CHALLENGER, followed.given[answered - 1], rng.choice([Outcome.MASKED, Outcome.FAILED]))
        pairs, unpaired, waiting = followed.books()
        assert pairs + sum(unpaired.values()) + waiting == stamp
    assert pairs > 20 and unpaired["challenger.busy"] > 20 and unpaired["both.superseded"] > 20


def test_line_says_what_was_seen():
    pairing = Pairing()
    seen = Seen(pairing)
    assert seen.line() == "0 pairs"
    for agreement, inference in ((90.0, 100.0), (80.0, 200.0)):
        pairing.pairs += 1
        records = [FrameRecord(Outcome.MASKED, name, {Stage.INFERENCE: inference}, 2 * inference) for name in "xy"]
        seen.add(Agreement(agreement, {}), tuple(records))
    pairing.unpaired.update({"both.superseded": 3, "challenger.busy": 12})
    assert seen.line() == (
        "2 pairs; 85.0 % of the pixels equal, at least 80.0 %; inference of x 150 ms (in all 300 ms) and y 150 ms"
        " (in all 300 ms); unpaired: challenger.busy 12, both.superseded 3"
    )
    whole = seen.end_line()
    seen.forget_new()
    assert seen.line() == "2 pairs; none new; unpaired: challenger.busy 12, both.superseded 3"
    assert seen.end_line() == whole
    assert {"pairs": "2", "waiting": "7", "unpaired.challenger.busy": "12"}.items() <= seen.values(waiting=7).items()


def test_agreement_of_a_hand_worked_case():
    flat, sky, human = Category.FLAT, Category.SKY, Category.HUMAN
    a = np.array([[flat, flat, sky], [flat, sky, sky]], np.uint8)
    b = np.array([[flat, flat, sky], [sky, human, sky]], np.uint8)
    agreement = compare(Pair(0, (a, b), (MASKED, MASKED)))
    assert agreement.pixels == pytest.approx(100 * 4 / 6)
    # flat: 2 in both of 3 in either; sky: 2 of 4; human: 0 of 1; the others are in neither.
    assert agreement.iou == pytest.approx({"flat": 100 * 2 / 3, "sky": 50.0, "human": 0.0})
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 2\)"):
        compare(Pair(0, (a, b[:, :2]), (MASKED, MASKED)))


@pytest.fixture
def shadow():
    """``python -m seg_node shadow ARGUMENTS`` as a process; its output is printed for a test that fails."""
    started: list[subprocess.Popen] = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-u", "-m", "seg_node", "shadow", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            output, _ = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        print(output)


class Listener:
    """A node of the test that keeps what it hears, by topic; a context manager."""

    def __init__(self, ros, topics: dict[str, type]):
        from rclpy.qos import QoSProfile

        self.node = ros.create_node(f"listener_{time.monotonic_ns()}")
        self.heard: dict[str, list] = {topic: [] for topic in topics}
        self._ros = ros
        self.subscriptions = [
            self.node.create_subscription(kind, topic, self.heard[topic].append, QoSProfile(depth=100))
            for topic, kind in topics.items()
        ]

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self.node.destroy_node()

    def until(self, condition: Callable[[], bool], what: str, timeout: float = 120.0, process=None) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert process is None or process.poll() is None, "the process has ended"
            assert time.monotonic() < deadline, f"{what} does not come"
            self._ros.spin_once(self.node, timeout_sec=0.05)

    def ask(
        self, send: Callable[[], None], answered: Callable[[], bool], what: str, timeout: float = 120.0, process=None
    ) -> None:
        """Send until there is an answer: the first messages between processes that discover each other may be lost."""
        send()
        again = time.monotonic() + 10.0

        def step() -> bool:
            nonlocal again
            if not answered() and time.monotonic() >= again:
                send()
                again = time.monotonic() + 10.0
            return answered()

        self.until(step, what, timeout, process)


def by_stamp(messages: list) -> dict[int, object]:
    """Messages by the stamp of their header in nanoseconds."""
    return {stamp_ns(message.header): message for message in messages}


def values(status) -> dict[str, str]:
    return {item.key: item.value for item in status.values}


def summary(messages: list) -> dict[str, str]:
    """The newest summary of the shadow node among messages of /diagnostics."""
    found = [status for message in messages for status in message.status if status.name == "/shadow: shadow"]
    return values(found[-1]) if found else {}


def test_two_nodes_on_one_topic(ros, shadow, tmp_path):
    """What is published equals what is computed here from the masks that the two nodes publish."""
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import CompressedImage, Image

    from seg_node.rig.player import to_message

    sides = ("incumbent", "challenger")
    models = [str(blue_bundle(tmp_path, name, bits).path) for name, bits in (("blue", 3), ("pale", 2))]
    topics = {f"/shadow/{side}/segmentation/mask": Image for side in sides}
    topics |= {f"/shadow/{side}/segmentation/timing": DiagnosticArray for side in sides}
    topics |= {"/shadow/agreement": DiagnosticArray, "/shadow/disagreement": Image}
    per_frame = list(topics)
    topics |= {"/diagnostics": DiagnosticArray}
    process = shadow(
        *("--models", *models, "--engine", "onnxruntime"),
        *("--image", "shadow_camera", "--image-transport", "compressed"),
    )
    frames = open_drive(DRIVE).frames[::100]
    first = frames[0].stamp
    with Listener(ros, topics) as listener:
        publisher = listener.node.create_publisher(CompressedImage, "/shadow_camera/compressed", QoSProfile(depth=5))
        listener.until(lambda: publisher.get_subscription_count() == 2, "the shadow node", process=process)
        heard = listener.heard
        compared: list[int] = []
        sent = 0
        # The first frame once more at the start: while the processes discover each other, messages may be lost.
        for frame in (frames[0], *frames):

            def send(frame=frame) -> None:
                nonlocal sent
                sent += 1
                publisher.publish(to_message(replace(frame, stamp=first + sent)))

            answered = lambda: all(first + sent in by_stamp(heard[topic]) for topic in per_frame)  # noqa: E731
            listener.ask(send, answered, "agreement on a frame", process=process)
            compared.append(first + sent)
        listener.until(
            lambda: len(compared) <= int(summary(heard["/diagnostics"]).get("pairs", 0)) <= sent,
            "a summary",
            process=process,
        )

    for stamp, frame in zip(compared[1:], frames, strict=True):
        answers = {topic: by_stamp(heard[topic])[stamp] for topic in per_frame}
        masks = []
        for side in sides:
            message = answers[f"/shadow/{side}/segmentation/mask"]
            masks.append(np.frombuffer(message.data, np.uint8).reshape(message.height, message.width))
        message, disagreement = answers["/shadow/agreement"], answers["/shadow/disagreement"]
        for header in (message.header, disagreement.header):
            assert header.frame_id == frame.frame_id
        published = values(message.status[0])
        assert float(published["agreement"]) == pytest.approx(100 * (masks[0] == masks[1]).mean(), abs=0.001)
        for category, name in enumerate(CATEGORY_NAMES):
            a, b = (mask == category for mask in masks)
            if (a | b).any():
                assert float(published[f"iou.{name}"]) == pytest.approx(100 * (a & b).sum() / (a | b).sum(), abs=0.001)
            else:
                assert f"iou.{name}" not in published
        for side, model in zip(sides, ("blue", "pale"), strict=True):
            timing = answers[f"/shadow/{side}/segmentation/timing"]
            assert published[f"{side}.model"] == model == timing.status[0].hardware_id
            for key in ("total", "age", "late"):
                assert published[f"{side}.{key}"] == values(timing.status[0])[key]
        pixels = np.frombuffer(disagreement.data, np.uint8).reshape(masks[0].shape)
        np.testing.assert_array_equal(pixels, np.where(masks[0] == masks[1], 0, 255))
    assert 0 < pixels.mean() < 255, "models that agree, or disagree, everywhere prove nothing"

    children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(children) == 2
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0
    for pid in children:
        assert not Path(f"/proc/{pid}").exists(), "a node outlives the shadow mode that started it"


@pytest.mark.parametrize("camera", ["", "front"])
def test_two_overloaded_nodes_mask_the_same_frames(ros, shadow, tmp_path, camera):
    """The incumbent runs already and chooses; each mask is that of its own frame, and every frame has its end.

    All frames differ, so that masks of two different ones would not agree. The incumbent has one camera, or two, and
    the challenger is given the frames of one of them.
    """
    from builtin_interfaces.msg import Time
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from seg_node.rig.node_process import NodeProcess
    from seg_node.ros.messages import bgr8_image

    model = str(blue_bundle(tmp_path).path)
    scenes = [blue_scene(seed) for seed in range(8)]
    topics = {"/shadow/agreement": DiagnosticArray, "/diagnostics": DiagnosticArray}
    parameters = {"model": model, "engine": "onnxruntime", "warm_up_size": [96, 128]}
    topic, remaps, asked = "/flood", {"image": "/flood"}, ["--image", "flood"]
    if camera:
        topic, remaps, asked = f"/car/{camera}/image", {}, ["--camera", camera]
        parameters["cameras"] = [camera, "rear"]
    node = NodeProcess(tmp_path / "incumbent.log", parameters, remaps, namespace="/car")
    with node, Listener(ros, topics) as listener:
        publisher = listener.node.create_publisher(Image, topic, QoSProfile(depth=5))
        process = shadow("--attach", "car/segmentation", "--models", model, "--engine", "onnxruntime", *asked)
        # The incumbent, and the shadow node: the challenger has a topic of its own.
        listener.until(lambda: publisher.get_subscription_count() == 2, "the shadow node", process=process)
        heard = listener.heard["/diagnostics"]
        sent = 0

        def overloaded() -> bool:
            nonlocal sent
            found = summary(heard)
            if not all(int(found.get(key, 0)) >= 20 for key in ("pairs", "unpaired.both.superseded")):
                for _ in range(20):
                    sent += 1
                    header = Header(stamp=Time(sec=5, nanosec=sent), frame_id="flood")
                    publisher.publish(bgr8_image(scenes[sent % len(scenes)], header))
                return False
            return True

        listener.until(overloaded, "pairs of two overloaded nodes", process=process)
        heard.clear()
        listener.until(lambda: summary(heard), "a summary", process=process)
        found = summary(heard)
    agreements = [values(message.status[0]) for message in listener.heard["/shadow/agreement"]]
    assert len(agreements) >= 20
    assert {agreement["agreement"] for agreement in agreements} == {"100.000"}
    for agreement in agreements:
        assert float(agreement["challenger.age"]) > float(agreement["challenger.held"]) > 0
    counts = {key: int(value) for key, value in found.items() if key.startswith("unpaired.")}
    ends = int(found["pairs"]) + sum(counts.values()) + int(found["waiting"])
    # Between them, shadow node and incumbent may have lost some; none is counted twice.
    assert int(found["received"]) <= ends <= sent
    assert not counts.keys() & {"unpaired.challenger.superseded", "unpaired.incumbent.superseded"}


def test_shadow_mode_says_what_it_sees_and_what_it_waits_for(ros, shadow):
    process = shadow("--attach", "old/segmentation", "/new/segmentation")
    # Where the middleware has something to say, it says it first.
    said = next(line for line in process.stdout if not line.startswith("[WARN]"))
    assert "comparing /old/segmentation and /new/segmentation on /shadow/agreement" in said
    first = process.stdout.readline()
    for side, name in (("incumbent", "old"), ("challenger", "new")):
        assert f"nothing of the {side} on /{name}/segmentation/timing yet (publishers: 0)" in first
    assert "0 pairs" in first
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0
    assert process.stdout.read().splitlines()[-1] == "in all: 0 pairs"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--models", "fpn_resnet50"],
        ["--attach", "/a", "/b", "/c"],
        ["--attach", "/a", "/b", "--models", "fpn_resnet50"],
    ],
)
def test_two_sides_are_asked_for(arguments, capsys):
    assert main(["shadow", *arguments]) == 2
    assert "two nodes are compared" in capsys.readouterr().err


def test_a_camera_is_of_nodes_that_run_already(capsys):
    assert main(["shadow", "--models", "fpn_resnet50", "fpn_lite", "--camera", "front"]) == 2
    assert "--camera is for nodes of --attach" in capsys.readouterr().err


def test_attached_nodes_and_frames_without_a_pair(ros, shadow):
    """Two publishers that play the nodes."""
    from builtin_interfaces.msg import Time
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from seg_node.ros.messages import mono8_image, record_to_diagnostics

    process = shadow("--attach", "/old/segmentation", "new/segmentation")
    topics = {"/shadow/agreement": DiagnosticArray, "/diagnostics": DiagnosticArray}
    with Listener(ros, topics) as listener:
        nodes = [
            [
                listener.node.create_publisher(kind, f"{name}/{topic}", QoSProfile(depth=10))
                for topic, kind in (("mask", Image), ("timing", DiagnosticArray))
            ]
            for name in ("/old/segmentation", "/new/segmentation")
        ]

        def play(stamp: int, side: int, record: FrameRecord, mask: np.ndarray) -> None:
            header = Header(stamp=Time(sec=9, nanosec=stamp), frame_id="front")
            if record.outcome is Outcome.MASKED:
                nodes[side][0].publish(mono8_image(mask, header))
            nodes[side][1].publish(record_to_diagnostics(record, header, "/x"))

        agreed = lambda: by_stamp(listener.heard["/shadow/agreement"])  # noqa: E731
        stamps = itertools.count(100)
        asked = 0

        def ask() -> None:
            nonlocal asked
            asked = next(stamps)
            for side in range(2):
                play(asked, side, MASKED, np.zeros((2, 2), np.uint8))

        listener.ask(ask, lambda: 9 * 10**9 + asked in agreed(), "an agreement", process=process)
        listener.heard["/diagnostics"].clear()
        listener.until(lambda: summary(listener.heard["/diagnostics"]), "a summary", process=process)
        before = summary(listener.heard["/diagnostics"])
        for side in range(2):
            # Sizes that differ, a pair of which three quarters agree, and one that is dropped by the challenger.
            play(1, side, MASKED, np.zeros((2, 2 + side), np.uint8))
            play(2, side, MASKED, np.array([[1, 1], [5, 5 - side]], np.uint8))
            play(3, side, dropped(Outcome.SUPERSEDED) if side else MASKED, np.zeros((2, 2), np.uint8))
        done = lambda: summary(listener.heard["/diagnostics"]).get("unpaired.challenger.superseded") == "1"  # noqa: E731
        listener.until(done, "a summary", process=process)

        (message,) = [agreed()[stamp] for stamp in agreed() if stamp < 9 * 10**9 + 100]
        assert message.header.stamp.nanosec == 2
        published = values(message.status[0])
        assert published["agreement"] == "75.000"
        assert (published["iou.flat"], published["iou.sky"], published["iou.nature"]) == ("100.000", "50.000", "0.000")
        assert published["challenger.total"] == "20.000"
        found = summary(listener.heard["/diagnostics"])
        assert {key: int(found[key]) - int(before[key]) for key in ("pairs", "incomparable", "waiting")} == {
            "pairs": 2,
            "incomparable": 1,
            "waiting": 0,
        }
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0


def test_wrong_models_end_with_a_reason(ros, shadow):
    process = shadow("--models", "fpn_resnet50", "nowhere")
    assert process.wait(120) == 2
    assert "no bundle 'nowhere'" in process.stdout.read()


def test_node_that_dies_ends_shadow_mode(ros, shadow, tmp_path):
    model = str(blue_bundle(tmp_path).path)
    process = shadow("--models", model, model, "--engine", "onnxruntime")
    line = ""
    while not line.startswith("comparing"):
        line = process.stdout.readline()
        assert line, "shadow mode has ended"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    assert process.wait(120) == 1
    assert "challenger/segmentation ended with exit code -9" in process.stdout.read()
    assert not Path(f"/proc/{children[0]}").exists()
