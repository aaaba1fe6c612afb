"""Model cards say what manifests say."""

import dataclasses

import pytest

pytest.importorskip("torch", reason="torch is missing: install the training extra")

from seg_node.core.bundle import load_bundle, shipped_bundles  # noqa: E402
from seg_training.__main__ import main  # noqa: E402
from seg_training.model_card import CARD, model_card  # noqa: E402


@pytest.mark.parametrize("name", shipped_bundles())
def test_cards_of_shipped_bundles_are_current(name):
    bundle = load_bundle(name)
    assert (bundle.path / CARD).read_text() == model_card(bundle.manifest), f"python -m seg_training card {name}"


@pytest.fixture(scope="module")
def manifest():
    return load_bundle("fpn_resnet50").manifest


def test_terms_scores_and_failures_are_those_of_the_manifest(manifest):
    iou = {"void": 0.0, "flat": 98.1, "human": 12.3, "object": None}
    figures = {"data": "a road", "computed_in": "int8", "miou_7": 61.25, "miou_7_ci": [60.0, 62.5], "iou": iou}
    card = model_card(
        dataclasses.replace(
            manifest,
            metrics={"one": figures, "two": {**figures, "data": "a lane", "iou": {**iou, "human": 40.3}}},
            commercial_use="not cleared: x",
            encoder_weights="a hub, cc0",
        )
    )
    assert "| a road | int8 | 61.2 (60.0 to 62.5) | 98.1 | - | - | - | - | 12.3 | - |" in card
    assert "- Commercial use: not cleared: x\n- Encoder weights: a hub, cc0\n" in card
    assert "- a road, int8: human 12 % IoU." in card
    assert "`human` differs by 28 points" in card


def test_what_is_not_stated_is_not_made_up(manifest):
    bare = dataclasses.replace(manifest, metrics={}, quantisation={}, training={}, licence="", commercial_use="")
    card = model_card(bare)
    assert "- Licence of the file: not stated" in card and "- Commercial use: not cleared\n" in card
    assert "The bundle was not scored." in card and "int8" not in card


def test_command_writes_into_the_bundle(tmp_path, capsys):
    from seg_node.core.bundle import write_bundle

    shipped = load_bundle("fpn_resnet50")
    write_bundle(tmp_path / "mine", shipped.manifest, shipped.graph, shipped.ranges)
    assert main(["card", str(tmp_path / "mine")]) == 0
    assert str(tmp_path / "mine" / CARD) in capsys.readouterr().out
    assert (tmp_path / "mine" / CARD).read_text() == model_card(shipped.manifest)
