"""Datasets: categories of every label value, and each bad input named at the start."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

pytest.importorskip("torch", reason="torch is missing: install the training extra")

from helpers.paths import ROOT

from seg_node.core.label_table import LabelTable, load_label_table  # noqa: E402
from seg_node.core.taxonomy import NO_LABEL, Category  # noqa: E402
from seg_training.datasets import open_dataset  # noqa: E402
from seg_training.datasets.camvid import CLASSES, CamVid  # noqa: E402
from seg_training.datasets.cityscapes import LABELS, Cityscapes  # noqa: E402
from seg_training.datasets.folder import LabelledFolder  # noqa: E402
from seg_training.datasets.synthetic import SyntheticDrive  # noqa: E402

TABLES = ROOT / "config" / "labels"


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def image(height: int = 4, width: int = 6) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


@pytest.fixture
def camvid(tmp_path):
    """Two drives of two frames each in train; every label is sky."""
    for name in ("0001TP_1", "0001TP_2", "0016E5_1", "0016E5_2"):
        write(tmp_path / "train" / "images" / f"{name}.png", image())
        write(tmp_path / "train" / "labels" / f"{name}.png", np.zeros((4, 6), np.uint8))
    return tmp_path


# CamVid


def test_camvid_classes(camvid):
    label = np.arange(12, dtype=np.uint8).reshape(2, 6).repeat(2, axis=0)
    write(camvid / "train" / "labels" / "0001TP_1.png", label)
    pixels, mask = CamVid(camvid, "train")[0]
    assert (pixels.shape, pixels.dtype, mask.dtype) == ((4, 6, 3), np.uint8, np.uint8)
    # sky, building, pole, road, pavement, tree / sign_symbol, fence, car, pedestrian, bicyclist, unlabelled
    assert mask[::2].tolist() == [[5, 2, 3, 1, 1, 4], [3, 2, 7, 6, 6, 255]]


def test_drives_are_held_out_whole(camvid):
    kept = CamVid(camvid, "train", exclude=["0001TP"])
    held = CamVid(camvid, "train", drives=["0001TP"])
    assert kept.names == ["0016E5_1", "0016E5_2"]
    assert held.names == ["0001TP_1", "0001TP_2"]
    assert kept.description == "CamVid train without drive 0001TP (2 images)"
    assert held.description == "CamVid train, drive 0001TP only (2 images)"
    assert CamVid(camvid, "train").description == "CamVid train (4 images)"
    with pytest.raises(ValueError, match=r"exclude is \['Seq05VD'\]; expected a list of .*: 0001TP, 0016E5"):
        CamVid(camvid, "train", exclude=["Seq05VD"])
    with pytest.raises(ValueError, match="drives is '0001TP'; expected a list"):
        CamVid(camvid, "train", drives="0001TP")
    with pytest.raises(ValueError, match="leaves nothing"):
        CamVid(camvid, "train", drives=["0001TP"], exclude=["0001TP"])


def test_missing_files(camvid):
    with pytest.raises(FileNotFoundError, match="nowhere.*expected CamVid as ROOT"):
        CamVid(camvid / "nowhere", "train")
    (camvid / "val" / "images").mkdir(parents=True)
    with pytest.raises(
        FileNotFoundError, match="val/images holds no image, such as .jpg or .png: .*: 0 files = 0 used"
    ):
        CamVid(camvid, "val")
    (camvid / "train" / "labels" / "0016E5_1.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 of the 4 images of CamVid train have no label, first: .*16E5_1.png"):
        CamVid(camvid, "train")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.full((4, 6), 12, np.uint8), "0016E5_1.png holds id 12; CamVid has 0..11"),
        (np.zeros((4, 6, 3), np.uint8), "0016E5_1.png has 3 channels of uint8; CamVid needs one channel of 8-bit ids"),
        (np.zeros((4, 6), np.uint16), "0016E5_1.png has 1 channels of uint16; CamVid needs one channel of 8-bit ids"),
        (np.zeros((4, 5), np.uint8), "0016E5_1.png is 5x4, its image .*images/0016E5_1.png 6x4"),
        (None, "cannot decode .*labels/0016E5_1.png"),
    ],
    ids=["unknown id", "colours", "16 bits", "size", "junk"],
)
def test_bad_labels_are_named_at_the_start_and_when_read(camvid, label, message):
    path = camvid / "train" / "labels" / "0016E5_1.png"
    path.write_bytes(b"junk") if label is None else write(path, label)
    with pytest.raises(ValueError, match=f"1 of 4 pairs are unusable, first: .*{message}"):
        open_dataset({"dataset": "camvid", "root": camvid, "split": "train"}, progress=False)
    with pytest.raises(ValueError, match=message):
        CamVid(camvid, "train")[2]


def test_bad_image_is_named(camvid):
    path = camvid / "train" / "images" / "0016E5_1.png"
    path.write_bytes(b"junk")
    for attempt in (lambda: CamVid(camvid, "train").check(), lambda: CamVid(camvid, "train")[2]):
        with pytest.raises(ValueError, match="cannot decode .*images/0016E5_1.png"):
            attempt()


def test_quick_check_compares_sizes_only(camvid):
    spec = {"dataset": "camvid", "root": camvid, "split": "train", "check": "quick"}
    write(camvid / "train" / "labels" / "0001TP_1.png", np.full((4, 6), 12, np.uint8))
    assert len(open_dataset(spec)) == 4
    write(camvid / "train" / "labels" / "0001TP_2.png", np.zeros((3, 6), np.uint8))
    with pytest.raises(ValueError, match="1 of 4 pairs are unusable, first: .*0001TP_2.png is 6x3"):
        open_dataset(spec)
    assert len(open_dataset(spec | {"check": "none"})) == 4


def test_real_camvid(data_dir):
    """Shares of the categories in train, from the class shares that the data set's page gives."""
    samples = open_dataset({"dataset": "camvid", "root": data_dir / "camvid", "split": "train"}, progress=False)
    assert len(samples) == 367
    counts = sum(np.bincount(samples[i][1].ravel(), minlength=256) for i in range(0, 367, 8))
    shares = counts / counts.sum()
    assert shares[NO_LABEL] == pytest.approx(0.040, abs=0.02)
    assert shares[Category.FLAT] == pytest.approx(0.362, abs=0.03)
    assert shares[Category.SKY] == pytest.approx(0.169, abs=0.03)
    kept, held = (
        open_dataset({"dataset": "camvid", "root": data_dir / "camvid", "split": "train", **which}, progress=False)
        for which in ({"exclude": ["0001TP"]}, {"drives": ["0001TP"]})
    )
    assert (len(kept), len(held)) == (305, 62)


