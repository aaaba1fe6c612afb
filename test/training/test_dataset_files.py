"""Data sets as people keep them: files found = files used + files left out, and nothing is lost in silence."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

pytest.importorskip("torch", reason="torch is missing: install the training extra")
st = pytest.importorskip("hypothesis.strategies", reason="hypothesis is missing: pip install -e '.[test]'")
from helpers.paths import ROOT  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402

from seg_node.core.errors import NoResultError, RunError, UserError  # noqa: E402
from seg_node.core.exif import orientation, upright  # noqa: E402
from seg_node.core.taxonomy import NO_LABEL, Category  # noqa: E402
from seg_training.__main__ import main  # noqa: E402
from seg_training.config import load_config  # noqa: E402
from seg_training.datasets import open_dataset, report  # noqa: E402
from seg_training.datasets.cityscapes import Cityscapes  # noqa: E402
from seg_training.datasets.files import IMAGE_ENDINGS, MASK_ENDINGS, Balance  # noqa: E402

quickly = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

TABLE = {"labels": [{"id": 0, "category": "flat"}, {"id": 1, "category": "sky"}, {"id": 255, "category": "ignore"}]}
ORIENTATION = 0x0112


def picture(width: int = 24, height: int = 16, seed: int = 0) -> np.ndarray:
    return cv2.resize(np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8), (width, height))


def labels(width: int = 24, height: int = 16) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 3, : width // 2] = 1
    return mask


def write(path: Path, pixels: np.ndarray) -> Path:
    """A file of whatever ending, which may be in capital letters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix.lower()
    if ending == ".pxm":
        ending = ".ppm"
    floats = ending in (".hdr", ".pic")
    if ending in (".pgm", ".pbm") and pixels.ndim == 3:
        pixels = pixels[..., 0]
    if ending == ".gif" and pixels.ndim == 2:
        # OpenCV would choose colours of its own for the values.
        Image.fromarray(pixels).save(path, "gif")
        return path
    path.write_bytes(cv2.imencode(ending, pixels.astype(np.float32) / 255 if floats else pixels)[1].tobytes())
    return path


def make(root: Path, count: int = 3) -> Path:
    for index in range(count):
        write(root / "images" / f"f{index}.jpg", picture(seed=index))
        write(root / "masks" / f"f{index}.png", labels())
    return root


