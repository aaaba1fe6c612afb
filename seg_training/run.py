"""The folder of a training run: what lies in it, what made it, and the network that came of it."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import torch
import yaml

from seg_node.core.errors import UserError
from seg_node.core.network import SegmentationNetwork
from seg_training.config import TrainingConfig, dump_config, load_config, values_of
from seg_training.datasets.folder import label_file
from seg_training.encoder_weights import normalisation
from seg_training.provenance import hardware, training_setting


def run_folder(config: TrainingConfig) -> Path:
    """Where a run writes."""
    return Path(config.runs) / config.name


def prepare_folder(config: TrainingConfig, data: list[str]) -> Path:
    """Make the run's folder and write down what made the run.

    Args:
        config: of the run.
        data: description of each data set that it trains on.

    Raises:
        UserError: the folder holds a run with another configuration; the message says what differs.
    """
    folder = run_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "config.yaml"
    if written.exists() and (other := _differences(yaml.safe_load(written.read_text()), values_of(config))):
        raise UserError(
            f"{folder} holds a run with another configuration: {'; '.join(other)}. Give this one another name=, or"
            " remove that folder"
        )
    written.write_text(dump_config(config))
    names = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "accelerate", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    where = training_setting()
    environment = {"data": data, "versions": versions, "commit": where["commit"], "machine": hardware()}
    environment |= {"setting": where, "label_tables": _label_tables(config)}
    (folder / "environment.json").write_text(json.dumps(environment, indent=2))
    return folder


def _differences(there: Any, here: Any, key: str = "") -> list[str]:
    """What differs between two values of YAML, by key, as in ``train.0.root is a there, b here``."""
    if isinstance(there, dict) and isinstance(here, dict):
        keys = [*there, *(name for name in here if name not in there)]
        pairs = [(f"{key}.{name}" if key else name, there.get(name), here.get(name)) for name in keys]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = [(f"{key}.{i}", *both) for i, both in enumerate(zip(there, here, strict=True))]
    else:
        return [] if there == here else [f"{key} is {there!r} there, {here!r} here"]
    return [line for name, one, other in pairs for line in _differences(one, other, name)]


def _label_tables(config: TrainingConfig) -> dict[str, Any]:
    """Content of the files of label tables, by the name that the configuration has for each."""
    specs = [spec for spec in (*config.train, *config.val) if isinstance(spec.get("labels"), str)]
    return {s["labels"]: yaml.safe_load(label_file(s["root"], s["labels"]).read_text()) for s in specs}


def averaged_weights(run: Path) -> dict[str, torch.Tensor]:
    """Result of a finished run, as the state of a ``SegmentationNetwork`` on the CPU.

    Raises:
        UserError: the run is not finished.
    """
    config = load_config(run / "config.yaml")
    state = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
    if state["step"] < config.steps:
        raise UserError(f"{run} stopped at step {state['step']} of {config.steps}; resume it with the train command")
    prefix = "module."
    return {name.removeprefix(prefix): v for name, v in state["ema"].items() if name.startswith(prefix)}


def network_of(config: TrainingConfig) -> SegmentationNetwork:
    """The network that a configuration describes, for weights that are loaded into it afterwards."""
    return SegmentationNetwork(
        config.encoder, *normalisation(config.encoder), decoder=config.decoder, categories=len(config.categories)
    )
