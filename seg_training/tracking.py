"""A run in MLflow, beside the files that every run writes: parameters, curves, example masks and the bundle."""

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from seg_node.core.errors import UserError
from seg_node.core.network import SegmentationNetwork
from seg_node.core.taxonomy import colorize
from seg_training.config import TrainingConfig
from seg_training.evaluate import Sample, predictor

_ID = "mlflow_run_id"
"""File in the run's folder, so that a resumed run goes on in the same place."""


class Tracker:
    """Writes into MLflow where the configuration says ``mlflow: true``, and does nothing elsewhere.

    MLflow chooses the store: ``MLFLOW_TRACKING_URI``, or its local default, an sqlite file in the current folder.

    Args:
        config: of the run.
        active: whether this process writes; in a run of several only the first one does.

    Raises:
        UserError: MLflow is asked for and not installed.
    """

    def __init__(self, config: TrainingConfig, active: bool = True):
        self._config = config
        self._mlflow: Any = None
        if config.mlflow and active:
            if not importlib.util.find_spec("mlflow"):
                raise UserError("mlflow is not installed: pip install 'seg_node[tracking]', or train with mlflow=false")
            self._mlflow = importlib.import_module("mlflow")

    def start(self, folder: Path) -> None:
        """Begin, or go on with what this folder's run began.

        Args:
            folder: of the run, with its ``environment.json``.
        """
        if not self._mlflow:
            return
        self._mlflow.set_experiment("seg_training")
        known = folder / _ID
        if known.exists():
            self._mlflow.start_run(run_id=known.read_text())
            return
        run = self._mlflow.start_run(run_name=self._config.name)
        known.write_text(run.info.run_id)
        # MLflow keeps 6000 characters of a value.
        self._mlflow.log_params({name: str(value)[:6000] for name, value in asdict(self._config).items()})
        self._mlflow.log_artifact(str(folder / "environment.json"))

    def log(self, record: dict[str, Any]) -> None:
        """Add a line of ``log.jsonl`` to the curves; ``val_few`` makes one curve for each data set."""
        if not self._mlflow:
            return
        values = {name: value for name, value in record.items() if name not in ("step", "val_few")}
        for number, figures in enumerate(record.get("val_few", [])):
            values |= {f"val_{number}_{name}": value for name, value in figures.items() if name != "iou"}
        self._mlflow.log_metrics({name: float(value) for name, value in values.items()}, step=record["step"])

    def pictures(self, network: SegmentationNetwork, samples: Sequence[Sample], step: int) -> None:
        """Keep image, truth and mask of some samples side by side.

        Args:
            network: its mode is set to ``eval``.
            samples: images with their masks.
            step: of the run.
        """
        if not self._mlflow:
            return
        predict = predictor(network, self._config.input_size)
        for number, (image, truth) in enumerate(samples):
            masks = (colorize(mask, self._config.categories) for mask in (truth, predict(image)))
            rgb = [picture[..., ::-1] for picture in (image, *masks)]
            self._mlflow.log_image(np.hstack(rgb), key=f"mask_{number}", step=step)

    def finish(self) -> None:
        """End the run."""
        if self._mlflow:
            self._mlflow.end_run()


def keep_bundle(folder: Path, bundle: Path) -> None:
    """Keep a bundle with what was recorded of its run.

    Args:
        folder: of the run, which a ``Tracker`` has recorded.
        bundle: folder of the bundle.
    """
    mlflow = importlib.import_module("mlflow")
    mlflow.MlflowClient().log_artifacts((folder / _ID).read_text(), str(bundle), "bundle")
