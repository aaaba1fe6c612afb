"""The tuning as a whole with made-up nodes, and once, small, with real ones."""

import contextlib
import dataclasses
import json
import re

import numpy as np
import pytest
import tune_exhaustive
from helpers.blue_bundle import blue_bundle
from helpers.paths import DRIVE

from seg_node.__main__ import main
from seg_node.bags.drive import open_drive
from seg_node.bags.images import decode
from seg_node.commands import tune as command
from seg_node.core.bundle import load_bundle
from seg_node.core.errors import RunError, UserError
from seg_node.core.profile.file import read_profile
from seg_node.core.profile.fit import misfit
from seg_node.rig.node_process import NodeError
from seg_node.tune import screen as screening
from seg_node.tune import tuning as module
from seg_node.tune.candidates import Candidate, Setting, input_sizes, settings_at_own_size, thread_counts
from seg_node.tune.choice import Asked
from seg_node.tune.final import behind, final_row
from seg_node.tune.plan import make_plan
from seg_node.tune.reference import best_offline
from seg_node.tune.report import to_html, to_text
from seg_node.tune.result import make_result
from seg_node.tune.screen import measure, screen
from seg_node.tune.state import State
from seg_node.tune.trial import run_trial, score
from seg_node.tune.tuning import Tuning

CATEGORIES = 7
ANYTHING = Asked()
ABOUT = {
    "created": "2026-11-29T12:00:00+00:00",
    "machine": {"cpu": "a processor", "cores": 2},
    "drive": {"path": "a drive", "frames": 60, "width": 640, "height": 360, "rate_hz": 30.0, "truth": "ground truth"},
    "asked": {"deadline_ms": None},
    "duration_s": 1.0,
}


@pytest.fixture(scope="module")
def drive():
    whole = open_drive(DRIVE)
    return dataclasses.replace(whole, frames=whole.frames[:60])


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("fpn_lite")


def columns(drive, points):
    """Instants that score so many points, percent."""
    hits = np.full(CATEGORIES, round(100 * points)).tolist()
    count = len(drive.frames)
    unions = [[10_000] * CATEGORIES] * count
    return {"stamp": [f.stamp for f in drive.frames], "hits": [hits] * count, "unions": unions, "use_ms": 100.0}


class Nodes:
    """Made-up nodes: ``table`` has score of ``~/mask`` and of ``~/mask_now`` and age by setting; None fails."""

    def __init__(self, table):
        self.table = table
        self.played = []

    def make(self, setting, drive, log, listen):
        return setting

    def trial(self, drive, truth, setting, folder, listen):
        self.played.append((setting, listen, len(drive.frames)))
        found = self.table(setting)
        if found is None:
            raise NodeError("the node died; its last output:\nmany lines")
        mask, now, age = found
        topics = {"mask": columns(drive, mask)} | ({"mask_now": columns(drive, now)} if listen else {})
        inference = {"p05": age - 5.0, "p50": age - 4.0, "p95": age - 3.0}
        figures = {"masks_per_s": 10.0, "cpu_cores": 1.0, "rss_mb": 300, "faults": []}
        return {"scored": topics, "age_ms": {"p50": age, "p95": age}, "inference_ms": inference} | figures


@pytest.fixture
def tune(drive, bundle, tmp_path, monkeypatch):
    """Tune with made-up nodes and bare figures: ``tune(nodes, bare, asked) -> Tuning``, run to its end."""

    def start(nodes, bare, asked=ANYTHING, minutes=30.0, cores=2, against=None, run=Tuning.run):
        monkeypatch.setattr(module, "run_trial", nodes.trial)

        def found(*_):
            for setting, (time, miou) in bare.items():
                yield setting, {"setting": setting.key, "inference_ms": time, "miou_7": miou, "refusal": ""}

        monkeypatch.setattr(module, "screen", found)
        plan = make_plan(minutes, drive.duration, len(thread_counts(cores)), int(against is not None))
        state = State(tmp_path / "state.json", {})
        engines = ["onnxruntime"]
        one = Tuning(
            drive, drive.masks, {"fpn_lite": bundle}, engines, cores, asked, plan, state, nodes.make, tmp_path, against
        )
        run(one)
        return one

    return start


