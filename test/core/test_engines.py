"""Every engine runs both shipped bundles and agrees with torch, per pixel."""

import functools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from bundles import constant_bundle

from seg_node.core.bundle import Bundle, Manifest, load_bundle, shipped_bundles, write_bundle
from seg_node.core.engines import ENGINES, EngineError, create_engine, present_engines
from seg_node.core.machine import usable_cores

SHIPPED = ["fpn_convnextv2", "fpn_lite", "fpn_resnet50"]


@pytest.fixture(scope="module")
def val_frame(data_dir):
    """A CamVid validation frame."""
    return cv2.imread(str(data_dir / "camvid/val/images/0016E5_08001.jpg"))


def _engine(bundle, name, precision="auto"):
    if name not in present_engines():
        pytest.skip(f"engine {name} is not installed")
    return create_engine(bundle, name, precision=precision)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("model", SHIPPED)
def test_contract(model, name):
    """Camera-sized uint8 outputs that stay what they were, with and without confidence, of one size after the other."""
    engine = _engine(load_bundle(model), name)
    for size in ((48, 64), (37, 53), (96, 300)):
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


@pytest.mark.parametrize("name", ENGINES)
def test_a_batch_is_its_frames_one_by_one(name):
    engine = _engine(load_bundle("fpn_resnet50"), name, precision="fp32")
    frames = list(np.random.default_rng(0).integers(0, 256, (3, 37, 53, 3), np.uint8))
    batch = engine.infer_batch(frames, confidence=True)
    for frame, (mask, confidence) in zip(frames, batch, strict=True):
        alone, sure = engine.infer(frame, confidence=True)
        # Sums are added up in another order in a batch.
        assert (mask == alone).mean() > 0.999
        assert np.abs(confidence.astype(int) - sure).max() <= 2


def test_threads_that_share_an_engine_of_several_streams_have_the_masks_of_one():
    pytest.importorskip("openvino", reason="openvino is not installed")
    bundle = load_bundle("fpn_lite")
    engine, alone = (create_engine(bundle, "openvino", threads=1, precision="fp32") for _ in range(2))
    engine.serve(64)
    assert alone.streams == 1 <= engine.streams <= usable_cores()
    frames = list(np.random.default_rng(0).integers(0, 256, (4, 37, 53, 3), np.uint8))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda frame: engine.infer(frame, confidence=True), frames * 3))
    for frame, (mask, confidence) in zip(frames * 3, together, strict=True):
        expected, sure = alone.infer(frame, confidence=True)
        assert (mask == expected).mean() > 0.999
        assert np.abs(confidence.astype(int) - sure).max() <= 2


def test_cuda_graphs_are_made_for_each_size_and_given_up_again():
    torch = pytest.importorskip("torch", reason="torch is missing: install the training extra")
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    engine = create_engine(load_bundle("fpn_resnet50"), "torch", precision="fp32")
    for height in (32, 48, 64, 80, 96, 32):
        frame = np.random.default_rng(height).integers(0, 256, (height, 100, 3), np.uint8)
        mask, confidence = engine.infer(frame, confidence=True)
        ((expected, sure),) = engine.infer_batch([frame], confidence=True)
        assert (mask == expected).mean() > 0.999
        assert np.abs(confidence.astype(int) - sure).max() <= 2


def test_a_block_for_the_gpu_is_the_block_of_the_resnet(monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is missing: install the training extra")
    pytest.importorskip("triton", reason="Triton is missing: it comes with torch for a GPU")
    from seg_node.core.engines.torch_engine import graph_weights
    from seg_node.core.engines.torch_gpu import FusedBottleneck, for_gpu
    from seg_node.core.network import SegmentationNetwork

    bundle = load_bundle("fpn_resnet50")
    network = SegmentationNetwork(bundle.manifest.backbone).eval()
    network.fpn.load_state_dict(graph_weights(bundle.graph, network.fpn))
    frame = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (1, 3, 64, 96)).astype(np.float32))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with torch.inference_mode():
        expected = network(frame)
        for_gpu(network, torch.float32)
        found = network(frame)
    assert sum(isinstance(module, FusedBottleneck) for module in network.modules()) == 16
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


