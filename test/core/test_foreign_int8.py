"""Imported networks in int8: ranges from a folder of images, what it costs, what is refused."""

import cv2
import numpy as np
import onnx
import pytest
import yaml
from helpers.paths import DRIVE

from seg_node.__main__ import main
from seg_node.bags.drive import open_drive
from seg_node.bags.image_folder import ImageFolder
from seg_node.bags.images import decode
from seg_node.bags.reader import BagError
from seg_node.core.bundle import DEFAULT_MODEL, load_bundle
from seg_node.core.engines import EngineError, create_engine
from seg_node.core.engines.quantise import quantise
from seg_node.core.errors import UserError
from seg_node.core.foreign.classes import Classes, read_classes
from seg_node.core.foreign.importer import Settings, import_network
from seg_node.core.foreign.int8 import LEAST_IMAGES, MOST_IMAGES
from seg_node.core.metrics import confusion_matrix, scores
from seg_node.core.taxonomy import CATEGORY_NAMES, Category

SIZE = (48, 80)
CLASSES = Classes(
    ("road", "wall", "tree", "person", "car"),
    (Category.FLAT, Category.CONSTRUCTION, Category.NATURE, Category.HUMAN, Category.VEHICLE),
)
TYPES = {"float": onnx.TensorProto.FLOAT, "float16": onnx.TensorProto.FLOAT16, "uint8": onnx.TensorProto.UINT8}


