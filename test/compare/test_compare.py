"""Statistics against independent computations, verdicts on made-up experiments, and the comparison of real nodes."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.paths import ROOT

from seg_node.__main__ import main
from seg_node.bags.drive import open_drive
from seg_node.bags.ground_truth import TruthByFrame, check_sizes, masks_from_folder
from seg_node.bags.reader import BagError
from seg_node.compare.comparison import (
    Backbone,
    Comparison,
    ComparisonError,
    Disagreement,
    DriveFacts,
    FrameColumns,
    Measured,
    Scored,
    Sustained,
    load_comparison,
)
from seg_node.compare.page import to_html
from seg_node.compare.statistics import (
    Draws,
    IouCounts,
    Samples,
    blocks_of,
    mean_iou,
    miou_difference,
    paired_difference,
    quantile_difference,
)
from seg_node.compare.text import to_text
from seg_node.compare.verdict import judge
from seg_node.core.statistics import student_quantile
from seg_node.core.timing import FrameRecord, Outcome, Stage
from seg_node.rig.frames import ArrivedMask, FrameObservation, Run

DRIVE = ROOT / "rosbags" / "synthetic_drive"
MS = 10**6
FRAMES = 300
HZ = 30.0


def simulated_run(service_ms: float, seed: int, hz: float = HZ, frames: int = 2 * FRAMES, drive: int = FRAMES) -> Run:
    """A node that takes about ``service_ms`` per frame and always goes on with the newest one."""
    rng = np.random.default_rng(seed)
    sent = np.round(np.arange(frames) * 1e9 / hz).astype(int)
    fates: dict[int, tuple[float, float]] = {}
    free = 0.0
    i = 0
    while i < frames:
        start = max(free, sent[i])
        # The newest frame that has come by then.
        i = int(np.searchsorted(sent, start, side="right")) - 1
        free = start + rng.normal(service_ms, service_ms / 20) * MS
        fates[i] = (start, free)
        i += 1
    observations = []
    for i in range(frames):
        if i in fates:
            start, end = fates[i]
            wait, inference = (start - sent[i]) / MS, (end - start) / MS
            stages = {Stage.WAIT: wait, Stage.DECODE: 3.0, Stage.INFERENCE: inference - 4.0, Stage.PUBLISH: 1.0}
            record = FrameRecord(Outcome.MASKED, "model", stages, total=wait + inference)
            mask = ArrivedMask(round(end + 2 * MS), (1, 1), b"")
        else:
            record, mask = FrameRecord(Outcome.SUPERSEDED, "model", {Stage.WAIT: 10.0}, total=10.0), None
        at = int(sent[i])
        observations.append(FrameObservation(i, i % drive, i, at, at, record, at, mask))
    return Run({}, observations, {}, warm_up=round(hz))


def measured(run: Run, model: int, repetition: int, purpose: str, rate: str, hz: float) -> Measured:
    outcomes = [frame.record.outcome.value for frame in run.frames]
    counts = {"sent": len(outcomes), "lost": 0, "received": len(outcomes)}
    counts |= {name: outcomes.count(name) for name in ("masked", "superseded", "stale", "undecodable", "failed")}
    return Measured(
        model, repetition, purpose, rate, hz, run.warm_up, counts, [], FrameColumns.of(run), 3.0, 400.0, 9.0
    )


def scored(model: int, repetition: int, quality: float, seed: int, frames: int = FRAMES) -> Scored:
    """Accuracy of about ``quality`` (0..1) that varies slowly along the drive, as the scene does for both backbones."""
    scene = 0.05 * np.sin(np.arange(frames) / 20)
    rng = np.random.default_rng(seed)
    confusions = []
    for wave in scene:
        share = np.clip(quality + wave + rng.normal(0, 0.01), 0, 1)
        hit = round(1000 * share)
        confusion = np.diag([0] + 7 * [hit])
        confusion[1:, 1] += 1000 - hit
        confusions.append(confusion)
    return Scored.of(model, repetition, list(range(frames)), confusions)


def experiment(
    services: tuple[float, float] = (300.0, 240.0),
    qualities: tuple[float, float] | None = (0.6, 0.6),
    sustained: tuple[float, float] = (3.2, 4.0),
    repetitions: int = 2,
    frames: int = FRAMES,
) -> Comparison:
    """Two backbones with these milliseconds per frame, accuracies and sustained rates."""
    comparison = Comparison(
        created="2026-11-21T00:00:00+00:00",
        machine={"cpu": "made-up processor", "cores": 2, "system": "made-up system"},
        versions={"python": "3"},
        configuration={"plan": {"repetitions": repetitions, "warm_up_s": 1.0, "probe_frames": 20}, "attached": None},
        harness={
            "height": 360,
            "width": 640,
            "sustained_hz": 200.0,
            "probes": [{"rate": 200.0, "p50_ms": 2.5, "p99_ms": 4.0}],
        },
        drive=DriveFacts(
            path="made_up",
            topic="/camera/image",
            hash="0" * 64,
            width=640,
            height=360,
            rate_hz=HZ,
            transport="compressed",
            truth="/camera/mask" if qualities else "",
            truth_frames=frames if qualities else 0,
            times_s=[i / HZ for i in range(frames)],
        ),
        models=[Backbone("alpha", "resnet50", engine="openvino"), Backbone("beta", "convnextv2", engine="openvino")],
    )
    for repetition in range(repetitions):
        for model in (0, 1):
            seed = 10 * repetition + model
            service, hz = services[model], sustained[model]
            comparison.sustained.append(Sustained(model, repetition, hz, 1.04 * hz, 0.01, []))
            for rate in (10.0, 20.0, 30.0):
                run = simulated_run(service, seed, rate, round(4 * rate), frames)
                comparison.runs.append(measured(run, model, repetition, "fixed", f"{rate:g} Hz", rate))
            for factor in (1.5, 3.0):
                run = simulated_run(service, seed, factor * hz, round(4 * factor * hz), frames)
                name = f"{factor:g}x sustained"
                comparison.runs.append(measured(run, model, repetition, "overload", name, factor * hz))
            run = simulated_run(service, seed, HZ, 2 * frames, frames)
            comparison.runs.append(measured(run, model, repetition, "recorded", "recorded", HZ))
            if qualities:
                comparison.streaming.append(scored(model, repetition, qualities[model] - 0.05, seed + 100, frames))
    if qualities:
        comparison.offline = [scored(model, 0, qualities[model], 50 + model, frames) for model in (0, 1)]
    comparison.disagreement = Disagreement([0, 1, 30, 31], [10.0, 11.0, 12.0, 13.0])
    comparison.verdicts, comparison.decision = judge(comparison)
    return comparison


def samples(values: np.ndarray, block: np.ndarray, repetition: np.ndarray | None = None) -> Samples:
    frames = np.arange(len(values))
    return Samples(values, frames, block, np.zeros(len(values), int) if repetition is None else repetition)


@pytest.mark.parametrize(
    ("freedom", "tabulated"),
    [(1, 63.657), (2, 9.9248), (4, 4.6041), (5, 4.0321), (7, 3.4995), (9, 3.2498), (29, 2.7564), (120, 2.6174)],
)
def test_student_quantile_agrees_with_the_tables(freedom, tabulated):
    assert student_quantile(0.995, freedom) == pytest.approx(tabulated, rel=1e-4)


def test_blocks_are_contiguous_and_of_equal_duration():
    block = blocks_of(np.arange(300) / 30, 1.0)
    assert np.bincount(block).tolist() == [30] * 10
    assert (np.diff(block) >= 0).all()
    # 8.84 s of video are nine blocks, not eight and a rest.
    assert np.bincount(blocks_of(np.arange(221) / 25, 1.0)).tolist() == pytest.approx([221 / 9] * 9, abs=1)
    assert blocks_of(np.zeros(1), 1.0).tolist() == [0]


def test_difference_that_is_the_same_everywhere_has_an_interval_of_no_width():
    values = np.repeat(np.arange(10.0), 10)
    block = np.arange(100) // 10
    draws = Draws(10)

    found = quantile_difference(samples(values, block), samples(values + 7.0, block), 0.5, draws)
    paired, frames = paired_difference(samples(values, block), samples(values + 7.0, block), draws)

    # The same blocks are drawn for both: what varies along the drive cancels.
    assert (found.low, found.estimate, found.high) == pytest.approx((7.0, 7.0, 7.0))
    assert (paired.low, paired.estimate, paired.high, frames) == (7.0, 7.0, 7.0, 100)


def test_pairs_are_the_frames_that_both_masked_averaged_over_the_repetitions():
    block = np.array([0, 0, 1, 1])
    a = Samples(np.array([10.0, 20.0, 30.0, 50.0]), np.array([1, 2, 5, 5]), block, np.array([0, 0, 0, 1]))
    b = Samples(np.array([12.0, 44.0, 99.0]), np.array([1, 5, 7]), np.array([0, 1, 1]), np.array([0, 0, 1]))

    interval, frames = paired_difference(a, b, Draws(2))

    # Frame 1: 12 - 10; frame 5: 44 - (30 + 50) / 2; frames 2 and 7 have one backbone only.
    assert frames == 2
    assert interval.estimate == pytest.approx((2.0 + 4.0) / 2)
    assert paired_difference(a, dataclasses.replace(b, frame=b.frame + 100), Draws(2)) is None


def test_resampled_quantile_is_that_of_the_copied_samples():
    """The quantiles with weights against NumPy's of an array in which drawn samples are really repeated."""
    rng = np.random.default_rng(3)
    values, block, repetition = rng.gamma(3, 100, 80), rng.integers(0, 8, 80), rng.integers(0, 2, 80)
    zero = samples(np.zeros(80), block, repetition)
    draws = Draws(8, 2, resamples=50, seed=5)

    found = {q: quantile_difference(zero, samples(values, block, repetition), q, draws) for q in (0.5, 0.99)}

    # The ends of the interval of 50 draws are their least and greatest, or close to them.
    for q, interval in found.items():
        copies = [
            np.quantile(np.repeat(values, blocks[block] * repetitions[repetition]), q)
            for blocks, repetitions in zip(draws.of_blocks, draws.of_repetitions, strict=True)
        ]
        expected = draws.interval(np.quantile(values, q), np.array(copies))
        assert dataclasses.astuple(interval) == pytest.approx(dataclasses.astuple(expected))


