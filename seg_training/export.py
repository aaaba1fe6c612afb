"""From a training run to a bundle: network, pre- and post-processing in one ONNX graph."""

import dataclasses
import datetime
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import optimizer
from tqdm import tqdm

from seg_node.core.bundle import Bundle, Manifest, write_bundle
from seg_node.core.engines import Engine, create_engine, present_engines
from seg_node.core.engines.quantise import METHOD, calibrate
from seg_node.core.engines.torch_engine import graph_weights
from seg_node.core.metrics import scores
from seg_node.core.network import (
    MAX_ENLARGEMENT,
    STRIDE,
    FrameSegmenter,
    SegmentationNetwork,
)
from seg_training.config import load_config
from seg_training.datasets import Dataset, open_dataset
from seg_training.datasets.synthetic import SyntheticScenes
from seg_training.encoder_weights import normalisation
from seg_training.evaluate import evaluate
from seg_training.provenance import describe_run, gflops, parameters, terms, with_roots
from seg_training.train import averaged_weights, network_of

OPSET = 20
PARITY = 99.5
"""Percentage of pixels on which an engine must agree with torch."""
MAX_LOSS = 1.0
"""``miou_7`` points that int8 may cost."""

_PRE = """
<ir_version: 10, opset_import: ["": {opset}]>
pre (uint8[H, W, 3] frame) => (float[1, 3, h, w] image) {{
    camera = Shape <start = 0, end = 2> (frame)
    camera_f = Cast <to = 11> (camera)
    pixels = ReduceProd <keepdims = 0> (camera_f)
    trained = Constant <value = double {{{pixels}}}> ()
    ratio = Div (trained, pixels)
    root = Sqrt (ratio)
    enlargement = Constant <value = double {{{enlargement}}}> ()
    scale = Min (root, enlargement)
    scaled = Mul (camera_f, scale)
    rounded = Round (scaled)
    one = Constant <value = double {{1}}> ()
    bounded = Max (rounded, one)
    size = Cast <to = 7> (bounded)
    values = Cast <to = 1> (frame)
    planes = Transpose <perm = [2, 0, 1]> (values)
    first = Constant <value = int64[1] {{0}}> ()
    batch = Unsqueeze (planes, first)
    channels = Constant <value = int64[2] {{1, 3}}> ()
    resized_shape = Concat <axis = 0> (channels, size)
    bgr = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (batch, , , resized_shape)
    order = Constant <value = int64[3] {{2, 1, 0}}> ()
    rgb = Gather <axis = 1> (bgr, order)
    mean = Constant <value = float[1, 3, 1, 1] {{{mean}}}> ()
    std = Constant <value = float[1, 3, 1, 1] {{{std}}}> ()
    centred = Sub (rgb, mean)
    normal = Div (centred, std)
    negative = Neg (size)
    stride = Constant <value = int64[1] {{{stride}}}> ()
    missing = Mod (negative, stride)
    no_pads = Constant <value = int64[6] {{0, 0, 0, 0, 0, 0}}> ()
    pads = Concat <axis = 0> (no_pads, missing)
    image = Pad (normal, pads)
}}
"""

_POST = """
<ir_version: 10, opset_import: ["": {opset}]>
post (float[1, 8, h, w] logits) => (uint8[H, W] mask, uint8[H, W] confidence) {{
    origin = Constant <value = int64[2] {{0, 0}}> ()
    sides = Constant <value = int64[2] {{2, 3}}> ()
    cropped = Slice (logits, origin, size, sides)
    category = ArgMax <axis = 1, keepdims = 1> (cropped)
    small_mask = Cast <to = 2> (category)
    ones = Constant <value = int64[2] {{1, 1}}> ()
    full_shape = Concat <axis = 0> (ones, camera)
    full_mask = Resize <mode = "nearest", nearest_mode = "round_prefer_ceil",
        coordinate_transformation_mode = "half_pixel"> (small_mask, , , full_shape)
    batch_and_channel = Constant <value = int64[2] {{0, 1}}> ()
    mask = Squeeze (full_mask, batch_and_channel)
    axis = Constant <value = int64[1] {{1}}> ()
    peak = ReduceMax <keepdims = 1> (cropped, axis)
    below = Sub (cropped, peak)
    exponential = Exp (below)
    total = ReduceSum <keepdims = 1> (exponential, axis)
    top = Constant <value = float {{255}}> ()
    softmax = Div (top, total)
    nearest = Round (softmax)
    small_confidence = Cast <to = 2> (nearest)
    full_confidence = Resize <mode = "nearest", nearest_mode = "round_prefer_ceil",
        coordinate_transformation_mode = "half_pixel"> (small_confidence, , , full_shape)
    confidence = Squeeze (full_confidence, batch_and_channel)
}}
"""


