"""A folder of images becomes a drive: order, bytes, labels, and a word about each file that is left out."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.paths import DATA, ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from seg_node.__main__ import main
from seg_node.bags.drive import open_drive
from seg_node.bags.from_images import from_images
from seg_node.bags.images import decode
from seg_node.core.label_table import LabelTable, load_label_table
from seg_node.core.taxonomy import NO_LABEL

TABLES = ROOT / "config" / "labels"


def picture(index: int, height: int = 24, width: int = 32) -> np.ndarray:
    image = np.full((height, width, 3), (200, 120, 40), np.uint8)
    image[:, 2 * index : 2 * index + 6] = (30, 60, 220)
    return image


def write_images(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), picture(index))
    return folder


def write_labels(folder: Path, names: list[str], values: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        assert cv2.imwrite(str(folder / name), values)
    return folder


def command(*arguments: object) -> int:
    return main(["bag", "from-images", *map(str, arguments)])


def test_numbers_in_names_count_as_numbers(tmp_path):
    names = ["run2_9.png", "run2_10.png", "run10_1.png", "run2_1.png"]
    images = write_images(tmp_path / "images", names)

    made = from_images(images, tmp_path / "bag", 15)

    drive = open_drive(tmp_path / "bag")
    assert made.frames == 4 and not made.left_out
    assert [f.stamp for f in drive.frames] == [10**9 + round(i * 1e9 / 15) for i in range(4)]
    for frame, index in zip(drive.frames, (3, 0, 1, 2), strict=True):
        np.testing.assert_array_equal(decode(frame), picture(index))


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8, unique=True))
def test_order_of_names_is_that_of_their_numbers(numbers):
    from seg_node.bags.image_folder import _in_order

    assert sorted((f"f{n}.jpg" for n in numbers), key=_in_order) == [f"f{n}.jpg" for n in sorted(numbers)]


def test_files_that_the_node_reads_are_taken_byte_for_byte_and_others_decoded(tmp_path):
    images = write_images(tmp_path / "images", ["0.jpg", "1.png", "2.bmp", "3.TIF", "4.webp"])

    from_images(images, tmp_path / "bag", 10, quality=100)

    frames = open_drive(tmp_path / "bag").frames
    for frame, name in zip(frames[:2], ("0.jpg", "1.png"), strict=True):
        assert frame.image.data.tobytes() == (images / name).read_bytes()
    assert "png" in frames[1].image.format
    for index in (2, 3, 4):
        assert "jpeg" in frames[index].image.format
        assert np.abs(decode(frames[index]).astype(int) - picture(index)).mean() < 6


def test_labels_become_categories(tmp_path):
    ids = np.zeros((24, 32), np.uint8)
    ids[:12], ids[:, 30:] = 10, 255
    images = write_images(tmp_path / "images", ["a.jpg", "b.jpg", "c.jpg"])
    labels = write_labels(tmp_path / "labels", ["a.png", "c.png", "x.png"], ids)
    table = load_label_table(TABLES / "cityscapes_train_ids.yaml")

    made = from_images(images, tmp_path / "bag", 10, labels=labels, table=table)

    drive = open_drive(tmp_path / "bag")
    assert (made.frames, made.labelled) == (3, 2)
    assert made.left_out == [f"1 files of {labels}: labels of no image (x.png)"]
    assert set(drive.masks) == {drive.frames[0].stamp, drive.frames[2].stamp}
    expected = np.where(ids == 255, NO_LABEL, np.where(ids == 10, 5, 1))
    np.testing.assert_array_equal(drive.masks[drive.frames[2].stamp], expected)


def test_labels_without_a_table_are_categories_and_may_have_names_of_their_own(tmp_path):
    mask = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 8
    images = write_images(tmp_path / "images", ["a.jpg"])
    labels = write_labels(tmp_path / "labels", ["a_L.png"], mask)

    from_images(images, tmp_path / "bag", 10, labels=labels, label_name="{name}_L.png")

    drive = open_drive(tmp_path / "bag")
    np.testing.assert_array_equal(drive.masks[drive.frames[0].stamp], mask)


def test_what_is_no_image_is_said(tmp_path, capsys):
    images = write_images(tmp_path / "images", ["a.jpg", "b.jpg"])
    for name in ("notes.txt", "poses.csv", ".DS_Store"):
        (images / name).write_text("no image")
    (images / "more").mkdir()

    assert command(images, tmp_path / "bag", "--rate", 15) == 0

    out = capsys.readouterr().out
    assert f"{tmp_path / 'bag'}: 2 frames\n" in out
    assert f"left out: 2 files of {images}: no images (notes.txt, poses.csv)" in out


def test_photo_that_exif_turns_is_upright(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(0)[..., ::-1]).save(folder / "a.jpg", exif=exif, quality=100, subsampling=0)

    from_images(folder, tmp_path / "bag", 10)

    upright = decode(open_drive(tmp_path / "bag").frames[0])
    assert np.abs(upright.astype(int) - np.rot90(picture(0), -1)).mean() < 4


def test_refusals(tmp_path, capsys):
    good = write_images(tmp_path / "good", ["a.jpg", "b.jpg"])
    mask = np.zeros((24, 32), np.uint8)
    labels = write_labels(tmp_path / "labels", ["a.png"], mask)
    cut = write_images(tmp_path / "cut", ["a.jpg"])
    (cut / "a.jpg").write_bytes((cut / "a.jpg").read_bytes()[:300])
    text = write_images(tmp_path / "text", ["a.jpg"])
    (text / "b.png").write_text("no image at all")
    sizes = write_images(tmp_path / "sizes", ["a.jpg"])
    cv2.imwrite(str(sizes / "b.jpg"), picture(0, 48, 64))
    twice = write_images(tmp_path / "twice", ["a.jpg", "a.png"])
    (tmp_path / "empty" / "left").mkdir(parents=True)
    small = write_labels(tmp_path / "small", ["a.png"], mask[:12])
    foreign = write_labels(tmp_path / "foreign", ["a.png"], mask + 99)
    others = write_labels(tmp_path / "others", ["z.png"], mask)
    bad_table = tmp_path / "table.yaml"
    bad_table.write_text("labels: 3")
    rate = ("--rate", 10)
    for arguments, message in (
        ((tmp_path / "nowhere", *rate), "nowhere is no folder"),
        ((tmp_path / "empty", *rate), "holds no image; it holds the folders left, choose one"),
        ((good, "--rate", 0), "0.0 images per second is no rate"),
        ((good, *rate, "--quality", 0), "1..100, not 0"),
        ((cut, *rate), "a.jpg cannot be read as an image"),
        ((text, *rate), "b.png cannot be decoded as an image"),
        ((sizes, *rate), "b.jpg is 64x48, a.jpg is 32x24; a camera has one size"),
        ((twice, *rate, "--labels", labels), "a.jpg and a.png share the label"),
        ((good, *rate, "--labels", good), "images are both in"),
        ((good, *rate, "--labels", small), "a.png is 32x12, its image a.jpg 32x24"),
        ((good, *rate, "--labels", foreign), "holds id 99; the eight categories has 0..7, 255"),
        (
            (good, *rate, "--labels", others),
            "has no label of any image: the first would be a.png, the folder has z.png",
        ),
        ((good, *rate, "--labels", labels, "--label-table", bad_table), "expected one key, labels"),
        ((good, *rate, "--labels", labels, "--label-name", "mask.png"), "expected one such as {name}.png"),
        ((good, *rate, "--label-table", bad_table), "are about labels; name their folder with --labels"),
    ):
        folder, *options = arguments
        assert command(folder, tmp_path / "out", *options) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not (DATA / "camvid" / "val").is_dir(), reason=f"{DATA / 'camvid' / 'val'} is missing")
def test_camvid_is_a_drive_with_the_truth_of_the_training_set(tmp_path):
    camvid = pytest.importorskip("seg_training.datasets.camvid", reason="the training packages are missing")
    split = DATA / "camvid" / "val"
    table = load_label_table(TABLES / "camvid_ids.yaml")

    made = from_images(split / "images", tmp_path / "bag", 15, labels=split / "labels", table=table)

    drive = open_drive(tmp_path / "bag")
    assert (made.frames, made.labelled, made.left_out) == (101, 101, [])
    assert drive.rate == pytest.approx(15)
    dataset = camvid.CamVid(split.parent, "val")
    for index in (0, 57, 100):
        image, mask = dataset[index]
        np.testing.assert_array_equal(decode(drive.frames[index]), image)
        np.testing.assert_array_equal(drive.masks[drive.frames[index].stamp], mask)


def test_shipped_table_of_camvid_is_that_of_the_training_set():
    camvid = pytest.importorskip("seg_training.datasets.camvid", reason="the training packages are missing")
    ids = np.arange(len(camvid.CLASSES), dtype=np.uint8)[None]
    trained = LabelTable("CamVid", dict(enumerate(camvid.CLASSES.values()))).to_categories(ids)
    np.testing.assert_array_equal(load_label_table(TABLES / "camvid_ids.yaml").to_categories(ids), trained)
