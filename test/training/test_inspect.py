"""``python -m seg_training inspect``: shares that can be counted by hand, and sheets that show what is asked for."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is missing: install the training extra")

from helpers.paths import ROOT

from seg_training.__main__ import main  # noqa: E402
from seg_training.config import load_config  # noqa: E402
from seg_training.datasets import open_dataset  # noqa: E402
from seg_training.inspect import augmentation_sheet, category_shares, sample_sheet  # noqa: E402

CONFIG = ROOT / "config" / "training" / "fpn_resnet50.yaml"


@pytest.fixture
def overrides(tmp_path):
    """A quarter road, a quarter without label and half sky in CamVid's classes, and two made-up scenes."""
    label = np.full((48, 64), 3, np.uint8)
    label[24:], label[:24, :32] = 0, 11
    for split in ("train", "val"):
        for kind, pixels in (("images", np.full((48, 64, 3), 60, np.uint8)), ("labels", label)):
            (tmp_path / split / kind).mkdir(parents=True)
            for name in "ab":
                cv2.imwrite(str(tmp_path / split / kind / f"{name}.png"), pixels)
    camvid = {"dataset": "camvid", "root": str(tmp_path)}
    values = {
        "train": [camvid | {"split": "train"}, {"dataset": "synthetic", "seeds": [1, 3], "size": [90, 160]}],
        "val": [camvid | {"split": "val"}],
        "stages": [{"share": 1, "crop": [40, 60], "scale": [0.8, 1.2]}],
        "augmentation": {"fog": 0.5},
    }
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def test_command(overrides, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["inspect", str(CONFIG), *overrides, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    balances, lines = lines[:4], lines[4:]
    both = ["images: 2 files = 2 used", "labels: 2 files = 2 used"]
    assert [line.rpartition("/")[2] for line in balances] == both * 2
    table = [" ".join(line.split()) for line in lines[:2]]
    assert table == [
        "percent of pixels void flat construction object nature sky human vehicle no label",
        "train1 0.00 25.00 0.00 0.00 0.00 50.00 0.00 0.00 25.00",
    ]
    assert lines[4:7] == [
        "train1: CamVid train (2 images)",
        "train2: made-up drives, seeds 1 to 2 (2 images)",
        "val1: CamVid val (2 images)",
    ]
    names = ["shares.png", "train1_samples.jpg", "train2_samples.jpg", "val1_samples.jpg", "augmentation.jpg"]
    assert lines[7:] == [str(out / name) for name in names]
    assert all(cv2.imread(line) is not None for line in lines[7:])


class Samples:
    """Five, each of one category; not within the test, for Python 3.14 hands data sets to processes by name."""

    description, names = "five", [str(i) for i in range(5)]

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return np.zeros((2, 2, 3), np.uint8), np.full((2, 2), index, np.uint8)


def test_shares_are_counted_on_evenly_spaced_samples():
    assert category_shares(Samples(), 3).tolist() == pytest.approx([1 / 3, 0, 1 / 3, 0, 1 / 3, 0, 0, 0, 0])
    assert category_shares(Samples(), 10).tolist() == pytest.approx([0.2] * 5 + [0] * 4)


def test_sheets(overrides):
    """Every sample with its mask in one row; ten pictures of each of four crops, those of `original` untouched."""
    config = load_config(CONFIG, overrides)
    datasets = [open_dataset(spec, progress=False) for spec in config.train]
    samples = sample_sheet(datasets[0])
    assert samples.shape[1] == 2 * (2 * 320 + 4)
    sky = samples[-30, 320 + 2 + 160].astype(int)  # a quarter of the grey picture, and of the sky's colour the rest
    assert np.abs(sky - (60 * 0.25 + np.array((180, 130, 70)) * 0.75)).max() <= 1
    sheet = augmentation_sheet(datasets, config)
    assert sheet.shape[1] == 5 * (320 + 4)
    original = sheet[22 + 22 + 100, 2 + 160]
    assert original.tolist() == [60, 60, 60]


def test_errors(overrides, tmp_path, capsys):
    for extra, message in (
        (["augmentation={snow: 1}"], "unknown augmentation snow"),
        (["--samples", "0"], "--samples is 0"),
        (["val=[{dataset: kitti}]"], "unknown dataset 'kitti'"),
    ):
        assert main(["inspect", str(CONFIG), *overrides, *extra, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