def export_graph(network: SegmentationNetwork, input_size: tuple[int, int], half: bool) -> bytes:
    """Make the graph of a bundle.

    Input ``frame``, uint8 [H, W, 3] BGR of any size; outputs ``mask`` and ``confidence``, uint8 [H, W]. It computes
    what ``core.network.FrameSegmenter`` does. Every tensor of the network keeps its name.

    Args:
        network: on the CPU, in ``eval`` mode.
        input_size: (height, width) in pixels, see ``core.network.network_size``.
        half: store convolution and linear weights as fp16; the graph casts them back and computes in fp32.

    Returns:
        Serialised ONNX model.
    """
    example = torch.zeros(1, 3, 3 * STRIDE, 4 * STRIDE)
    any_size = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        network.fpn,
        (example,),
        dynamo=True,
        dynamic_shapes=(any_size,),
        input_names=["image"],
        output_names=["logits"],
        opset_version=OPSET,
        optimize=False,
        verbose=False,
    )
    model = program.model_proto
    weights = list(model.graph.initializer)
    # The optimizer folds and merges initializers, and with them their names; it leaves inputs alone.
    del model.graph.initializer[:]
    model.graph.input.extend(helper.make_tensor_value_info(w.name, w.data_type, list(w.dims)) for w in weights)
    model = optimizer.optimize(model)

    numbers = {
        "opset": OPSET,
        "pixels": input_size[0] * input_size[1],
        "mean": ", ".join(str(float(v)) for v in network.mean.flatten()),
        "std": ", ".join(str(float(v)) for v in network.std.flatten()),
        "stride": STRIDE,
        "enlargement": MAX_ENLARGEMENT,
    }
    pre, post = (_nodes(text.format(**numbers)) for text in (_PRE, _POST))
    stored, casts = _stored_weights(weights, half)
    halved = {cast.input[0]: cast.output[0] for cast in casts}
    for node in model.graph.node:
        node.input[:] = [halved.get(name, name) for name in node.input]
    graph = helper.make_graph(
        [*pre, *casts, *model.graph.node, *post],
        "segmentation",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, ["H", "W", 3])],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, ["H", "W"]) for name in ("mask", "confidence")],
        [*stored, *model.graph.initializer],
    )
    _strip_metadata(graph)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="seg_node")
    whole.ir_version = 10
    onnx.checker.check_model(whole)
    return whole.SerializeToString()


def _nodes(text: str) -> list[onnx.NodeProto]:
    """Parse nodes, moving their inner names out of the way of the network's."""
    outer = {"", "frame", "image", "logits", "mask", "confidence"}
    nodes = list(onnx.parser.parse_model(text).graph.node)
    for node in nodes:
        node.input[:] = [name if name in outer else f"frame.{name}" for name in node.input]
        node.output[:] = [name if name in outer else f"frame.{name}" for name in node.output]
    return nodes


