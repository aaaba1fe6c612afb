"""Where the weights of a run come from: what a bundle's manifest says about data, recipes, cost and licence."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import timm
import torch
from segmentation_models_pytorch.encoders import encoders
from torch.utils.flop_counter import FlopCounterMode

from seg_node.core.bundle import Bundle
from seg_node.core.errors import UserError
from seg_node.core.machine import machine, setting
from seg_node.core.network import STRIDE, SegmentationNetwork
from seg_training.config import TrainingConfig, load_config, values_of
from seg_training.datasets import has_root
from seg_training.encoder_weights import PACKAGED

LOCAL = ("runs", "threads", "workers", "compile", "start_from", "mlflow")
"""Values of a configuration that belong to the machine, not to the result."""

TERMS = {
    "camvid": "CamVid: images for research use",
    "cityscapes": "Cityscapes: no commercial use",
    "synthetic": "made-up scenes: none",
    "folder": "own images: the terms of their owner",
}
"""Terms of each kind of data set."""

LICENCE = "Apache-2.0"
"""Licence of weights that are trained here."""


def describe_run(run: Path) -> dict[str, Any]:
    """All that a manifest's ``training`` holds.

    Args:
        run: folder that ``train`` wrote.

    Returns:
        ``data``, a line for each data set, ``recipes``, see there, ``minutes`` of the updates, waits included,
        ``machine``, ``commit`` and ``versions``. Runs that this one started from count in data and minutes.
    """
    chain = runs_of(run)
    environments = [json.loads((folder / "environment.json").read_text()) for folder in chain]
    seconds = sum(
        json.loads(line)["seconds"] for folder in chain for line in (folder / "log.jsonl").read_text().splitlines()
    )
    data = [line for environment in environments for line in environment["data"]]
    return {
        "data": list(dict.fromkeys(data)),
        "recipes": [
            recipe(load_config(folder / "config.yaml"), environment.get("label_tables", {}))
            for folder, environment in zip(chain, environments, strict=True)
        ],
        "minutes": round(seconds / 60, 1),
        "machine": environments[-1].get("machine", hardware()),
        "commit": environments[-1]["commit"],
        "versions": environments[-1]["versions"],
    }


def runs_of(run: Path) -> list[Path]:
    """Folders of a run and of those that it started from, the first one first."""
    start = load_config(run / "config.yaml").start_from
    return [*(runs_of(Path(start)) if start else []), run]


def recipe(config: TrainingConfig, label_tables: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """A configuration without what belongs to the machine it ran on; ``with_roots`` and ``runs`` complete it again.

    Args:
        config: of the run.
        label_tables: content of the files that it names as ``labels``, which takes their place.
    """
    values = {name: value for name, value in values_of(config).items() if name not in LOCAL}
    for part in ("train", "val"):
        values[part] = [{key: value for key, value in spec.items() if key != "root"} for spec in values[part]]
        for spec in values[part]:
            if spec.get("labels") in label_tables:
                # A copy for each: manifests are YAML without aliases.
                spec["labels"] = copy.deepcopy(label_tables[spec["labels"]])
    # Recipes of bundles from before there was a choice say nothing of it, and are to be equal.
    if not config.decoder:
        del values["decoder"]
    # A file of weights is told by its name; its licence is its maker's.
    values["encoder_weights"] = Path(config.encoder_weights).name
    return values


def with_roots(specs: list[dict[str, Any]], roots: Mapping[str, str]) -> list[dict[str, Any]]:
    """Specifications of data sets with the root folders of this machine.

    Args:
        specs: see ``datasets.open_dataset``.
        roots: folder of each kind of data set; kinds that are not named keep what they have.
    """
    return [spec | ({"root": roots[spec["dataset"]]} if spec.get("dataset") in roots else {}) for spec in specs]


def parse_roots(texts: list[str]) -> dict[str, str]:
    """Read ``KIND=FOLDER`` of a command line.

    Raises:
        UserError: a text is not of that form.
    """
    pairs = [text.partition("=") for text in texts]
    if wrong := [text for text, (kind, _, folder) in zip(texts, pairs, strict=True) if not kind or not folder]:
        raise UserError(f"--root {wrong[0]!r} is not of the form KIND=FOLDER, such as camvid=/data/camvid")
    return {kind: folder for kind, _, folder in pairs}


def roots_of(
    specs: Sequence[Mapping[str, Any]], data: str | None, roots: Sequence[str], needed: bool = True
) -> dict[str, str]:
    """Folder of each kind of data set, from the options ``--data`` and ``--root``.

    Args:
        specs: of the data sets, see ``datasets.open_dataset``.
        data: folder of the one kind that ``roots`` leaves open; None for none.
        roots: ``KIND=FOLDER`` each.
        needed: whether each kind must have one.

    Raises:
        UserError: a kind that needs a folder has none, or ``data`` cannot be told to be of one kind.
    """
    found = parse_roots(roots)
    kinds = dict.fromkeys(spec["dataset"] for spec in specs if has_root(spec["dataset"]))
    kinds = [kind for kind in kinds if kind not in found]
    if data is not None and len(kinds) != 1:
        what = f"the data sets are of several kinds: {', '.join(kinds)}" if kinds else "no data set is left for it"
        raise UserError(f"--data is one folder, and {what}; give the folder of each kind with --root KIND=FOLDER")
    if needed and kinds and data is None:
        raise UserError(
            f"it is not said where the data sets of kind {', '.join(kinds)} lie; give --data ROOT, or"
            " --root KIND=FOLDER for each kind"
        )
    return found | dict.fromkeys(kinds, data) if data is not None else found


def val_sets_of(bundle: Bundle) -> list[dict[str, Any]]:
    """Specifications, without folders, of the data sets on which the run of a bundle was evaluated."""
    return bundle.manifest.training.get("recipes", [{}])[-1].get("val", [])


def metrics_name(spec: Mapping[str, Any]) -> str:
    """Name of a data set among a manifest's metrics: ``camvid_val``, ``camvid_0001TP`` for that drive, or ``folder``.

    Args:
        spec: see ``datasets.open_dataset``.
    """
    part = spec.get("drives") or ([spec["split"]] if spec.get("split") else [])
    return "_".join([spec["dataset"], *part])


def terms(run: Path) -> dict[str, str]:
    """Fields of a manifest that say what the weights of a run may be used for.

    Returns:
        ``licence``, ``training_data_terms``, ``commercial_use`` and ``encoder_weights``, see ``core.bundle.Manifest``.
    """
    configs = [load_config(folder / "config.yaml") for folder in runs_of(run)]
    kinds = dict.fromkeys(spec["dataset"] for config in configs for spec in config.train)
    pretrained = next((c for c in configs if c.encoder_weights != "none"), None)
    source, licence = pretrained_source(pretrained) if pretrained else ("", LICENCE)
    free = licence.lower() == LICENCE.lower()
    unclear = [kind for kind in kinds if kind != "synthetic"] + ["encoder weights"] * (not free)
    return {
        "licence": licence,
        "training_data_terms": "; ".join(TERMS.get(kind, kind) for kind in kinds),
        "commercial_use": f"not cleared: {', '.join(unclear)}" if unclear else "cleared",
        "encoder_weights": f"{source}, {licence}" if source else "",
    }


def pretrained_source(config: TrainingConfig) -> tuple[str, str]:
    """Source and licence of the encoder weights that a run began with."""
    if config.encoder_weights == "package":
        packaged = PACKAGED[config.encoder]
        return packaged.source, packaged.licence
    if config.encoder_weights != "imagenet":
        return f"file {Path(config.encoder_weights).name}", "licence of its maker"
    if config.encoder.startswith("tu-"):
        weights = timm.get_pretrained_cfg(config.encoder.removeprefix("tu-"))
        return f"{weights.hf_hub_id} of the Hugging Face hub", weights.license or "unknown licence"
    return f"{encoders[config.encoder]['pretrained_settings']['imagenet']['repo_id']} of the Hugging Face hub", (
        "unknown licence"
    )


def training_setting() -> dict[str, Any]:
    """Machine, time and code of a training, as every result file says them; see ``core.machine.setting``."""
    return setting(_gpu())


def _gpu() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def hardware() -> str:
    """What this process computes on, for people."""
    if gpu := _gpu():
        return gpu
    here = machine()
    return f"{here['cpu']}, {here['cores']} core{'s' * (here['cores'] != 1)}"


def parameters(network: SegmentationNetwork) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters())


def gflops(network: SegmentationNetwork, input_size: tuple[int, int]) -> float:
    """Operations of one frame, 1e9: each multiplication and each addition of the convolutions and matrix products.

    Args:
        network: on the CPU.
        input_size: (height, width) in pixels; as everywhere, sides are padded to multiples of 32.
    """
    height, width = (side + -side % STRIDE for side in input_size)
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network.eval()(torch.zeros(1, 3, height, width))
    return round(counter.get_total_flops() / 1e9, 2)