def test_resampled_miou_is_that_of_the_copied_frames():
    rng = np.random.default_rng(4)
    unions = rng.integers(0, 50, (60, 7)) * (rng.random((60, 7)) < 0.7)
    hits = np.minimum(rng.integers(0, 50, (60, 7)), unions)
    block, repetition = np.arange(60) % 30 // 3, np.arange(60) // 30
    counts = IouCounts(hits, unions, block, repetition)
    nothing = IouCounts(np.zeros_like(hits), unions, block, repetition)
    draws = Draws(10, 2, resamples=60, seed=6)

    found = miou_difference(nothing, counts, draws)

    copies = []
    for blocks, repetitions in zip(draws.of_blocks, draws.of_repetitions, strict=True):
        times = blocks[block] * repetitions[repetition]
        h, u = (np.repeat(pixels, times, 0).sum(0) for pixels in (hits, unions))
        copies.append(100 * np.mean([x / y for x, y in zip(h, u, strict=True) if y]))
    expected = draws.interval(mean_iou(hits.sum(0), unions.sum(0)), np.array(copies))
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(expected))


def coverage(correlated: float, blocks: int, trials: int = 100) -> float:
    """Share of the intervals that hold the true difference of two autoregressive series, 300 values each."""
    rng = np.random.default_rng(7)
    draws = Draws(blocks, resamples=800)
    block = np.arange(300) * blocks // 300
    held = 0
    for _ in range(trials):
        noise = rng.standard_normal((2, 400))
        series = np.zeros_like(noise)
        for i in range(1, 400):
            series[:, i] = correlated * series[:, i - 1] + noise[:, i]
        # True medians differ by 3. The first 100 values lead the series into its stationary state.
        a, b = series[:, 100:]
        interval = quantile_difference(samples(a, block), samples(b + 3.0, block), 0.5, draws)
        held += interval.low <= 3.0 <= interval.high
    return held / trials