def network(kind: str = "logits", last: bool = False, dtype: str = "float", hidden: int = 2) -> bytes:
    """Convolutions of random weights, ``hidden`` before the classifier, none of whose nodes has a name."""
    rng = np.random.default_rng(3)
    shape = [1, *SIZE, 3] if last else [1, 3, *SIZE]
    nodes, stored = [onnx.helper.make_node("Cast", ["image"], ["values"], to=onnx.TensorProto.FLOAT)], []
    at, channels = "values", 3
    if last:
        nodes.append(onnx.helper.make_node("Transpose", [at], ["planes"], perm=[0, 3, 1, 2]))
        at = "planes"
    for layer, (width, side) in enumerate([*[(16, 3)] * hidden, (5, 1)]):
        values = rng.normal(size=(width, channels, side, side)) / np.sqrt(channels * side * side)
        if dtype == "uint8" and layer == 0:
            values /= 60
        stored += [
            onnx.numpy_helper.from_array(values.astype(np.float32), f"w{layer}"),
            onnx.numpy_helper.from_array(rng.normal(size=width).astype(np.float32) * 0.1, f"b{layer}"),
        ]
        nodes.append(onnx.helper.make_node("Conv", [at, f"w{layer}", f"b{layer}"], [f"c{layer}"], pads=[side // 2] * 4))
        at, channels = f"c{layer}", width
        if layer < hidden:
            nodes.append(onnx.helper.make_node("Relu", [at], [f"r{layer}"]))
            at = f"r{layer}"
    if kind == "labels":
        nodes.append(onnx.helper.make_node("ArgMax", [at], ["out"], axis=1, keepdims=0))
    elif kind == "softmax":
        nodes.append(onnx.helper.make_node("Softmax", [at], ["out"], axis=1))
    elif last:
        nodes.append(onnx.helper.make_node("Transpose", [at], ["out"], perm=[0, 2, 3, 1]))
    else:
        nodes.append(onnx.helper.make_node("Identity", [at], ["out"]))
    given = onnx.helper.make_tensor_value_info("image", TYPES[dtype], shape)
    whole = onnx.TensorProto.INT64 if kind == "labels" else onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes, "network", [given], [onnx.helper.make_tensor_value_info("out", whole, None)], stored
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 8
    return model.SerializeToString()


def picture(seed: int, size=(60, 100)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (6, 10, 3), dtype=np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of images of two sizes, and a file that is none."""
    folder = tmp_path_factory.mktemp("drive")
    for number in range(LEAST_IMAGES + 4):
        size = (60, 100) if number % 2 else (75, 75)
        cv2.imwrite(str(folder / f"{number}.png"), picture(number, size))
    (folder / "notes.txt").write_text("none")
    return folder


def save(graph: bytes, folder):
    (folder / "net.onnx").write_bytes(graph)
    return folder / "net.onnx"


@pytest.mark.parametrize(
    "way",
    [{}, {"last": True}, {"dtype": "uint8"}, {"kind": "labels"}, {"kind": "softmax"}, {"hidden": 3}],
    ids=str,
)
def test_engines_compute_in_int8_and_the_manifest_says_what_it_costs(way, images, tmp_path):
    path = save(network(**way), tmp_path)
    found = ImageFolder(images)
    bundle, _ = import_network(path, tmp_path / "bundle", CLASSES, Settings(), found, "drive")
    assert bundle.ranges and load_bundle(bundle.path).ranges == bundle.ranges
    told = bundle.manifest.quantisation
    assert told["calibrated_on"] == f"{LEAST_IMAGES // 2 + 2} images of drive"
    assert told["scored_on"] == f"{LEAST_IMAGES // 2 + 2} other images of drive, against the masks in fp32"
    stored = onnx.load_from_string(quantise(bundle.graph, bundle.ranges)).graph.initializer
    weights = {weight.name: weight.data_type for weight in stored}
    hidden = way.get("hidden", 2)
    assert list(weights.values()).count(onnx.TensorProto.INT8) >= hidden, "the convolutions before the classifier"
    assert weights[f"network.w{hidden}"] == onnx.TensorProto.FLOAT, "the classifier stays as it is"
    for name in ("onnxruntime", "openvino"):
        full, small = (create_engine(bundle, name, precision=precision) for precision in ("fp32", "int8"))
        counts, equal = [], []
        for index in range(1, len(found), 2):
            frame = cv2.resize(found[index], SIZE[::-1], interpolation=cv2.INTER_AREA)
            masks = full.infer(frame)[0], small.infer(frame)[0]
            counts.append(confusion_matrix(*masks))
            equal.append((masks[0] == masks[1]).mean())
        value = scores(sum(counts))["miou_7"]
        assert told[name]["miou_7"] == pytest.approx(value, abs=0.01)
        assert told[name]["loss"] == pytest.approx(100 - value, abs=0.01)
        assert told[name]["equal"] == pytest.approx(100 * np.mean(equal), abs=0.01)
        assert 90 < told[name]["equal"] < 100, "int8 was computed, and is nearly as good"
        # A frame of another size than the network's, as a camera sends it.
        assert small.infer(picture(99, (91, 133)))[0].shape == (91, 133)
    assert load_bundle(bundle.path).graph == bundle.graph


def test_auto_takes_int8_by_what_the_manifest_says(images, tmp_path, monkeypatch):
    path = save(network(), tmp_path)
    rows = [{"name": name, "colour": [9 * i, 1, 3]} for i, name in enumerate(CLASSES.names)]
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(rows))
    classes = read_classes(tmp_path / "classes.yaml")
    bundle, _ = import_network(path, tmp_path / "bundle", classes, Settings(), ImageFolder(images), "drive")
    monkeypatch.setattr("seg_node.core.engines.has_fast_int8", lambda: True)
    told = bundle.manifest.quantisation["onnxruntime"]
    assert told.keys() == {"equal", "miou", "loss"}, "the headline is that of the categories"
    for loss, precision in ((0.3, "int8"), (0.6, "auto")):
        told["loss"] = loss
        assert create_engine(bundle, "onnxruntime").precision == precision
    told["loss"] = 0.3
    assert "costs 0.30 points of miou" in create_engine(bundle, "onnxruntime").reason


@pytest.mark.parametrize(
    ("graph", "count", "says"),
    [
        (network(), 0, f"drive has 0 images; int8 needs at least {LEAST_IMAGES}"),
        (network(), LEAST_IMAGES - 1, f"drive has {LEAST_IMAGES - 1} images; int8 needs at least"),
        (network(dtype="float16"), LEAST_IMAGES, "input image is float16.*export the network as float32"),
        (network(hidden=0), LEAST_IMAGES, "int8 would change nothing: .* no product but its classifier"),
    ],
)
def test_what_has_no_int8_is_refused_by_name_and_nothing_is_written(graph, count, says, tmp_path):
    frames = [picture(number) for number in range(count)]
    with pytest.raises(UserError, match=says):
        import_network(save(graph, tmp_path), tmp_path / "bundle", CLASSES, Settings(), frames, "drive")
    assert not (tmp_path / "bundle").exists()


def test_images_that_show_nothing_scored_are_refused(tmp_path):
    classes = Classes(("own", "rest"), (Category.VOID, Category.VOID))
    model = onnx.load_from_string(network())
    for number, name in enumerate(("w2", "b2")):
        before = onnx.numpy_helper.to_array(model.graph.initializer[4 + number])
        model.graph.initializer[4 + number].CopyFrom(onnx.numpy_helper.from_array(before[:2], name))
    frames = [picture(number) for number in range(LEAST_IMAGES)]
    with pytest.raises(UserError, match="finds no category that is scored on drive"):
        import_network(save(model.SerializeToString(), tmp_path), tmp_path / "b", classes, Settings(), frames, "drive")


def test_of_many_images_some_are_read(tmp_path):
    asked = set()

    class Many(list):
        def __len__(self):
            return 1000

        def __getitem__(self, index):
            asked.add(index)
            return picture(index)

    bundle, _ = import_network(save(network(), tmp_path), tmp_path / "b", CLASSES, Settings(), Many(), "drive")
    assert len(asked) == MOST_IMAGES and {0, 999} <= asked
    assert bundle.manifest.quantisation["calibrated_on"] == f"{MOST_IMAGES // 2} images of drive"


def test_folders(images, tmp_path):
    found = ImageFolder(images)
    assert len(found) == LEAST_IMAGES + 4 and [path.name for path in found.others] == ["notes.txt"]
    assert [path.stem for path in found.files] == [str(number) for number in range(len(found))]
    assert found[0].shape == (75, 75, 3) and found[0].dtype == np.uint8
    with pytest.raises(BagError, match="is no folder"):
        ImageFolder(tmp_path / "none")
    (tmp_path / "inner").mkdir()
    with pytest.raises(BagError, match="holds no image; it holds the folders inner"):
        ImageFolder(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(BagError, match="a.png cannot be"):
        ImageFolder(tmp_path)[0]


def test_command(images, tmp_path, capsys):
    file, path, out = tmp_path / "classes.yaml", save(network(), tmp_path), tmp_path / "mine"
    rows = zip(CLASSES.names, CLASSES.categories, strict=True)
    file.write_text(yaml.safe_dump([{"name": name, "category": CATEGORY_NAMES[value]} for name, value in rows]))
    arguments = ["import", str(path), str(out), "--classes", str(file), "--int8"]
    for folder, says in ((tmp_path / "none", "is no folder"), (tmp_path / "few", "few has 3 images; int8 needs")):
        if folder.name == "few":
            folder.mkdir()
            for number in range(3):
                cv2.imwrite(str(folder / f"{number}.png"), picture(number))
        assert main([*arguments, str(folder)]) == 2
        assert says in capsys.readouterr().err and not out.exists()
    assert main([*arguments, str(images)]) == 0
    shown = capsys.readouterr().out
    told = load_bundle(out).manifest.quantisation
    assert f"int8     ranges of {told['calibrated_on']}; on {told['scored_on']}:" in shown
    for name in ("onnxruntime", "openvino"):
        costs = f"{name}: {told[name]['loss']:.2f} points of miou_7 lost, {told[name]['equal']:.2f} % of the pixels"
        assert costs in shown
    assert create_engine(load_bundle(out), "openvino", precision="int8").infer(picture(1))[0].shape == (60, 100)
    assert main([*arguments[:2], str(tmp_path / "bare"), *arguments[3:-1]]) == 0
    with pytest.raises(EngineError, match="bare has no int8.json, and so no int8; import it with --int8 FOLDER"):
        create_engine(load_bundle(tmp_path / "bare"), "openvino", precision="int8")


def test_a_trained_network_keeps_its_masks(tmp_path):
    """The network of a shipped bundle, as somebody would bring it along, on frames of the shipped drive."""
    model = onnx.load_from_string(load_bundle(DEFAULT_MODEL).graph)
    begin, end = (
        next(i for i, node in enumerate(model.graph.node) if name in node.output) for name in ("image", "logits")
    )
    size = (192, 320)
    graph = onnx.helper.make_graph(
        model.graph.node[begin + 1 : end + 1],
        "network",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, *size])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)],
        model.graph.initializer,
    )
    bare = onnx.helper.make_model(graph, opset_imports=model.opset_import)
    bare.ir_version = model.ir_version
    manifest = load_bundle(DEFAULT_MODEL).manifest
    drive = open_drive(DRIVE)
    frames = [decode(drive.frames[index]) for index in np.linspace(0, len(drive.frames) - 1, LEAST_IMAGES).astype(int)]
    classes = Classes(CATEGORY_NAMES, tuple(range(8)))
    settings = Settings(mean=manifest.mean, std=manifest.std)
    path = save(bare.SerializeToString(), tmp_path)
    bundle, _ = import_network(path, tmp_path / "bundle", classes, settings, frames, "the shipped drive")
    for name in ("onnxruntime", "openvino"):
        told = bundle.manifest.quantisation[name]
        # A category of few pixels counts as much as the road, so that the points say more than the pixels.
        assert 97 < told["equal"] < 100 and told["loss"] < 20, (name, told)
