"""One server, one engine and one picture for all tests of the HTTP API."""

import cv2
import numpy as np
import pytest
from helpers.blue_bundle import blue_bundle
from helpers.paths import ROOT

from seg_node.bags.drive import open_drive
from seg_node.core.bundle import load_bundle
from seg_node.core.engines import create_engine

ENGINE = "onnxruntime"
MODEL = "fpn_resnet50"
SIZE = (96, 128)
QUEUE = 12


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server process with the shipped models, ``MODEL`` being the default, and ``blue``, which costs nothing."""
    for module in ("fastapi_offline", "httpx"):
        pytest.importorskip(module, reason=f"{module} is missing: pip install -e '.[serving,test]'")
    from helpers.serving import Server

    folder = tmp_path_factory.mktemp("serve")
    models = ["--model", MODEL, "--model", str(blue_bundle(folder).path)]
    options = ["--queue", str(QUEUE), "--allowed-host", "robot.example"]
    running = Server(folder / "server.log", *options, *models).wait_until_ready()
    yield running
    assert running.process.poll() is None, f"the server has ended: {running.log.read_text()[-3000:]}"
    assert running.stop() == 0


@pytest.fixture(scope="session")
def picture():
    """A frame of the shipped drive, small, so that many fit into a test."""
    frame = open_drive(ROOT / "rosbags" / "synthetic_drive").frames[60]
    return cv2.resize(cv2.imdecode(frame.image.data, cv2.IMREAD_COLOR), SIZE[::-1], interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="session")
def jpeg(picture):
    return cv2.imencode(".jpg", picture)[1].tobytes()


@pytest.fixture(scope="session")
def engine():
    """The engine in this process."""
    return create_engine(load_bundle(MODEL), ENGINE)


@pytest.fixture(scope="session")
def golden(engine, jpeg):
    """Mask and confidence of the JPEG."""
    return engine.infer(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), True)


@pytest.fixture(scope="session")
def video(tmp_path_factory, picture):
    """Bytes of an MP4 of seven frames, and the frames as they are decoded."""
    file = tmp_path_factory.mktemp("video") / "video.mp4"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 12.0, SIZE[::-1])
    for shift in range(7):
        writer.write(np.roll(picture, 5 * shift, axis=1))
    writer.release()
    capture, frames = cv2.VideoCapture(str(file)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert len(frames) == 7
    return file.read_bytes(), frames
