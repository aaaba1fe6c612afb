"""The benchmark's parts at tiny sizes, with real processes where those matter, and its arithmetic by hand."""

import contextlib
import json
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")
pytest.importorskip("torch", reason="torch is missing: pip install -e .[training]")


import confidence_now  # noqa: E402
import engines  # noqa: E402
import gpu  # noqa: E402
import ill_cameras  # noqa: E402
import input_size  # noqa: E402
import lines  # noqa: E402
import node_checkouts  # noqa: E402
import nodes  # noqa: E402
import plain_path  # noqa: E402
import propagation  # noqa: E402
import receiving  # noqa: E402
import rewrites  # noqa: E402
import roofline  # noqa: E402
import transport  # noqa: E402
from helpers.paths import ROOT  # noqa: E402
from helpers.settings import assert_says_where_it_is_of  # noqa: E402
from setting import isolated  # noqa: E402

from seg_node.core.bundle import load_bundle  # noqa: E402


@pytest.fixture
def here(monkeypatch):
    """Functions that have a process of their own run in this one, with what another one would be given and give back.

    A figure is disturbed by what others did here, and none is held against anything; torch is loaded once.
    """

    def call(function, *arguments):
        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        return pickle.loads(pickle.dumps(function(*arguments)))

    for module in (engines, gpu, input_size, rewrites, roofline):
        monkeypatch.setattr(module, "isolated", call)


def played(latency: list[float], frame: list[int], **values) -> nodes.Played:
    defaults = {"name": "", "hz": 1.0, "sent": 0, "received": 0, "masked": 0, "age": latency, "masks_per_s": 0.0}
    defaults |= {"cpu_s_per_1000": 1.0, "rss_peak": 2**20, "frame": frame}
    return nodes.Played(latency=latency, **defaults | values)


def measured(kind: str, runs: dict[str, nodes.Played], bare: float = 0.0) -> nodes.Measured:
    return nodes.Measured(kind, kind, None, 1.0, 0.0, runs, {}, dict.fromkeys(runs, [[bare], [bare]]))


@pytest.mark.parametrize("reliability", transport.RELIABILITIES)
def test_transport_with_the_shipped_profile(reliability):
    row = transport.measure((120, 160), reliability, "shipped", frames=15)
    assert row["sent"] == 15
    # What best effort loses on a busy machine is a figure, not a fault.
    assert (row["lost"], row["masks_lost"]) == (0, 0) or reliability == "best_effort"
    assert 0 < row["p50_ms"] <= row["p99_ms"]


def test_transport_without_a_profile():
    assert transport.measure((120, 160), "reliable", "default", frames=15)["sent"] == 15


@pytest.mark.parametrize("kind", receiving.KINDS[1:])
def test_receiving_beside_inference(kind):
    row = receiving.measure(kind, "fpn_lite", frames=20)
    assert row["sent"] == 20
    assert 0 < row["received"] <= 20
    assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert row["inference_ms"] > 0


def test_engines_are_held_against_torch(here):
    row, *others = engines.table(["fpn_lite"], ["onnxruntime"], inferences=2, every=50, progress=False)
    assert row["agreement"] > 99
    assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert row["bundle"] == "fpn_lite" and row["device"] and row["ranges"] is None
    # The shipped bundle has ranges for int8; one without gets some from CamVid, where that is.
    assert [other["precision"] for other in others] == ["int8"]
    assert others[0]["ranges"] and others[0]["agreement"] > 80


def test_a_smaller_input_is_the_same_network_with_less_work(here, monkeypatch):
    monkeypatch.setattr(engines, "_CALIBRATED_ON", 4)
    (row,) = input_size.rows(["fpn_lite"], "onnxruntime", inferences=2, every=50, scales=(0.25,))
    assert (row["model"], row["input_size"]) == ("fpn_lite", [112, 199])
    # Sides are padded to multiples of 32.
    assert 12 < load_bundle("fpn_lite").manifest.gflops / row["gflops"] < 16
    assert 0 < row["p50_ms"] <= row["p99_ms"]