def settings(count):
    """Settings whose first is the fastest and the least accurate."""
    return [Setting("fpn_lite", "onnxruntime", "fp32", (32 * (i + 1), 64)) for i in range(count)]


BARE = {s: (10.0 * (i + 1), 60.0 + i) for i, s in enumerate(settings(8))}


def made_up(setting, thread_gain=0.0):
    """The mask of now is best in the middle; a mask by itself is the better the younger it is."""
    i = setting.input_size[0] // 32 - 1
    return 50.0 - i, 70.0 - (i - 4) ** 2 + thread_gain * bool(setting.threads), 15.0 * (i + 1)


def test_the_best_of_all_wins(tune):
    nodes = Nodes(made_up)
    found = tune(nodes, BARE).found
    assert found.finals[0]["candidate"] == Candidate(settings(8)[4], True).key
    assert found.finals[0]["score"] == pytest.approx(70.0) and found.finals[0]["behind"] is None
    assert all(row["behind"]["points"] >= 0 for row in found.finals[1:])
    # Every setting was in a real node once, and only few of them on the whole drive.
    assert {setting for setting, *_ in nodes.played} >= set(BARE)
    assert len({setting for setting, _, frames in nodes.played if frames == 60}) <= len(BARE)


def test_threads_are_varied_for_the_best(tune):
    gain = tune(Nodes(lambda s: made_up(s, 2.0)), BARE).found
    assert gain.finals[0]["candidate"] == Candidate(dataclasses.replace(settings(8)[4], threads=1), True).key
    assert gain.finals[0]["score"] == pytest.approx(72.0)


def test_a_node_that_dies_is_noted_and_loses(tune):
    dead = settings(8)[4]
    found = tune(Nodes(lambda s: None if s.input_size == dead.input_size else made_up(s)), BARE).found
    assert found.finals[0]["candidate"] in {Candidate(settings(8)[i], True).key for i in (3, 5)}
    assert f"{dead.key}: the node died; its last output:" in found.notes


def test_where_every_node_dies_that_is_an_error(tune):
    with pytest.raises(RunError, match="no node masked a frame of .*the node died"):
        tune(Nodes(lambda s: None), BARE)


def test_where_no_setting_can_be_made_that_is_an_error(tune):
    with pytest.raises(RunError, match="no model can be run here: there is no engine"):
        tune(Nodes(made_up), {})


@pytest.mark.parametrize(("deadline", "winner"), [(50.0, 2), (200.0, 4), (16.0, 0), (61.0, 3)])
def test_a_deadline_names_another_winner(tune, deadline, winner):
    found = tune(Nodes(made_up), BARE, Asked(deadline)).found
    assert found.finals[0]["candidate"] == Candidate(settings(8)[winner], True).key
    assert found.finals[0]["age_ms"] <= deadline


def test_a_deadline_that_nobody_meets_says_what_comes_nearest(tune):
    found = tune(Nodes(made_up), BARE, Asked(5.0)).found
    result = make_result(found, Asked(5.0), ABOUT)
    nearest = Candidate(settings(8)[0], True).key
    assert (result["winner"], result["meets"]) == (nearest, False)
    assert f"nothing that was tried gives masks within 5 ms; {nearest} comes nearest" in result["why"]
    assert "within 15 ms" in to_text(result)


def test_a_least_score_is_met_by_the_youngest_masks(tune):
    found = tune(Nodes(made_up), BARE, Asked(None, 65.0)).found
    assert found.finals[0]["candidate"] == Candidate(settings(8)[2], True).key


