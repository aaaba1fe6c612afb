"""Networks that were trained elsewhere: found out, wrapped, compared, refused."""

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import yaml

from seg_node.__main__ import main
from seg_node.core.bundle import load_bundle
from seg_node.core.engines import EngineError, create_engine
from seg_node.core.errors import UserError
from seg_node.core.foreign.classes import Classes, read_classes
from seg_node.core.foreign.importer import IMAGENET_MEAN, IMAGENET_STD, Settings, import_network
from seg_node.core.foreign.network import inspect
from seg_node.core.taxonomy import CATEGORY_NAMES, Category

CLASSES = Classes(
    ("road", "wall", "tree", "person", "car"),
    (Category.FLAT, Category.CONSTRUCTION, Category.NATURE, Category.HUMAN, Category.VEHICLE),
)
SIZE = (48, 80)
DTYPES = {"float": onnx.TensorProto.FLOAT, "float16": onnx.TensorProto.FLOAT16, "uint8": onnx.TensorProto.UINT8}


def network(
    last: bool = False, dtype: str = "float", free: bool = False, kind: str = "logits", stride: int = 1, opset: int = 18
) -> onnx.ModelProto:
    """A convolution of random weights that gives five classes, in every way that people export one."""
    rng = np.random.default_rng(5)
    sides = ["h", "w"] if free else list(SIZE)
    given = onnx.helper.make_tensor_value_info("image", DTYPES[dtype], [1, *sides, 3] if last else [1, 3, *sides])
    nodes = [onnx.helper.make_node("Cast", ["image"], ["values"], to=onnx.TensorProto.FLOAT)]
    if last:
        nodes.append(onnx.helper.make_node("Transpose", ["values"], ["planes"], perm=[0, 3, 1, 2]))
    # Values of 0..255 would saturate a softmax.
    scale = 0.01 if dtype == "uint8" else 1.0
    weights = {
        "kernel": (rng.normal(size=(5, 3, 3, 3)) * scale).astype(np.float32),
        "bias": rng.normal(size=5).astype(np.float32),
    }
    nodes.append(
        onnx.helper.make_node(
            "Conv", ["planes" if last else "values", *weights], ["maps"], pads=[1] * 4, strides=[stride] * 2
        )
    )
    out = "maps"
    if kind == "softmax":
        nodes.append(onnx.helper.make_node("Softmax", [out], ["soft"], axis=1))
        out = "soft"
    if kind == "labels":
        nodes.append(onnx.helper.make_node("ArgMax", [out], ["labels"], axis=1, keepdims=0))
        out = "labels"
    elif last:
        nodes.append(onnx.helper.make_node("Transpose", [out], ["back"], perm=[0, 2, 3, 1]))
        out = "back"
    whole = onnx.TensorProto.INT64 if kind == "labels" else onnx.TensorProto.FLOAT
    wanted = onnx.helper.make_tensor_value_info(out, whole, None)
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "network", [given], [wanted], stored)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


def save(model: onnx.ModelProto, folder, name: str = "net"):
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def by_hand(path, frame: np.ndarray, settings: Settings, size, last=False, dtype=np.float32, classes_last=None):
    """Mask of a bare network, its image prepared by OpenCV: uint8 [h, w] at the network's size."""
    image = cv2.resize(frame.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    image = image[..., ::-1] if settings.order == "rgb" else image
    if dtype == np.uint8:
        image = np.rint(image)
    else:
        image = (image / 255 - np.float32(settings.mean)) / np.float32(settings.std)
    image = np.ascontiguousarray(image if last else image.transpose(2, 0, 1))[None].astype(dtype)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: image})[0]
    if np.issubdtype(found.dtype, np.integer):
        return CLASSES.table[found.reshape(found.shape[-2:])]
    maps = found.transpose(0, 3, 1, 2) if (last if classes_last is None else classes_last) else found
    if maps.shape[2:] != tuple(size):
        maps = cv2.resize(maps[0].transpose(1, 2, 0), size[::-1], interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)[
            None
        ]
    return CLASSES.table[maps.argmax(1)[0]]


def scene(size=SIZE) -> np.ndarray:
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


