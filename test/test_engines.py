"""Every engine runs both shipped bundles and agrees with torch, per pixel."""

import cv2
import numpy as np
import pytest

from seg_node.core.bundle import Bundle, Manifest, load_bundle, shipped_bundles, write_bundle
from seg_node.core.engines import ENGINES, EngineError, create_engine, present_engines

SHIPPED = ["fpn_convnextv2", "fpn_resnet50"]


@pytest.fixture(scope="module")
def val_frame(data_dir):
    """A CamVid validation frame."""
    return cv2.imread(str(data_dir / "camvid/val/images/0016E5_08001.jpg"))


def _engine(bundle, name, precision="auto"):
    if name not in present_engines():
        pytest.skip(f"engine {name} is not installed")
    return create_engine(bundle, name, precision=precision)


@pytest.mark.parametrize("size", [(48, 64), (37, 53), (96, 300)])
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("model", SHIPPED)
def test_contract(model, name, size):
    """Camera-sized uint8 outputs that stay what they were, with and without confidence."""
    engine = _engine(load_bundle(model), name)
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    engine.warm_up(size)
    first, nothing = engine.infer(frames[0])
    kept = first.copy()
    engine.infer(frames[1])
    again, confidence = engine.infer(frames[0], confidence=True)
    assert nothing is None
    assert np.array_equal(first, kept)
    assert np.array_equal(first, again)
    assert first.shape == confidence.shape == size
    assert first.dtype == confidence.dtype == np.uint8
    assert first.max() < 8
    # The greatest of eight softmax values is at least an eighth.
    assert confidence.min() >= 255 // 8


@pytest.mark.parametrize("size", [None, (540, 960)])
@pytest.mark.parametrize(("precision", "equal", "off"), [("fp32", 0.98, 2), ("auto", 0.96, 5)])
@pytest.mark.parametrize("name", [name for name in ENGINES if name != "torch"])
@pytest.mark.parametrize("model", SHIPPED)
def test_agreement_with_torch(val_frame, model, name, precision, equal, off, size):
    """As shipped, weights in half precision, on a real frame at its own and at another camera's size."""
    pytest.importorskip("torch", reason="torch is missing: install the training extra")
    frame = val_frame if size is None else cv2.resize(val_frame, size[::-1])
    bundle = load_bundle(model)
    mask, confidence = _engine(bundle, name, precision).infer(frame, confidence=True)
    reference, reference_confidence = create_engine(bundle, "torch", precision="fp32").infer(frame, confidence=True)
    assert (mask == reference).mean() >= equal
    assert np.median(np.abs(confidence.astype(int) - reference_confidence)) <= off
    assert len(np.unique(mask)) >= 4, "a mask of one colour agrees with anything"


@pytest.mark.parametrize("model", SHIPPED)
def test_agreement_at_fp32(val_frame, model, tmp_path):
    """Export keeps the network: weights stored in full give the same masks on the training path and in engines."""
    torch = pytest.importorskip("torch", reason="torch is missing: install the training extra")
    from seg_node.core.engines.torch_engine import graph_weights
    from seg_node.core.network import FrameSegmenter, SegmentationNetwork
    from seg_training.export import export_graph

    shipped = load_bundle(model)
    manifest = shipped.manifest
    network = SegmentationNetwork(manifest.backbone).eval()
    network.fpn.load_state_dict(graph_weights(shipped.graph, network.fpn))
    # Weights that fp16 cannot hold, so that stored precision would show.
    with torch.no_grad():
        for weight in network.fpn.parameters():
            weight.mul_(1 + 1e-5)
    bundle = write_bundle(tmp_path / model, manifest, export_graph(network, manifest.input_size, half=False))
    with torch.inference_mode():
        reference = FrameSegmenter(network, manifest.input_size)(torch.from_numpy(val_frame))[0].numpy()
    for name in present_engines():
        mask, _ = create_engine(bundle, name, precision="fp32").infer(val_frame)
        assert (mask == reference).mean() >= 0.995, name


def test_auto_says_what_and_why():
    engine = create_engine(load_bundle("fpn_resnet50"), "auto")
    assert engine.name in present_engines()
    assert engine.reason
    assert create_engine(load_bundle("fpn_resnet50"), engine.name).reason.startswith("asked for by name")


def test_unknown_engine_names_those_there_are():
    with pytest.raises(EngineError, match="'tensorflow'; there are auto, onnxruntime, openvino, torch"):
        create_engine(load_bundle("fpn_resnet50"), "tensorflow")
    with pytest.raises(EngineError, match="precision 'int1'; there are auto, fp32"):
        create_engine(load_bundle("fpn_resnet50"), precision="int1")


@pytest.mark.parametrize("name", ENGINES)
def test_broken_graph_is_refused(name):
    shipped = load_bundle("fpn_resnet50")
    broken = Bundle(shipped.path, shipped.manifest, shipped.graph[:1000])
    with pytest.raises(EngineError, match="fpn_resnet50"):
        _engine(broken, name).warm_up((48, 64))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_wrong_output_shape_is_refused(name, tmp_path):
    import onnx

    text = """<ir_version: 10, opset_import: ["": 20]>
    wrong (uint8[H, W, 3] frame) => (uint8[W, H] mask, uint8[W, H] confidence) {
        channel = Constant <value = int64 {0}> ()
        plane = Gather <axis = 2> (frame, channel)
        mask = Transpose (plane)
        confidence = Transpose (plane)
    }"""
    graph = onnx.parser.parse_model(text).SerializeToString()
    manifest: Manifest = load_bundle("fpn_resnet50").manifest
    bundle = write_bundle(tmp_path / "wrong", manifest, graph)
    with pytest.raises(EngineError, match=r"mask is uint8 \(64, 48\) for a frame of \(48, 64\)"):
        _engine(bundle, name).warm_up((48, 64))


def test_shipped_names():
    assert list(shipped_bundles()) == SHIPPED