_INTERPRETED = """
import torch
from torch import nn
from seg_node.core.engines.torch_gpu import Depthwise, for_gpu
for side, channels, size in ((3, 24, (2, 9)), (5, 8, (3, 4)), (1, 6, (2, 2))):
    convolution = nn.Conv2d(channels, channels, side, padding=side // 2, groups=channels)
    features = torch.randn(2, channels, *size)
    with torch.inference_mode():
        difference = Depthwise(convolution)(features) - convolution(features)
    assert Depthwise.fits(convolution) and difference.abs().max() < 1e-5, (side, difference)
for other in (
    nn.Conv2d(8, 8, 3, padding=1),
    nn.Conv2d(8, 8, 3, groups=8),
    nn.Conv2d(8, 8, 3, 2, 1, groups=8),
    nn.Conv2d(8, 8, 4, padding=2, groups=8),
    nn.Conv2d(8, 8, 3, padding="same", groups=8),
    nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="reflect"),
    nn.ReLU(),
):
    assert not Depthwise.fits(other), other
network = nn.Sequential(convolution)
for_gpu(network, torch.float32)
assert isinstance(network[0], Depthwise)
"""


def test_the_depthwise_kernel_is_a_depthwise_convolution():
    """Triton interprets the kernel where there is no GPU."""
    pytest.importorskip("triton", reason="Triton is missing: it comes with torch for a GPU")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    run = subprocess.run([sys.executable, "-c", _INTERPRETED], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_kernel_that_does_not_run_is_left_out():
    """Triton has no kernels for a processor."""
    torch = pytest.importorskip("torch", reason="torch is missing: install the training extra")
    pytest.importorskip("triton", reason="Triton is missing: it comes with torch for a GPU")
    from seg_node.core.engines.torch_gpu import for_gpu

    network = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1, groups=8))
    with pytest.warns(UserWarning, match="Depthwise does not run here and is left out"):
        for_gpu(network, torch.float32)
    assert type(network[0]) is torch.nn.Conv2d


@pytest.fixture(scope="module")
def by_torch(val_frame):
    """Frame, mask and confidence of a shipped bundle by torch in fp32, at a size of the frame."""
    pytest.importorskip("torch", reason="torch is missing: install the training extra")

    @functools.cache
    def infer(model, size):
        frame = val_frame if size is None else cv2.resize(val_frame, size[::-1])
        return frame, *create_engine(load_bundle(model), "torch", precision="fp32").infer(frame, confidence=True)

    return infer


@pytest.mark.parametrize("size", [None, (540, 960)])
@pytest.mark.parametrize(("precision", "equal", "off"), [("fp32", 0.98, 2), ("auto", 0.96, 5)])
@pytest.mark.parametrize("name", [name for name in ENGINES if name != "torch"])
@pytest.mark.parametrize("model", SHIPPED)
def test_agreement_with_torch(by_torch, model, name, precision, equal, off, size):
    """As shipped, weights in half precision, on a real frame at its own and at another camera's size."""
    frame, reference, reference_confidence = by_torch(model, size)
    mask, confidence = _engine(load_bundle(model), name, precision).infer(frame, confidence=True)
    assert (mask == reference).mean() >= equal
    assert np.median(np.abs(confidence.astype(int) - reference_confidence)) <= off
    assert len(np.unique(mask)) >= 4, "a mask of one colour agrees with anything"


@pytest.mark.parametrize("model", SHIPPED)
def test_agreement_at_fp32(val_frame, model, tmp_path):
    """Export keeps the network: weights stored in full give the same masks on the training path and in engines."""
    torch = pytest.importorskip("torch", reason="torch is missing: install the training extra")
    from seg_node.core.engines.torch_engine import graph_weights
    from seg_node.core.network import FrameSegmenter, SegmentationNetwork
    from seg_training.export_graph import export_graph

    shipped = load_bundle(model)
    manifest = shipped.manifest
    normalisation = (manifest.mean, manifest.std)
    network = SegmentationNetwork(manifest.backbone, *normalisation, decoder=manifest.decoder_options).eval()
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


def test_auto_takes_torch_first_where_both_see_a_gpu(monkeypatch):
    from seg_node.core import engines

    monkeypatch.setattr(engines, "_torch_sees_gpu", lambda: True)
    monkeypatch.setattr(engines, "_onnxruntime_sees_gpu", lambda: True)
    assert engines._choose(["onnxruntime", "openvino", "torch"]) == ("torch", "it sees a GPU")
    assert engines._choose(["onnxruntime", "openvino"]) == ("onnxruntime", "it sees a GPU")