WAYS = [
    {},
    {"last": True},
    {"dtype": "uint8"},
    {"dtype": "uint8", "last": True, "kind": "labels"},
    {"dtype": "float16"},
    {"free": True},
    {"free": True, "last": True, "kind": "softmax"},
    {"kind": "softmax"},
    {"kind": "labels"},
    {"stride": 4},
    {"stride": 4, "kind": "labels"},
    {"opset": 13},
    {"opset": 20},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_masks_are_those_of_the_bare_network(way, tmp_path):
    path = save(network(**way), tmp_path)
    settings = Settings(size=SIZE if way.get("free") else None)
    bundle, found = import_network(path, tmp_path / "bundle", CLASSES, settings)
    assert found.kind == way.get("kind", "logits") and found.channels_last == way.get("last", False)
    assert bundle.manifest.parity == {"onnxruntime": 100.0} and bundle.manifest.input_size == SIZE
    assert bundle.manifest.classes == CLASSES.names and load_bundle(bundle.path).graph == bundle.graph
    frame = scene()
    kind = {"uint8": np.uint8, "float16": np.float16}.get(way.get("dtype"), np.float32)
    expected = by_hand(path, frame, settings, SIZE, way.get("last", False), kind)
    engine = create_engine(bundle, "onnxruntime")
    mask, confidence = engine.infer(frame, confidence=True)
    if way.get("stride") and found.kind == "labels":
        expected = np.kron(expected, np.ones((4, 4), np.uint8))
    # OpenCV's linear scaling of a frame that has the network's size already changes nothing.
    assert (mask == expected).mean() == 1.0
    assert mask.max() <= Category.VEHICLE and len(np.unique(mask)) >= 4
    assert confidence.min() >= 255 // 5 and ((confidence == 255).all() == (found.kind == "labels"))
    # Other frames than the network's size, in another engine.
    large = scene((91, 133))
    other = create_engine(bundle, "openvino", precision="fp32").infer(large)[0]
    assert other.shape == (91, 133) and (other == engine.infer(large)[0]).mean() >= 0.999


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_channels_and_normalisation(order, tmp_path):
    path = save(network(), tmp_path)
    settings = Settings(order=order, mean=(0.1, 0.5, 0.7), std=(0.9, 0.3, 0.5))
    bundle, _ = import_network(path, tmp_path / "bundle", CLASSES, settings)
    frame = scene()
    assert np.array_equal(create_engine(bundle, "onnxruntime").infer(frame)[0], by_hand(path, frame, settings, SIZE))


def test_confidence_is_the_softmax_of_the_class(tmp_path):
    path = save(network(), tmp_path)
    bundle, _ = import_network(path, tmp_path / "bundle", CLASSES, Settings())
    soft, _ = import_network(save(network(kind="softmax"), tmp_path, "soft"), tmp_path / "soft", CLASSES, Settings())
    both = [create_engine(each, "onnxruntime").infer(scene(), confidence=True)[1] for each in (bundle, soft)]
    assert np.abs(both[0].astype(int) - both[1]).max() <= 1 and 80 < both[0].mean() < 255


def test_torch_does_not_run_what_was_imported(tmp_path):
    bundle, _ = import_network(save(network(), tmp_path), tmp_path / "bundle", CLASSES, Settings())
    with pytest.raises(EngineError, match="imported"):
        create_engine(bundle, "torch")
    assert create_engine(bundle).name in ("onnxruntime", "openvino")


def changed(change) -> onnx.ModelProto:
    model = network()
    change(model.graph)
    return model


def _second_output(graph):
    graph.output.append(onnx.helper.make_tensor_value_info("values", onnx.TensorProto.FLOAT, None))


def _second_input(graph):
    graph.input.append(onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, [1]))


def _shape(*dims, kind=onnx.TensorProto.FLOAT):
    def change(graph):
        graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("image", kind, dims))

    return change


def _sequence(graph):
    graph.node.append(onnx.helper.make_node("SequenceConstruct", ["maps"], ["several"]))
    of = onnx.helper.make_sequence_type_proto(onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None))
    graph.output[0].CopyFrom(onnx.helper.make_value_info("several", of))


