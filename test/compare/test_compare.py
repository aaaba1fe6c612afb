"""What a comparison writes and reads, what it refuses, and the comparison of real nodes."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.made_up import FRAMES, HZ, experiment, listened, measured, simulated_run
from helpers.paths import ROOT

from seg_node.__main__ import main
from seg_node.bags.drive import open_drive
from seg_node.bags.ground_truth import TruthByFrame, check_sizes, masks_from_folder
from seg_node.bags.reader import BagError
from seg_node.compare.comparison import Comparison, ComparisonError, load_comparison
from seg_node.compare.page import to_html
from seg_node.compare.text import to_text
from seg_node.compare.verdict import judge

DRIVE = ROOT / "rosbags" / "synthetic_drive"


def test_last_frame_of_a_run_does_not_count():
    run = measured(simulated_run(300.0, 1), 0, 0, "recorded", "recorded", HZ)
    latencies, frames = run.latencies()
    masks = [m for m in run.frames.mask[30:] if m is not None]
    assert latencies.tolist() == masks[:-1]
    assert len(frames) == len(latencies) and frames[0] == next(i for i in range(30, 600) if run.frames.mask[i]) % FRAMES


def with_now() -> Comparison:
    """A comparison with the mask of now of the first backbone, ten points better than its mask."""
    return listened(experiment((300.0, 240.0), (0.6, 0.5)), 0.1)


@pytest.fixture(scope="module")
def found() -> Comparison:
    return experiment((300.0, 240.0), (0.6, 0.5))


def test_json_is_read_back_whole(found, tmp_path):
    found.save(tmp_path / "comparison.json")
    document = json.loads((tmp_path / "comparison.json").read_text())
    assert (document["schema"], document["version"]) == ("seg_node/comparison", 1)

    again = load_comparison(tmp_path / "comparison.json")

    assert dataclasses.asdict(again) == dataclasses.asdict(found)
    assert judge(again) == (found.verdicts, found.decision), "verdicts follow from what is stored"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2 of the schema, this seg_node reads 1"),
        ({"schema": "other"}, "is no comparison"),
        ({"surprise": 1}, "unknown fields surprise"),
        ({"drive": {"path": "only"}}, "does not follow the schema"),
    ],
)
def test_other_json_is_refused(found, tmp_path, change, message):
    file = tmp_path / "comparison.json"
    found.save(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ComparisonError, match=message):
        load_comparison(file)


def test_files_that_are_no_json_are_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ComparisonError, match="is no JSON"):
        load_comparison(tmp_path / "text")
    with pytest.raises(ComparisonError, match="cannot be read"):
        load_comparison(tmp_path / "missing")


def test_schema_document_names_every_field(found):
    text = (ROOT / "docs" / "compare_schema.md").read_text()
    document = json.loads(json.dumps(dataclasses.asdict(with_now())))
    named = {"schema", "version", *document}
    parts = (
        "drive",
        "models",
        "sustained",
        "runs",
        "streaming",
        "disagreement",
        "verdicts",
        "decision",
        "now",
        "gains",
    )
    for part in parts:
        value = document[part][0] if isinstance(document[part], list) else document[part]
        named |= value.keys()
    named |= document["runs"][0]["frames"].keys() | document["now"][0]["by_age"][0].keys()
    missing = [name for name in sorted(named) if f"`{name}`" not in text]
    assert not missing


def test_console_says_verdict_and_counts(found):
    text = to_text(found)
    assert found.decision.sentence in text
    assert "the counts add up" in text
    found_rows = [line for line in text.splitlines() if line.startswith("recorded")]
    assert len(found_rows) == 2 and "1800" in found_rows[0]


def test_page_is_self_contained_and_described(found):
    pytest.importorskip("matplotlib")
    page = to_html(found)

    assert found.decision.sentence in page
    assert page.index(found.decision.sentence) < page.index("<table")
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page), "nothing is loaded"
    svgs = re.findall(r"<svg[^>]*>", page)
    assert len(svgs) == 7
    assert all('role="img"' in svg and 'aria-label="' in svg for svg in svgs)
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall("<img[^>]*>", page))
    assert "width=device-width" in page and "@media print" in page


def test_page_of_a_comparison_without_ground_truth():
    pytest.importorskip("matplotlib")
    page = to_html(experiment((300.0, 240.0), None))
    assert "no ground truth" in page and len(re.findall("<svg", page)) == 5


def test_faults_are_shown(found):
    broken = dataclasses.replace(found, runs=[dataclasses.replace(found.runs[0], faults=["one frame is <missing>"])])
    assert "FAULT: alpha, run 1, recorded: one frame is <missing>" in to_text(broken)
    assert "one frame is &lt;missing&gt;" in to_html(broken)


def test_mask_of_now_is_shown_with_what_it_closes(tmp_path):
    pytest.importorskip("matplotlib")
    comparison = with_now()
    comparison.save(tmp_path / "comparison.json")
    assert load_comparison(tmp_path / "comparison.json") == comparison
    text, page = to_text(comparison), to_html(comparison)

    (row,) = [line for line in text.splitlines() if line.startswith("miou_7")]
    gain = next(gain for gain in comparison.gains if gain.name == "miou_7")
    assert f"{gain.mask:.1f}" in row and f"{gain.mask_now:.1f}" in row and f"{gain.offline:.1f}" in row
    assert f"{100 * gain.estimate / (gain.offline - gain.mask):.0f} %" in row
    assert sum(line.startswith(("human", "vehicle")) for line in text.splitlines()) == 2
    assert sum(line.startswith("300 to 350 ms") for line in text.splitlines()) == 1
    assert "alpha: ~/mask_now holds for 33 ms after its frame; is there for 97.0 % of the frames" in text
    assert "<h2>The mask of now</h2>" in page and "~/mask_now of alpha" in page
    assert "mask of now" not in to_html(experiment((300.0, 240.0), (0.6, 0.5))), "it was not measured"


def test_mask_of_now_without_ground_truth_has_times_and_no_scores():
    comparison = listened(experiment((300.0, 240.0), None), 0.1)
    text = to_text(comparison)
    assert comparison.gains == [] and "comes 9.0 ms after the camera" in text and "gap closed" not in text


def test_gain_of_the_mask_of_now_by_hand():
    """The same frames in both runs: what is found, and what is found or labelled, are counts that anybody can sum."""
    comparison = with_now()
    (gain,) = [gain for gain in comparison.gains if gain.name == "human"]
    differences = []
    for alone, now in zip([s for s in comparison.streaming if s.model == 0], comparison.streaming_now, strict=True):
        ious = [100 * sum(h[5] for h in s.hits) / sum(u[5] for u in s.unions) for s in (alone, now)]
        differences.append(ious[1] - ious[0])
    assert gain.pairs == 6 and gain.estimate == pytest.approx(np.mean(differences))
    # Student's quantile for 99 % and 4 degrees of freedom, one fewer than there are, is 4.604; the scene may make the
    # interval wider.
    half = 4.604 * np.std(differences, ddof=1) / np.sqrt(6)
    assert gain.low <= gain.estimate - half * 0.999 < gain.estimate < gain.estimate + half * 0.999 <= gain.high
    assert gain.low > 0, "ten points are no chance"


def test_gain_of_few_pairs_has_no_interval():
    comparison = listened(experiment((300.0, 240.0), (0.6, 0.5), repetitions=2), 0.1)
    assert all(gain.low is None and gain.high is None and gain.pairs == 2 for gain in comparison.gains)
    assert "Intervals need 5 pairs" in to_html(comparison)


def test_busy_machine_is_named(found):
    busy = dataclasses.replace(found, machine=found.machine | {"busy_cores": 1.6})
    assert "other programs kept 1.6 of 2 cores busy" in to_text(busy)
    assert "other programs kept 1.6 of 2 cores busy" in to_html(busy)
    assert "other programs" not in to_text(found)


def test_page_is_made_again_from_json(found, tmp_path):
    pytest.importorskip("matplotlib")
    found.save(tmp_path / "old.json")
    assert main(["compare", "--from", str(tmp_path / "old.json"), "--out", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / "comparison.html").read_text() == to_html(found)
    assert load_comparison(tmp_path / "new" / "comparison.json") == load_comparison(tmp_path / "old.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bag", "nowhere"], "nowhere does not exist"),
        (["--models", "fpn_resnet50", "fpn_resnet5000"], "no bundle 'fpn_resnet5000'"),
        (["--masks", "nowhere"], "nowhere is no folder"),
        (["--topic", "/lidar"], "there is no topic /lidar"),
        (["--forecast", "201"], "--forecast must be from 0 to 200 ms, not 201"),
        (["--attach", "/a/segmentation", "/b/segmentation", "--forecast", "9"], "set forecast_ms of an attached one"),
        (["--attach", "a", "/b/segmentation"], "full names, such as /a/segmentation, not 'a'"),
        (["--from", "nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_wrong_input_is_named(ros, tmp_path, capsys, arguments, message):
    assert main(["compare", *arguments, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--repetitions", "0"], ["--rates", "10", "fast"], ["--rates", "2x"]])
def test_wrong_numbers_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["compare", *arguments])
    assert re.search("no whole number|no rate", capsys.readouterr().err)


def test_missing_ros_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["compare", "--out", str(tmp_path)]) == 2
    assert "pip install ros-jazzy-rclpy" in capsys.readouterr().err


def write_masks(folder: Path, names: list[str], size: tuple[int, int] = (360, 640)) -> Path:
    folder.mkdir()
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full(size, 1 + i, np.uint8))
    return folder


def test_masks_of_a_folder_are_found_by_index_and_stamp(tmp_path):
    drive = open_drive(DRIVE)
    folder = write_masks(tmp_path / "masks", ["0002.png", f"{drive.frames[5].stamp}.png"])

    truth = TruthByFrame(drive, masks_from_folder(folder, drive))

    assert {frame: int(truth[frame][0, 0]) for frame in truth} == {2: 1, 5: 2}
    check_sizes(truth, (360, 640), "masks")
    with pytest.raises(BagError, match="masks is 640x360 but the images are 320x180"):
        check_sizes(truth, (180, 320), "masks")


@pytest.mark.parametrize("name", ["300.png", "road.png"])
def test_masks_of_other_names_are_refused(tmp_path, name):
    drive = open_drive(DRIVE)
    with pytest.raises(BagError, match="neither by the stamp of a frame in nanoseconds nor by an index from 0 to 299"):
        masks_from_folder(write_masks(tmp_path / "masks", [name]), drive)
    with pytest.raises(BagError, match="holds no .png"):
        masks_from_folder(ROOT / "docs", drive)


def test_offline_frames_are_all_or_pairs_of_neighbours(ros):
    from seg_node.compare.offline import choose_frames

    assert choose_frames(10, 12) == list(range(10))
    assert choose_frames(300, 7) == [0, 1, 149, 150, 298, 299]
    assert choose_frames(1, 1) == [0] and choose_frames(2, 1) == [0, 1]


def test_worst_frames_are_apart_and_named(ros, found):
    from seg_node.compare.offline import worst_frames

    chosen = worst_frames(found)

    # The scenes are worst where the wave of quality is lowest, for both; the disagreement is greatest at frame 31.
    assert len(chosen) == 4
    times = sorted(frame / HZ for frame, _ in chosen)
    assert min(np.diff(times)) >= 1.0
    per_frame = found.offline[0].per_frame()
    assert chosen[0][0] == int(np.argmin(per_frame)) and "worst frames of alpha" in chosen[0][1]
    assert "worst frames of beta" in chosen[1][1] and chosen[2] == (
        31,
        "the backbones disagree about 13.0 % of the pixels",
    )


def _check_mask_of_now(result: Comparison) -> None:
    """It was measured of the first model, at the same instants as its mask."""
    (now,) = result.now
    counts = dict(now.counts)
    received, propagated, again = (counts.pop(name) for name in ("received", "propagated", "again"))
    assert now.model == 0 and received == propagated + sum(counts.values()) and received > 0 <= again
    # On a busy machine no inference may end before the last of so few frames.
    if propagated:
        assert now.horizon_ms == pytest.approx(1e3 / 30, abs=0.5), "one frame of the drive"
        assert 0 < now.camera_to_mask["p50"] <= now.camera_to_mask["p99"] and 0 < now.covered <= 1
    else:
        assert now.horizon_ms is now.camera_to_mask is None and now.covered == 0
    (listened_to,), (scored_now,) = result.streaming_listened, result.streaming_now
    assert listened_to.frame == scored_now.frame
    assert sum(row.frames for row in now.by_age if row.topic == "mask_now") + scored_now.unanswered == len(
        scored_now.frame
    )
    assert [gain.name for gain in result.gains][0] == "miou_7" and len(result.gains) == 8
    assert all(gain.low is None for gain in result.gains), "one pair of runs has no interval"


def test_real_nodes_are_compared(ros, tmp_path):
    arguments = [
        "--quick",
        "--frames",
        "12",
        "--rates",
        "8",
        "--models",
        "fpn_resnet50",
        "fpn_lite",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "seg_node", "compare", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr

    result = load_comparison(tmp_path / "comparison.json")
    assert [model.name for model in result.models] == ["fpn_resnet50", "fpn_lite"]
    assert result.faults == []
    assert [(run.model, run.purpose) for run in result.runs] == [
        *((0, purpose) for purpose in ("recorded", "listened", "saturation", "fixed")),
        *((1, purpose) for purpose in ("recorded", "saturation", "fixed")),
    ]
    _check_mask_of_now(result)
    for run in result.runs:
        counts = run.counts
        drops = sum(counts[name] for name in ("superseded", "stale", "undecodable", "failed"))
        assert counts["sent"] == counts["received"] + counts["lost"] == len(run.frames.frame)
        assert counts["received"] == counts["masked"] + drops
        assert run.frames.outcome.count("masked") == counts["masked"]
    assert [s.model for s in result.streaming] == [0, 1] == [s.model for s in result.offline]
    assert all(0 < s.miou_7 < 100 for s in result.offline)
    assert all(verdict.winner is None for verdict in result.verdicts), "so little data decides nothing"
    assert result.drive.truth_frames == 12 and len(result.drive.hash) == 64
    assert result.pictures and set(result.pictures[0].panels) == {
        "camera", "ground truth", "fpn_resnet50", "fpn_lite", "where they disagree"
    }  # fmt: skip
    assert "Which backbone should drive" in done.stdout and result.decision.sentence in done.stdout
    assert result.decision.sentence in (tmp_path / "comparison.html").read_text()