# Cityscapes

# (id, categoryId, ignoreInEval) of every row of cityscapesscripts/helpers/labels.py, in its order.
OFFICIAL = [
    *((i, 0, True) for i in range(7)),
    *((i, 1, ignored) for i, ignored in ((7, False), (8, False), (9, True), (10, True))),
    *((i, 2, i >= 14) for i in range(11, 17)),
    *((i, 3, i == 18) for i in range(17, 21)),
    *((i, 4, False) for i in (21, 22)),
    (23, 5, False),
    *((i, 6, False) for i in (24, 25)),
    *((i, 7, i in (29, 30)) for i in range(26, 34)),
    (-1, 7, True),
]


def official_category(label: int, category: int, ignored: bool) -> int:
    """The project's decision: what is not evaluated is open, but for ego vehicle, rectification border, out of roi."""
    return Category.VOID if label in (1, 2, 3) else NO_LABEL if ignored else category


def cityscapes_tree(root: Path, split: str = "train", annotation: str = "gtFine") -> np.ndarray:
    """One image whose label image holds every official id in a column of its own; returns those ids."""
    ids = np.array([label for label, _, _ in OFFICIAL]).astype(np.uint8)  # as PNG stores them: -1 becomes 255
    assert len(ids) == 35
    name = "aachen_000000_000019"
    write(root / "leftImg8bit" / split / "aachen" / f"{name}_leftImg8bit.png", image(2, len(ids)))
    write(root / annotation / split / "aachen" / f"{name}_{annotation}_labelIds.png", np.stack([ids, ids]))
    return ids


def test_cityscapes_every_label_id(tmp_path):
    cityscapes_tree(tmp_path)
    samples = open_dataset({"dataset": "cityscapes", "root": tmp_path, "split": "train"}, progress=False)
    assert samples.names == ["aachen_000000_000019"]
    assert samples.description == "Cityscapes train (gtFine) (1 images)"
    _, mask = samples[0]
    assert mask.tolist() == [[official_category(*row) for row in OFFICIAL]] * 2
    assert {name for name, category in LABELS.values() if category == Category.VOID} == {
        "ego vehicle",
        "rectification border",
        "out of roi",
    }
    # Spot checks by name, for which the table above has numbers only.
    by_name = {name: category for name, category in LABELS.values()}
    assert (by_name["parking"], by_name["guard rail"], by_name["bicycle"], by_name["traffic sign"]) == (
        NO_LABEL,
        NO_LABEL,
        Category.VEHICLE,
        Category.OBJECT,
    )