@pytest.mark.parametrize("correlated", [0.0, 0.8])
def test_intervals_hold_the_truth_as_often_as_they_say(correlated):
    # 100 trials at 99 %: fewer than 95 have a probability below 1 in 1000.
    assert coverage(correlated, blocks=10) >= 0.95


def test_single_frames_as_blocks_would_promise_too_much():
    assert coverage(0.8, blocks=300) < 0.9


def test_mean_iou_is_that_of_the_scores():
    confusion = np.random.default_rng(8).integers(0, 100, (8, 9))
    from seg_node.core.metrics import scores

    of_frame = Scored.of(0, 0, [0], [confusion])

    assert mean_iou(np.array(of_frame.hits[0]), np.array(of_frame.unions[0])) == pytest.approx(
        scores(confusion)["miou_7"]
    )
    assert of_frame.miou_7 == pytest.approx(scores(confusion)["miou_7"])
    assert np.isnan(mean_iou(np.zeros(7, int), np.zeros(7, int)))


def winners(comparison: Comparison) -> dict[str, str | None]:
    names = [model.name for model in comparison.models]
    return {v.question: None if v.winner is None else names[v.winner] for v in comparison.verdicts}


def reason(comparison: Comparison, question: str) -> str:
    return next(v.reason for v in comparison.verdicts if v.question == question)


def test_faster_and_better_backbone_should_drive():
    found = experiment((300.0, 200.0), (0.5, 0.6), (3.2, 4.8))
    assert set(winners(found).values()) == {"beta"}
    assert found.decision.winner == 1 and not found.decision.trade
    assert found.decision.sentence.startswith("beta should drive: it has 9")
    by_question = {v.question: v for v in found.verdicts}
    assert by_question["latency_p50"].difference.estimate == pytest.approx(-100, abs=15)
    assert by_question["offline"].difference.estimate == pytest.approx(
        found.offline[1].miou_7 - found.offline[0].miou_7
    )