def _unknown_type(graph):
    graph.input[0].type.tensor_type.elem_type = 99


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        (changed(_sequence), {}, "output is a list; expected one map"),
        (changed(_unknown_type), {}, r"image: type 99 \[1, 3, 48, 80\]; expected float or uint8"),
        (changed(_second_output), {}, r"2 outputs \(maps, values\)"),
        (changed(_second_input), {}, r"2 inputs \(image, other\)"),
        (changed(_shape(1, 4, 48, 80)), {}, r"image: FLOAT \[1, 4, 48, 80\]"),
        (changed(_shape(1, 3, 48, 3)), {}, r"\[1, 3, 48, 3\]"),
        (changed(_shape(2, 3, 48, 80)), {}, r"\[2, 3, 48, 80\]"),
        (changed(_shape(3, 48, 80)), {}, r"\[3, 48, 80\]"),
        (changed(_shape(1, 3, 48, 80, kind=onnx.TensorProto.INT32)), {}, "INT32"),
        (network(free=True), {}, "give --size"),
        (network(), {"size": (64, 80)}, "48 pixels high; --size asks for 64"),
        (network(free=True), {"size": (0, 80)}, "--size"),
        (network(), {"classes": 7}, r"\[1, 5, 48, 80\], and there are 7 classes"),
        (network(), {"classes": 1}, "one class alone"),
        (network(kind="labels"), {"kind": "logits"}, "expected logits"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_what_was_found(model, options, says):
    options = {"classes": 5, "size": None, "kind": None} | options
    with pytest.raises(UserError, match=says):
        inspect(model.SerializeToString(), **options)


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        ("logits", Settings(std=(1e-30, 1e-30, 1e-30)), "output maps is not finite for a picture; --mean and --std"),
        ("logits", Settings(output="softmax"), "output maps does not add up to 1 for a picture; give --output logits"),
        ("logits", Settings(mean=(1e16, 0.0, 0.0)), r"expected numbers below 1e\+15"),
        ("logits", Settings(std=(1.0, 0.0, 1.0)), "those of --std positive"),
    ],
)
def test_values_that_make_no_mask_are_refused_and_nothing_is_written(kind, settings, says, tmp_path):
    model = network(kind=kind)
    if settings.std[0] < 1e-9:
        kernel = onnx.numpy_helper.to_array(model.graph.initializer[0]) * np.float32(1e8)
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(kernel, "kernel"))
    with pytest.raises(UserError, match=says):
        import_network(save(model, tmp_path), tmp_path / "bundle", CLASSES, settings)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("data", [b"", b"no graph", network().SerializeToString()[:200]])
def test_what_is_no_graph_is_refused(data):
    with pytest.raises(UserError, match="the "):
        inspect(data, 5, None, None)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"road": "flat"}, "is dict; expected a list"),
        ([], "0 entries"),
        (["road"], "class 0 is 'road'"),
        ([{"name": "road"}], "expected name and category"),
        ([{"name": "", "category": "flat"}], "name ''"),
        ([{"name": 3, "category": "flat"}], "name '3'"),
        ([{"name": "road", "category": "street"}], "category 'street'"),
        (
            [{"name": "road", "category": "flat"}, {"name": "road", "category": "flat"}],
            "class 1 is 'road', and so is class 0",
        ),
    ],
)
def test_tables_of_classes_that_cannot_be_used_are_refused(rows, says, tmp_path):
    file = tmp_path / "classes.yaml"
    file.write_text(yaml.safe_dump(rows))
    with pytest.raises(UserError, match=says):
        read_classes(file)


def test_command(tmp_path, capsys):
    file = tmp_path / "classes.yaml"
    rows = zip(CLASSES.names, CLASSES.categories, strict=True)
    file.write_text(yaml.safe_dump([{"name": name, "category": CATEGORY_NAMES[value]} for name, value in rows]))
    path, out = save(network(free=True), tmp_path), tmp_path / "mine"
    arguments = ["import", str(path), str(out), "--classes", str(file), "--licence", "MIT"]
    assert main([*arguments]) == 2
    assert "give --size" in capsys.readouterr().err and not out.exists()
    assert main([*arguments, "--size", "48", "80", "--input", "bgr"]) == 0
    shown = capsys.readouterr().out
    assert "NCHW, 48x80" in shown and "logits of 1x5x48x80" in shown and "640x360 and 1280x720" in shown
    manifest = load_bundle(out).manifest
    assert (manifest.name, manifest.decoder, manifest.backbone, manifest.licence) == ("mine", "imported", "net", "MIT")
    assert (manifest.mean, manifest.std) == (IMAGENET_MEAN[::-1], IMAGENET_STD[::-1])
    assert main([*arguments, "--size", "48", "80"]) == 2
    assert "exists already" in capsys.readouterr().err


ARCHITECTURES = ("unet", "deeplabv3", "segformer", "lraspp", "pan", "transformers")


