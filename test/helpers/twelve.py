"""Twelve categories of a user's own, and a network of them that costs nothing."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import yaml

from seg_node.core.bundle import Bundle
from seg_node.core.engines import create_engine
from seg_node.core.foreign.classes import Classes
from seg_node.core.foreign.importer import Settings, import_network
from seg_node.core.taxonomy import Taxonomy

TWELVE = Taxonomy(
    ("road", "sidewalk", "kerb", "building", "pole", "sign", "tree", "grass", "sky", "person", "rider", "car"),
    tuple((10 + 20 * number, 250 - 20 * number, 40 * (number % 6)) for number in range(12)),
)
SIZE = (96, 128)


def twelve_bundle(folder: Path, name: str = "twelve") -> Bundle:
    """Import a convolution as ``folder/name``; it runs in ONNX Runtime and OpenVINO."""
    # The category of the nearest of twelve colours, as 2 c x - c c.
    near = np.random.default_rng(12).uniform(-1.7, 1.7, (12, 3)).astype(np.float32)
    weights = {"kernel": 2 * near[:, :, None, None], "bias": -(near**2).sum(1)}
    given = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, *SIZE])
    wanted = onnx.helper.make_tensor_value_info("maps", onnx.TensorProto.FLOAT, [1, 12, *SIZE])
    nodes = [onnx.helper.make_node("Conv", ["image", *weights], ["maps"])]
    stored = [onnx.numpy_helper.from_array(value, key) for key, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "network", [given], [wanted], stored)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 8
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.onnx"
    file.write_bytes(model.SerializeToString())
    return import_network(file, folder / name, Classes(TWELVE.names, tuple(range(12)), TWELVE), Settings())[0]


def twelve_scene(seed: int) -> np.ndarray:
    """An image in whose mask most categories are, uint8 [H, W, 3] BGR, in blocks that JPEG keeps."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.kron(small, np.ones((8, 8, 1), np.uint8))


def labelled_folder(folder: Path, teacher: Bundle, count: int = 12) -> Path:
    """Images that a bundle has labelled, ``images`` and ``masks`` of grey values 10, 20, ..., with ``twelve.yaml``."""
    engine = create_engine(teacher, "onnxruntime")
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        bgr = twelve_scene(100 + seed)
        cv2.imwrite(str(folder / "images" / f"{seed}.png"), bgr)
        mask = 10 * (1 + engine.infer(bgr)[0])
        mask[:8, :8] = 0
        cv2.imwrite(str(folder / "masks" / f"{seed}.png"), mask)
    labels = [{"id": 10 * (1 + number), "category": name} for number, name in enumerate(TWELVE.names)]
    table = {"categories": TWELVE.rows(), "labels": [*labels, {"id": 0, "category": "ignore"}]}
    (folder / "twelve.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    return folder


def twelve_config(folder: Path, **changes) -> Path:
    """Configuration of a training of seconds on a ``labelled_folder``."""
    data = {"dataset": "folder", "root": str(folder), "labels": "twelve.yaml"}
    values = {
        "name": "twelve",
        "taxonomy": str(folder / "twelve.yaml"),
        "encoder": "resnet18",
        "decoder": {"pyramid": 32, "segmentation": 32},
        "train": [data],
        "val": [data],
        "input_size": list(SIZE),
        "stages": [{"share": 1, "crop": [64, 96], "scale": [1.0, 1.0]}],
        "steps": 10,
        "batch_size": 2,
        "threads": 1,
        "learning_rate": 0.01,
        "warmup": 0.1,
        "augmentation": {"color": 0.0, "blur": 0.0, "noise": 0.0, "jpeg": 0.0},
        "evaluate_every": 5,
        "runs": str(folder / "runs"),
    } | changes
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(values))
    return file