def _stored_weights(weights: list[onnx.TensorProto], half: bool) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Weights as they are stored, and the nodes that give them back to the network as fp32.

    Vectors stay fp32: they are small, and BatchNorm variances can be below what fp16 resolves.
    """
    stored, casts = [], []
    for weight in weights:
        if not half or weight.data_type != TensorProto.FLOAT or len(weight.dims) < 2:
            stored.append(weight)
            continue
        values = numpy_helper.to_array(weight)
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise ValueError(f"{weight.name} does not fit into fp16; export with --precision fp32")
        stored.append(numpy_helper.from_array(values.astype(np.float16), weight.name))
        casts.append(helper.make_node("Cast", [weight.name], [f"{weight.name}.fp32"], to=TensorProto.FLOAT))
    return stored, casts


def _strip_metadata(graph: onnx.GraphProto) -> None:
    """Drop names of source files and folders of the machine that exported, and shapes that no longer hold."""
    for item in [graph, *graph.node, *graph.initializer, *graph.input, *graph.output]:
        del item.metadata_props[:]
        item.doc_string = ""
    del graph.value_info[:]


def export_run(
    run: Path,
    out: Path,
    precision: str = "fp16",
    int8: bool = False,
    roots: Mapping[str, str] = MappingProxyType({}),
    max_loss: float = MAX_LOSS,
    input_size: tuple[int, int] | None = None,
) -> Bundle:
    """Export the averaged weights of a finished training run; nothing is written unless every check passes.

    Args:
        run: folder that ``train`` wrote.
        out: folder of the bundle.
        precision: ``fp32`` or ``fp16``, of the stored weights.
        int8: take the ranges with which engines compute in int8, see ``core.quantise``.
        roots: folder of each kind of data set; those of the run's configuration for the rest.
        max_loss: ``miou_7`` points that int8 may lose on any of the run's val sets.
        input_size: (height, width) in pixels, see ``core.network.network_size``; None for that of the run.

    Raises:
        ValueError: the run is not finished, an engine does not give the masks that torch gives, or int8 costs too much.
    """
    config = load_config(run / "config.yaml")
    size = input_size or (config.input_size[0], config.input_size[1])
    network = network_of(config)
    mean, std = normalisation(config.encoder)
    network.load_state_dict(averaged_weights(run))
    manifest = Manifest(
        name=config.name,
        decoder="fpn",
        backbone=config.encoder,
        input_size=size,
        mean=mean,
        std=std,
        decoder_options=dict(config.decoder),
        files={},
        date=_today(),
        precision=precision,
        parameters=parameters(network),
        gflops=gflops(network, size),
        training=describe_run(run),
        **terms(run),
    )
    return _export(
        network, manifest, out, with_roots(config.train, roots), with_roots(config.val, roots), int8, max_loss
    )


def export_again(
    source: Bundle,
    out: Path,
    precision: str = "fp16",
    int8: bool = False,
    roots: Mapping[str, str] = MappingProxyType({}),
    max_loss: float = MAX_LOSS,
    input_size: tuple[int, int] | None = None,
) -> Bundle:
    """Export the weights of a bundle once more, for another input size or precision, under the name of ``out``.

    What the source's manifest says of scores and int8 does not hold any more and is left out.

    Args:
        source: what ``export_run`` wrote.
        roots: folder of each kind of data set; the recipe in a manifest names none.
        out, precision, int8, max_loss, input_size: as for ``export_run``.

    Raises:
        ValueError: as for ``export_run``.
    """
    old = source.manifest
    size = input_size or old.input_size
    network = SegmentationNetwork(old.backbone, old.mean, old.std, decoder=old.decoder_options)
    try:
        network.fpn.load_state_dict(graph_weights(source.graph, network.fpn))
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{source.name} is no FPN over {old.backbone} that was exported here: {error}") from error
    manifest = dataclasses.replace(
        old,
        name=out.resolve().name,
        input_size=size,
        files={},
        date=_today(),
        precision=precision,
        gflops=gflops(network, size),
        parity={},
        quantisation={},
        metrics={},
    )
    recipe = source.manifest.training.get("recipes", [{}])[-1]
    train, val = (with_roots(recipe.get(part, []), roots) for part in ("train", "val"))
    return _export(network, manifest, out, train, val, int8, max_loss)


def val_sets_of(bundle: Bundle) -> list[dict[str, Any]]:
    """Specifications, without folders, of the data sets on which the run of a bundle was evaluated."""
    return bundle.manifest.training.get("recipes", [{}])[-1].get("val", [])


def _today() -> str:
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def _export(
    network: SegmentationNetwork,
    manifest: Manifest,
    out: Path,
    train: list[dict[str, Any]],
    val: list[dict[str, Any]],
    int8: bool,
    max_loss: float,
) -> Bundle:
    network.eval()
    val_sets = _open_present(val)
    train_sets = _open_present(train) if int8 else []
    if int8 and not (train_sets and val_sets):
        raise ValueError(
            "int8 is calibrated on the run's train sets and scored on its val sets; give their folders,"
            " --root KIND=FOLDER"
        )
    graph = export_graph(network, manifest.input_size, half=manifest.precision == "fp16")
    bundle = Bundle(out, manifest, graph)
    manifest = dataclasses.replace(manifest, parity=check_parity(bundle, network, val_sets))
    ranges = b""
    if int8:
        ranges, quantisation = calibrate_bundle(bundle, train_sets[0], val_sets, max_loss)
        manifest = dataclasses.replace(manifest, quantisation=quantisation)
    return write_bundle(out, manifest, bundle.graph, ranges)


def check_parity(bundle: Bundle, network: SegmentationNetwork, data: Sequence[Dataset], count: int = 12) -> dict:
    """Compare the masks of every installed engine with those of the network itself, in fp32, pixel by pixel.

    Args:
        bundle: of fp32 or fp16 weights.
        network: on the CPU, in ``eval`` mode.
        data: sets to take frames from; made-up scenes where there are none.
        count: frames.

    Returns:
        ``frames``, where they are from, and the percentage of equal pixels by engine, for the manifest.

    Raises:
        ValueError: fewer than ``PARITY`` percent are equal.
    """
    data = data or [SyntheticScenes(range(count), size=(360, 640))]
    frames = [one[i][0] for one in data for i in _spread(len(one), -(-count // len(data)))]
    segmenter = FrameSegmenter(network, bundle.manifest.input_size)
    with torch.inference_mode():
        expected = [segmenter(torch.from_numpy(frame))[0].numpy() for frame in frames]
    result = {"frames": f"{len(frames)} of {', '.join(one.description for one in data)}"}
    for name in _checked_engines():
        engine = create_engine(bundle, name, precision="fp32")
        equal = sum(int((engine.infer(f)[0] == mask).sum()) for f, mask in zip(frames, expected, strict=True))
        result[name] = round(100 * equal / sum(mask.size for mask in expected), 3)
        if result[name] < PARITY:
            raise ValueError(
                f"export refused: {name} gives {result[name]:.2f} % of the pixels the category that torch gives them,"
                f" and at least {PARITY} % are asked; try --precision fp32, or train longer: a network that knows no"
                " answer yet changes it with every rounding"
            )
    return result


def calibrate_bundle(
    bundle: Bundle, train: Dataset, val: Sequence[Dataset], max_loss: float, count: int = 32
) -> tuple[bytes, dict]:
    """Take the ranges for int8 from training images, and measure on others what int8 costs.

    Args:
        bundle: without ranges.
        train: set to calibrate on.
        val: sets to score on, at least one.
        max_loss: ``miou_7`` points.
        count: frames to calibrate on.

    Returns:
        The ranges, and what the manifest says about them: by engine ``miou_7`` before and after on each set, those of
        the first set, and the greatest ``loss``.

    Raises:
        ValueError: an engine loses more than ``max_loss`` on a set.
    """
    chosen = _spread(len(train), count)
    images = tqdm((train[i][0] for i in chosen), "calibrating int8", len(chosen), unit="image")
    bundle = dataclasses.replace(bundle, ranges=calibrate(bundle.graph, images))
    result: dict = {
        "method": METHOD,
        "calibrated_on": f"{len(chosen)} images of {train.description}",
        "scored_on": ", ".join(one.description for one in val),
    }
    for name in _checked_engines():
        engines = [_masks(create_engine(bundle, name, precision=precision)) for precision in ("fp32", "int8")]
        sets = {one.description: _int8_loss(*engines, one, f"int8 on {name}", max_loss) for one in val}
        worst = max(figures["loss"] for figures in sets.values())
        result[name] = {**sets[val[0].description], "loss": worst, "sets": sets}
    return bundle.ranges, result


def _int8_loss(
    before: Callable[[np.ndarray], np.ndarray],
    after: Callable[[np.ndarray], np.ndarray],
    data: Dataset,
    what: str,
    max_loss: float,
) -> dict[str, float]:
    """``miou_7`` of an engine before and after quantisation on a set."""
    samples = [data[i] for i in range(len(data))]
    full, quantised = (scores(evaluate(masks, samples))["miou_7"] for masks in (before, after))
    if full - quantised > max_loss:
        raise ValueError(
            f"export refused: {what} has miou_7 {quantised:.2f} on {data.description}, {full - quantised:.2f}"
            f" points less than {full:.2f}, and at most {max_loss} may be lost; raise --max-loss to accept that"
        )
    return {"miou_7_float": round(full, 2), "miou_7": round(quantised, 2), "loss": round(full - quantised, 2)}


def _masks(engine: Engine) -> Callable[[np.ndarray], np.ndarray]:
    return lambda frame: engine.infer(frame)[0]


def _checked_engines() -> list[str]:
    return [name for name in present_engines() if name != "torch"]


def _open_present(specs: list[dict]) -> list[Dataset]:
    """Those data sets that are on this machine."""
    found = []
    for spec in specs:
        try:
            found.append(open_dataset({"check": "quick", **spec}, progress=False))
        except (OSError, ValueError) as error:
            print(f"not used for checks: {error}", file=sys.stderr)
    return found


def _spread(length: int, count: int) -> list[int]:
    """At most so many indices, evenly spread."""
    return np.unique(np.linspace(0, length - 1, count).astype(int)).tolist()


def metrics_name(spec: Mapping[str, Any]) -> str:
    """Name of a data set among a manifest's metrics: ``camvid_val``, or ``camvid_0001TP`` for that drive.

    Args:
        spec: see ``datasets.open_dataset``.
    """
    return "_".join([spec["dataset"], *(spec.get("drives") or [spec["split"]])])


def record_metrics(bundle: Bundle, data_set: str, metrics: dict) -> Bundle:
    """Write scores into a bundle's manifest."""
    manifest = dataclasses.replace(bundle.manifest, metrics=bundle.manifest.metrics | {data_set: metrics})
    return write_bundle(bundle.path, manifest, bundle.graph, bundle.ranges)
