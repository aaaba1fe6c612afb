"""A run in MLflow's local store."""

import importlib.util
import json

import pytest

pytest.importorskip("torch", reason="torch is missing: install the training extra")

from helpers.paths import ROOT

from seg_node.core.bundle import load_bundle  # noqa: E402
from seg_training.__main__ import main  # noqa: E402

CONFIG = str(ROOT / "config" / "training" / "fpn_resnet50.yaml")
SCENES = {"dataset": "synthetic", "seeds": [0, 3], "size": [64, 96]}


def _overrides(**changes):
    values = {
        "train": [SCENES],
        "val": [SCENES],
        "encoder": "resnet18",
        "input_size": [64, 96],
        "stages": [{"share": 1, "crop": [32, 32], "scale": [1, 1]}],
        "steps": 3,
        "batch_size": 2,
        "precision": "fp32",
        "evaluate_every": 2,
        "mlflow": True,
    }
    return [f"{key}={json.dumps(value)}" for key, value in (values | changes).items()]


def test_without_mlflow_it_is_refused_at_once(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a))
    assert main(["train", CONFIG, *_overrides(runs=str(tmp_path))]) == 2
    assert "mlflow is not installed: pip install 'seg_node[tracking]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_parameters_curves_pictures_and_bundle(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is missing: install the tracking extra")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/store.db")
    assert main(["train", CONFIG, *_overrides(runs=str(tmp_path / "runs"))]) == 0
    folder = tmp_path / "runs" / "fpn_resnet50"
    client = mlflow.MlflowClient()
    number = (folder / "mlflow_run_id").read_text()
    run = client.get_run(number)
    assert run.info.status == "FINISHED"
    assert run.data.params["encoder"] == "resnet18"
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    curve = client.get_metric_history(number, "loss")
    assert [(m.step, m.value) for m in curve] == [(r["step"], pytest.approx(r["loss"])) for r in log]
    evaluated = client.get_metric_history(number, "val_0_miou_7")
    assert [(m.step, m.value) for m in evaluated] == [(2, pytest.approx(log[1]["val_few"][0]["miou_7"]))]
    assert any(item.path.endswith(".png") for item in client.list_artifacts(number, "images"))
    bundle = client.download_artifacts(number, "bundle", str(tmp_path))
    assert load_bundle(bundle).manifest.name == "fpn_resnet50"
