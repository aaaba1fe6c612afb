"""The examples for the decision module's author, run against the real node."""

import importlib.util
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import ModuleType

import numpy as np
import pytest
from helpers.blue_bundle import blue_bundle
from helpers.paths import ROOT

from seg_node.core.taxonomy import Category

EXAMPLES = ROOT / "examples"


NOT_A_NUMBER = ("nan", "inf", "-inf", "1e999", "", "soon", "12abc")

TRUST = [
    ({"age": "50.000", "total": "40.000", "late": "false"}, 250.0, ""),
    ({"age": "40", "total": "90", "late": "false"}, 210.0, ""),
    ({"age": "0", "total": "0", "late": "false"}, 300.0, ""),
    # Within what synchronised clocks differ by; the steady clock of the node bounds it.
    ({"age": "-100", "total": "80", "late": "false"}, 220.0, ""),
    ({"age": "-100.5", "total": "80", "late": "false"}, 0.0, "the stamps are ahead of the node's clock, by 100 ms"),
    ({"age": "-1000", "total": "80", "late": "false"}, 0.0, "the stamps are ahead of the node's clock, by 1000 ms"),
    ({"age": "-1.7e12", "total": "80", "late": "false"}, 0.0, "the stamps are ahead of the node's clock, by 17000"),
    ({"age": "299.9", "total": "80", "late": "false"}, 0.1, ""),
    ({"age": "300", "total": "80", "late": "false"}, 0.0, "the last mask was 300 ms old, budget_ms is 300"),
    ({"age": "-50", "total": "412", "late": "false"}, 0.0, "the last mask was 412 ms old, budget_ms is 300"),
    ({"age": "95914168111", "total": "80", "late": "false"}, 0.0, "the last mask was stamped in the past, 1110 days"),
    ({"age": "50", "total": "80", "late": "true"}, 0.0, "the last mask was late, 80 ms old"),
    ({"age": "50", "total": "80"}, 0.0, "the last mask was late"),
    ({"total": "80", "late": "false"}, 0.0, "the last mask has no age"),
    ({"age": "50", "late": "false"}, 0.0, "the last mask's record does not say how long it took"),
    ({"age": "50", "total": "-1", "late": "false"}, 0.0, "the last mask's record does not say how long it took"),
    ({}, 0.0, "the last mask has no age"),
    *(({"age": text, "total": "80", "late": "false"}, 0.0, "the last mask has no age") for text in NOT_A_NUMBER),
    *(({"age": "50", "total": text, "late": "false"}, 0.0, "the last mask's record") for text in NOT_A_NUMBER),
]
"""Values of a record; milliseconds for which its mask is trusted with a budget of 300; why it is not."""

NOW = {"keyframe_age": "120.000", "horizon_ms": "33.333333", "total": "7.500"}
TRACK = [
    # Inferred 120 ms before the time for which it holds, which is still to come.
    (NOW, 180.0, ""),
    # That time is past by then: 120 ms, and the 60 ms that it took beyond it.
    (NOW | {"total": "93.333333"}, 120.0, ""),
    (NOW | {"keyframe_age": "0", "horizon_ms": "0", "total": "0"}, 300.0, ""),
    # A keyframe that is its own frame, with rounded times.
    (NOW | {"keyframe_age": "33.333"}, 266.667, ""),
    (NOW | {"keyframe_age": "299.9"}, 0.1, ""),
    (NOW | {"keyframe_age": "300"}, 0.0, "the source of the last mask of now was 300 ms old, budget_ms is 300"),
    (NOW | {"total": "500"}, 0.0, "the source of the last mask of now was 587 ms old"),
    (NOW | {"keyframe_age": "-1"}, 0.0, "the last mask of now is of a time before its source"),
    (NOW | {"horizon_ms": "-1"}, 0.0, "the last mask of now is of a time before its source"),
    (NOW | {"horizon_ms": "200"}, 0.0, "the last mask of now is of a time before its source"),
    (NOW | {"keyframe_age": "95914168111"}, 0.0, "the source of the last mask of now is 1110 days old"),
    (NOW | {"total": "-1"}, 0.0, "the last mask of now does not say how long it took"),
    *(
        (
            {key: value for key, value in NOW.items() if key != name},
            0.0,
            f"the last mask of now does not say how {what}",
        )
        for name, what in (("keyframe_age", "old"), ("horizon_ms", "old"), ("total", "long"))
    ),
    ({}, 0.0, "the last mask of now does not say how old its source is"),
    *((NOW | {"keyframe_age": text}, 0.0, "the last mask of now does not say how old") for text in NOT_A_NUMBER),
    *((NOW | {"horizon_ms": text}, 0.0, "the last mask of now does not say how old") for text in NOT_A_NUMBER),
    *((NOW | {"total": text}, 0.0, "the last mask of now does not say how long") for text in NOT_A_NUMBER),
]
"""The same of a mask of now."""

