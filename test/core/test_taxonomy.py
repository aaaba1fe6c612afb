"""Categories as data: from files, in label tables, in scores and in refusals."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.paths import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seg_node.core.errors import UserError
from seg_node.core.foreign.classes import read_classes
from seg_node.core.grouping import load_grouping
from seg_node.core.label_table import load_label_table, load_taxonomy, make_label_table, make_taxonomy
from seg_node.core.metrics import confusion_matrix, confusion_with_misses, scores
from seg_node.core.taxonomy import CATEGORY_NAMES, EIGHT, NO_LABEL, PALETTE_RGB, Taxonomy, colorize

LABELS = ROOT / "config" / "labels"
THREE = Taxonomy(("road", "grass", "sky"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))


def row(name: object = "road", colour: object = (1, 2, 3)) -> dict:
    return {"name": name, "colour": list(colour) if isinstance(colour, tuple) else colour}


def test_the_eight_are_one_table_among_the_shipped():
    assert load_taxonomy(LABELS / "cityscapes_categories.yaml") == EIGHT
    assert EIGHT.names == CATEGORY_NAMES and np.array_equal(EIGHT.palette, PALETTE_RGB)
    assert (EIGHT.headline, EIGHT.void, len(EIGHT.scored)) == ("miou_7", 0, 7)
    for file in sorted(LABELS.glob("*.yaml")):
        table = load_label_table(file)
        assert max(table._table[table._table < 254], default=0) < len(table.taxonomy)
    classes = load_label_table(LABELS / "cityscapes_classes.yaml")
    assert (len(classes.taxonomy), classes.taxonomy.headline, classes.taxonomy.void) == (19, "miou", None)
    ids = np.array([[0, 18, 255]], np.uint8)
    assert classes.to_categories(ids).tolist() == [[0, 18, NO_LABEL]]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (None, "is NoneType"),
        ("road", "is str"),
        ({"road": [1, 2, 3]}, "is dict"),
        ([], "is 0 entries"),
        ([row(f"c{n}") for n in range(255)], "is 255 entries; .* 1 to 254"),
        ([row(), "sky"], "category 1 is 'sky'; expected name and colour"),
        ([{"name": "road"}], "category 0 is .* expected name and colour"),
        ([row() | {"id": 3}], "category 0 is .* expected name and colour"),
        ([row("")], "category 0 has the name ''"),
        ([row(" road")], "category 0 has the name ' road'"),
        ([row("a" * 101)], "category 0 has the name"),
        ([row("a\n")], "category 0 has the name"),
        ([row("a"), row(False)], "category 1 has the name False"),
        ([row("a"), row(7)], "category 1 has the name 7"),
        ([row("a"), row("b"), row("a")], "category 2 is 'a', and so is category 0"),
        ([row(colour=(1, 2))], r"category 0 has the colour \[1, 2\]"),
        ([row(colour=(1, 2, 256))], r"category 0 has the colour \[1, 2, 256\]"),
        ([row(colour=(-1, 2, 3))], "category 0 has the colour"),
        ([row(colour=(1, 2, 3.5))], "category 0 has the colour"),
        ([row(colour=(True, 2, 3))], "category 0 has the colour"),
        ([row(colour="red")], "category 0 has the colour red"),
        ([row(colour=None)], "category 0 has the colour None"),
    ],
)
def test_what_is_no_list_of_categories_is_refused(rows, says):
    with pytest.raises(UserError, match="^mine.yaml: " + says):
        make_taxonomy("mine.yaml: category", rows)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("categories: [", "is not YAML"),
        ("labels: []", "lists no categories"),
        ("- {name: road}", "lists no categories"),
        ("3", "lists no categories"),
        ("", "lists no categories"),
        ("categories: {a: 1}", "is dict"),
    ],
)
def test_files_without_categories_are_refused(text, says, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=f"^{re.escape(str(file))}:? .*{says}|^{re.escape(str(file))} {says}"):
        load_taxonomy(file)
    file.write_bytes(b"\xff\xfe\x00categories")
    with pytest.raises(UserError, match="is not YAML"):
        load_taxonomy(file)


def table(**changes) -> dict:
    own = [{"name": name, "colour": list(rgb)} for name, rgb in zip(THREE.names, THREE.palette, strict=True)]
    return {"categories": own, "labels": [{"id": 7, "category": "grass"}, {"id": 255, "category": "ignore"}]} | changes


def test_label_tables_of_other_categories():
    found = make_label_table("mine", table())
    assert found.taxonomy == THREE
    assert found.to_categories(np.array([[7, 255]], np.uint8)).tolist() == [[1, NO_LABEL]]
    without = {"labels": table()["labels"]}
    assert make_label_table("mine", without, THREE).to_categories(np.full((1, 1), 7, np.uint8)) == 1
    with pytest.raises(ValueError, match="category is 'flat'; there are road, grass, sky, ignore"):
        make_label_table("mine", table(labels=[{"id": 0, "category": "flat"}]))
    with pytest.raises(ValueError, match="category is 'grass'; there are void"):
        make_label_table("mine", without)
    with pytest.raises(ValueError, match=r"categories of its own \(road, grass, sky\), not void, .*\(8 categories\)"):
        make_label_table("mine", table(), EIGHT)


def test_scores_of_other_categories_by_hand():
    truth = np.array([[0, 0, 0, 1, 1, NO_LABEL]], np.uint8)
    guess = np.array([[0, 0, 1, 1, NO_LABEL, 2]], np.uint8)
    found = scores(confusion_with_misses(truth, guess, 3), THREE)
    # road: 2 of 3; grass: 1 hit, 1 false alarm, 1 without an answer; sky occurs nowhere.
    assert found == {
        "miou": pytest.approx((200 / 3 + 100 / 3) / 2),
        "pixel_accuracy": pytest.approx(60.0),
        "iou": {"road": pytest.approx(200 / 3), "grass": pytest.approx(100 / 3), "sky": None},
    }
    with pytest.raises(ValueError, match=r"prediction holds id 3, which is no category \(0..2\)"):
        confusion_matrix(truth, np.full_like(truth, 3), 3)
    # The first category of others is no void: it counts, and so do its false alarms.
    assert scores(np.array([[5, 5], [0, 10]]), Taxonomy(("a", "b"), ((0, 0, 0),) * 2))["iou"]["b"] == pytest.approx(
        200 / 3
    )


def test_painting_with_other_colours():
    painted = colorize(np.array([[0, 2, 3, 255]], np.uint8), THREE)
    assert painted.tolist() == [[[3, 2, 1], [9, 8, 7], [255, 255, 255], [255, 255, 255]]]


def test_shipped_tables_are_what_their_names_say():
    for name in ("cityscapes_classes", "cityscapes_train_ids"):
        rows = yaml.safe_load(Path(LABELS / f"{name}.yaml").read_text())["labels"]
        assert [row["id"] for row in rows] == [*range(19), 255]
    own, eight = (load_label_table(LABELS / f"{n}.yaml") for n in ("cityscapes_classes", "cityscapes_train_ids"))
    names = [row.get("name") for row in yaml.safe_load((LABELS / "cityscapes_train_ids.yaml").read_text())["labels"]]
    assert own.taxonomy.names == tuple(names[:19]) and eight.taxonomy == EIGHT


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-300, 300), st.floats(), st.text(max_size=5), st.sampled_from(CATEGORY_NAMES)
)
_COLOURS = st.lists(st.integers(-1, 256), min_size=2, max_size=4)
_ROWS = st.lists(
    st.dictionaries(
        st.sampled_from(["name", "colour", "category", "id", "labels"]), st.one_of(_SCALARS, _COLOURS), max_size=4
    ),
    max_size=4,
)
_ANYTHING = st.recursive(
    st.one_of(_SCALARS, _ROWS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.sampled_from(["categories", "labels", "road", "void"]), st.integers()), inner, max_size=3
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=_ANYTHING)
def test_whatever_a_file_holds_is_taken_or_refused_by_name(document, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(document))
    for read in (load_taxonomy, load_label_table, load_grouping, read_classes):
        try:
            found = read(file)
        except ValueError as error:
            assert str(file) in str(error) and len(str(error)) < 2000
            continue
        taxonomy = EIGHT if read is load_grouping else found if read is load_taxonomy else found.taxonomy
        assert 1 <= len(taxonomy) <= 254 and len(set(taxonomy.names)) == len(taxonomy)