def test_cityscapes_id_outside_the_table(tmp_path):
    ids = cityscapes_tree(tmp_path)
    path = tmp_path / "gtFine" / "train" / "aachen" / "aachen_000000_000019_gtFine_labelIds.png"
    write(path, np.stack([ids, np.full_like(ids, 34)]))
    with pytest.raises(ValueError, match=r"aachen_000000_000019_gtFine_labelIds.png holds id 34; .* has 0..33, 255"):
        open_dataset({"dataset": "cityscapes", "root": tmp_path, "split": "train"}, progress=False)


def test_cityscapes_coarse_annotations(tmp_path):
    cityscapes_tree(tmp_path, "train_extra", "gtCoarse")
    assert Cityscapes(tmp_path, "train_extra").description == "Cityscapes train_extra (gtCoarse) (1 images)"
    cityscapes_tree(tmp_path, "train", "gtFine")
    cityscapes_tree(tmp_path, "train", "gtCoarse")
    assert "gtFine" in str(Cityscapes(tmp_path, "train").labels[0])
    assert "gtCoarse" in str(Cityscapes(tmp_path, "train", "gtCoarse").labels[0])


def test_cityscapes_refusals(tmp_path):
    with pytest.raises(ValueError, match="split is 'test'; those of Cityscapes with public labels are train, val"):
        Cityscapes(tmp_path, "test")
    with pytest.raises(ValueError, match="annotation is 'gtFine'; train_extra of Cityscapes has gtCoarse"):
        Cityscapes(tmp_path, "train_extra", "gtFine")
    with pytest.raises(FileNotFoundError, match="leftImg8bit/train is not a folder; expected Cityscapes as ROOT/left"):
        Cityscapes(tmp_path, "train")
    cityscapes_tree(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"1 of the 1 images .* no label, first: .*gtCoarse_labelIds.png"):
        Cityscapes(tmp_path, "train", "gtCoarse")


# Folders with a label table


def table(path: Path, *entries: dict) -> Path:
    path.write_text(yaml.safe_dump({"labels": list(entries)}))
    return path


def test_folder_of_ids(tmp_path):
    write(tmp_path / "images" / "town" / "a.jpg", image())
    write(tmp_path / "masks" / "town" / "a.png", np.full((4, 6), 7, np.uint8))
    table(tmp_path / "labels.yaml", {"id": 7, "name": "road", "category": "flat"}, {"id": 9, "category": "ignore"})
    samples = open_dataset({"dataset": "folder", "root": tmp_path, "labels": "labels.yaml"}, progress=False)
    assert samples.names == ["town/a"]
    assert (samples[0][1] == Category.FLAT).all()
    write(tmp_path / "masks" / "town" / "a.png", np.full((4, 6), 9, np.uint8))
    assert (samples[0][1] == NO_LABEL).all()


def test_folder_of_colours(tmp_path):
    """Red, green, blue in the table and in the file: OpenCV writes blue first."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:2] = (200, 100, 0)
    write(tmp_path / "train" / "rgb" / "a.png", image())
    write(tmp_path / "train" / "truth" / "a.png", pixels)
    entries = [{"colour": [0, 100, 200], "category": "sky"}, {"colour": [0, 0, 0], "category": "void"}]
    path = table(tmp_path / "elsewhere.yaml", *entries)
    samples = LabelledFolder(tmp_path, path, images="rgb", masks="truth", split="train")
    samples.check(progress=False)
    assert samples[0][1].tolist() == [[Category.SKY] * 6] * 2 + [[Category.VOID] * 6] * 2
    table(path, entries[1])
    with pytest.raises(ValueError, match=r"truth/a.png holds colour \(0, 100, 200\); .*elsewhere.yaml has 1 other"):
        LabelledFolder(tmp_path, path, images="rgb", masks="truth", split="train").check(progress=False)


def test_indexed_png_is_read_by_id_or_by_colour(tmp_path):
    """Annotation tools write ids with a palette; either may be what the table speaks of."""
    indexed = Image.fromarray(np.full((4, 6), 1, np.uint8), mode="P")
    indexed.putpalette([0, 0, 0, 10, 20, 30])
    (tmp_path / "masks").mkdir()
    indexed.save(tmp_path / "masks" / "a.png")
    write(tmp_path / "images" / "a.png", image())
    for value in ({"id": 1}, {"colour": [10, 20, 30]}):
        path = table(tmp_path / "labels.yaml", {**value, "category": "human"})
        assert (LabelledFolder(tmp_path, path)[0][1] == Category.HUMAN).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: {0: flat}", "expected one key, labels, with a list"),
        ("labels: [", "is not YAML"),
        ("labels: [{id: 0, category: street}]", "category is 'street'; there are void, flat, .*vehicle, ignore"),
        ("labels: [{id: 0, category: flat}, {id: 0, category: sky}]", "0 is listed twice"),
        ("labels: [{id: 300, category: flat}]", "label value 300 is out of range"),
        ("labels: [{id: one, category: flat}]", "id is a number"),
        ("labels: [{colour: [1, 2], category: flat}]", "colour has 2 parts, not red, green, blue"),
        ("labels: [{id: 0, colour: [1, 2, 3], category: flat}]", "expected either id or colour"),
        ("labels: [{id: 0, category: flat}, {colour: [1, 2, 3], category: sky}]", "expected label ids, or else"),
        ("labels: [{id: 0, kategory: flat}]", "expected the keys id or colour, category"),
        ("labels: []", "expected label ids, or else colours, got none"),
    ],
)
def test_label_table_errors(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"bad.yaml.*{message}"):
        load_label_table(path)


def test_unknown_values_are_listed_in_short():
    with pytest.raises(ValueError, match=r"^holds id 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.; demo has 0\.\.1, 30$"):
        LabelTable("demo", {0: 1, 1: 2, 30: 3}).to_categories(np.arange(25, dtype=np.uint8).reshape(5, 5))


def test_three_columns_of_ids_are_no_colours():
    assert LabelTable("demo", {4: 1}).to_categories(np.full((2, 3), 4, np.uint8)).tolist() == [[1] * 3] * 2


def test_shipped_tables():
    """Cityscapes numbers the ids that are evaluated from 0; CamVid's 32 colours agree with its 11 classes."""
    train_ids = load_label_table(TABLES / "cityscapes_train_ids.yaml")
    evaluated = [category for _, category, ignored in OFFICIAL if not ignored]
    ids = np.array([[*range(19), 255]], np.uint8)
    assert train_ids.to_categories(ids).tolist() == [[*evaluated, NO_LABEL]]
    colours = yaml.safe_load((TABLES / "camvid_colours.yaml").read_text())["labels"]
    assert len(load_label_table(TABLES / "camvid_colours.yaml").values) == 32
    category = {entry["name"]: entry["category"] for entry in colours}
    same = {"Sidewalk": "pavement", "Column_Pole": "pole", "SignSymbol": "sign_symbol"}
    for name in ("Sky", "Building", "Road", "Tree", "Fence", "Car", "Pedestrian", "Bicyclist", *same):
        assert category[name].upper() == CLASSES[same.get(name, name.lower())].name