def open_folder(root: Path, **options):
    return open_dataset({"dataset": "folder", "root": root, "labels": TABLE, **options}, progress=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A new folder for each example of a property."""
    return lambda: tmp_path_factory.mktemp("set")


# What is read


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("ending", sorted(IMAGE_ENDINGS - {".gif"}))
def test_every_format_that_opencv_reads(tmp_path, ending, upper):
    make(tmp_path)
    write(tmp_path / "images" / f"g{ending.upper() if upper else ending}", picture(64, 48))
    write(tmp_path / "masks" / "g.png", labels(64, 48))
    dataset = open_folder(tmp_path)
    assert dataset.names == ["f0", "f1", "f2", "g"]
    read = dataset[3][0]
    assert read.shape == (48, 64, 3)
    if ending not in (".pbm", ".pgm"):
        assert np.abs(read.astype(int) - picture(64, 48)).mean() < 20


@pytest.mark.parametrize("ending", sorted(MASK_ENDINGS - {".pbm", ".ppm"}))
def test_masks_of_every_lossless_ending(tmp_path, ending):
    make(tmp_path)
    (tmp_path / "masks" / "f0.png").unlink()
    write(tmp_path / "masks" / f"f0{ending.upper()}", labels())
    assert (open_folder(tmp_path)[0][1] == np.where(labels(), Category.SKY, Category.FLAT)).all()


NAMES = st.lists(
    st.text(st.sampled_from("ab.-_ 0ü"), min_size=1, max_size=6).filter(lambda name: not name.startswith(".")),
    min_size=1,
    max_size=4,
    unique=True,
)


@quickly
@given(
    names=NAMES,
    ending=st.sampled_from([".jpg", ".JPEG", ".Png", ".webp", ".BMP", ".tif"]),
    suffix=st.sampled_from(["", "_L", "_train_id", ".mask"]),
    sub=st.sampled_from(["", "seq", "a/b"]),
    mask_ending=st.sampled_from([".png", ".PNG", ".bmp"]),
    junk=st.integers(0, 3),
    hidden=st.integers(0, 2),
    spare=st.integers(0, 2),
)
def test_files_found_are_files_used_and_left_out(folders, names, ending, suffix, sub, mask_ending, junk, hidden, spare):
    root = folders()
    for name in names:
        write(root / "images" / sub / (name + ending), picture())
        write(root / "masks" / sub / (name + suffix + mask_ending), labels())
    for index in range(junk):
        (root / "images" / f"notes{index}.txt").write_text("x")
    for index in range(hidden):
        (root / "images" / f"._h{index}.jpg").write_bytes(b"x")
        write(root / "masks" / ".cache" / f"h{index}.png", labels())
    for index in range(spare):
        write(root / "masks" / f"spare{index}.png", labels())
    dataset = open_folder(root, mask_name=f"{{name}}{suffix}.png")
    assert len(dataset) == len(names)
    on_disk = [sum(path.is_file() for path in (root / kind).rglob("*")) for kind in ("images", "masks")]
    assert [balance.found for balance in dataset.balances] == on_disk
    assert [balance.used for balance in dataset.balances] == [len(names)] * 2
    left = [{reason: len(files) for reason, files in balance.left_out.items()} for balance in dataset.balances]
    expected = [{"no images by their ending": junk, "hidden": hidden}, {"hidden": hidden, "without an image": spare}]
    assert left == [{reason: count for reason, count in part.items() if count} for part in expected]


def test_the_balance_is_printed_with_names(tmp_path):
    make(tmp_path)
    (tmp_path / "images" / "notes.txt").write_text("x")
    (tmp_path / "images" / ".DS_Store").write_bytes(b"x")
    for name in ("a.png", "b.png", "c.png", "d.png", "f0.bmp"):
        write(tmp_path / "masks" / name, labels())
    (tmp_path / "masks" / "f0.json").write_text("{}")
    assert report([open_folder(tmp_path), open_folder(tmp_path)]).splitlines() == [
        f"{tmp_path}/images: 5 files = 3 used + 1 left out: hidden (.DS_Store)"
        " + 1 left out: no images by their ending (notes.txt)",
        f"{tmp_path}/masks: 9 files = 3 used + 4 left out: without an image (a.png, b.png, c.png, ...)"
        " + 1 left out: beside a mask of the same name that is used (f0.bmp)"
        " + 1 left out: no masks by their ending (f0.json)",
    ]


@pytest.mark.parametrize(("found", "used", "left"), [(4, 2, 1), (2, 2, 1), (3, 3, 1), (3, 2, 0)])
def test_what_does_not_balance_is_refused(found, used, left):
    with pytest.raises(RunError, match=f"{found} files were found, but {used} are used and {left} left out"):
        Balance(Path("images"), found, used, {"hidden": ["x"] * left})


@pytest.mark.parametrize("side", ["images", "masks"])
def test_a_file_more_or_less_shows_on_its_side(tmp_path, side):
    make(tmp_path)
    before = [(b.found, b.used) for b in open_folder(tmp_path).balances]
    assert before == [(3, 3), (3, 3)]
    (tmp_path / side / "more.txt").write_text("x")
    position = ("images", "masks").index(side)
    after = [(b.found, b.used) for b in open_folder(tmp_path).balances]
    assert after[position] == (4, 3) and after[1 - position] == (3, 3)
    next((tmp_path / side).glob("f2.*")).unlink()
    if side == "masks":
        with pytest.raises(FileNotFoundError, match="1 of the 3 images of .* have no label, first: .*f2.png"):
            open_folder(tmp_path)
    else:
        assert open_folder(tmp_path).balances[1].left_out == {"without an image": ["f2.png"]}


# Names


@quickly
@given(first=st.sampled_from([".jpg", ".JPG", ".bmp"]), second=st.sampled_from([".png", ".webp", ".jpeg"]))
def test_two_images_of_one_name_are_refused(folders, first, second):
    root = make(folders())
    write(root / "images" / f"g{first}", picture())
    write(root / "images" / f"g{second}", picture(seed=9))
    write(root / "masks" / "g.png", labels())
    with pytest.raises(ValueError, match=r"images/g\.\w+ and .*images/g\.\w+ share the mask .*masks/g.png; give every"):
        open_folder(root)


def test_two_masks_of_one_name(tmp_path):
    make(tmp_path)
    (tmp_path / "masks" / "f0.png").unlink()
    for ending in (".bmp", ".tif"):
        write(tmp_path / "masks" / f"f0{ending}", labels())
    with pytest.raises(ValueError, match="f0.bmp and f0.tif in .*masks may both be the mask f0.png; leave one"):
        open_folder(tmp_path)


@pytest.mark.parametrize("suffix", ["_L", "_train_id", "-mask"])
def test_a_suffix_of_the_masks_is_named_and_can_be_said(tmp_path, suffix):
    make(tmp_path)
    for mask in list((tmp_path / "masks").iterdir()):
        mask.rename(mask.with_stem(mask.stem + suffix))
    with pytest.raises(FileNotFoundError, match=f"f0{suffix}.png lies there: .*mask_name: '{{name}}{suffix}.png'$"):
        open_folder(tmp_path)
    assert len(open_folder(tmp_path, mask_name=f"{{name}}{suffix}.png")) == 3
    for wrong in ("{name}", "mask.png", "{name}.jpg", 7):
        with pytest.raises(ValueError, match="mask_name is .*; expected {name} and a lossless format's ending"):
            open_folder(tmp_path, mask_name=wrong)


def test_camvid_as_it_is_distributed(tmp_path):
    """Colours, and masks called NAME_L.png; of the quotes that YAML wants around the name a shell leaves none."""
    colours = np.zeros((16, 24, 3), np.uint8)
    colours[:8], colours[8:] = (128, 128, 128), (128, 64, 128)
    for index in range(2):
        write(tmp_path / "701_StillsRaw_full" / f"0001TP_00{index}.png", picture())
        write(tmp_path / "LabeledApproved_full" / f"0001TP_00{index}_L.png", colours)
    options = [f"root={tmp_path}", f"labels={ROOT / 'config' / 'labels' / 'camvid_colours.yaml'}", "split=''"]
    options += ["images=701_StillsRaw_full", "masks=LabeledApproved_full", "mask_name={name}_L.png"]
    own = ROOT / "config" / "training" / "own_images.yaml"
    (spec,) = load_config(own, [f"train.0.{option}" for option in options]).train
    dataset = open_dataset(spec, progress=False)
    assert [str(balance) for balance in dataset.balances] == [
        f"{tmp_path}/701_StillsRaw_full: 2 files = 2 used",
        f"{tmp_path}/LabeledApproved_full: 2 files = 2 used",
    ]
    assert dataset[0][1][::15, 0].tolist() == [Category.SKY, Category.FLAT]
    with pytest.raises(UserError, match="override 'train.0.root={x' is not YAML"):
        load_config(own, ["train.0.root={x"])


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".webp"])
def test_masks_that_lost_their_values_are_named(tmp_path, ending):
    make(tmp_path)
    for mask in list((tmp_path / "masks").iterdir()):
        write(mask.with_suffix(ending), labels())
        mask.unlink()
    with pytest.raises(FileNotFoundError, match=f"f0.png; f0{ending} lies there, but masks must be .* PNG"):
        open_folder(tmp_path)


def test_an_empty_folder_of_masks(tmp_path):
    make(tmp_path)
    for mask in list((tmp_path / "masks").iterdir()):
        mask.unlink()
    with pytest.raises(FileNotFoundError, match="3 of the 3 images .*; the folder holds no file$"):
        open_folder(tmp_path)
    (tmp_path / "masks").rmdir()
    with pytest.raises(FileNotFoundError, match="masks is not a folder"):
        open_folder(tmp_path)


# Links


def test_links_are_followed_and_those_that_lead_back_are_named(tmp_path):
    make(tmp_path / "set")
    for kind, ending in (("images", ".jpg"), ("masks", ".png")):
        source = tmp_path / "elsewhere" / kind
        write(source / f"far{ending}", picture() if kind == "images" else labels())
        (tmp_path / "set" / kind / "seq2").symlink_to(source, target_is_directory=True)
    (tmp_path / "set" / "images" / "again").symlink_to(tmp_path / "set" / "images", target_is_directory=True)
    # Two links that lead to each other by a way around.
    (tmp_path / "elsewhere" / "images" / "back").symlink_to(tmp_path / "set" / "images", target_is_directory=True)
    (tmp_path / "set" / "images" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    dataset = open_folder(tmp_path / "set")
    assert dataset.names == ["f0", "f1", "f2", "seq2/far"]
    assert dataset.balances[0].left_out == {
        "links back to a folder above them": ["again", "seq2/back"],
        "links to nothing, or no regular files": ["gone.jpg"],
    }


# Cut off, damaged


@quickly
@given(share=st.floats(0, 0.97), ending=st.sampled_from([".jpg", ".png", ".webp", ".bmp", ".tif", ".ppm"]))
def test_an_image_that_is_cut_off_is_named_before_the_first_step(folders, share, ending):
    root = make(folders())
    (root / "images" / "f1.jpg").unlink()
    path = write(root / "images" / f"f1{ending}", picture(seed=1))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=f"1 of 3 pairs are unusable, first: cannot decode .*images/f1{ending}: "):
        open_folder(root)
    assert len(open_folder(root, check="none")) == 3


def test_quick_checks_see_sizes_and_not_the_pixels(tmp_path):
    make(tmp_path)
    path = tmp_path / "images" / "f1.jpg"
    path.write_bytes(path.read_bytes()[:-60])
    assert len(open_folder(tmp_path, check="quick")) == 3
    write(path, picture(20, 16))
    with pytest.raises(ValueError, match="1 of 3 pairs are unusable, first: .*f1.png is 24x16, its image .* 20x16$"):
        open_folder(tmp_path, check="quick")


# EXIF


def photo(path: Path, turn: int, width: int = 24, height: int = 16) -> np.ndarray:
    """A JPEG, or another format, with an orientation; returns how a viewer shows it."""
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(width, height)[..., ::-1]).save(path, exif=exif.tobytes(), quality=95)
    with Image.open(path) as file:
        return np.asarray(ImageOps.exif_transpose(file).convert("RGB"))[..., ::-1]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
def test_every_orientation_is_that_of_a_viewer(tmp_path, turn, ending):
    shown = photo(tmp_path / f"photo{ending}", turn)
    data = (tmp_path / f"photo{ending}").read_bytes()
    assert orientation(io.BytesIO(data)) == turn
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    turned = upright(pixels, turn)
    assert turned.flags.c_contiguous and turned.shape == shown.shape
    assert np.abs(turned.astype(int) - shown).max() <= 3


@pytest.mark.parametrize(
    "data", [b"", b"junk", b"\x89PNG\r\n\x1a\n" + bytes(30), b"\xff\xd8\xff\xe1\0\x09Exif\0\0\xff"]
)
def test_what_does_not_say_is_upright(data):
    assert orientation(io.BytesIO(data)) == 1


@quickly
@given(
    turn=st.integers(1, 8),
    size=st.tuples(st.integers(9, 24), st.integers(9, 24)),
    upright_mask=st.booleans(),
    check=st.sampled_from(["full", "quick"]),
)
def test_photo_and_mask_are_turned_alike_or_refused(folders, turn, size, upright_mask, check):
    root = folders()
    width, height = size
    shown = photo(root / "images" / "f.jpg", turn, width, height)
    mask = labels(width, height)
    expected = upright(mask, turn)
    write(root / "masks" / "f.png", expected if upright_mask else mask)
    told = turn == 1 or (turn >= 5 and width != height)
    if not told:
        with pytest.raises(
            ValueError, match=f"which EXIF orientation {turn} turns; its mask .* write the image upright"
        ):
            open_folder(root, check=check)
        return
    image, categories = open_folder(root, check=check)[0]
    assert image.shape == shown.shape and np.abs(image.astype(int) - shown).max() <= 40
    assert (categories == np.where(expected, Category.SKY, Category.FLAT)).all()


def test_a_mask_of_neither_size_says_that_exif_turns_the_photo(tmp_path):
    photo(tmp_path / "images" / "f.jpg", 6)
    write(tmp_path / "masks" / "f.png", labels(24, 24))
    with pytest.raises(ValueError, match="f.png is 24x24, its image .*f.jpg 24x16, which EXIF orientation 6 turns"):
        open_folder(tmp_path)


# Without a label


def test_training_in_which_nothing_has_a_label_says_so_with_a_status_of_its_own(tmp_path, capsys):
    for split in ("train", "val"):
        make(tmp_path / split, 2)
    mask = np.full((256, 256), NO_LABEL, np.uint8)
    for index in range(2):
        write(tmp_path / "train" / "images" / f"f{index}.jpg", picture(256, 256))
        write(tmp_path / "train" / "masks" / f"f{index}.png", mask)
    entries = "{id: 0, category: flat}, {id: 1, category: sky}, {id: 255, category: ignore}"
    (tmp_path / "table.yaml").write_text(f"labels: [{entries}]")
    arguments = ["train", str(ROOT / "config" / "training" / "own_images.yaml")]
    for use in ("train", "val"):
        arguments += [f"{use}.0.root={tmp_path}", f"{use}.0.labels=table.yaml"]
    arguments += ["encoder=resnet18", "steps=1", "batch_size=2", "input_size=[64, 64]", "loss={cross_entropy: 1.0}"]
    arguments += ["stages=[{share: 1.0, crop: [64, 64], scale: [1.0, 1.0]}]", f"runs={tmp_path / 'runs'}"]
    assert main(arguments) == NoResultError.exit_status == 3
    captured = capsys.readouterr()
    assert "2 of 2 masks" in captured.out and "hold no label, only what is ignored" in captured.out
    assert f"error: nothing to learn: no pixel of {tmp_path}/train (2 images) has a label" in captured.err
    assert not (tmp_path / "runs").exists()

    # One pixel in a corner, which the crops of the step do not reach.
    mask[0, 0] = 1
    write(tmp_path / "train" / "masks" / "f0.png", mask)
    assert main(arguments) == 3
    assert "error: nothing learnt: none of the 1 steps of" in capsys.readouterr().err


# The other kinds of data set


def test_other_annotations_of_cityscapes_are_left_out_by_name(tmp_path):
    stem = "aachen_000000_000019"
    write(tmp_path / "leftImg8bit" / "train" / "aachen" / f"{stem}_leftImg8bit.png", picture())
    write(tmp_path / "leftImg8bit" / "train" / "aachen" / "preview.png", picture())
    truth = tmp_path / "gtFine" / "train" / "aachen"
    write(truth / f"{stem}_gtFine_labelIds.png", labels())
    for other in ("color.png", "instanceIds.png"):
        write(truth / f"{stem}_gtFine_{other}", labels())
    (truth / f"{stem}_gtFine_polygons.json").write_text("{}")
    images, masks = Cityscapes(tmp_path, "train").balances
    assert images.left_out == {"without _leftImg8bit in their name": ["aachen/preview.png"]}
    assert {reason: len(files) for reason, files in masks.left_out.items()} == {
        "other annotations of the same images": 3
    }


def test_drives_that_are_left_out_are_named(tmp_path):
    for name in ("0001TP_1", "0016E5_1"):
        write(tmp_path / "train" / "images" / f"{name}.png", picture())
        write(tmp_path / "train" / "labels" / f"{name}.png", labels())
    spec = {"dataset": "camvid", "root": tmp_path, "split": "train", "exclude": ["0001TP"]}
    reason = "of drive 0001TP, which the configuration leaves out"
    for balance in open_dataset(spec, progress=False).balances:
        assert (balance.found, balance.used, balance.left_out) == (2, 1, {reason: ["0001TP_1.png"]})
