"""Both backbones from made-up scenes to masks over DDS: train a few steps, evaluate, export, run in the real node."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is missing: install the training extra")
pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from helpers.camera import Camera  # noqa: E402
from helpers.images import encode  # noqa: E402
from helpers.paths import ROOT

from seg_node.core.bundle import load_bundle  # noqa: E402
from seg_node.core.engines import create_engine  # noqa: E402
from seg_training.__main__ import main  # noqa: E402
from seg_training.datasets import open_dataset  # noqa: E402
from seg_training.evaluate import observe  # noqa: E402
from seg_training.quality import summarise  # noqa: E402

CONFIGS = ROOT / "config" / "training"
SIZE = [96, 160]
HELD_OUT = {"dataset": "synthetic", "seeds": [20, 24], "size": SIZE}
CHANGES = {
    "train": [{"dataset": "synthetic", "seeds": [0, 8], "size": SIZE}],
    "val": [HELD_OUT],
    "input_size": SIZE,
    "stages": [{"share": 1, "crop": [96, 128], "scale": [0.8, 1.2]}],
    "steps": 6,
    "batch_size": 4,
    "evaluate_every": 3,
    "checkpoint_every": 3,
}


@pytest.mark.parametrize("model", ["fpn_resnet50", "fpn_convnextv2"])
def test_from_scenes_to_masks(node_process, ros, tmp_path, model):
    changes = CHANGES | {"runs": str(tmp_path / "runs")}
    overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    assert main(["train", str(CONFIGS / f"{model}.yaml"), *overrides]) == 0
    run = tmp_path / "runs" / model
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == [1, 2, 3, 4, 5, 6]
    assert 0 <= log[2]["val_few"][0]["miou_7"] <= 100

    out = tmp_path / "bundle"
    assert main(["export", str(run), str(out)]) == 0
    bundle = load_bundle(out)
    engine = create_engine(bundle, "onnxruntime")
    held_out = open_dataset(HELD_OUT, progress=False)
    figures = summarise(observe(engine, (held_out[i] for i in range(len(held_out)))), block=1)
    assert (figures["images"], np.sum(figures["confusion"])) == (4, 4 * SIZE[0] * SIZE[1])

    node_process({"model": str(out), "engine": "onnxruntime", "warm_up_size": SIZE})
    camera = Camera()
    try:
        camera.connect()
        for index in range(len(held_out)):
            image = held_out[index][0]
            record, message = camera.segment(encode(image, "bgr8"))
            assert record.status[0].message == "masked"
            mask = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, : message.width]
            assert np.array_equal(mask, engine.infer(image)[0])
    finally:
        camera.close()
