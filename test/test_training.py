"""Training on made-up scenes: data, loss, resume, export, and the bundle that comes out."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="torch is missing: install the training extra")

from seg_node.core.bundle import load_bundle, shipped_bundles  # noqa: E402
from seg_node.core.taxonomy import NO_LABEL, Category  # noqa: E402
from seg_training.augmentation import Augmentation  # noqa: E402
from seg_training.config import load_config  # noqa: E402
from seg_training.datasets.camvid import CLASSES, CamVid  # noqa: E402
from seg_training.losses import CrossEntropyDice, category_weights  # noqa: E402
from seg_training.train import batch_indices  # noqa: E402

REPOSITORY = Path(__file__).parents[1]
CONFIGS = sorted((REPOSITORY / "config" / "training").glob("*.yaml"))
BASE = "fpn_resnet50_base"
BASE_CONFIG = str(REPOSITORY / "config" / "training" / f"{BASE}.yaml")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder laid out as CamVid: rectangles of sky, building, car and road, with noise and an unlabelled rim."""
    root = tmp_path_factory.mktemp("camvid")
    rng = np.random.default_rng(0)
    names = list(CLASSES)
    for split, count in (("train", 6), ("val", 3)):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            label = np.full((72, 96), names.index("sky"), np.uint8)
            label[24:40] = names.index("building")
            label[40:] = names.index("road")
            left = int(rng.integers(4, 60))
            label[36:50, left : left + 24] = names.index("car")
            label[:, :2] = names.index("unlabelled")
            image = (label[..., None] * 20 + rng.integers(0, 15, (72, 96, 3))).astype(np.uint8)
            cv2.imwrite(str(root / split / "images" / f"{number}.jpg"), image)
            cv2.imwrite(str(root / split / "labels" / f"{number}.png"), label)
    return root


def _overrides(data, runs, **changes):
    values = {
        "data": str(data),
        "runs": str(runs),
        "encoder": "resnet18",
        "input_size": [72, 96],
        "stages": [
            {"share": 0.5, "crop": [32, 32], "scale": [0.5, 1]},
            {"share": 0.5, "crop": [64, 64], "scale": [1, 1]},
        ],
        "steps": 6,
        "batch_size": 2,
        "precision": "fp32",
        "threads": 1,
        "checkpoint_every": 2,
        "evaluate_every": 4,
    }
    return [f"{key}={json.dumps(value)}" for key, value in (values | changes).items()]


def _command(*arguments):
    return [sys.executable, "-m", "seg_training", *arguments]


def _losses(run):
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def test_camvid_classes(data):
    image, mask = CamVid(data, "val")[0]
    assert image.shape == (72, 96, 3)
    assert set(np.unique(mask)) == {NO_LABEL, Category.SKY, Category.CONSTRUCTION, Category.FLAT, Category.VEHICLE}
    assert mask[0, 0] == NO_LABEL
    assert mask[0, 5] == Category.SKY