def architecture(name: str):
    """A network with random weights and five classes."""
    import segmentation_models_pytorch as smp
    import torch
    import torchvision

    torch.manual_seed(0)
    made = {
        "unet": lambda: smp.Unet("resnet18", encoder_weights=None, classes=5),
        "deeplabv3": lambda: smp.DeepLabV3("resnet18", encoder_weights=None, classes=5),
        "segformer": lambda: smp.Segformer("mit_b0", encoder_weights=None, classes=5),
        "lraspp": lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=5
        ),
        # Two ways through the picture that meet, as in BiSeNet: details, and context by attention.
        "pan": lambda: smp.PAN("resnet18", encoder_weights=None, classes=5),
        "transformers": _segformer_of_transformers,
    }[name]()
    return made.eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_of_others(name, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is missing: pip install -e .[training]")
    model, path = architecture(name), tmp_path / f"{name}.onnx"
    if name in ("lraspp", "transformers"):
        model = _only(model, "out" if name == "lraspp" else "logits")
    # PAN pools the least of its maps thrice.
    size = (256, 256) if name == "pan" else (64, 96)
    example = torch.zeros(1, 3, *size)
    torch.onnx.export(model, (example,), str(path), dynamo=False, opset_version=17)
    bundle, found = import_network(path, tmp_path / "bundle", CLASSES, Settings())
    assert found.size == size and found.kind == "logits"
    frame = scene(size)
    image = (frame[..., ::-1].astype(np.float32) / 255 - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    with torch.no_grad():
        maps = model(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None])
        maps = torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)
    expected = CLASSES.table[maps.argmax(1)[0].numpy()]
    assert (create_engine(bundle, "onnxruntime").infer(frame)[0] == expected).mean() > 0.999
    assert (create_engine(bundle, "openvino", precision="fp32").infer(frame)[0] == expected).mean() > 0.999


def _segformer_of_transformers():
    """The one by its authors' weights, which is exported under other names and with a map of a quarter of the size."""
    found = pytest.importorskip("transformers", reason="transformers is missing: pip install transformers")
    return found.SegformerForSemanticSegmentation(found.SegformerConfig(num_labels=5, depths=[1, 1, 1, 1]))


def _only(model, name: str):
    import torch

    class Only(torch.nn.Module):
        """The one map of a network that gives several by name."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, image):
            return self.model(image)[name]

    return Only().eval()


@pytest.mark.parametrize("kind", ["logits", "labels"])
def test_the_classes_themselves_can_be_the_categories(kind, tmp_path):
    names = ("road", "kerb", "tree", "person", "car")
    rows = [{"name": name, "colour": [9 * i, 255 - i, 3]} for i, name in enumerate(names)]
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(rows))
    classes = read_classes(tmp_path / "classes.yaml")
    assert classes.taxonomy.names == names and classes.table.tolist() == [0, 1, 2, 3, 4]
    model = network(kind=kind)
    if kind == "labels":
        # A network whose labels are not all classes: those two give no answer.
        model.graph.node.append(onnx.helper.make_node("Sub", ["labels", "two"], ["less"]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(2, np.int64), "two"))
        model.graph.output[0].name = "less"
    bundle, _ = import_network(save(model, tmp_path), tmp_path / "bundle", classes, Settings())
    manifest = load_bundle(bundle.path).manifest
    assert (manifest.categories, manifest.classes) == (names, names)
    assert manifest.palette[4] == (36, 251, 3)
    for engine in ("onnxruntime", "openvino"):
        found = set(np.unique(create_engine(bundle, engine, precision="fp32").infer(scene())[0]).tolist())
        assert found == ({0, 1, 2, 3, 4} if kind == "logits" else {0, 1, 2, 255})


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"name": "a", "colour": [1, 2, 3]}, {"name": "b", "category": "flat"}], "class 1 is .* name and colour"),
        (
            [{"name": "a", "colour": [1, 2, 3]}, {"name": "a", "colour": [1, 2, 3]}],
            "category 1 is 'a', and so is category 0",
        ),
        ([{"name": "a", "colour": [1, 2, 300]}, {"name": "b", "colour": [1, 2, 3]}], "category 0 has the colour"),
        ([{"name": f"c{n}", "colour": [1, 2, 3]} for n in range(255)], "is 255 entries"),
    ],
)
def test_classes_with_colours_are_refused_by_name(rows, says, tmp_path):
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(rows))
    with pytest.raises(UserError, match=f"classes.yaml: {says}"):
        read_classes(tmp_path / "classes.yaml")