def test_what_it_is_compared_against_never_wins(tune):
    against = Setting("fpn_lite", "auto", "auto", (0, 0))
    nodes = Nodes(lambda s: (99.0, 99.0, 1.0) if s == against else made_up(s))
    found = tune(nodes, BARE, against=against).found
    assert found.finals[0]["candidate"] == Candidate(settings(8)[4], True).key
    assert found.finals[-1]["candidate"] == "fpn_lite auto auto own size, ~/mask"
    assert found.finals[-1]["behind"]["points"] == pytest.approx(-29.0)
    assert all(not listen for setting, listen, _ in nodes.played if setting == against)


def test_it_goes_on_where_it_was_ended(tune):
    """Ended after each trial, it measures each of them once and comes to the same end."""
    nodes, patience = Nodes(made_up), 0
    play = nodes.trial

    def trial(*given):
        nonlocal patience
        if not patience:
            raise KeyboardInterrupt
        patience -= 1
        return play(*given)

    nodes.trial = trial
    done = None
    while done is None:
        patience = 1
        with contextlib.suppress(KeyboardInterrupt):
            done = tune(nodes, BARE, minutes=6.0)
    assert done.found.finals[0]["candidate"] == Candidate(settings(8)[4], True).key
    assert len(nodes.played) == done.state.resumed + 1 - patience


def test_what_was_known_when_it_was_ended_is_reported(tune):
    nodes = Nodes(made_up)
    play = nodes.trial

    def trial(*given):
        if len(nodes.played) == 3:
            raise KeyboardInterrupt
        return play(*given)

    nodes.trial = trial
    kept = []
    with pytest.raises(KeyboardInterrupt):
        tune(nodes, BARE, run=lambda one: kept.append(one) or one.run())
    result = make_result(kept[0].found, Asked(), ABOUT)
    assert (result["winner"], result["meets"], len(result["screened"])) == (None, False, 8)
    assert "no winner: the finals were not reached" in to_text(result)
    assert "fpn_lite onnxruntime fp32 32x64" in to_html(result)


def test_page_and_text_have_the_figures(tune):
    result = make_result(
        tune(Nodes(made_up), BARE, Asked(200.0)).found, Asked(200.0), ABOUT | {"asked": {"deadline_ms": 200.0}}
    )
    text, page = to_text(result), to_html(result)
    winner = settings(8)[4].key
    assert re.search(rf"^{re.escape(winner)}\s+~/mask_now\s+70\.0\s+70\.0 to 70\.0", text, re.MULTILINE)
    assert "every miou_7 here is against ground truth" in text
    assert f"{winner}, ~/mask_now: a streaming miou_7 of 70.0 (95% interval 70.0 to 70.0)" in page
    assert "Asked was masks within 200 ms, and scores are against ground truth" in page
    assert "deadline, 200 ms" in page and f"{winner}, ~/mask_now 70.0 % at 75 ms" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)


@pytest.mark.parametrize(("winner", "kept"), [(2, True), (0, False)])
def test_exhaustively_measured_a_winner_is_found_to_be_the_best_or_not(tune, winner, kept):
    def table(setting):
        if setting.threads or setting.precision != "fp32":
            return None
        place = tune_exhaustive.input_sizes(load_bundle("fpn_lite")).index(setting.input_size)
        return 50.0, 70.0 - abs(place - 2), 30.0

    sizes = input_sizes(load_bundle("fpn_lite"))
    key = Candidate(Setting("fpn_lite", "onnxruntime", "fp32", sizes[winner]), True).key
    found = {}
    nodes = Nodes(table)
    tune(nodes, {}, run=lambda one: found.update(tune_exhaustive.measure(one, key)))
    assert (found["winner"], found["kept"]) == (key, kept)
    assert found["best"] == Candidate(Setting("fpn_lite", "onnxruntime", "fp32", sizes[2]), True).key
    # Every engine, precision, size and number of threads that there is, each once with the whole drive.
    assert len({setting for setting, *_ in nodes.played}) == 2 * len(sizes) * 2
    assert len(found["trials"]) == 2 * len(sizes)
    with pytest.raises(UserError, match="is no candidate here"):
        tune(nodes, {}, run=lambda one: tune_exhaustive.measure(one, "something else"))