def test_camvid_errors(data, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        CamVid(tmp_path / "nowhere", "train")
    for kind in ("images", "labels"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="holds no"):
        CamVid(tmp_path, "train")
    image = tmp_path / "train" / "images" / "a.png"
    label = tmp_path / "train" / "labels" / "a.png"
    cv2.imwrite(str(image), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(FileNotFoundError, match="1 of 1 images have no label.*a.png"):
        CamVid(tmp_path, "train")
    cv2.imwrite(str(label), np.full((4, 4), 12, np.uint8))
    with pytest.raises(ValueError, match="a.png holds class id 12"):
        CamVid(tmp_path, "train")[0]
    cv2.imwrite(str(label), np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match=r"a.png is \(4, 5\)"):
        CamVid(tmp_path, "train")[0]
    label.write_bytes(b"junk")
    with pytest.raises(ValueError, match="cannot decode .*labels/a.png"):
        CamVid(tmp_path, "train")[0]


def test_real_camvid(data_dir):
    """Shares of the categories in train, from the class shares that the data set's page gives."""
    samples = CamVid(data_dir / "camvid", "train")
    assert len(samples) == 367
    counts = sum(np.bincount(samples[i][1].ravel(), minlength=256) for i in range(0, 367, 8))
    shares = counts / counts.sum()
    assert shares[NO_LABEL] == pytest.approx(0.040, abs=0.02)
    assert shares[Category.FLAT] == pytest.approx(0.362, abs=0.03)
    assert shares[Category.SKY] == pytest.approx(0.169, abs=0.03)


def test_loss_of_a_hand_computed_case():
    # Two pixels, of which the second is ignored; the first is flat with probability 1/2, as is construction.
    logits = torch.full((1, 8, 1, 2), -30.0)
    logits[0, [Category.FLAT, Category.CONSTRUCTION]] = 0.0
    target = torch.tensor([[[Category.FLAT, NO_LABEL]]])
    # Cross-entropy ln 2; Dice of the one category that is there: 1 - 2 * 0.5 / (0.5 + 1), over eight categories.
    expected = np.log(2) + (1 - 2 * 0.5 / 1.5) / 8
    assert CrossEntropyDice()(logits, target).item() == pytest.approx(expected, abs=1e-4)


def test_category_weights():
    shares = np.array([0, 0.5, 0.5, 0, 0, 0, 0, 0])
    weights = category_weights(shares, 1.1)
    assert weights.tolist() == pytest.approx([1] * 8)
    uneven = category_weights(np.array([0, 0.9, 0.1, 0, 0, 0, 0, 0]), 1.1)
    assert uneven[2] / uneven[1] == pytest.approx(np.log(2.0) / np.log(1.2))
    assert 0.9 * uneven[1] + 0.1 * uneven[2] == pytest.approx(1)
    with pytest.raises(ValueError, match="softness"):
        category_weights(shares, 1.0)


def test_augmentation_moves_image_and_mask_together():
    image = np.zeros((60, 80, 3), np.uint8)
    mask = np.ones((60, 80), np.uint8)
    image[:, 40:], mask[:, 40:] = 255, 2
    augment = Augmentation((48, 64), (0.8, 1.2))
    seen = set()
    for seed in range(8):
        out, target = augment(image, mask, seed)
        assert out.shape == (3, 48, 64)
        assert target.shape == (48, 64)
        bright = out.float().mean(0) > 100
        inside = (target == 1) | (target == 2)
        agreement = (bright == (target == 2))[inside].float().mean()
        assert agreement > 0.9
        seen.add(target.numpy().tobytes())
    assert len(seen) > 1
    again, _ = augment(image, mask, 3)
    assert torch.equal(again, augment(image, mask, 3)[0])


def test_every_sample_once_per_epoch():
    config = load_config(CONFIGS[0], ["batch_size=4"])
    drawn = [index for step in range(5) for index, _ in batch_indices(step, 10, config)]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations(path):
    config = load_config(path)
    assert config.name == path.stem
    assert {BASE, *shipped_bundles()} == {path.stem for path in CONFIGS}


@pytest.mark.parametrize("model", shipped_bundles())
def test_shipped_bundles_were_trained_as_configured(model):
    """The recipes of a manifest are those of config/training, the starting run's first."""
    manifest = load_bundle(model).manifest
    config = load_config(REPOSITORY / "config" / "training" / f"{model}.yaml")
    expected = [config]
    if config.start_from:
        expected.insert(0, load_config(REPOSITORY / "config" / "training" / f"{Path(config.start_from).name}.yaml"))
    assert len(manifest.training["recipes"]) == len(expected)
    for recipe, one in zip(manifest.training["recipes"], expected, strict=True):
        values = asdict(one)
        assert json.loads(json.dumps(recipe)) == {name: values[name] for name in recipe}
        assert set(values) - set(recipe) == {"data", "runs", "threads", "start_from"}
    assert manifest.backbone == config.encoder
    assert list(manifest.input_size) == config.input_size


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("colour=red", "unknown key colour"),
        ("steps", "'steps' is not of the form key=value"),
        ("steps=0", "steps and batch_size must be positive, not 0"),
        ("precision=fp8", "precision is 'fp8'"),
        ("stages=[{share: .5, crop: [8, 8], scale: [1, 1]}]", "add up to 1, not 0.5"),
    ],
)
def test_configuration_errors(override, message, capsys):
    from seg_training.__main__ import main

    assert main(["train", str(CONFIGS[0]), override]) == 2
    assert message in capsys.readouterr().err