def test_rewritings_are_left_out_one_by_one(here):
    found = rewrites.measure("fpn_convnextv2", "fp32", 1, (64, 96))
    names = ["argmax by comparison", "sum without stack", "norm without transposes", "frame as batch"]
    assert set(found["times"]) == {"none", "all", *(f"all but {name}" for name in [*names, "int8 for products"])}
    assert found["agreement"] > 99.9
    assert "fpn_convnextv2, fp32: " in rewrites.text(found) and "1.000 of all  all\n" in rewrites.text(found)


def test_limits_of_the_machine(here, monkeypatch):
    monkeypatch.setattr(roofline, "_SIDES", {"cpu": (256, 512)})
    monkeypatch.setattr(roofline, "_STREAM", 2**22)
    peak = roofline.peaks()
    assert all(value > 0 for value in peak.values()) and {"fp32", "int8", "memory"} <= set(peak)
    assert peak["int8"] > peak["fp32"] / 4, "not the time of a product that is computed number by number"
    row = {"model": "m", "engine": "e", "precision": "fp32", "p50_ms": 500.0, "height": 720, "width": 1280}
    found = roofline.limits(row, "fpn_resnet50", {"fp32": 100.0})
    assert found["ratio"] == pytest.approx(found["gflops"] / 0.5 / 100)


@pytest.mark.parametrize(
    ("slow", "expected"),
    [
        ("bf16", lambda: 1e3 * roofline.gflops("fpn_resnet50", (48, 64))),
        ("memory", lambda: 2 * sum(n for _, n in roofline.products("fpn_resnet50", (48, 64))) / 1e6),
        ("to_gpu", lambda: 3 * 48 * 64 / 1e6),
        ("from_gpu", lambda: 48 * 64 / 1e6),
    ],
)
def test_the_floor_on_a_gpu_is_what_takes_longest(slow, expected):
    peak = dict.fromkeys(("bf16", "memory", "to_gpu", "from_gpu"), 1e12) | {slow: 1.0}
    assert roofline.floor_ms("fpn_resnet50", (48, 64), "bf16", peak) == pytest.approx(expected(), rel=1e-3)


TOOLS = [path for folder in ("benchmarks", "reliability", "fuzz") for path in sorted((ROOT / folder).glob("*.py"))]


@pytest.mark.parametrize("tool", [t for t in TOOLS if "json.dumps" in t.read_text() and "--out" in t.read_text()])
def test_tools_that_write_results_say_where_they_are_of(tool):
    text = tool.read_text()
    assert re.search(r"from seg_node\.core\.machine import .*\bsetting\b", text) and '"machine": ' in text, tool.name