def test_faster_but_worse_is_a_trade_in_numbers():
    found = experiment((300.0, 200.0), (0.6, 0.5), (3.2, 4.8))
    assert winners(found)["latency_p50"] == "beta" and winners(found)["offline"] == "alpha"
    assert found.decision.winner is None and found.decision.trade
    assert re.search(r"trade: alpha has .*points more.* beta has 1?\d\d ms shorter", found.decision.sentence)


def test_equal_backbones_have_no_winner():
    found = experiment((250.0, 250.0), (0.55, 0.55), (4.0, 4.0))
    assert set(winners(found).values()) == {None}
    assert "includes zero" in reason(found, "latency_p50") and "includes zero" in reason(found, "offline")
    assert "overlaps" in reason(found, "sustained")
    assert found.decision.winner is None and "may not be chance" in found.decision.sentence


def test_no_accuracy_without_ground_truth():
    found = experiment((300.0, 200.0), None, (3.2, 4.8))
    assert "no ground truth" in reason(found, "streaming") and "no ground truth" in reason(found, "offline")
    assert winners(found)["latency_p50"] == "beta"
    assert found.decision.winner is None and "nothing is known of accuracy" in found.decision.sentence


def test_one_repetition_has_no_winner_in_what_varies_between_runs():
    found = experiment((300.0, 200.0), (0.5, 0.6), (3.2, 4.8), repetitions=1)
    assert winners(found) == dict.fromkeys(("latency_p50", "latency_p99", "sustained", "streaming")) | {
        "offline": "beta"
    }
    assert found.decision.sentence.startswith("No backbone is chosen: one run of each")


def test_short_drive_has_no_winner():
    found = experiment((300.0, 200.0), (0.5, 0.6), frames=60)
    assert "too short, 2 s" in reason(found, "latency_p50") and "too short" in reason(found, "offline")


def test_99th_percentile_needs_a_hundred_masks():
    found = experiment((300.0, 200.0))
    for run in found.runs:
        if run.purpose == "recorded":
            run.warm_up = 300
    verdicts, _ = judge(found)
    assert "needs at least 100 masks" in next(v.reason for v in verdicts if v.question == "latency_p99")


def test_repetitions_that_disagree_have_no_winner():
    found = experiment((300.0, 240.0))
    # In the second repetition it is the other way round.
    for run in found.runs:
        if run.purpose == "recorded" and run.repetition == 1:
            run.frames = FrameColumns.of(simulated_run((240.0, 300.0)[run.model], 20))
    verdict = judge(found)[0][0]
    assert verdict.winner is None and "includes zero" in verdict.reason
    assert verdict.difference.low < -30 and verdict.difference.high > 30


def test_last_frame_of_a_run_does_not_count():
    run = measured(simulated_run(300.0, 1), 0, 0, "recorded", "recorded", HZ)
    latencies, frames = run.latencies()
    masks = [m for m in run.frames.mask[30:] if m is not None]
    assert latencies.tolist() == masks[:-1]
    assert len(frames) == len(latencies) and frames[0] == next(i for i in range(30, 600) if run.frames.mask[i]) % FRAMES


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
    document = json.loads(json.dumps(dataclasses.asdict(found)))
    named = {"schema", "version", *document}
    for part in ("drive", "models", "sustained", "runs", "streaming", "disagreement", "verdicts", "decision"):
        value = document[part][0] if isinstance(document[part], list) else document[part]
        named |= value.keys()
    named |= document["runs"][0]["frames"].keys()
    missing = [name for name in sorted(named) if f"`{name}`" not in text]
    assert not missing


def test_console_says_verdict_and_counts(found):
    text = to_text(found)
    assert found.decision.sentence in text
    assert "the counts add up" in text
    found_rows = [line for line in text.splitlines() if line.startswith("recorded")]
    assert len(found_rows) == 2 and "1200" in found_rows[0]


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
    assert "FAULT: alpha, run 1, 10 Hz: one frame is <missing>" in to_text(broken)
    assert "one frame is &lt;missing&gt;" in to_html(broken)


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


def test_real_nodes_are_compared(ros, tmp_path):
    arguments = ["--quick", "--frames", "12", "--rates", "8", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "seg_node", "compare", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr

    result = load_comparison(tmp_path / "comparison.json")
    assert [model.name for model in result.models] == ["fpn_resnet50", "fpn_convnextv2"]
    assert result.faults == []
    assert [(run.model, run.purpose) for run in result.runs] == [
        (model, purpose) for model in (0, 1) for purpose in ("fixed", "overload", "recorded")
    ]
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
        "camera", "ground truth", "fpn_resnet50", "fpn_convnextv2", "where they disagree"
    }  # fmt: skip
    assert "Which backbone should drive" in done.stdout and result.decision.sentence in done.stdout
    assert result.decision.sentence in (tmp_path / "comparison.html").read_text()
