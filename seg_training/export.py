"""From a training run to a bundle: network, pre- and post-processing in one ONNX graph."""

import dataclasses
import datetime
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from seg_node.core.bundle import Bundle, Manifest, write_bundle
from seg_node.core.bundle.input_size import graph_of_size
from seg_node.core.engines import INT8_METHOD, Engine, create_engine, present_engines
from seg_node.core.engines.quantise import calibrate
from seg_node.core.engines.torch_engine import graph_weights
from seg_node.core.errors import UserError
from seg_node.core.metrics import scores
from seg_node.core.network import FrameSegmenter, SegmentationNetwork
from seg_node.core.taxonomy import Taxonomy
from seg_training.config import load_config
from seg_training.datasets import Dataset, open_dataset
from seg_training.datasets.synthetic import SyntheticScenes
from seg_training.encoder_weights import normalisation
from seg_training.evaluate import evaluate
from seg_training.export_graph import export_graph
from seg_training.provenance import (
    describe_run,
    gflops,
    parameters,
    terms,
    with_roots,
)
from seg_training.quality import MAX_LOSS
from seg_training.run import averaged_weights, network_of

PARITY = 99.5
"""Percentage of pixels on which an engine must agree with torch."""


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
        UserError: the run is not finished, an engine does not give the masks that torch gives, or int8 costs too much.
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
        categories=config.categories.names,
        palette=config.categories.palette,
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
        UserError: as for ``export_run``.
    """
    old = source.manifest
    size = input_size or old.input_size
    network = SegmentationNetwork(
        old.backbone, old.mean, old.std, decoder=old.decoder_options, categories=len(old.categories)
    )
    try:
        network.fpn.load_state_dict(graph_weights(source.graph, network.fpn))
    except (KeyError, RuntimeError) as error:
        raise UserError(f"{source.name} is no FPN over {old.backbone} that was exported here: {error}") from error
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
    # Weights that stay as they are stored need no new trace of the network, which takes a minute.
    graph = graph_of_size(source.graph, size) if precision == old.precision else None
    return _export(network, manifest, out, train, val, int8, max_loss, graph)


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
    graph: bytes | None = None,
) -> Bundle:
    network.eval()
    val_sets = _open_present(val, manifest.taxonomy)
    train_sets = _open_present(train, manifest.taxonomy) if int8 else []
    if int8 and not (train_sets and val_sets):
        raise UserError(
            "int8 is calibrated on the run's train sets and scored on its val sets; give their folders,"
            " --root KIND=FOLDER"
        )
    graph = graph or export_graph(network, manifest.input_size, half=manifest.precision == "fp16")
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
        UserError: fewer than ``PARITY`` percent are equal.
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
            raise UserError(
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
        UserError: an engine loses more than ``max_loss`` on a set.
    """
    chosen = _spread(len(train), count)
    images = tqdm((train[i][0] for i in chosen), "calibrating int8", len(chosen), unit="image")
    bundle = dataclasses.replace(bundle, ranges=calibrate(bundle.graph, images))
    result: dict = {
        "method": INT8_METHOD,
        "calibrated_on": f"{len(chosen)} images of {train.description}",
        "scored_on": ", ".join(one.description for one in val),
    }
    for name in _checked_engines():
        engines = [_masks(create_engine(bundle, name, precision=precision)) for precision in ("fp32", "int8")]
        taxonomy = bundle.manifest.taxonomy
        sets = {one.description: _int8_loss(*engines, one, f"int8 on {name}", max_loss, taxonomy) for one in val}
        worst = max(figures["loss"] for figures in sets.values())
        result[name] = {**sets[val[0].description], "loss": worst, "sets": sets}
    return bundle.ranges, result


def _int8_loss(
    before: Callable[[np.ndarray], np.ndarray],
    after: Callable[[np.ndarray], np.ndarray],
    data: Dataset,
    what: str,
    max_loss: float,
    taxonomy: Taxonomy,
) -> dict[str, float]:
    """``miou_7``, or ``miou`` of other categories, of an engine before and after quantisation on a set."""
    samples = [data[i] for i in range(len(data))]
    name = taxonomy.headline
    counts = (evaluate(masks, samples, count=len(taxonomy)) for masks in (before, after))
    full, quantised = (scores(confusion, taxonomy)[name] for confusion in counts)
    if full - quantised > max_loss:
        raise UserError(
            f"export refused: {what} has {name} {quantised:.2f} on {data.description}, {full - quantised:.2f}"
            f" points less than {full:.2f}, and at most {max_loss} may be lost; raise --max-loss to accept that"
        )
    return {f"{name}_float": round(full, 2), name: round(quantised, 2), "loss": round(full - quantised, 2)}


def _masks(engine: Engine) -> Callable[[np.ndarray], np.ndarray]:
    return lambda frame: engine.infer(frame)[0]


def _checked_engines() -> list[str]:
    return [name for name in present_engines() if name != "torch"]


def _open_present(specs: list[dict], taxonomy: Taxonomy) -> list[Dataset]:
    """Those data sets that are on this machine."""
    found = []
    for spec in specs:
        try:
            found.append(open_dataset({"check": "quick", **spec}, progress=False, taxonomy=taxonomy))
        except (OSError, ValueError) as error:
            print(f"not used for checks: {error}", file=sys.stderr)
    return found


def _spread(length: int, count: int) -> list[int]:
    """At most so many indices, evenly spread."""
    return np.unique(np.linspace(0, length - 1, count).astype(int)).tolist()


def record_metrics(bundle: Bundle, data_set: str, metrics: dict) -> Bundle:
    """Write scores into a bundle's manifest."""
    manifest = dataclasses.replace(bundle.manifest, metrics=bundle.manifest.metrics | {data_set: metrics})
    return write_bundle(bundle.path, manifest, bundle.graph, bundle.ranges)