def test_a_simulation_says_where_it_is_of(tmp_path, monkeypatch, capsys):
    import verdict_simulation

    monkeypatch.setattr(verdict_simulation, "PAIRS", (5,))
    monkeypatch.setattr(verdict_simulation, "SPREADS", (5.0,))
    verdict_simulation.main(["--trials", "5", "--out", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert_says_where_it_is_of(found)
    assert [row["pairs"] for row in found["rows"]] == [5] and "5 pairs, 5 ms" in capsys.readouterr().out


def test_profile_adds_up(here):
    found = roofline.profile("fpn_resnet50", inferences=1)
    assert 0.5 < found["multiply_ms"] / found["total_ms"] < 1
    assert found["top"] == sorted(found["top"], reverse=True)
    (line,) = lines.profiles([found], {found["precision"]: found["multiply_rate"] * 2})
    assert "at 0.50 of the peak" in line.value


def test_gpu_benchmark_says_where_there_is_none(monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert "no GPU" in capsys.readouterr().err


def test_gpu_rows_refuse_the_processor(here, monkeypatch):
    monkeypatch.setattr(gpu.roofline, "peaks", lambda device: {"fp32": 1.0})
    with pytest.raises(RuntimeError, match="runs on the processor"):
        next(gpu.rows(["fpn_lite"], ["onnxruntime"], 1, [(48, 64)]))


def test_an_isolated_function_has_its_own_process_and_environment():
    assert isolated(_variable, "SEG_NODE_TEST", environment={"SEG_NODE_TEST": "1"}) == "1"
    assert _variable("SEG_NODE_TEST") is None


def _variable(name: str) -> str | None:
    import os

    return os.environ.get(name)


def test_ratio_of_quantiles():
    slow = [played([800.0] * 10, list(range(10))), played([800.0] * 10, list(range(10)))]
    fast = [played([100.0] * 10, list(range(10))), played([400.0] * 10, list(range(10)))]
    found = nodes.ratio(slow, fast, 0.5)
    assert found == pytest.approx({"value": 4.0, "low": 2.0, "high": 8.0})


def test_overhead_line():
    runs = {"sustained": played([110.0, 110.0, 110.0], [0, 1, 2], inference=[100.0])}
    echo = [measured("echo", {"fixed": played([5.0, 5.0], [0, 1])})]
    share, steady = lines.overhead([measured("ours", runs, bare=96.0)], echo)
    assert share.value.endswith("= 8.2 %; inference in the node 100.0 ms") and share.holds  # (110 - 96 - 5) / 110
    assert steady.value == "1.00; bare inference in between 1.00" and steady.holds
    assert not lines.overhead([measured("ours", runs, bare=90.0)], echo)[0].holds  # 15 / 110


def test_steadiness_is_that_of_each_repetition():
    """A machine that is slower the second time is not a node that is unsteady."""
    times = (100.0, 200.0)
    ours = [measured("ours", {"sustained": played([t] * 9, list(range(9)), inference=[t])}, bare=t) for t in times]
    echo = [measured("echo", {"fixed": played([5.0], [0])})] * 2
    assert lines.overhead(ours, echo)[-1].value == "1.00; bare inference in between 1.00"


def test_second_start_is_held_against_three_seconds():
    def started(*seconds: float) -> list[lines.Line]:
        runs = {"sustained": played([100.0], [0])}
        return lines.cost("m", [nodes.Measured("ours", "m", s, 1.0, 0.0, runs, {}) for s in seconds])

    assert started(9.0, 2.5)[-1].holds and started(9.0, 2.5)[-1].value == "9.0 / 2.5 s"
    assert not started(2.0, 3.5)[-1].holds
    assert started(9.0)[-1].holds is None


def test_overload_lines():
    naive = measured("naive", {"3x": played([4000.0, 4000.0], [0, 1])})
    ours = measured("ours", {"3x": played([199.0, 150.0], [0, 1], inference=[110.0, 108.0])})
    ours.around["3x"] = [0.02, 0.024, 0.03]
    # The machine slows down after the second of three rounds.
    ours.bare["3x"] = [[90.0, 110.0], [100.0, 100.0], [100.0, 100.0], [140.0, 140.0]]
    ours.rates["3x"] = [9.6, 9.0, 8.0]
    echo = [measured("echo", {"fixed": played([5.0, 5.0], [0, 1])})]
    rate, around, age = lines.overload(naive, ours, echo)
    assert rate.value == "0.960 [0.900, 0.960], 3 rounds; 8.87 masks/s" and rate.holds
    assert around.value == "96.6 %; 2.4 %"  # 109 ms at 8.87 masks/s
    assert age.wanted == "p99 <= 2 inferences + transport = 205 ms" and age.holds
    ours.rates["3x"] = [9.4, 9.0, 8.0]
    assert not lines.overload(naive, ours, echo)[0].holds


def test_rounds_of_one_run_are_put_together():
    rounds = [
        played([100.0, 102.0], [0, 1], sent=30, masked=3, masks_per_s=8.0, cpu_s_per_1000=200.0, rss_peak=5),
        played([110.0], [0], sent=31, masked=2, masks_per_s=9.0, cpu_s_per_1000=None, rss_peak=None),
    ]
    found = nodes.together(rounds)
    assert (found.sent, found.masked, found.masks_per_s) == (61, 5, 8.5)
    assert (found.latency, found.frame) == ([100.0, 102.0, 110.0], [0, 1, 0])
    assert (found.cpu_s_per_1000, found.rss_peak) == (200.0, 5)
    assert nodes.together(rounds[:1]) is rounds[0]


def test_int8_is_held_against_fp32():
    def row(precision: str, p50: float, miou: float) -> dict:
        names = {"model": "m", "bundle": "m", "engine": "openvino", "agreement": 99.0}
        return names | {"precision": precision, "ranges": "the bundle's", "p50_ms": p50, "p99_ms": p50, "miou_7": miou}

    assert lines.engines([row("fp32", 100, 65.0), row("int8", 40, 64.1)])[1].holds
    assert not lines.engines([row("fp32", 100, 65.0), row("int8", 40, 63.9)])[1].holds
    assert not lines.engines([row("fp32", 100, 65.0), row("bf16", 30, 65.0), row("int8", 40, 65.0)])[2].holds


def test_tables_say_what_does_not_hold():
    text = lines.markdown({"T": [lines.Line("m", "w", "1", ">= 2", False), lines.Line("m", "x", "3")]})
    assert "| m | w | 1 | >= 2 | **no** |" in text and "| m | x | 3 |  |  |" in text


def now_run(mask: float, now: float | None = None, human: float | None = 10.0) -> dict:
    """What a replay says of a run, with these scores of ``~/mask`` and ``~/mask_now``."""

    def scored(miou_7: float) -> dict:
        return {"miou_7": miou_7, "iou": dict.fromkeys(propagation.SCORED_NAMES, miou_7) | {"human": human}}

    streaming = {"mask": scored(mask)} | ({} if now is None else {"mask_now": scored(now)})
    of_now = {"covered": 0.9, "dropped": {"no_keyframe": 3}, "camera_to_mask": {"p50": 8.0, "p99": 12.0}}
    return {
        "streaming": streaming,
        "offline": scored(80.0),
        "now": None if now is None else of_now,
        "masks_per_second": 9.0 if now is None else 8.0,
        "stages": {"inference": {"p50": 100.0}},
        "usage": None,
    }


def test_gain_of_the_mask_of_now_in_pairs():
    runs = {"alone": [now_run(50.0), now_run(52.0)], "listened": [now_run(51.0, 70.0), now_run(51.0, 74.0)]}
    found = propagation.summary(runs)
    figure = found["figures"]["miou_7"]
    assert [figure[kind] for kind in ("mask", "mask_listened", "mask_now", "masked")] == [51.0, 51.0, 72.0, 80.0]
    # Differences 20 and 22; Student's quantile for 99 % and one degree of freedom is 63.66.
    assert figure["gain"] == pytest.approx({"mean": 21.0, "low": 21 - 63.657, "high": 21 + 63.657}, abs=0.01)
    assert found["masks_per_second"] == {"alone": 9.0, "listened": 8.0} and found["dropped"] == {"no_keyframe": 3}
    table = propagation.text([{"drive": "fog", "rate_hz": 30.0, **found}])
    assert "fog" in table and "+21.0" in table and " 90.0 " in table and " 12.0 " in table


def test_gain_of_a_category_that_is_nowhere():
    runs = {kind: [now_run(50.0, 70.0, human=None)] * 3 for kind in propagation.KINDS}
    assert propagation.summary(runs)["figures"]["human"]["gain"] == {"mean": None, "low": None, "high": None}


def test_the_plain_way_is_compared_pair_by_pair():
    def run(masks, p50, cores):
        usage = None if cores is None else {"cpu_cores": cores}
        return {"masks_per_second": masks, "camera_to_mask": {"p50": p50, "p99": 2 * p50}, "usage": usage}

    runs = {
        "fast": [run(20.0, 50.0, None), run(16.0, 60.0, 1.5), run(18.0, 55.0, 1.6)],
        "plain": [run(18.0, 55.0, 1.7), run(16.0, 66.0, 1.8), run(9.0, 110.0, 1.6)],
    }
    found = plain_path.compared(runs)
    assert found["masks/s"] == {"fast": 18.0, "plain": 16.0, "plain / fast": 0.9}
    assert found["camera to mask, p50 ms"]["plain / fast"] == pytest.approx(1.1)
    assert found["cores of the node"]["fast"] == 1.55, "a pair of which one is not known does not count"


@pytest.mark.ros
def test_one_pair_of_the_plain_way(tmp_path, capsys):
    out = tmp_path / "plain.json"
    assert plain_path.main(["--pairs", "1", "--frames", "20", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert_says_where_it_is_of(found)
    assert [len(found["runs"][kind]) for kind in plain_path.KINDS] == [1, 1]
    assert found["figures"]["masks/s"]["plain / fast"] > 0
    assert "plain / fast" in capsys.readouterr().out


def test_two_checkouts_are_compared_pair_by_pair():
    found = node_checkouts.compared([[10.0, 20.0, 40.0], [11.0, 22.0, 44.0]])
    assert found == pytest.approx({"before": 20.0, "after": 22.0, "after / before": 1.1, "low": 1.1, "high": 1.1})
    apart = node_checkouts.compared([[10.0, 10.0, 10.0], [10.0, 11.0, 12.0]])
    assert apart["low"] < 1 < apart["after / before"] < apart["high"]


@pytest.mark.ros
def test_one_turn_of_a_checkout():
    options = SimpleNamespace(model="fpn_lite", rate="recorded", frames=10, idle=1.0)
    turn = node_checkouts.replay(propagation.REPOSITORY, options)
    assert turn["masks/s"] > 0 and 0 < turn["camera to mask, p50 ms"] <= turn["camera to mask, p99 ms"]
    assert 0 <= node_checkouts.idle(propagation.REPOSITORY, options) < 100


def test_turns_of_an_ill_camera_are_held_against_the_well_one_of_their_cycle():
    def turn(cycle, state, masks, p99):
        runs = [{"name": name, "masks_per_s": masks, "p99_ms": p99} for name in ill_cameras.NAMES]
        runs[-1] = {"name": ill_cameras.FOURTH, "masks_per_s": 1000.0, "p99_ms": None}
        return {"state": state, "cycle": cycle, "cameras": runs}

    turns = [turn(0, "well", 5.0, 100.0), turn(0, "floods", 4.0, 120.0)]
    turns += [turn(1, "floods", 8.0, 240.0), turn(1, "well", 10.0, 200.0)]
    found = ill_cameras.compared(turns)
    assert found["well"] == {"masks_per_s": 22.5, "p99_ms": 150.0}
    assert found["floods"]["masks"] == pytest.approx({"median": 0.8, "low": 0.8, "high": 0.8})
    assert found["floods"]["p99"] == pytest.approx({"median": 1.2, "low": 1.2, "high": 1.2})
    assert "0.800 (0.800 to 0.800)" in ill_cameras.table(found)


@pytest.mark.ros
def test_cameras_are_ill_in_their_ways(tmp_path):
    out = tmp_path / "found.json"
    assert not ill_cameras.main(["--cycles", "2", "--seconds", "1", "--warm-up", "0.5", "--out", str(out)])
    found = json.loads(out.read_text())
    assert_says_where_it_is_of(found)
    fourth = {turn["state"]: turn["cameras"][-1] for turn in found["turns"]}
    assert [*found["ill_cameras"]] == ["well", "floods", "freezes", "sends rubbish", "comes and goes"]
    assert fourth["floods"]["sent"] > 5 * fourth["well"]["sent"]
    assert fourth["comes and goes"]["sent"] < fourth["well"]["sent"]
    assert not fourth["sends rubbish"]["masks_per_s"] and fourth["sends rubbish"]["outcomes"].get("undecodable")
    assert all(row["masks_per_s"] > 0 for row in found["ill_cameras"].values())


@pytest.mark.ros
def test_a_benchmark_that_is_ended_takes_its_node_with_it(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "ill_cameras.py", "--out", tmp_path / "found.json"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 90
        while (node := _node_of(process)) is None:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait(90) == 143
    assert not node.exists()


def _node_of(process):
    """Where the kernel tells of the node that a process has started; None while there is none."""
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError):
            if b"\0seg_node\0node\0" in Path("/proc", child, "cmdline").read_bytes():
                return Path("/proc", child)
    return None


def test_drives_are_known_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("SEG_NODE_DATA", str(tmp_path))
    known = propagation.drives.known(seconds=0.1)
    assert list(known) == ["shipped", "camvid", "dusk", "rain", "fog", "turns"]
    assert known["camvid"](tmp_path) is None, "its data is not here"
    bag = known["turns"](tmp_path)
    assert len(propagation.open_drive(bag).masks) == 3 and known["turns"](tmp_path) == bag, "made once"


def counts_of(right: dict[int, int], wrong: dict[int, int]) -> confidence_now.Counts:
    """Numbers of right and of wrong pixels by class of the network's confidence, all of one residual and age."""
    counts = confidence_now.Counts.none()
    for of_class, number in right.items():
        counts.right[of_class, 0, 0] += number
        counts.all[of_class, 0, 0] += number
    for of_class, number in wrong.items():
        counts.all[of_class, 0, 0] += number
    return counts


def test_a_confidence_is_judged_by_hand():
    own = confidence_now.table_of(confidence_now.Counts.none(), ())
    assert confidence_now.judged(counts_of({31: 5}, {0: 5}), own)["auroc"] == 1
    assert confidence_now.judged(counts_of({7: 5}, {7: 9}), own)["auroc"] == pytest.approx(0.5), "ties count half"
    # Three of four pairs of a right and a wrong pixel are in order. Confidences are (class + 0.5) / 32.
    found = confidence_now.judged(counts_of({31: 1, 8: 1}, {16: 1, 0: 1}), own)
    high, low, middle, least = (31.5 / 32, 8.5 / 32, 16.5 / 32, 0.5 / 32)
    assert found["auroc"] == pytest.approx(0.75)
    assert found["brier"] == pytest.approx(((1 - high) ** 2 + (1 - low) ** 2 + middle**2 + least**2) / 4)
    assert found["ece"] == pytest.approx((1 - high + 1 - low + middle + least) / 4)
    bins = found["bins"]
    assert bins["confidence"] == pytest.approx([least, low, middle, high])
    assert (bins["right"], bins["pixels"]) == ([0, 1, 0, 1], [1, 1, 1, 1])


def test_a_learnt_confidence_is_the_share_of_right_pixels():
    learnt = confidence_now.Counts.none()
    learnt.all[31, 0, 0], learnt.right[31, 0, 0] = 10**6, 900_000
    learnt.all[31, 5, 0], learnt.right[31, 5, 0] = 10**6, 300_000
    assert confidence_now.table_of(learnt, (0, 2))[31, 0, 0] == pytest.approx(0.6, abs=0.001), "residuals together"
    by_residual = confidence_now.table_of(learnt, (0, 1))[31]
    assert by_residual[0, 0] == pytest.approx(0.9, abs=0.001) and by_residual[5, 0] == pytest.approx(0.3, abs=0.001)
    assert by_residual[3, 0] == pytest.approx(0.6, abs=0.001), "what was never seen says what its confidence says"


def test_pixels_of_carried_masks_are_counted_by_age():
    class Sure:
        """An engine that says flat everywhere, and is sure of it."""

        def infer(self, bgr, confidence):
            return np.full(bgr.shape[:2], 1, np.uint8), np.full(bgr.shape[:2], 255, np.uint8)

    drive = propagation.open_drive(propagation.REPOSITORY / "rosbags" / "synthetic_drive", duration=0.5)
    counts = confidence_now.count("shipped", drive, Sure(), 170.0, frames=10)
    # Inferences begin with frames 0 and 5 and last five frames: 5 to 9 are carried to, 167 to 300 ms old.
    seen = [drive.masks[frame.stamp][::2, ::2] for frame in drive.frames[5:10]]
    assert counts.all.sum() == sum(((mask != 0) & (mask != 255)).sum() for mask in seen)
    assert counts.right.sum() == sum((mask == 1).sum() for mask in seen)
    assert counts.all[:31].sum() == 0 and counts.all[..., 2:5].sum() == counts.all.sum()
