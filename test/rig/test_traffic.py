"""Several cameras at once: what is worked out of what came, and a real node that is fed them."""

import json
import os
import types

import numpy as np
import pytest
from helpers.blue_bundle import blue_bundle
from helpers.paths import DRIVE, ROOT

pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from seg_node.__main__ import main  # noqa: E402
from seg_node.bags.drive import open_drive  # noqa: E402
from seg_node.commands.replay_cameras import camera_names, feeds, node_parameters  # noqa: E402
from seg_node.core.errors import UserError  # noqa: E402
from seg_node.core.timing import Stage  # noqa: E402
from seg_node.rig.cameras import Feed, Traffic, _due, _latency, _Passed, _spent, jain, longest_gap  # noqa: E402
from seg_node.rig.node_process import NodeError, NodeProcess  # noqa: E402
from seg_node.rig.schedule import Rate  # noqa: E402

pytestmark = pytest.mark.ros


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8))
def test_fairness_is_one_for_equals_and_least_where_one_has_all(shares):
    assert 1 / len(shares) - 1e-9 <= jain(shares) <= 1 + 1e-9
    assert jain([7.0] * len(shares)) == pytest.approx(1)
    assert jain([7.0] + [0.0] * (len(shares) - 1)) == pytest.approx(1 / len(shares))
    assert jain([0.0] * len(shares)) == 1


def test_the_longest_time_without_a_mask_includes_the_ends():
    assert longest_gap([1.0, 2.0, 2.5], 0.5, 3.0) == (1.0, 2.0)
    assert longest_gap([1.0, 2.0], 0.0, 5.0) == (3.0, 5.0)
    assert longest_gap([], 1.0, 4.0) == (3.0, 4.0)
    assert longest_gap([0.1, 9.0], 1.0, 4.0) == (3.0, 4.0), "what is outside does not count"


def test_what_the_longest_time_without_a_mask_was_spent_on():
    stages = {Stage.WAIT: 5.0, Stage.DECODE: 10.0, Stage.INFERENCE: 100.0, Stage.PUBLISH: 2.0}
    slow = _Passed(7, 21.0, stages | {Stage.INFERENCE: 900.0})
    dropped = _Passed(7, 2.0, {Stage.WAIT: 5.0})
    passed = [dropped, _Passed(7, 2.1, stages), slow, _Passed(8, 2.0, stages)]
    spent = _spent(0.4, [7], 2.0, passed)
    assert spent == pytest.approx({"turn": 288.0, "decode": 10.0, "inference": 100.0, "publish": 2.0})
    assert sum(spent.values()) == pytest.approx(400.0)
    assert _spent(0.4, [], 2.0, passed) == {}, "no mask ended it"


def test_latency_is_that_of_the_newest_publication_of_a_stamp():
    sent = [(5, 1.0), (6, 1.1), (5, 2.0)]
    assert _latency([(5, 1.2), (6, 1.2), (5, 2.1), (9, 3.0), (6, 0.5)], sent) == pytest.approx([200, 100, 100])


def _feed(rate, instants):
    frames = [types.SimpleNamespace(log_time=at) for at in instants]
    drive = types.SimpleNamespace(
        frames=frames, path="drive", duration=(instants[-1] - instants[0]) / 1e9, rate=10.0 if len(frames) > 1 else 0.0
    )
    return Feed("front", drive, "/front", "/node/front", rate=Rate.parse(rate))


def test_a_drive_begins_again_until_the_time_is_over():
    due = _due(_feed("recorded", [0, 100_000_000, 200_000_000]), 0.55)
    assert due == [(0, 0), (100_000_000, 1), (200_000_000, 2), (300_000_000, 0), (400_000_000, 1), (500_000_000, 2)]
    assert _due(_feed("10", [0]), 0.25) == [(0, 0), (100_000_000, 0), (200_000_000, 0)]
    with pytest.raises(NodeError, match="at the rate max no frame has a time"):
        _due(_feed("max", [0, 1]), 1.0)


