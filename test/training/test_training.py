"""Training on made-up scenes: data, loss, resume, export, and the bundle that comes out."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="torch is missing: install the training extra")

from helpers.paths import ROOT  # noqa: E402

from seg_node.core.bundle import load_bundle, shipped_bundles  # noqa: E402
from seg_training.config import load_config  # noqa: E402
from seg_training.datasets.camvid import CLASSES, CamVid  # noqa: E402
from seg_training.sampling import Samples, plan  # noqa: E402

CONFIGS = sorted((ROOT / "config" / "training").glob("*.yaml"))
BASE = "fpn_resnet50"
BASE_CONFIG = str(ROOT / "config" / "training" / f"{BASE}.yaml")


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
        "train": [{"dataset": "camvid", "root": str(data), "split": "train"}],
        "val": [{"dataset": "camvid", "root": str(data), "split": "val"}],
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


TWO = ["train=[{dataset: a}, {dataset: b}]", "batch_size=4", "seed=3"]
"""Overrides for two made-up data sets."""
STAGE = "crop: [32, 32], scale: [1, 1]"


def test_every_sample_comes_once_before_any_comes_again():
    config = load_config(BASE_CONFIG, [*TWO, "steps=25", f"stages=[{{share: 1, {STAGE}}}]"])
    order = plan([10, 30], config)
    assert order.shape == (100, 2)
    for number, size in ((0, 10), (1, 30)):
        drawn = order[order[:, 0] == number, 1]
        assert sorted(drawn[:size]) == list(range(size))
    # In proportion to the sizes where no mixture is asked for: 25 of 100, with a standard deviation of 4.3.
    assert 8 < np.count_nonzero(order[:, 0] == 0) < 42
    assert np.array_equal(order, plan([10, 30], config))
    assert not np.array_equal(order, plan([10, 30], load_config(BASE_CONFIG, [*TWO, "steps=25", "seed=4", *STAGES])))


STAGES = [f"stages=[{{share: 0.5, {STAGE}, mix: [0, 1]}}, {{share: 0.5, {STAGE}, mix: [1, 0]}}]"]


def test_stages_choose_their_mixture():
    order = plan([10, 30], load_config(BASE_CONFIG, [*TWO, "steps=10", *STAGES]))
    assert order[:20, 0].tolist() == [1] * 20
    assert order[20:, 0].tolist() == [0] * 20


def test_samples_are_read_once_and_cropped_as_their_stage_says(data):
    class Counted(CamVid):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    config = load_config(BASE_CONFIG, _overrides(data, "runs"))
    camvid = Counted(data, "train")
    samples = Samples([camvid], plan([len(camvid)], config), config)
    shapes = [samples[i][0].shape for i in range(len(samples))]
    assert shapes == [(3, 32, 32)] * 6 + [(3, 64, 64)] * 6
    assert camvid.reads == 6
    assert torch.equal(samples[7][0], Samples([camvid], plan([len(camvid)], config), config)[7][0])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations(path):
    config = load_config(path)
    assert config.name == path.stem
    assert set(shipped_bundles()) <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("model", shipped_bundles())
def test_shipped_bundles_were_trained_as_configured(model):
    """The recipes of a manifest are those of config/training, by their names."""
    from seg_training.provenance import recipe

    manifest = load_bundle(model).manifest
    assert manifest.backbone == load_config(ROOT / "config" / "training" / f"{model}.yaml").encoder
    recipes = manifest.training["recipes"]
    if "train" not in recipes[-1]:
        pytest.skip(f"{model} was trained by the loop before this one; its recipe stands in its manifest alone")
    assert recipes[0]["name"] == model
    for shipped in recipes:
        config = load_config(ROOT / "config" / "training" / f"{shipped['name']}.yaml")
        assert manifest.backbone == config.encoder
        assert list(manifest.input_size) == config.input_size
        assert shipped == json.loads(json.dumps(recipe(config)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("colour=red", "unknown key colour"),
        ("steps", "'steps' is not of the form key=value"),
        ("steps=0", "steps and batch_size must be positive, not 0"),
        ("precision=fp8", "precision is 'fp8'"),
        ("stages=[{share: .5, crop: [8, 8], scale: [1, 1]}]", "add up to 1, not 0.5"),
        ("stages=[{share: 1, crop: [8, 8], scale: [1, 1], mix: [1]}]", "mix is [1]; expected 2 shares"),
        ("schedule=linear", "schedule is 'linear'; expected poly, cosine"),
        ("accumulate=3", "batch_size 16 cannot be split into 3 equal parts"),
        ("train.5.root=/data", "'train.5.root' leads nowhere"),
        ("train.0.dataset=kitti", "unknown dataset 'kitti'"),
        ("encoder_weights=resnet.safetensors", "neither none, imagenet, package nor a file"),
    ],
)
def test_configuration_errors(override, message, capsys):
    from seg_training.__main__ import main

    assert main(["train", BASE_CONFIG, override, "val=[]"]) == 2
    assert message in capsys.readouterr().err


def _network_state(run):
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    return state["step"], {f"{part}.{name}": v for part in ("network", "ema") for name, v in state[part].items()}


def test_accumulated_parts_make_the_same_step_as_the_whole_batch(data, tmp_path):
    """On an encoder whose normalisation does not look at the batch: the gradient of a mean is the mean of gradients."""
    from seg_training.__main__ import main

    encoder = {"encoder": "tu-convnextv2_atto", "loss": {"cross_entropy": 1.0}, "steps": 1, "batch_size": 4}
    train = [{"dataset": "synthetic", "seeds": [0, 4], "size": [64, 96]}]
    states = []
    for accumulate in (1, 2):
        changes = encoder | {"train": train, "accumulate": accumulate}
        assert main(["train", BASE_CONFIG, *_overrides(data, tmp_path / str(accumulate), **changes)]) == 0
        states.append(_network_state(tmp_path / str(accumulate) / BASE)[1])
    for name, value in states[0].items():
        assert torch.allclose(value, states[1][name], atol=2e-3), name


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_processes_share_every_batch(data, ranks):
    from seg_training.sampling import positions

    config = load_config(BASE_CONFIG, ["steps=3", "batch_size=8"])
    shares = [positions(config, 1, rank, ranks) for rank in range(ranks)]
    for step in (1, 2):
        batch = [p for share in shares for p in share[(step - 1) * 8 // ranks : step * 8 // ranks]]
        assert batch == list(range(step * 8, step * 8 + 8))


def test_two_processes_train_one_network(data, tmp_path):
    """With gloo, by torchrun: one log, one checkpoint, and a run that one process can go on with."""
    overrides = _overrides(data, tmp_path, steps=3, batch_size=4, checkpoint_every=1)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    command = [*launch, "-m", "seg_training", "train", BASE_CONFIG, *overrides]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=600)
    assert done.stdout.count("trained:") == 1
    assert len(_losses(tmp_path / BASE)) == 3
    step, state = _network_state(tmp_path / BASE)
    assert step == 3
    assert all(torch.isfinite(value).all() for value in state.values())


def test_learning_rates_by_depth_and_no_decay_on_scales_and_offsets():
    from seg_node.core.network import SegmentationNetwork
    from seg_training.train import parameter_groups

    config = load_config(BASE_CONFIG, ["layer_decay=0.5", "learning_rate=1.0", "weight_decay=0.1"])
    for encoder in ("resnet18", "tu-convnextv2_atto", "tu-tf_efficientnet_lite0"):
        network = SegmentationNetwork(encoder)
        groups = parameter_groups(network, config)
        found = {id(p): group for group in groups for p in group["params"]}
        assert len(found) == len(list(network.parameters()))
        rates = set()
        for name, parameter in network.named_parameters():
            group = found[id(parameter)]
            scale_or_offset = parameter.ndim == 1 or ".grn." in name
            assert group["weight_decay"] == (0.0 if scale_or_offset else 0.1), name
            rates.add(group["lr"])
            if not name.startswith("fpn.encoder."):
                assert group["lr"] == 1.0
        assert sorted(rates) == [0.5**5, 0.5**4, 0.5**3, 0.5**2, 0.5, 1.0], encoder


@pytest.mark.parametrize(("schedule", "middle"), [("poly", 0.5**0.9), ("cosine", 0.5)])
def test_learning_rate_rises_then_falls_to_zero(schedule, middle):
    from seg_training.train import learning_rate_factor

    config = load_config(BASE_CONFIG, [f"schedule={schedule}", "steps=110", "warmup=0.0909"])
    factors = [learning_rate_factor(step, config) for step in range(111)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[60] == pytest.approx(middle)
    assert factors[110] == 0.0
    assert max(factors) == 1.0


def test_interrupted_run_resumes_to_the_same_weights(data, tmp_path):
    """SIGKILL in the middle, then the same command again: the same losses and the same weights."""
    whole = _command("train", BASE_CONFIG, *_overrides(data, tmp_path / "whole"))
    subprocess.run(whole, check=True, capture_output=True, cwd=ROOT)
    killed = _command("train", BASE_CONFIG, *_overrides(data, tmp_path / "killed"))
    process = subprocess.Popen(killed, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=ROOT)
    run = tmp_path / "killed" / BASE
    deadline = time.monotonic() + 600
    while not (run / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    subprocess.run(killed, check=True, capture_output=True, cwd=ROOT)
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


@pytest.mark.parametrize("encoder", ["resnet18", "tu-convnextv2_atto"])
def test_train_export_evaluate(data, tmp_path, encoder, capsys):
    """Both kinds of backbones from data to a bundle whose manifest holds what evaluation prints."""
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
    from seg_training.run import averaged_weights

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


def test_the_decoder_has_the_width_of_the_configuration():
    from seg_node.core.network import SegmentationNetwork

    narrow = SegmentationNetwork("resnet18", decoder={"pyramid": 64, "segmentation": 32, "merge": "cat"})
    assert narrow.fpn.decoder.p5.weight.shape[0] == 64
    assert narrow.fpn.segmentation_head[0].weight.shape[:2] == (8, 4 * 32)
    whole, plain = SegmentationNetwork("resnet18"), load_config(BASE_CONFIG)
    assert (whole.fpn.decoder.p5.weight.shape[0], plain.decoder) == (256, {})
    for value, message in (("{pyramid: 48}", "multiple of 32"), ("{pyramids: 64}", "unknown option 'pyramids'")):
        with pytest.raises(ValueError, match=message):
            load_config(BASE_CONFIG, [f"decoder={value}"])
