"""A study: a grid of runs that is killed and resumed, and the figures of its table."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="torch is missing: install the training extra")

from helpers.paths import ROOT  # noqa: E402
from helpers.settings import assert_says_where_it_is_of  # noqa: E402

from seg_node.core.report.tables import signed  # noqa: E402
from seg_node.core.taxonomy import CATEGORY_NAMES  # noqa: E402
from seg_training.__main__ import main  # noqa: E402
from seg_training.commands.study import SHIPPED  # noqa: E402
from seg_training.study import cells, load_study, run_study  # noqa: E402
from seg_training.study_report import markdown_table, summarise, with_differences  # noqa: E402

SCENES = {"dataset": "synthetic", "size": [64, 96]}


def _study(tmp_path, **changes):
    study = {
        "question": "Which of two?",
        "base": {
            "encoder": "resnet18",
            "train": [SCENES | {"seeds": [0, 4]}],
            "input_size": [64, 96],
            "steps": 6,
            "batch_size": 2,
            "precision": "fp32",
            "threads": 1,
            "checkpoint_every": 1,
            "stages": [{"share": 1, "crop": [32, 64], "scale": [1, 1]}],
        },
        "variants": {"slow": {"learning_rate": 1e-4}, "fast": {"learning_rate": 0.01, "stages.0.scale": [0.5, 1]}},
        "evaluate": {"made up": SCENES | {"seeds": [4, 7]}, "others": SCENES | {"seeds": [7, 9]}},
        "seeds": [0, 1],
    }
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(study | changes, sort_keys=False))
    return path


def _iou(confusion, category):
    """From the definition; void is no false positive of another category."""
    hit = confusion[category, category]
    union = confusion[category].sum() + confusion[1:, category].sum() - hit
    return 100 * hit / union if union else None


def test_killed_and_resumed(tmp_path):
    """SIGKILL after the first cell, again the same command: no cell is trained twice, and the table is right."""
    path, out = _study(tmp_path), tmp_path / "out"
    command = [sys.executable, "-m", "seg_training", "study", str(path), "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first, second = (out / "cells" / name for name in ("slow-0", "fast-0"))
    deadline = time.monotonic() + 300
    while not (second / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the study ended before it could be killed"
    before = (first / "result.json").stat().st_mtime_ns
    assert not (first / "checkpoint.pt").exists()
    assert not (second / "result.json").exists()

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (first / "result.json").stat().st_mtime_ns == before
    assert [json.loads(line)["step"] for line in (second / "log.jsonl").read_text().splitlines()][-1] == 6
    results = json.loads((out / "results.json").read_text())
    for where in (*results["cells"], {"machine": json.loads((second / "environment.json").read_text())["setting"]}):
        assert_says_where_it_is_of(where)
    assert len(results["machines"]) == 1
    assert [(cell["variant"], cell["seed"]) for cell in results["cells"]] == [
        ("slow", 0),
        ("fast", 0),
        ("slow", 1),
        ("fast", 1),
    ]
    for name in ("made up", "others"):
        miou, iou = {}, {}
        for cell in results["cells"]:
            confusion = np.array(cell["figures"][name]["confusion"])
            assert confusion.sum() == (3 if name == "made up" else 2) * 64 * 96
            of_category = [_iou(confusion, category) for category in range(1, 8)]
            miou.setdefault(cell["variant"], []).append(np.mean([v for v in of_category if v is not None]))
            iou.setdefault(cell["variant"], []).append(of_category[0])
        for variant in ("slow", "fast"):
            row = results["summary"][name][variant]
            assert row["miou_7"]["mean"] == pytest.approx(np.mean(miou[variant]))
            assert row["miou_7"]["sd"] == pytest.approx(np.std(miou[variant], ddof=1))
            assert row["iou"]["flat"] == pytest.approx(np.mean(iou[variant]))
        gain = np.subtract(miou["fast"], miou["slow"])
        found = results["summary"][name]["fast"]["difference"]
        assert found["mean"] == pytest.approx(gain.mean())
        # Student's quantiles with one degree of freedom; of two differences the second one to be decided has 95 %.
        quantile = {0.975: 25.452, 0.95: 12.706}[round(found["level"], 3)]
        assert found["high"] - found["mean"] == pytest.approx(quantile * gain.std(ddof=1) / np.sqrt(2), rel=1e-3)
        expected = (
            f"| fast | {np.mean(miou['fast']):.1f} ± {np.std(miou['fast'], ddof=1):.1f} | {signed(gain.mean())} ("
        )
        assert expected in (out / "table.md").read_text()
        assert f"{np.mean(miou['slow']):.1f} ± " in done.stdout
    for plot in ("dots.png", "categories.png"):
        assert (out / plot).stat().st_size > 5000


def test_cells_differ_in_what_their_variant_says(tmp_path):
    grid = cells(load_study(_study(tmp_path)), tmp_path / "out", ["steps=3"])
    assert [(c.config.name, c.config.seed, c.config.learning_rate) for c in grid] == [
        ("slow-0", 0, 1e-4),
        ("fast-0", 0, 0.01),
        ("slow-1", 1, 1e-4),
        ("fast-1", 1, 0.01),
    ]
    assert [cell.config.stages[0].scale for cell in grid[:2]] == [[1, 1], [0.5, 1]]
    assert {cell.config.steps for cell in grid} == {3}


@pytest.mark.parametrize("name", ["augmentation", "backbone", "loss"])
def test_shipped_studies(name, tmp_path):
    """Every variant is a valid configuration, over at least three seeds and both data sets."""
    study = load_study(SHIPPED / f"{name}.yaml", {"camvid": "/there"})
    grid = cells(study, tmp_path)
    assert len(grid) == len(study.variants) * len(study.seeds) >= 3 * 7
    assert all(spec["root"] == "/there" for cell in grid for spec in cell.config.train if spec["dataset"] == "camvid")
    assert [spec["root"] for spec in study.evaluate.values()] == ["/there"] * 2
    changed = {yaml.safe_dump(vars(cell.config) | {"name": "", "stages": str(cell.config.stages)}) for cell in grid}
    assert len(changed) == len(grid), "two variants are the same"


def test_another_study_in_the_same_folder_is_refused(tmp_path):
    study = load_study(_study(tmp_path), variants=["slow"], seeds=[0])
    out = tmp_path / "out"
    run_study(study, out, ["steps=1"])
    with pytest.raises(ValueError, match="is of another configuration; give another --out"):
        run_study(study, out, ["steps=2"])


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"variants": {}}, [], "variants is empty"),
        ({"colour": 1}, [], "colour"),
        ({"variants": {"odd": {"stepz": 1}}}, [], "variant odd: unknown key stepz"),
        ({}, ["--variants", "medium"], "no variant medium; there are slow, fast"),
    ],
)
def test_errors(tmp_path, capsys, changes, options, message):
    assert main(["study", str(_study(tmp_path, **changes)), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def _summary(**variants):
    """A summary of one data set, with the scores of each variant by seed."""
    return {"summary": {"val": {name: {"miou_7": {"values": dict(enumerate(v))}} for name, v in variants.items()}}}


def test_a_difference_of_a_hand_computed_case():
    # Differences 1, 3: mean 2, standard deviation sqrt 2, so the half width is 12.706 * sqrt(2) / sqrt(2).
    found = with_differences(_summary(a=(10.0, 5.0), b=(11.0, 8.0)), "a")
    row = found["summary"]["val"]["b"]["difference"]
    assert (row["mean"], row["high"] - 2, 2 - row["low"]) == pytest.approx((2, 12.706, 12.706), rel=1e-4)
    assert (found["differences"], row["level"], found["summary"]["val"]["a"]["difference"]) == (1, 0.95, None)
    alone = with_differences(_summary(a=(1.0,), b=(2.0,)), "a")
    assert alone["summary"]["val"]["b"]["difference"] == {"mean": 1.0, "low": None, "high": None, "level": None}
    assert alone["differences"] == 0


def test_the_best_of_many_differences_is_held_against_all_of_them():
    """Six variants, two sets: what is clear as one difference is not as the best of twelve."""
    plain, better = (33.0, 32.0, 34.5), (37.0, 37.4, 38.4)
    alone = with_differences(_summary(plain=plain, better=better), "plain")["summary"]["val"]["better"]["difference"]
    assert alone["low"] > 0
    others = {f"other {i}": [v + d for v, d in zip(plain, (1.0, -2.0, 0.5), strict=True)] for i in range(5)}
    rows = _summary(plain=plain, better=better, **others)["summary"]["val"]
    family = with_differences({"summary": {"val": rows, "other": rows}}, "plain")
    row = family["summary"]["val"]["better"]["difference"]
    assert family["differences"] == 12 and row["mean"] == alone["mean"]
    # Student's quantile of two degrees at 1 - 0.05 / 24 is 15.47, at 97.5 % 4.303.
    assert row["high"] - row["mean"] == pytest.approx((alone["high"] - alone["mean"]) * 15.47 / 4.303, rel=1e-2)
    assert row["low"] < 0


def test_no_variant_of_equal_ones_is_told_from_chance_more_often_than_promised():
    """Studies of six equal variants on two sets, three seeds: uncorrected, a third and more of them find something."""
    rng, found, uncorrected = np.random.default_rng(2), 0, 0
    for _ in range(200):
        rows = {d: _summary(**{v: rng.normal(40, 2, 3).tolist() for v in "abcdefg"})["summary"]["val"] for d in "xy"}
        for data in rows:
            one = [with_differences({"summary": {data: {v: rows[data][v] for v in ("a", w)}}}, "a") for w in "bcdefg"]
            if any(_tells(study) for study in one):
                uncorrected += 1
                break
        found += _tells(with_differences({"summary": rows}, "a"))
    # 200 at 5 %: more than 20 have a probability below 1 in 500.
    assert found <= 20 and uncorrected > 50


def _tells(study):
    differences = [row["difference"] for rows in study["summary"].values() for row in rows.values()]
    return any(d and d["low"] * d["high"] > 0 for d in differences)


def test_machines_of_a_study_are_those_of_its_cells():
    figures = {"val": {"miou_7": 50.0, "iou": dict.fromkeys(CATEGORY_NAMES[1:], 50.0)}}
    here = {"cpu": "a processor", "cores": 2, "instructions": ["avx2"], "commit": "abc", "dirty": False}
    settings = [here | {"gflops": 1.0}, here | {"gflops": 2.0}, here | {"gpu": "a card"}]
    made = [{"variant": "a", "seed": i, "figures": figures, "machine": s} for i, s in enumerate(settings)]
    assert summarise(made, ["a"], ["val"])["machines"] == [settings[1], settings[2]]


def test_categories_and_variants_that_are_missing():
    """A category without pixels stays out of its mean; a variant without a finished cell out of the table."""
    figures = {"miou_7": 50.0, "iou": dict.fromkeys(CATEGORY_NAMES[1:], 50.0)}
    absent = {"miou_7": 40.0, "iou": figures["iou"] | {"human": None}}
    made = [
        {"variant": "a", "seed": 0, "figures": {"val": figures}},
        {"variant": "a", "seed": 1, "figures": {"val": absent}},
    ]
    found = summarise(made, ["a", "b"], ["val"])
    assert found["summary"]["val"]["a"]["iou"]["human"] == 50.0
    assert list(found["summary"]["val"]) == ["a"]
    text = markdown_table({"question": "?", "seeds": [0, 1]} | found)
    assert "| a | 45.0 ± 7.1 | - | 50.0 |" in text
