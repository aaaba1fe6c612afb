"""``compare --topics``: what it refuses, what its table says, and two models that real nodes run on two cameras."""

import json

import pytest
from helpers.bags import JPEG, frames, write_mcap
from helpers.blue_bundle import blue_bundle
from helpers.paths import DRIVE

pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from seg_node.__main__ import main  # noqa: E402
from seg_node.commands.compare_cameras import to_text  # noqa: E402

pytestmark = pytest.mark.ros

TOPICS = ["/front/image/compressed", "/left/image/compressed"]


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--topics", "/a", "/b", "--masks", "truth"], "takes no --masks; accuracy is that of each camera by itself"),
        (["--topics", "/a", "/b", "--rates", "10", "--now", "all"], "takes no --rates, --now"),
        (["--topics", "/a", "/b", "--attach", "/x", "/y"], "takes no --attach"),
        (["--topics", "/a", "/b"], "give it with --bag"),
        (["--topics", "/a", "/a", "--bag", str(DRIVE)], "a topic more than once"),
        (["--topics", "/a", "/b", "--bag", str(DRIVE)], "there is no topic /a"),
        (["--topics", "/a", "/b", "--models", "fpn_lite"], "names fpn_lite alone"),
    ],
)
def test_what_is_for_one_camera_is_refused(arguments, wrong, tmp_path, capsys):
    assert main(["compare", *arguments, "--out", str(tmp_path)]) == 2
    assert wrong in capsys.readouterr().err


def _row(model, repetition, masks, blind):
    camera = {"masks_per_s": masks / 2, "blind_s": blind / 2, "p50_ms": 90.0, "p99_ms": None, "balanced": True}
    whole = {"masks_per_s": masks, "blind_s": blind, "jain": 0.875, "nows_per_s": 0.0}
    return {"model": model, "repetition": repetition, "in_all": whole, "cameras": [camera, camera | {"p50_ms": None}]}


def test_the_table_has_each_camera_and_the_difference_of_pairs():
    pairs = [(20.0, 0.4, 12.0, 0.6), (22.0, 0.5, 14.5, 0.7), (21.0, 0.4, 12.5, 0.6), (21.0, 0.5, 13.0, 0.7)]
    rows = []
    for i, (masks, blind, other_masks, other_blind) in enumerate(pairs):
        # The order in which they ran does not matter.
        both = [_row(0, i, masks, blind), _row(1, i, other_masks, other_blind)]
        rows += both[:: -1 if i % 2 else 1]
    found = {"models": ["quick", "slow"], "topics": dict.fromkeys(["front", "left"]), "rows": rows}
    lines = [" ".join(line.split()) for line in to_text(found).splitlines()]
    assert lines[1] == "quick all 21.0 450 0.875"
    assert lines[2] == "quick front 10.5 225 90 -" and lines[3] == "quick left 10.5 225 - -"
    assert lines[4] == "slow all 13.0 650 0.875"
    assert lines[-1].startswith("slow - quick: −8.0 (") and "+200 (" not in lines[0]
    assert "+200.0 (+200.0 to +200.0) ms longest blind (99 % intervals)" in lines[-1]
    found["rows"] = rows[:4]
    assert "no interval of 2 processes each; give --repetitions 4 or more" in to_text(found)


def test_two_models_on_two_topics_of_a_bag(ros, tmp_path, capsys):
    bag = write_mcap(tmp_path / "drive.mcap", {topic: (JPEG, frames(20)) for topic in TOPICS})
    models = [str(blue_bundle(tmp_path, name, bits).path) for name, bits in (("blue", 3), ("pale", 2))]
    out = tmp_path / "out"
    done = main(
        ["compare", "--bag", str(bag), "--topics", *TOPICS, "--models", *models, "--engine", "onnxruntime"]
        + ["--repetitions", "1", "--out", str(out)]
    )
    said = capsys.readouterr().out
    assert done == 0, said
    found = json.loads((out / "cameras.json").read_text())
    assert found["topics"] == dict(zip(["front", "left"], TOPICS, strict=True)) and found["models"] == ["blue", "pale"]
    assert sorted(row["model"] for row in found["rows"]) == [0, 1] and sorted(found["order"][0]) == [0, 1]
    for row in found["rows"]:
        assert [camera["name"] for camera in row["cameras"]] == ["front", "left"]
        for camera in row["cameras"]:
            assert camera["balanced"] and camera["outcomes"]["masked"] > 0 and camera["sent"] >= 19
    assert "blue   front" in said and "pale - blue: no interval of 1 processes each" in said
    assert (out / "logs" / "1_1" / "node.log").is_file()
