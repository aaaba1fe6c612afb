"""ONNX graphs that people bring along: several inputs and outputs, odd shapes and types, damaged files."""

import shutil
from random import Random

import numpy as np
import onnx
from cases import Case
from mutate import damaged
from onnx import TensorProto, helper, numpy_helper
from surfaces import ACCEPTED, Surface, expect, refused

from seg_node.core.bundle import load_bundle
from seg_node.core.engines import create_engine
from seg_node.core.errors import RunError, UserError
from seg_node.core.foreign.classes import Classes
from seg_node.core.foreign.importer import Settings, import_network
from seg_node.core.foreign.int8 import LEAST_IMAGES
from seg_node.core.taxonomy import NO_LABEL, Taxonomy

_SIDES = (0, 1, 2, 7, 24, 32, 4096, 4097, 2**31 - 1, 2**31, 2**62, -1, "h", "w", "", None)
"""Sides of an input: numbers, names and nothing."""
_TYPES = (
    *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16, TensorProto.UINT8),
    *(TensorProto.INT8, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING, 0, 99),
)
_LAYOUTS = ([1, 3, 24, 32], [1, 24, 32, 3], [1, 3, "h", "w"], ["n", 24, 32, 3], ["n", 3, 24, 32])
_ENDS = (
    *(["maps", "softmax", "labels", "last"] * 6),
    *("labels_kept", "doubled", "flat", "none", "nan", "infinite"),
    *("bool", "string", "sequence", "counts", "scalar", "half", "double", "reduced", "transposed", "loose"),
)
"""What is made of the maps of a convolution."""
_NAMES = ("image", "frame", "mask", "confidence", "logits", "network.image", "", "a/b:0", "é" * 9, "x" * 3000)
_MEANS = (*([(0.5, 0.4, 0.3)] * 8), (0.0, 0.0, 0.0), (1e30, 0.0, -1e30))
_DEVIATIONS = (*([(0.2, 0.2, 0.2)] * 8), (1e-30, 1.0, 1e14), (1e30, 1.0, 1e-300))


class ImportSurface(Surface):
    """``seg_node import``; refuses with ``UserError``, or ``RunError`` where the masks would not be the network's."""

    def draw(self, rng: Random) -> Case:
        classes = rng.choice((2, 3, 3, 3, 5, 8))
        given = classes if rng.random() < 0.9 else rng.choice((1, 2, 4, 254))
        graph = _graph(rng, classes).SerializeToString()
        return {
            "graph": damaged(rng, graph, limit=2**20) if rng.random() < 0.15 else graph,
            "classes": given,
            "size": rng.choice((None, *([[24, 32]] * 8), [rng.choice((0, 1, 24, 33, 5000)), rng.choice((-1, 1, 32))])),
            "order": rng.choice(("rgb", "bgr")),
            "mean": list(rng.choice(_MEANS)),
            "std": list(rng.choice(_DEVIATIONS)),
            "output": rng.choice((*([None] * 8), "logits", "labels", "softmax")),
            "int8": rng.random() < 0.03,
        }

    def feed(self, case: Case) -> str:
        file, out = self.folder / "network.onnx", self.folder / "bundle"
        shutil.rmtree(out, ignore_errors=True)
        file.write_bytes(case["graph"])
        names = tuple(f"class {number}" for number in range(case["classes"]))
        taxonomy = Taxonomy(names, tuple((number, 9, 9) for number in range(len(names))))
        settings = Settings(
            size=tuple(case["size"]) if case["size"] else None,
            order=case["order"],
            mean=tuple(case["mean"]),
            std=tuple(case["std"]),
            output=case["output"],
        )
        frames = np.random.default_rng(1).integers(0, 256, (LEAST_IMAGES, 24, 32, 3), dtype=np.uint8)
        try:
            bundle, _ = import_network(
                file,
                out,
                Classes(names, tuple(range(len(names))), taxonomy),
                settings,
                list(frames) if case["int8"] else None,
                "noise",
            )
        except (UserError, RunError) as error:
            expect(not out.exists(), "something was written of a network that was refused")
            return refused(error)
        expect(load_bundle(out).graph == bundle.graph, "the bundle is not what was written")
        expect(bool(bundle.ranges) == case["int8"], "ranges that nobody asked for, or none")
        engine = create_engine(bundle, "onnxruntime")
        mask, confidence = engine.infer(frames[0], confidence=True)
        expect(mask.shape == confidence.shape == (24, 32), f"a mask of {mask.shape}")
        expect(((mask < len(names)) | (mask == NO_LABEL)).all(), f"a mask of {np.unique(mask)}")
        return ACCEPTED