LISTEN = {
    "/segmentation/mask": "-r __ns:=/",
    "/view_123/segmentation/mask": "-r __ns:=/view_123",
    "/a/b/segmentation/mask": "-r __ns:=/a/b",
    "/front/mask": "-r segmentation/mask:=/front/mask -r segmentation/timing:=/front/timing",
    "/segmentation/mask/mask": "-r segmentation/mask:=/segmentation/mask/mask"
    " -r segmentation/timing:=/segmentation/mask/timing",
}

TWIN = """
#include <iostream>
#include <sstream>
#include "trust.hpp"

// A line is name=value pairs of a record, separated by tabs, behind + of a mask of now; or @ and a topic.
// Or it is # and a category, whose mask value is wanted.
int main()
{
  for (std::string line; std::getline(std::cin, line);) {
    if (!line.empty() && line[0] == '#') {
      try {
        const Ids ids = ids_of({line.substr(1)}, {"lane", "kerb", "person"});
        std::cout << std::find(ids.begin(), ids.end(), true) - ids.begin() << "\\n";
      } catch (const std::invalid_argument & error) {
        std::cout << error.what() << "\\n";
      }
      continue;
    }
    if (!line.empty() && line[0] == '@') {
      std::cout << how_to_listen(line.substr(1)) << "\\n";
      continue;
    }
    const bool now = !line.empty() && line[0] == '+';
    Values record;
    std::istringstream pairs(now ? line.substr(1) : line);
    for (std::string pair; std::getline(pairs, pair, '\\t');) {
      record[pair.substr(0, pair.find('='))] = pair.substr(pair.find('=') + 1);
    }
    const Trust found = now ? track(record, 300.0) : trust(record, 300.0);
    std::printf("%.6f\\t%s\\n", found.ms, found.why_not.c_str());
    std::fflush(stdout);
  }
}
"""


