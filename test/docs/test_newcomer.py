"""A newcomer's first day: what README and docs say, word by word, in a folder that looks like a fresh clone."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.blue_bundle import blue_bundle
from helpers.paths import ROOT

from seg_node.bags.drive import open_drive
from seg_node.core.bundle import DEFAULT_MODEL, load_bundle
from seg_node.core.engines import create_engine
from seg_node.core.metrics import confusion_matrix, scores
from seg_node.core.taxonomy import CATEGORY_NAMES

TRAIN_ID = {1: 0, 2: 2, 3: 5, 4: 8, 5: 10, 6: 11, 7: 13, 0: 255}
"""An id of config/labels/cityscapes_train_ids.yaml for each category."""


def commands(heading: str, document: str = "README.md") -> str:
    """The shell block below a heading of a document."""
    section = (ROOT / document).read_text().split(f"## {heading}\n", 1)[1].split("\n#", 1)[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return block


@pytest.fixture(scope="module")
def clone(ros, tmp_path_factory):
    """A folder with the repository's files and an environment, in which everything may be written."""
    environment = Path(sys.prefix)
    # Any other one would be made anew by the README's make commands, or be led to this test's folder.
    made = ["make", "--question", *(f".venv/.{name}" for name in ("runtime", "test", "serving", "dashboard"))]
    if environment != ROOT / ".venv" or subprocess.run(made, cwd=ROOT, env=newcomers_environment()).returncode:
        pytest.skip("these tests run in the environment that make test makes: make .venv/.test")
    folder = tmp_path_factory.mktemp("clone")
    for path in ROOT.iterdir():
        if path.name not in (".venv", ".git") and not path.name.endswith(("_output", ".egg-info")):
            (folder / path.name).symlink_to(path)
    (folder / ".venv").symlink_to(environment)
    return folder


@pytest.fixture(scope="module")
def shipped():
    return open_drive(ROOT / "rosbags" / "synthetic_drive", duration=4.0)