def test_interrupted_run_resumes_to_the_same_weights(data, tmp_path):
    """SIGKILL in the middle, then the same command again: the same losses and the same weights."""
    whole = _command("train", BASE_CONFIG, *_overrides(data, tmp_path / "whole"))
    subprocess.run(whole, check=True, capture_output=True, cwd=REPOSITORY)
    killed = _command("train", BASE_CONFIG, *_overrides(data, tmp_path / "killed"))
    process = subprocess.Popen(killed, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=REPOSITORY)
    run = tmp_path / "killed" / BASE
    deadline = time.monotonic() + 120
    while not (run / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    subprocess.run(killed, check=True, capture_output=True, cwd=REPOSITORY)
    reference = tmp_path / "whole" / BASE
    assert _losses(run)[-1] == _losses(reference)[-1]
    one, other = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (run, reference))
    assert one["step"] == other["step"] == 6
    for part in ("network", "ema"):
        assert all(torch.equal(value, other[part][name]) for name, value in one[part].items())


def test_other_configuration_in_the_same_folder_is_refused(data, tmp_path):
    from seg_training.__main__ import main

    assert main(["train", BASE_CONFIG, *_overrides(data, tmp_path, steps=1)]) == 0
    assert main(["train", BASE_CONFIG, *_overrides(data, tmp_path, steps=2)]) == 2


@pytest.mark.parametrize("encoder", ["resnet50", "tu-convnextv2_nano"])
def test_train_export_evaluate(data, tmp_path, encoder, capsys):
    """Both backbones from data to a bundle whose manifest holds what evaluation prints."""
    from seg_training.__main__ import main

    changes = {"encoder": encoder, "steps": 2, "batch_size": 2, "checkpoint_every": 1}
    assert main(["train", BASE_CONFIG, *_overrides(data, tmp_path / "runs", **changes)]) == 0
    out = tmp_path / "bundle"
    assert main(["export", str(tmp_path / "runs" / BASE), str(out), "--data", str(data)]) == 0
    assert main(["evaluate", str(out), "--data", str(data), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    manifest = load_bundle(out).manifest
    assert manifest.metrics["camvid_val"] == printed
    assert manifest.backbone == encoder
    assert manifest.training["recipes"][0]["steps"] == 2
    assert manifest.precision == "fp16"
    for text in (b"site-packages", os.fsencode(Path.home())):
        assert text not in (out / "model.onnx").read_bytes(), "the graph tells about the machine that made it"


def test_run_that_starts_from_another(data, tmp_path, capsys):
    """It begins with the averaged weights of the first run, and the manifest tells of both."""
    from seg_training.__main__ import main
    from seg_training.train import averaged_weights

    assert main(["train", BASE_CONFIG, *_overrides(data, tmp_path, steps=1)]) == 0
    first = tmp_path / BASE
    changes = {"name": "second", "start_from": str(first), "steps": 1, "learning_rate": 0.0}
    assert main(["train", BASE_CONFIG, *_overrides(data, tmp_path, **changes)]) == 0
    one, other = averaged_weights(first), averaged_weights(tmp_path / "second")
    trained = [name for name in one if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(one[name], other[name]) for name in trained)
    assert main(["export", str(tmp_path / "second"), str(tmp_path / "bundle")]) == 0
    recipes = load_bundle(tmp_path / "bundle").manifest.training["recipes"]
    assert [recipe["name"] for recipe in recipes] == [BASE, "second"]
    changes["name"], changes["start_from"] = "third", str(tmp_path / "nowhere")
    assert main(["train", BASE_CONFIG, *_overrides(data, tmp_path, **changes)]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_unfinished_run_is_not_exported(data, tmp_path, capsys):
    from seg_training.__main__ import main

    assert main(["train", BASE_CONFIG, *_overrides(data, tmp_path, steps=1)]) == 0
    run = tmp_path / BASE
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"steps": 5}))
    assert main(["export", str(run), str(tmp_path / "bundle")]) == 2
    assert "stopped at step 1 of 5" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["fpn_convnextv2", "fpn_resnet50"])
def test_shipped_metrics(data_dir, model, capsys):
    """The manifest's figures on CamVid val are those that the documented command prints."""
    from seg_training.__main__ import main

    assert main(["evaluate", model, "--data", str(data_dir / "camvid"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    shipped = load_bundle(model).manifest.metrics["camvid_val"]
    assert printed["images"] == shipped["images"] == 101
    # Another processor rounds some sums differently, which moves a few pixels in a million.
    for name in ("miou_7", "miou_8", "pixel_accuracy"):
        assert printed[name] == pytest.approx(shipped[name], abs=0.05)