@pytest.mark.parametrize(
    ("topics", "names"),
    [
        (["/front/image/compressed", "/left/image_raw"], ["front", "left"]),
        (["/car/front/image", "/car/left/image"], ["car_front_image", "car_left_image"]),
        (["front", "/left/"], ["front", "left"]),
    ],
)
def test_cameras_are_named_after_what_tells_their_topics_apart(topics, names):
    assert camera_names(topics) == names


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--cameras", "front", "front"], "'front' more than once"),
        (["--cameras", "a-b"], "'a-b'"),
        (["--cameras", "front", "--rate", "max"], "--rate max is for one camera"),
        (["--cameras", "front", "--attach", "/segmentation"], "take neither --attach"),
        (["--topics", "/front/image"], "give it with --bag"),
        (["--bag", str(DRIVE), "--topics", "/a", "/a"], "a topic more than once"),
    ],
)
def test_what_several_cameras_cannot_be_told(arguments, wrong, tmp_path, capsys):
    assert main(["replay", "--out", str(tmp_path), *arguments]) == UserError.exit_status
    assert wrong in capsys.readouterr().err


def test_cameras_are_replayed_through_one_node(ros, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    blue_bundle(tmp_path)
    done = main(
        ["replay", "--cameras", "front", "left", "--model", str(tmp_path / "blue"), "--engine", "onnxruntime"]
        + ["--frames", "45", "--rate", "15", "--forecast", "0", "--out", str(tmp_path / "out")]
    )
    said = capsys.readouterr().out
    assert done == 0, said
    found = json.loads((tmp_path / "out" / "cameras.json").read_text())
    assert [camera["name"] for camera in found["cameras"]] == ["front", "left"]
    for camera in found["cameras"]:
        assert camera["balanced"] and camera["outcomes"]["masked"] > 0 and camera["nows_per_s"] > 0
        assert sum(camera["outcomes"].values()) <= camera["sent"]
        spent = camera["blind_ms_by"]
        assert not spent or sum(spent.values()) == pytest.approx(1e3 * camera["blind_s"])
        assert 0 < camera["p50_ms"] <= camera["p99_ms"] and camera["name"] in said
    rates = [camera["masks_per_s"] for camera in found["cameras"]]
    assert found["in_all"]["masks_per_s"] == pytest.approx(np.sum(rates))


@pytest.fixture
def two_cores():
    """Two cores for the processes that a test starts, however many there are."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    yield
    os.sched_setaffinity(0, before)


def test_masks_of_now_come_second_where_cores_run_out(ros, tmp_path, two_cores):
    """Two cameras that ask for more masks than there can be, and a twentieth of the cores for carrying them."""
    drive = open_drive(DRIVE)
    names, namespace = ["front", "left"], f"/second_{os.getpid()}"
    parameters = node_parameters(dict.fromkeys(names, drive)) | {"propagate_share": 0.05}
    # However busy the machine is: none expires.
    parameters["propagate_max_age_ms"] = 10_000.0
    with NodeProcess(tmp_path / "node.log", parameters, namespace=namespace) as node:
        node.wait_for("active")
        played = feeds(dict.fromkeys(names, drive), namespace, node.full_name, Rate.parse("60"), offset=True)
        with Traffic(played, now=True, check=node.check) as traffic:
            runs = traffic.play(5.0, 1.0)
            status = traffic.status
    assert all(run.balanced and run.masks_per_s > 0 for run in runs), runs
    for run in runs:
        counts = {
            name.removeprefix("propagation."): int(value)
            for name, value in status[run.name].items()
            if name.startswith("propagation.") and value.isdecimal()
        }
        dropped = {name: count for name, count in counts.items() if name.startswith("dropped.")}
        assert counts["received"] == counts["propagated"] + sum(dropped.values()) + counts["pending"], counts
        assert 0 < counts["propagated"] < counts["dropped.superseded"], counts
        assert counts["dropped.failed"] == counts["dropped.undecodable"] == 0
    assert jain([run.nows_per_s for run in runs]) > 0.8