def test_differences_are_paired(drive):
    """A slow process of both makes no interval wide."""
    first, second = Candidate(settings(1)[0], True), Candidate(settings(1)[0], False)

    def runs(name, offset):
        values = [60.0, 70.0, 40.0]
        figures = {"age_ms": {"p95": 9.0}, "inference_ms": None, "masks_per_s": 1.0, "cpu_cores": None, "rss_mb": 1}
        return [figures | {"scored": {name: columns(drive, value + offset)}} for value in values]

    times = {frame.stamp: frame.log_time / 1e9 for frame in drive.frames}
    found = behind((first, runs("mask_now", 1.0)), (second, runs("mask", 0.0)), times)
    assert (found["points"], found["low"], found["high"]) == pytest.approx((1.0, 1.0, 1.0), abs=1e-6)
    with pytest.raises(ValueError):
        final_row(first, runs("mask_now", 0.0))
    assert behind((first, runs("mask_now", 1.0)[:1]), (second, runs("mask", 0.0)[:1]), times) is None


def test_score_is_that_of_one_confusion_matrix(drive):
    assert score(columns(drive, 62.5)) == pytest.approx(62.5)
    assert score({"stamp": [], "hits": [], "unions": []}) is None


def test_state_of_something_else_is_begun_anew_and_a_damaged_one_refused(tmp_path):
    file = tmp_path / "state.json"
    State(file, {"drive": "one"}).remember("a", lambda: {"x": 1})
    again = State(file, {"drive": "one"})
    assert again.resumed == 1 and again.knows("a") and again.remember("a", lambda: 1 / 0) == {"x": 1}
    other = State(file, {"drive": "two"})
    assert other.resumed == 0 and not other.knows("a")
    for content in ("{", "[]", '{"about": {"drive": "one"}}', '{"about": {"drive": "one"}, "rows": 3}'):
        file.write_text(content)
        with pytest.raises(UserError, match="is no state of `seg_node tune`"):
            State(file, {"drive": "one"})


def test_what_is_tried_of_a_bundle(bundle, tmp_path):
    sizes = input_sizes(bundle)
    assert sizes == [(448, 796), (381, 677), (314, 557), (224, 398)]
    found = {(s.engine, s.precision) for s in settings_at_own_size({"m": bundle}, ["openvino", "onnxruntime", "torch"])}
    assert ("onnxruntime", "bf16") not in found and ("torch", "int8") not in found and len(found) == 7
    fixed = blue_bundle(tmp_path)
    assert input_sizes(fixed) == [(96, 128)]
    assert {s.precision for s in settings_at_own_size({"m": fixed}, ["openvino"])} == {"fp32", "bf16"}
    assert [thread_counts(cores) for cores in (1, 2, 3, 4, 16)] == [[], [1], [2, 1], [3, 2], [15, 8]]


@pytest.fixture
def screened(monkeypatch, bundle):
    """Screen bundles with made-up times at their own size: ``screened(times, bundles, until) -> rows by setting``."""

    def start(times, work=(("m", 1.0),), until=lambda: False):
        def measured(bundle, setting, sample, beaten=None):
            time = times[setting.model, setting.engine, setting.precision] * setting.input_size[0] / 448
            scored = beaten is None or time < beaten
            return {"setting": setting.key, "inference_ms": time, "miou_7": 70.0 if scored else None, "refusal": ""}

        monkeypatch.setattr(screening, "measure", measured)
        bundles = {
            model: dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, gflops=gflops))
            for model, gflops in work
        }
        engines = ["openvino", "onnxruntime"]
        return dict(screen(bundles, engines, [], lambda key, make: make(), until))

    return start