@pytest.fixture(scope="module")
def in_python() -> ModuleType:
    """``examples/decision_module.py`` as a module."""
    pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")
    spec = importlib.util.spec_from_file_location("decision_module", EXAMPLES / "decision_module.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def in_cpp(tmp_path_factory) -> Callable[[list[str]], list[str]]:
    """The C++ twin's part that needs no ROS, compiled: answers to lines, see ``TWIN``."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("a C++ compiler is missing: install g++")
    folder = tmp_path_factory.mktemp("twin")
    (folder / "twin.cpp").write_text(TWIN)
    options = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-I", str(EXAMPLES / "decision_module_cpp" / "src")]
    subprocess.run([compiler, *options, "twin.cpp", "-o", "twin"], cwd=folder, check=True)

    def ask(lines: list[str]) -> list[str]:
        done = subprocess.run(
            [folder / "twin"], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    return ask


def _line(record: Mapping[str, str]) -> str:
    return "\t".join(f"{name}={value}" for name, value in record.items())


def _answer(text: str) -> tuple[float, str]:
    trusted, _, why_not = text.partition("\t")
    return float(trusted), why_not


@pytest.mark.parametrize(
    ("asked", "record", "trusted", "why_not"),
    [(asked, *case) for asked, table in (("trust", TRUST), ("track", TRACK)) for case in table],
)
def test_trust(in_python, asked, record, trusted, why_not):
    found, reason = getattr(in_python, asked)(record, 300.0)
    assert found == pytest.approx(trusted, abs=1e-6)
    assert reason.startswith(why_not) and bool(reason) == bool(why_not)


@pytest.mark.parametrize(("mark", "table"), [("", TRUST), ("+", TRACK)])
def test_trust_of_the_twin(in_cpp, mark, table):
    answers = in_cpp([mark + _line(record) for record, _, _ in table])
    for (_, trusted, why_not), text in zip(table, answers, strict=True):
        found, reason = _answer(text)
        assert found == pytest.approx(trusted, abs=1e-6)
        assert reason.startswith(why_not) and bool(reason) == bool(why_not)


def test_twins_trust_alike_and_never_beyond_the_budget(in_python, in_cpp):
    rng = np.random.default_rng(0)
    texts = [*NOT_A_NUMBER, "-0.0", *map(str, rng.normal(0, 300, 40)), *map(str, 10 ** rng.uniform(0, 14, 20))]
    records = [
        {name: text for name, text in zip(("age", "total"), rng.choice(texts, 2), strict=True) if rng.random() < 0.95}
        | ({"late": "false"} if rng.random() < 0.9 else {"late": "true"})
        for _ in range(2000)
    ]
    answers = [in_python.trust(record, 300.0) for record in records]
    for record, (trusted, why_not), text in zip(records, answers, in_cpp([_line(r) for r in records]), strict=True):
        assert _answer(text) == (pytest.approx(trusted, abs=1e-6), why_not), record
        assert (0 < trusted <= 300.0 - float(record["total"]) <= 300.0) if not why_not else trusted == 0, record
    assert 50 < sum(not why_not for _, why_not in answers) < 1950, "a table of one kind proves nothing"


def test_twins_track_alike_and_never_beyond_the_budget(in_python, in_cpp):
    rng = np.random.default_rng(0)
    texts = [*NOT_A_NUMBER, "-0.0", *map(str, rng.uniform(0, 400, 60)), *map(str, 10 ** rng.uniform(0, 14, 10)), "-20"]
    records = [
        {name: text for name, text in zip(NOW, rng.choice(texts, 3), strict=True) if rng.random() < 0.95}
        for _ in range(2000)
    ]
    answers = [in_python.track(record, 300.0) for record in records]
    for record, (tracked, why_not), text in zip(
        records, answers, in_cpp(["+" + _line(r) for r in records]), strict=True
    ):
        assert _answer(text) == (pytest.approx(tracked, abs=1e-6), why_not), record
        assert (0 < tracked <= 300.0 - float(record["keyframe_age"]) <= 300.0) if not why_not else tracked == 0, record
    assert 50 < sum(not why_not for _, why_not in answers) < 1950, "a table of one kind proves nothing"


def test_mask_of_now_takes_a_free_road_back_and_never_frees_one(in_python, ros):
    """Whatever comes on ``mask_now``, only a mask that is trusted says go."""
    from sensor_msgs.msg import Image

    def mask(category: int) -> Image:
        return Image(height=8, width=8, step=8, encoding="mono8", data=np.full(64, category, np.uint8))

    module, said = in_python.DecisionModule(), []
    module.say = said.append
    inferred = {"age": "50", "total": "40", "late": "false"}
    try:
        module.follow(mask(Category.FLAT), NOW)
        module.follow(mask(Category.HUMAN), NOW)
        assert said == [], "nothing has been inferred"
        module.budget = 60_000.0
        module.decide(mask(Category.FLAT), inferred)
        module.follow(mask(Category.FLAT), NOW)
        module.follow(mask(Category.HUMAN), NOW | {"keyframe_age": "nan"})
        module.follow(mask(Category.HUMAN), NOW)
        assert said == ["go", "yield: somebody has come upon the road"]
        module.decide(mask(Category.HUMAN), inferred)
        module.follow(mask(Category.FLAT), NOW)
        assert said[2:] == ["yield: somebody is on the road"], "absence in a mask of now proves nothing"
        module.decide(mask(Category.FLAT), inferred)
        module.seen_until = module.now() - 1
        module.follow(mask(Category.HUMAN), NOW)
        assert said[3:] == ["go"], "the mask behind it is trusted no more"
    finally:
        module.destroy_node()


def test_one_of_several_cameras_is_listened_to_by_its_name(in_python, ros, monkeypatch):
    declare = in_python.DecisionModule.declare_parameter

    def of_front(self, name, value, *others):
        return declare(self, name, "front" if name == "camera" else value, *others)

    monkeypatch.setattr(in_python.DecisionModule, "declare_parameter", of_front)
    module = in_python.DecisionModule()
    try:
        heard = {subscription.topic_name for subscription in module.subscriptions}
        wanted = {f"/segmentation/front/{topic}" for topic in ("mask", "timing", "mask_now", "timing_now")}
        assert wanted <= heard and {module.mask_topic, module.timing_topic} <= wanted
    finally:
        module.destroy_node()
    # The twin names them the same way.
    source = (EXAMPLES / "decision_module_cpp" / "src" / "decision_module.cpp").read_text()
    assert all(f'below + "/{topic.rpartition("/")[2]}"' in source for topic in wanted)


def test_how_to_listen_elsewhere(in_python, in_cpp):
    assert {topic: in_python.how_to_listen(topic) for topic in LISTEN} == LISTEN
    assert in_cpp([f"@{topic}" for topic in LISTEN]) == list(LISTEN.values())


def test_categories_are_found_by_name_in_both(in_python, in_cpp):
    own, missing = ["lane", "kerb", "person"], "no category human; categories are lane, kerb, person"
    assert in_python.ids_of(["person", "lane"], own) == [2, 0]
    with pytest.raises(ValueError, match=missing):
        in_python.ids_of(["human"], own)
    assert in_cpp(["#person", "#lane", "#human"]) == ["2", "0", missing]


def test_masks_of_other_categories_than_were_given_are_not_acted_on(in_python):
    from sensor_msgs.msg import Image

    rows = np.full((8, 16), 2, np.uint8)
    rows[:, 12:] = 9
    rows[4:, 4:6] = 7
    mask = Image(height=8, width=12, step=16, data=rows.ravel())
    assert in_python.shares(mask, [2], [7]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert in_python.unknown(mask, 8) == "" and in_python.unknown(Image(height=1, width=1, step=1, data=[255]), 1) == ""
    assert in_python.unknown(mask, 7) == "the mask holds category 7, and categories names 7: give those of the model"


@pytest.fixture
def decisions(ros):
    """``examples/decision_module.py`` as a process, and what it decides: a function that waits for a decision."""
    from rclpy.qos import QoSProfile
    from std_msgs.msg import String

    command = [sys.executable, EXAMPLES / "decision_module.py", "--ros-args", "-r", "__ns:=/e1"]
    process = subprocess.Popen([*map(str, command), "-p", "budget_ms:=20000"], env=os.environ)
    node = ros.create_node("decided")
    heard: list[str] = []
    node.create_subscription(
        String, "/e1/decision/decision", lambda message: heard.append(message.data), QoSProfile(depth=50)
    )

    def until(decision: str, act: Callable[[], None] = lambda: None) -> None:
        """Act every second until the module decides so; only what is heard from now on counts."""
        heard.clear()
        deadline, acted = time.monotonic() + 90, 0.0
        while not any(text.startswith(decision) for text in heard):
            assert time.monotonic() < deadline, f"{decision!r} is not decided; {heard[-3:]}"
            assert process.poll() is None
            if time.monotonic() - acted > 1:
                act()
                acted = time.monotonic()
            ros.spin_once(node, timeout_sec=0.05)

    yield until, node
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0
    node.destroy_node()


def test_decision_module(node_process, decisions, tmp_path):
    """It goes on a free road, yields to people, and says why it does not see."""
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from seg_node.ros.messages import bgr8_image

    until, node = decisions
    silent = [f"nothing comes on /e1/segmentation/{topic} (publishers: 0)" for topic in ("mask", "timing")]
    nothing = f"slow down: {'; '.join(silent)}; "
    until(nothing)
    elsewhere = node.create_publisher(Image, "/view_7/segmentation/mask", 1)
    until(f"{nothing}there is /view_7/segmentation/mask: to listen there, add -r __ns:=/view_7")
    node.destroy_publisher(elsewhere)
    model = str(blue_bundle(tmp_path).path)
    node_process({"model": model, "engine": "onnxruntime", "warm_up_size": [96, 128]}, namespace="/e1")
    camera = node.create_publisher(Image, "/e1/image", 5)

    def send(category: int, age: float = 0.0, encoding: str = "bgr8") -> None:
        stamp = node.get_clock().now().nanoseconds - round(age * 1e9)
        header = Header(frame_id="front")
        header.stamp.sec, header.stamp.nanosec = divmod(stamp, 10**9)
        message = bgr8_image(np.full((96, 128, 3), 32 * category + 16, np.uint8), header)
        message.encoding = encoding
        camera.publish(message)

    until("go", lambda: send(Category.FLAT))
    until("yield: somebody", lambda: send(Category.HUMAN))
    until("yield: no road", lambda: send(Category.NATURE))
    until("slow down: the last mask was 60", lambda: send(Category.FLAT, age=60.0))
    until("slow down: the stamps are ahead of the node's clock, by 4", lambda: send(Category.FLAT, age=-5.0))
    until(
        "slow down: the last mask was stamped in the past, 30 days ago", lambda: send(Category.FLAT, age=30 * 86400.0)
    )
    until("slow down: the last frame was undecodable", lambda: send(Category.FLAT, encoding="no_such_encoding"))
    until("go", lambda: send(Category.FLAT))


def test_smallest_subscriber_of_the_readme(ros, tmp_path):
    """The program in the README, as it stands, on rows with padding."""
    from sensor_msgs.msg import Image

    section = (EXAMPLES.parent / "README.md").read_text().split("### A decision module\n", 1)[1]
    (tmp_path / "smallest.py").write_text(section.split("```python\n", 1)[1].split("```", 1)[0])
    command = [sys.executable, "-u", "smallest.py", "--ros-args", "-r", "__ns:=/e3"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    node = ros.create_node("masks")
    masks = node.create_publisher(Image, "/e3/segmentation/mask", 1)
    rows = np.zeros((4, 16), np.uint8)
    rows[:, :10] = Category.FLAT
    rows[0, :2] = Category.HUMAN
    message = Image(height=4, width=10, step=16, encoding="mono8", data=rows.ravel())
    message.header.stamp.sec = 77
    try:
        deadline, said = time.monotonic() + 90, []
        while not said:
            assert time.monotonic() < deadline and process.poll() is None
            # Again, for what is published before the far end knows of it is lost.
            masks.publish(message)
            said, _, _ = select.select([process.stdout], [], [], 0.5)
        assert process.stdout.readline() == "77 95% road, 5.0% people\n"
    finally:
        process.kill()
        process.wait()
        node.destroy_node()