def test_auto_imports_torch_for_a_gpu_only():
    """It would make the node start seconds later."""
    from seg_node.core import engines

    if engines._has_gpu() or "openvino" not in present_engines():
        pytest.skip("there is a GPU, or no OpenVINO")
    code = (
        "import sys; from seg_node.core.bundle import load_bundle; from seg_node.core.engines import create_engine;"
        "print(create_engine(load_bundle('fpn_resnet50')).name, 'torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "openvino False\n"


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


def _three_channel_bundle(tmp_path):
    """Argmax over the sum of three times the frame's own channels, whose many equal values are ties."""
    import onnx

    text = """<ir_version: 10, opset_import: ["": 20]>
    sums (uint8[H, W, 3] frame) => (uint8[H, W] mask, uint8[H, W] confidence) {
        values = Cast <to = 1> (frame)
        planes = Transpose <perm = [2, 0, 1]> (values)
        zero = Constant <value = int64[1] {0}> ()
        logits = Unsqueeze (planes, zero)
        part = Unsqueeze (logits, zero)
        stack = Concat <axis = 0> (part, part, part)
        total = ReduceSum <keepdims = 0> (stack, zero)
        category = ArgMax <axis = 1, keepdims = 1> (total)
        small = Cast <to = 2> (category)
        both = Constant <value = int64[2] {0, 1}> ()
        mask = Squeeze (small, both)
        peak = ReduceMax <keepdims = 0> (logits, zero)
        first = Constant <value = int64[1] {1}> ()
        last = Constant <value = int64[1] {2}> ()
        middle = Slice (peak, first, last, zero)
        flat = Squeeze (middle, zero)
        confidence = Cast <to = 2> (flat)
    }"""
    graph = onnx.parser.parse_model(text).SerializeToString()
    return write_bundle(tmp_path / "sums", load_bundle("fpn_resnet50").manifest, graph)


def test_openvino_finds_the_first_of_equal_logits(tmp_path):
    engine = _engine(_three_channel_bundle(tmp_path), "openvino")
    frame = np.random.default_rng(0).integers(0, 4, (37, 53, 3), np.uint8)
    assert np.array_equal(engine.infer(frame)[0], frame.argmax(2))


@pytest.mark.parametrize("model", [*SHIPPED, None])
def test_openvino_sorts_and_stacks_nothing(model, tmp_path):
    """The rewriting finds what it is for in the graphs that are exported here."""
    engine = _engine(load_bundle(model) if model else _three_channel_bundle(tmp_path), "openvino")
    kinds = [node.get_type_name() for node in engine.model((48, 64)).get_ordered_ops()]
    assert "Split" in kinds and not {"TopK", "ReduceSum"} & set(kinds)


@pytest.mark.parametrize("fast", [True, False])
def test_openvino_computes_in_bf16_only_where_that_is_fast(fast, tmp_path, monkeypatch):
    monkeypatch.setattr("seg_node.core.engines.openvino_engine.has_fast_bf16", lambda: fast)
    engine = _engine(_three_channel_bundle(tmp_path), "openvino")
    native = "BF16" in engine._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found = engine.compiled((32, 32), profiled=True).get_property("INFERENCE_PRECISION_HINT").get_type_name()
    assert found == ("bf16" if fast and native else "f32")


def test_openvino_takes_what_was_compiled_before(val_frame, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle = load_bundle("fpn_resnet50")
    mask = _engine(bundle, "openvino").infer(val_frame)[0]
    again = _engine(bundle, "openvino")
    with monkeypatch.context() as patch:
        patch.setattr(again, "model", None)
        assert np.array_equal(again.infer(val_frame)[0], mask)


def test_openvino_compiles_where_the_cache_is_of_no_use(val_frame, tmp_path, monkeypatch):
    monkeypatch.setattr("seg_node.core.engines.openvino_engine.remembered", lambda key, make: b"no compiled model")
    bundle = load_bundle("fpn_resnet50")
    assert _engine(bundle, "openvino").infer(val_frame)[0].shape == val_frame.shape[:2]


@pytest.mark.parametrize(("name", "precision"), [("onnxruntime", "int8"), ("openvino", "fp32"), ("openvino", "int8")])
def test_what_takes_long_is_done_aside_and_kept(name, precision, tmp_path, monkeypatch):
    """This process quantises nothing and reads no model for OpenVINO, and has the masks of one that does."""
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    bundle = load_bundle("fpn_lite")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    expected = _engine(bundle, name, precision).infer(frame, confidence=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "aside"))
    monkeypatch.setattr("seg_node.core.engines.quantise.quantise", None)
    if name == "openvino":
        monkeypatch.setattr("seg_node.core.engines.openvino_engine.OpenVinoEngine.model", None)
    for attempt in ("made", "kept"):
        if attempt == "kept":
            monkeypatch.setattr("seg_node.core.engines.aside.subprocess.Popen", None)
        found = create_engine(bundle, name, precision=precision, aside=True).infer(frame, confidence=True)
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one, other), attempt


def test_what_is_small_is_done_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("seg_node.core.engines.aside.subprocess.Popen", None)
    for name in ("onnxruntime", "openvino"):
        engine = create_engine(constant_bundle(tmp_path, name, 3), name, aside=True)
        assert (engine.infer(np.zeros((8, 8, 3), np.uint8))[0] == 3).all()