def test_folder_agrees_with_camvid(data_dir, tmp_path):
    entries = [
        {"id": i, "category": "ignore" if category == NO_LABEL else Category(category).name.lower()}
        for i, category in enumerate(CLASSES.values())
    ]
    path = table(tmp_path / "camvid.yaml", *entries)
    folder = LabelledFolder(data_dir / "camvid", path, masks="labels", split="val")
    camvid = CamVid(data_dir / "camvid", "val")
    assert folder.names == camvid.names
    for one, other in zip(folder[50], camvid[50], strict=True):
        np.testing.assert_array_equal(one, other)


# Made-up scenes


def test_synthetic_scenes_from_a_range_of_seeds():
    spec = {"dataset": "synthetic", "seeds": [40, 42], "frames": 2, "size": [90, 160], "weather": "fog", "light": "sun"}
    scenes = open_dataset(spec)
    assert scenes.names == ["seed40_frame0", "seed40_frame30", "seed41_frame0", "seed41_frame30"]
    assert scenes.description == "made-up drives, seeds 40 to 41, fog, sun (4 images)"
    expected = SyntheticDrive(41, (90, 160), weather="fog", light="sun").frame(30)
    for one, other in zip(scenes[3], expected, strict=True):
        np.testing.assert_array_equal(one, other)


# Specifications


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"dataset": "kitti"}, "unknown dataset 'kitti'; there are camvid, cityscapes, folder, synthetic"),
        ({"root": "x"}, "unknown dataset None"),
        ({"dataset": "camvid", "root": "x"}, "dataset camvid: missing split"),
        ({"dataset": "camvid", "root": "x", "split": "train", "drive": []}, "unknown key drive; there are root, split"),
        (
            {"dataset": "camvid", "root": "x", "split": "val", "check": "no"},
            "check is 'no'; expected full, quick, none",
        ),
        ({"dataset": "synthetic", "seeds": [1, 2, 3]}, r"seeds is \[1, 2, 3\]; expected the first and the one after"),
        ({"dataset": "synthetic", "seeds": 5}, "dataset synthetic: seeds is 5; expected the first"),
        ({"dataset": "synthetic", "seeds": [3, 3]}, "0 seeds"),
        ({"dataset": "synthetic", "seeds": [0, 1], "weather": "snow"}, "dataset synthetic: weather is 'snow'"),
        ({"dataset": "synthetic", "seeds": [0, 1], "frames": "two"}, "dataset synthetic: "),
    ],
)
def test_specification_errors(spec, message):
    with pytest.raises(ValueError, match=message):
        open_dataset(spec)