def _graph(rng: Random, classes: int) -> onnx.ModelProto:
    """A convolution with the outputs that its draw asks for, most of it right."""
    shape = list(rng.choice(_LAYOUTS))
    if rng.random() < 0.1:
        shape[rng.randrange(4)] = rng.choice(_SIDES)
    if rng.random() < 0.04:
        shape = [rng.choice(_SIDES) for _ in range(rng.randrange(6))]
    kind = TensorProto.FLOAT if rng.random() < 0.85 else rng.choice(_TYPES)
    name = "image" if rng.random() < 0.9 else rng.choice(_NAMES)
    last = len(shape) == 4 and shape[3] == 3
    nodes = [helper.make_node("Cast", [name], ["values"], to=TensorProto.FLOAT)]
    if last:
        nodes.append(helper.make_node("Transpose", ["values"], ["planes"], perm=[0, 3, 1, 2]))
    values = np.random.default_rng(rng.getrandbits(32)).normal(size=(classes, 3, 3, 3)).astype(np.float32)
    step = rng.choice((1, 1, 1, 2, 4))
    weights = [numpy_helper.from_array(values, "kernel"), numpy_helper.from_array(np.array([-1], np.int64), "shape")]
    sides = rng.choice(([1] * 4, [0] * 4, [2, 0, 1, 3]))
    source = "planes" if last else "values"
    if rng.random() < 0.3:
        wide = np.random.default_rng(3).normal(size=(3, 3, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(wide, "wide"))
        nodes.append(helper.make_node("Conv", [source, "wide"], ["before"], pads=[1] * 4))
        source = "before"
    nodes.append(helper.make_node("Conv", [source, "kernel"], ["maps"], pads=sides, strides=[step] * 2))
    outputs = []
    for number in range(1 if rng.random() < 0.9 else rng.choice((0, 2, 3, 40))):
        end = rng.choice(_ENDS)
        made, result = _end(end, f"out{number}")
        nodes += made
        declared = rng.choice((*([None] * 8), [1, classes, 24, 32], ["n", "c", "h", "w"], [2, 2], []))
        outputs.append(helper.make_tensor_value_info(f"out{number}", result, declared))
        if end == "sequence":
            of = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
            outputs[-1] = helper.make_value_info(f"out{number}", helper.make_sequence_type_proto(of))
    inputs = [helper.make_tensor_value_info(name, kind, shape)]
    for number in range(0 if rng.random() < 0.92 else rng.choice((1, 2, 30))):
        extra = helper.make_tensor_value_info(f"extra{number}", rng.choice(_TYPES), [rng.choice((1, 3, "n"))])
        inputs.insert(rng.randrange(2), extra)
    if rng.random() < 0.05:
        inputs.clear()
    if rng.random() < 0.1:
        # Exporters of older files list weights among the inputs.
        inputs.append(helper.make_tensor_value_info("kernel", TensorProto.FLOAT, list(values.shape)))
    if rng.random() < 0.05:
        rng.shuffle(nodes)
    if rng.random() < 0.03:
        nodes.append(helper.make_node(rng.choice(("NoSuchOperator", "Loop", "If", "Identity")), ["maps"], ["odd"]))
    graph = helper.make_graph(nodes, "network", inputs, outputs, weights)
    opset = 18 if rng.random() < 0.8 else rng.choice((0, 1, 7, 9, 11, 13, 17, 20, 21, 25, 99, -1))
    domain = "" if rng.random() < 0.95 else rng.choice(("ai.onnx", "ai.onnx.ml", "com.example"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, opset)])
    model.ir_version = 8 if rng.random() < 0.9 else rng.choice((0, 3, 4, 7, 10, 11, 99, -1))
    if rng.random() < 0.03:
        del model.opset_import[:]
    return model


def _end(kind: str, out: str) -> tuple[list[onnx.NodeProto], int]:
    """Nodes from ``maps`` to an output, and its type."""

    def node(operator: str, *given: str, result: str = out, **attributes) -> onnx.NodeProto:
        return helper.make_node(operator, given or ["maps"], [result], **attributes)

    zero = node("Sub", "maps", "maps", result=f"{out}.zero")
    casts = {
        "bool": TensorProto.BOOL,
        "string": TensorProto.STRING,
        "half": TensorProto.FLOAT16,
        "double": TensorProto.DOUBLE,
    }
    if kind in casts:
        return [node("Cast", to=casts[kind])], casts[kind]
    made = {
        "maps": [node("Identity")],
        "softmax": [node("Softmax", axis=1)],
        "labels": [node("ArgMax", axis=1, keepdims=0)],
        "labels_kept": [node("ArgMax", axis=1, keepdims=1)],
        "last": [node("Transpose", perm=[0, 2, 3, 1])],
        "doubled": [node("Concat", "maps", "maps", axis=1)],
        "flat": [node("Reshape", "maps", "shape")],
        "none": [],
        "nan": [zero, node("Div", *zero.output, *zero.output)],
        "infinite": [zero, node("Div", "maps", *zero.output)],
        "sequence": [node("SequenceConstruct")],
        "counts": [node("Shape")],
        "scalar": [node("ReduceMax", keepdims=0)],
        "reduced": [node("ReduceMax", keepdims=1)],
        "transposed": [node("Transpose")],
        "loose": [node("Identity", "nowhere")],
    }[kind]
    return made, TensorProto.INT64 if kind in ("labels", "labels_kept", "counts") else TensorProto.FLOAT