TIMES = {
    ("openvino", "int8"): 30,
    ("openvino", "bf16"): 40,
    ("openvino", "fp32"): 79,
    ("onnxruntime", "int8"): 35,
    ("onnxruntime", "fp32"): 95,
}


def test_a_slower_engine_of_the_same_masks_is_not_tried_at_other_sizes(screened):
    found = screened({("m", *kind): time for kind, time in TIMES.items()})
    own = [s for s in found if s.input_size == (448, 796)]
    others = [s for s in found if s not in own]
    assert len(own) == 5 and len(others) == 6
    assert {(s.engine, s.precision) for s in others} == {("openvino", "int8"), ("openvino", "bf16")}


def test_what_is_hopeless_on_a_light_bundle_is_not_tried_on_a_heavy_one(screened):
    times = {
        (model, *kind): time * factor for model, factor in (("light", 1), ("heavy", 9)) for kind, time in TIMES.items()
    }
    del times["heavy", "onnxruntime", "fp32"]
    found = screened(times, (("heavy", 9.0), ("light", 1.0)))
    row = next(row for s, row in found.items() if (s.model, s.engine, s.precision) == ("heavy", "onnxruntime", "fp32"))
    assert row["inference_ms"] is None
    assert row["refusal"] == "not measured: on light another one was as exact and 2.4 times as fast"
    # What is slower by less is another matter on another network.
    assert any(
        (s.model, s.engine, s.precision) == ("heavy", "openvino", "fp32") and row["inference_ms"]
        for s, row in found.items()
    )


def test_with_the_time_up_each_bundle_has_one_setting(screened):
    times = {(model, *kind): time for model in "ab" for kind, time in TIMES.items()}
    found = screened(times, (("a", 1.0), ("b", 2.0)), until=lambda: True)
    assert [(s.model, s.engine, s.precision) for s in found] == [("a", "openvino", "int8"), ("b", "openvino", "int8")]


def test_bare_figures_of_a_real_engine(drive, tmp_path):
    bundle = blue_bundle(tmp_path)
    scene = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    truth = scene[..., 0] // 32
    setting = Setting(str(bundle.path), "onnxruntime", "fp32", (96, 128), 1)
    row = measure(bundle, setting, [(scene, truth)])
    assert row["inference_ms"] > 0 and row["miou_7"] == 100.0 and row["refusal"] == ""
    assert measure(bundle, setting, [(scene, truth)], beaten=1e-6)["miou_7"] is None
    refused = measure(bundle, dataclasses.replace(setting, precision="int8"), [(scene, truth)])
    assert refused["inference_ms"] is None and "has no int8.json" in refused["refusal"]