@pytest.fixture(scope="module")
def video(clone, shipped):
    """``my_drive.mp4``: eight frames."""
    writer = cv2.VideoWriter(str(clone / "my_drive.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5.0, (160, 90))
    for frame in shipped.frames[:80:10]:
        writer.write(cv2.resize(cv2.imdecode(frame.image.data, cv2.IMREAD_COLOR), (160, 90)))
    writer.release()


@pytest.fixture
def my_images(clone, shipped):
    """``my_images``: pairs of image and mask for training and validation, masks of Cityscapes' training ids."""
    table = np.array([TRAIN_ID[value] for value in range(len(CATEGORY_NAMES))] + [255] * (256 - 8), np.uint8)
    for split, frames in (("train", shipped.frames[:60:8]), ("val", shipped.frames[70:80:8])):
        for kind in ("images", "masks"):
            (clone / "my_images" / split / kind).mkdir(parents=True)
        for number, frame in enumerate(frames):
            image = cv2.imdecode(frame.image.data, cv2.IMREAD_COLOR)
            cv2.imwrite(str(clone / "my_images" / split / "images" / f"{number}.jpg"), image)
            mask = table[shipped.masks[frame.stamp]]
            cv2.imwrite(str(clone / "my_images" / split / "masks" / f"{number}.png"), mask)


def newcomers_environment() -> dict[str, str]:
    """Without the variables of a make that runs these tests, and patient.

    Threads of torch that wait for each other take many times as long as one where others have the processor, too.
    """
    without = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return {"OMP_NUM_THREADS": "1"} | without


def execute(block: str, folder: Path) -> str:
    """Run a block as it stands; returns what it prints."""
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", block],
        cwd=folder,
        env=newcomers_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@contextlib.contextmanager
def target(clone, command: str, says: str):
    """A command that goes on until it is stopped, once it has printed ``says``; gives the word behind that."""
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=clone,
        env=newcomers_environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if says in line:
                break
        else:
            raise AssertionError(f"{command} ended: {''.join(said)}")
        yield line.split(says)[1].partition("\n")[0].strip().partition(" ")[0].rstrip(";,")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)


def read(url: str) -> bytes:
    """Content of an address, as soon as it is there."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return answer.read()
        except OSError:
            assert time.monotonic() < deadline, url
            time.sleep(0.2)


def test_curl_gives_the_mask_of_the_node(clone, shipped, node_process):
    """``make serve`` and curl as in the README, against the mask that the node publishes for the same frame."""
    from helpers.camera import Camera
    from sensor_msgs.msg import CompressedImage

    if not shutil.which("curl"):
        pytest.skip("curl is missing")
    serve, *curl = commands("Over HTTP").splitlines()
    assert serve.startswith("make serve ")
    jpeg = shipped.frames[60].image.data.tobytes()
    (clone / "road.jpg").write_bytes(jpeg)
    options = '"--port 0 --engine onnxruntime --precision fp32"'
    with target(clone, f"make serve SERVE_OPTIONS={options}", "listening on ") as address:
        read(f"{address}/readyz")
        execute("\n".join(curl).replace("http://127.0.0.1:8000", address), clone)
    overlay = cv2.imread(str(clone / "overlay.jpg"))
    assert overlay.shape == (360, 640, 3) and overlay.std() > 10
    mask = cv2.imread(str(clone / "mask.png"), cv2.IMREAD_UNCHANGED)
    parameters = {"engine": "onnxruntime", "precision": "fp32", "warm_up_size": [360, 640]}
    node_process(parameters | {"image_transport": "compressed"})
    camera = Camera(topic="image/compressed", message_type=CompressedImage).connect()
    try:
        _, message = camera.segment(CompressedImage(format="jpeg", data=jpeg))
    finally:
        camera.close()
    assert mask.shape == (360, 640) and len(np.unique(mask)) > 3
    assert np.array_equal(np.frombuffer(message.data, np.uint8).reshape(mask.shape), mask)


def test_curl_gives_the_masks_of_a_video(clone, shipped, video):
    """The steps of docs/serving.md, with a small model: upload, wait for the end, fetch masks and overlay."""
    if not shutil.which("curl"):
        pytest.skip("curl is missing")
    steps = commands("Videos", "docs/serving.md")
    shutil.copy(clone / "my_drive.mp4", clone / "drive.mp4")
    model = blue_bundle(clone / "models").path
    with target(
        clone, f'make serve SERVE_OPTIONS="--port 0 --engine onnxruntime --model {model}"', "listening on "
    ) as address:
        read(f"{address}/readyz")
        execute(steps.replace("http://127.0.0.1:8000", address), clone)
    with zipfile.ZipFile(clone / "masks.zip") as masks:
        names = [name for name in masks.namelist() if name.endswith(".png")]
        sizes = {cv2.imdecode(np.frombuffer(masks.read(name), np.uint8), -1).shape for name in names}
    assert len(names) == 8 and sizes == {(90, 160)}
    overlay = cv2.VideoCapture(str(clone / "overlay.mp4"))
    assert sum(1 for _ in iter(lambda: overlay.read()[0], False)) == 8


def test_live_page_and_dashboard_are_one_command_each(clone):
    with target(clone, 'make view VIEW_OPTIONS="--no-browser --port 0"', " is shown at ") as address:
        assert b"<title>" in read(address)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with target(clone, f'make dashboard DASHBOARD_OPTIONS="--port {port}"', "URL: ") as address:
        assert address == f"http://127.0.0.1:{port}"
        assert read(f"{address}/_stcore/health") == b"ok"


def patient(command: str) -> str:
    """The decision module's command with a budget that holds where others have the processor, too."""
    assert "budget_ms:=300.0" in command
    return command.replace("budget_ms:=300.0", "budget_ms:=5000.0")


def test_decision_module_goes_with_a_recorded_drive(clone):
    node, module, drive = commands("With a recorded drive", "docs/viewing.md").splitlines()
    with target(clone, node, "active on ") as topic, target(clone, drive, "waiting for ") as attached:
        assert (topic, attached) == ("/image/compressed", "/segmentation")
        with target(clone, patient(module), "[decision]: go"):
            pass


def test_decision_module_goes_beside_the_live_page(clone):
    view, module = commands("Beside the live page", "docs/viewing.md").splitlines()
    options = 'VIEW_OPTIONS="--namespace /'
    assert options in view
    view = view.replace(options, f"{options} --no-browser --port 0")
    with target(clone, view, " is shown at "), target(clone, patient(module), "[decision]: go"):
        pass


def test_from_a_video_to_masks(clone, video):
    execute(commands("From your own video to masks"), clone)
    assert {"report.html", "overlay.mp4", "contact_sheet.png"} <= {file.name for file in (clone / "my_masks").iterdir()}
    result = json.loads((clone / "my_masks" / "result.json").read_text())
    assert result["setup"]["model"] == DEFAULT_MODEL and result["masked"] > 0
    frames = open_drive(clone / "my_drive").frames
    labelled = open_drive(clone / "labelled" / "my_drive", mask_topic="/camera/segmentation/mask/compressed")
    assert len(frames) == len(labelled.masks) == len(list((clone / "my_pngs" / "my_drive").glob("*.png"))) == 8
    for frame in frames:
        mask = labelled.masks[frame.stamp]
        assert mask.shape == (90, 160)
        assert len(np.unique(mask)) > 1 and mask.max() < len(CATEGORY_NAMES)


def my_confusion(clone) -> np.ndarray:
    """Confusion matrix of ``my_model`` over ``my_images/val``, computed without the training package."""
    engine = create_engine(load_bundle(clone / "my_model"), "onnxruntime", precision="fp32")
    category = np.full(256, 255, np.uint8)
    for value, train_id in TRAIN_ID.items():
        category[train_id] = value if train_id != 255 else 255
    confusion = np.zeros((8, 8), np.int64)
    for file in (clone / "my_images" / "val" / "images").iterdir():
        labels = cv2.imread(str(file.parents[1] / "masks" / f"{file.stem}.png"), cv2.IMREAD_UNCHANGED)
        mask, _ = engine.infer(cv2.imread(str(file)))
        confusion += confusion_matrix(category[labels], mask)
    return confusion


def test_from_images_to_a_model_in_the_node(clone, video, my_images):
    printed = execute(commands("From your own images to the node"), clone)
    assert (clone / "inspection" / "train1_samples.jpg").exists()
    manifest = load_bundle(clone / "my_model").manifest
    iou = scores(my_confusion(clone))["iou"]
    for name in ("flat", "construction", "nature", "sky", "vehicle"):
        # In the table of `evaluate`: the category's IoU in percent, before precision and others.
        (told,) = re.findall(rf"^ +{name} +([\d.]+) ", printed, re.MULTILINE)
        assert float(told) == pytest.approx(iou[name], abs=0.01), printed
    assert (manifest.name, manifest.backbone) == ("first_pass", "mobilenet_v2")
    assert "my_images/train (8 images)" in str(manifest.training["data"])
    result = json.loads((clone / "my_result" / "result.json").read_text())
    assert result["setup"]["model"] == "first_pass"
    assert result["masked"] > 0
    shutil.rmtree(clone / "my_images")
