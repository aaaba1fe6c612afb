"""Training configuration: a YAML file, each value of which ``key=value`` on the command line overrides."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml


@dataclass
class Stage:
    """A part of the run at one resolution: small, cheap crops first, the full resolution last."""

    share: float
    """Share of the steps, in 0..1; those of all stages add up to 1."""
    crop: list[int]
    """(height, width) in pixels."""
    scale: list[float]
    """Least and greatest zoom of the source image before the crop."""


@dataclass
class TrainingConfig:
    """Everything that a run depends on besides the data itself."""

    name: str
    """Name of the run and of the bundle made from it."""
    encoder: str
    """Encoder as segmentation-models-pytorch knows it."""
    data: str
    """Root folder of CamVid."""
    input_size: list[int]
    """(height, width) of the images on which the network is evaluated and exported, in pixels."""
    stages: list[Stage]
    steps: int
    batch_size: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: float = 0.06
    """Share of the steps in which the learning rate rises linearly."""
    drop_path_rate: float = 0.0
    clip: float = 1.0
    """Greatest norm of the gradient."""
    ema: float = 0.1
    """Window of the averaged weights as a share of the run: decay is 1 - 1 / (ema * steps)."""
    weight_softness: float = 1.1
    """See ``losses.category_weights``."""
    precision: str = "auto"
    """``fp32``, ``bf16``, or ``auto``: bf16 where the processor has instructions for it."""
    threads: int = 0
    """Of the processor; 0 leaves the choice to torch."""
    start_from: str = ""
    """Folder of a finished run whose averaged weights are the start; empty for random initialisation."""
    seed: int = 0
    checkpoint_every: int = 50
    """Steps."""
    evaluate_every: int = 200
    """Steps between evaluations on a few images, for the log only: nothing is selected by them."""
    runs: str = "runs"
    """Folder that receives the run's own folder."""

    def __post_init__(self):
        self.stages = [s if isinstance(s, Stage) else Stage(**s) for s in self.stages]
        if not self.stages or abs(sum(s.share for s in self.stages) - 1) > 1e-6:
            raise ValueError(f"the stages' shares must add up to 1, not {sum(s.share for s in self.stages)}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision is {self.precision!r}; expected auto, fp32 or bf16")
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps and batch_size must be positive, not {self.steps} and {self.batch_size}")

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
        overrides: ``key=value`` strings; values are YAML.

    Raises:
        ValueError: a key is unknown or missing, or a value is out of range; the message names it.
    """
    values = yaml.safe_load(Path(path).read_text())
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not a YAML mapping")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ValueError(f"override {override!r} is not of the form key=value")
        values[key] = yaml.safe_load(value)
    known = {f.name for f in fields(TrainingConfig)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"unknown key {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    try:
        return TrainingConfig(**values)
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error


def dump_config(config: TrainingConfig) -> str:
    """Write a configuration as YAML that ``load_config`` reads."""
    return yaml.safe_dump(asdict(config), sort_keys=False)