def test_the_best_offline_by_common_sets_or_else_by_work(bundle):
    def with_metrics(gflops, **sets):
        metrics = {name: {"miou_7": value} for name, value in sets.items()}
        return dataclasses.replace(
            bundle, manifest=dataclasses.replace(bundle.manifest, metrics=metrics, gflops=gflops)
        )

    assert best_offline({"a": with_metrics(1.0, x=70.0, y=99.0), "b": with_metrics(1.0, x=71.0)}) == "b"
    assert best_offline({"a": with_metrics(1.0, x=70.0), "b": with_metrics(9.0)}) == "a"
    assert best_offline({"a": with_metrics(1.0), "b": with_metrics(9.0)}) == "b"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.mp4", "--bag", "b"], "name one drive: a.mp4, or that of --bag or --video"),
        (["--models", "missing"], "no bundle 'missing'"),
        (["--against", "missing"], "no bundle 'missing'"),
        (["--forecast", "201"], "--forecast must be from 0 to 200 ms, not 201"),
        (["missing.mcap"], "missing.mcap"),
    ],
)
def test_wrong_input_is_refused(ros, arguments, message, tmp_path, capsys):
    assert main(["tune", *arguments, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--deadline", "--minimum-miou", "--minutes"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
def test_numbers_are_above_zero(option, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["tune", f"{option}={value}"])
    assert "is no number above 0" in capsys.readouterr().err


def test_the_command_is_ended_goes_on_and_is_asked_something_else(ros, drive, tmp_path, monkeypatch, capsys):
    """A small tuning with made-up trials: what it writes, prints and returns, and its profile is taken."""
    bundle = blue_bundle(tmp_path)
    monkeypatch.setattr(command, "load_drive", lambda *_, **__: drive)
    out = tmp_path / "out"
    arguments = ["tune", "--models", str(bundle.path), "--engines", "onnxruntime", "--out", str(out)]
    nodes = Nodes(lambda setting: (50.0, 60.0, 30.0))
    patient = False

    def trial(*given):
        if not patient and nodes.played:
            raise KeyboardInterrupt
        return nodes.trial(*given[:2], None, *given[3:])

    monkeypatch.setattr(module, "run_trial", trial)
    assert main(arguments) == 130
    said = capsys.readouterr()
    assert "interrupted: no profile is written; the same command goes on" in said.err
    assert "no winner" in said.out and (out / "tune.html").exists() and not (out / "profile.yaml").exists()
    assert len(json.loads((out / "tune.json").read_text())["trials"]) == 2

    patient = True
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "going on with 2 measurements" in said and f"seg_node node --profile {out / 'profile.yaml'}" in said
    result = json.loads((out / "tune.json").read_text())
    assert result["meets"] and result["winner"] == result["finals"][0]["candidate"]
    assert {row["topic"] for row in result["trials"]} == {"~/mask", "~/mask_now"}
    profile = read_profile(out / "profile.yaml")
    assert misfit(profile) == "" and profile.settings["model"] == str(bundle.path.resolve())
    assert (profile.settings["propagate"], profile.values["topic"]) == (True, "~/mask_now")
    assert profile.band == (pytest.approx(25.0 / 1.25), pytest.approx(27.0 * 1.25))
    assert profile.values["drive"]["truth"] == "ground truth of /camera/mask/compressed"
    assert main(["profile", "show", str(out / "profile.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "a node here takes it" in shown and "60.0 to 60.0" in shown

    (out / "profile.yaml").unlink()
    assert main([*arguments, "--deadline", "20"]) == 3
    said = capsys.readouterr()
    assert "nothing that was tried gives masks within 20 ms" in said.out and not (out / "profile.yaml").exists()
    assert "no profile is written: nothing meets what is asked" in said.err


def test_one_trial_in_the_real_node(ros, drive, tmp_path):
    """A network whose masks are known: what its trial says is what a slow reference makes of the drive."""
    bundle = blue_bundle(tmp_path)
    setting = Setting(str(bundle.path), "onnxruntime", "fp32", (96, 128), 1)
    short = dataclasses.replace(drive, frames=drive.frames[:40])
    truth = {frame.stamp: (decode(frame)[..., 0] // 32).astype(np.uint8) for frame in short.frames}
    node = command._node(setting, short, tmp_path / "node.log", True, 33.0)
    row = run_trial(short, truth, node, tmp_path, True)
    assert row["faults"] == []
    for topic in ("mask", "mask_now"):
        columns = row["scored"][topic]
        assert columns["stamp"] == [frame.stamp for frame in short.frames[20:]]
        assert 0 < score(columns) <= 100 and columns["use_ms"] > 0
        assert np.shape(columns["hits"]) == np.shape(columns["unions"]) == (20, CATEGORIES)
    assert 0 < row["inference_ms"]["p05"] <= row["inference_ms"]["p95"] <= row["age_ms"]["p95"]
    assert row["masks_per_s"] > 0 and row["cpu_cores"] > 0 and row["rss_mb"] > 10
