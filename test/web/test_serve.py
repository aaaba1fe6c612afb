"""The HTTP API: a real server process, what it answers to good requests, and that nothing else can end it."""

import asyncio
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")
httpx = pytest.importorskip("httpx", reason="httpx is missing: pip install -e '.[test]'")

from helpers.blue_bundle import blue_bundle  # noqa: E402
from helpers.browser import Browser  # noqa: E402
from helpers.paths import ROOT  # noqa: E402

from seg_node.bags.drive import open_drive  # noqa: E402
from seg_node.core.bundle import load_bundle  # noqa: E402
from seg_node.core.engines import create_engine  # noqa: E402
from seg_node.core.engines.base import Engine, EngineError  # noqa: E402
from seg_node.core.errors import UndecodableError  # noqa: E402
from seg_node.core.images import compressed_to_bgr  # noqa: E402
from seg_node.core.taxonomy import CATEGORY_NAMES, colorize  # noqa: E402
from seg_node.web.api.app import make_app  # noqa: E402
from seg_node.web.api.limits import Limits  # noqa: E402
from seg_node.web.api.models import MAX_BATCH, Models  # noqa: E402
from seg_node.web.api.probe import read_header  # noqa: E402
from seg_node.web.api.shapes import polygons, run_lengths  # noqa: E402
from seg_node.web.api.uploads import Upload  # noqa: E402

ENGINE = "onnxruntime"
MODEL = "fpn_resnet50"
SIZE = (96, 128)
QUEUE = 12


class Server:
    """``python -m seg_node serve`` as a process."""

    def __init__(self, log: Path, *arguments: str):
        self.log = log
        command = [sys.executable, "-m", "seg_node", "serve", "--port", "0", "--engine", ENGINE, *arguments]
        with log.open("w") as errors:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), log.read_text()
        self.url = line.split()[2].rstrip(",")
        self.client = httpx.Client(base_url=self.url, timeout=120)

    def wait_until_ready(self):
        deadline = time.monotonic() + 120
        while (answer := self.client.get("/readyz")).status_code != 200:
            assert answer.json()["error"]["code"] == "not_ready"
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)
        return self

    def post(self, data, query="", media_type="image/jpeg", path="/v1/segment"):
        return self.client.post(f"{path}?{query}", content=data, headers={"Content-Type": media_type})

    def stop(self, number=signal.SIGTERM):
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("serve") / "server.log", "--queue", str(QUEUE)).wait_until_ready()
    yield running
    assert running.process.poll() is None, f"the server has ended: {running.log.read_text()[-3000:]}"
    assert running.stop() == 0


@pytest.fixture(scope="module")
def picture():
    """A frame of the shipped drive, small, so that many fit into a test."""
    frame = open_drive(ROOT / "rosbags" / "synthetic_drive").frames[60]
    return cv2.resize(cv2.imdecode(frame.image.data, cv2.IMREAD_COLOR), SIZE[::-1], interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def jpeg(picture):
    return cv2.imencode(".jpg", picture)[1].tobytes()


@pytest.fixture(scope="module")
def engine():
    """The engine in this process."""
    return create_engine(load_bundle(MODEL), ENGINE)


@pytest.fixture(scope="module")
def golden(engine, jpeg):
    """Mask and confidence of the JPEG."""
    return engine.infer(compressed_to_bgr(Upload(jpeg, "jpeg")), True)


def unpacked(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def problem(answer):
    """Code of an error, whose form and discretion are checked."""
    error = answer.json()["error"]
    assert error.keys() == {"code", "message", "request_id"}
    assert error["request_id"] == answer.headers["x-request-id"]
    assert not re.search(r"/work|/tmp|/home|/opt|\.py\b|\.onnx|Traceback", answer.text), answer.text
    return error["code"]


# Good requests


def test_mask_is_that_of_the_engine(server, jpeg, golden):
    raw = server.post(jpeg)
    form = server.client.post("/v1/segment", files={"image": ("../../etc/passwd", jpeg, "image/jpeg")})
    for answer in (raw, form):
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        mask = unpacked(answer.content)
        assert (mask.dtype, mask.shape) == (np.uint8, SIZE)
        assert np.array_equal(mask, golden[0])
        assert (answer.headers["x-model"], answer.headers["x-engine"]) == (MODEL, ENGINE)
        timing = re.fullmatch(
            r"wait;dur=([\d.]+), decode;dur=([\d.]+), inference;dur=([\d.]+), encode;dur=([\d.]+)",
            answer.headers["server-timing"],
        )
        assert float(timing[3]) > 1, "milliseconds"
    assert raw.headers["x-request-id"] != form.headers["x-request-id"]


def test_png_and_orientation_are_decoded_like_the_node_does(server, engine, picture, jpeg):
    png = cv2.imencode(".png", picture)[1].tobytes()
    assert np.array_equal(unpacked(server.post(png, media_type="image/png").content), engine.infer(picture)[0])
    # An EXIF orientation of a quarter turn must not turn the mask.
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    exif = b"Exif\x00\x00" + tiff
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    assert np.array_equal(unpacked(server.post(turned).content), unpacked(server.post(jpeg).content))


def test_curl(server, jpeg, golden, tmp_path):
    if not shutil.which("curl"):
        pytest.skip("curl is missing")
    source, target = tmp_path / "image.jpg", tmp_path / "mask.png"
    source.write_bytes(jpeg)
    for body in (["--data-binary", f"@{source}", "-H", "Content-Type: image/jpeg"], ["-F", f"image=@{source}"]):
        subprocess.run(["curl", "-sS", "--fail", *body, f"{server.url}/v1/segment", "-o", target], check=True)
        assert np.array_equal(unpacked(target.read_bytes()), golden[0])


def test_mask_is_that_of_the_node(server, jpeg, node_process):
    from helpers.camera import Camera
    from sensor_msgs.msg import CompressedImage

    node_process({"model": MODEL, "engine": ENGINE, "warm_up_size": list(SIZE), "image_transport": "compressed"})
    camera = Camera(topic="image/compressed", message_type=CompressedImage).connect()
    try:
        record, mask = camera.segment(CompressedImage(format="jpeg", data=jpeg))
    finally:
        camera.close()
    assert record.status[0].message == "masked"
    from_node = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)
    assert np.array_equal(unpacked(server.post(jpeg).content), from_node)


def test_json(server, jpeg, golden):
    mask, confidence = golden
    answer = server.post(jpeg, "format=json&confidence=1&encoding=rle").json()
    assert (answer["model"], answer["height"], answer["width"]) == (MODEL, *SIZE)
    rebuilt = np.full(SIZE, 255, np.uint8)
    for category in answer["categories"]:
        region = mask == category["id"]
        assert category["name"] == CATEGORY_NAMES[category["id"]]
        assert category["pixels"] == region.sum() == round(category["share"] * mask.size)
        assert category["confidence"] == pytest.approx(confidence[region].mean() / 255, abs=1e-4)
        rebuilt[decoded_runs(category["rle"])] = category["id"]
    assert np.array_equal(rebuilt, mask)
    assert answer["confidence"]["mean"] == pytest.approx(confidence.mean() / 255, abs=1e-4)

    answer = server.client.post(
        "/v1/segment?encoding=polygons", files={"image": jpeg}, headers={"Accept": "application/json"}
    ).json()
    rebuilt[:] = 255
    for category in answer["categories"]:
        rebuilt[filled(category["polygons"], SIZE)] = category["id"]
        assert "rle" not in category and "confidence" not in category
    assert np.array_equal(rebuilt, mask)


def test_overlay_and_confidence(server, jpeg, golden):
    bgr = compressed_to_bgr(Upload(jpeg, "jpeg"))
    expected = (bgr.astype(float) + colorize(golden[0])) / 2
    exact = server.post(jpeg, "overlay=1&format=png")
    assert np.abs(unpacked(exact.content) - expected).max() <= 0.5
    lossy = server.post(jpeg, "overlay=1")
    assert lossy.headers["content-type"] == "image/jpeg"
    assert np.abs(unpacked(lossy.content) - expected).mean() < 6
    confidence = server.post(jpeg, "confidence=1")
    assert np.array_equal(unpacked(confidence.content), golden[1])


def test_model_by_name_and_by_path(jpeg, server, tmp_path):
    other = create_engine(load_bundle("fpn_convnextv2"), ENGINE).infer(compressed_to_bgr(Upload(jpeg, "jpeg")))[0]
    answer = server.post(jpeg, "model=fpn_convnextv2")
    assert answer.headers["x-model"] == "fpn_convnextv2"
    assert np.array_equal(unpacked(answer.content), other)

    folder = tmp_path / "mine"
    shutil.copytree(load_bundle("fpn_convnextv2").path, folder)
    manifest = folder / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace("name: fpn_convnextv2\n", "name: mine\n", 1))
    own = Server(tmp_path / "own.log", "--model", str(folder)).wait_until_ready()
    try:
        listed = {model["name"]: model for model in own.client.get("/v1/models").json()["models"]}
        assert listed.keys() == {"mine", "fpn_convnextv2", "fpn_resnet50"}
        assert (listed["mine"]["default"], listed["mine"]["loaded"]) == (True, True)
        answer = own.post(jpeg)
        assert answer.headers["x-model"] == "mine"
        assert np.array_equal(unpacked(answer.content), other)
    finally:
        assert own.stop(signal.SIGINT) == 0


def test_models(server):
    answer = server.client.get("/v1/models")
    model = next(m for m in answer.json()["models"] if m["name"] == MODEL)
    manifest = load_bundle(MODEL).manifest
    assert model["metrics"] == manifest.metrics
    assert model["licence"] == manifest.licence
    assert [c["name"] for c in model["categories"]] == list(CATEGORY_NAMES)
    assert str(ROOT) not in answer.text


# Refusals


def png_header(width, height):
    """A PNG that says how large it is, and nothing more."""
    content = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\x0d" + content + zlib.crc32(content).to_bytes(4, "big")


def jpeg_header(width, height):
    frame = b"\x00\x0b\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\x01\x01\x11\x00"
    return b"\xff\xd8\xff\xfe\x00\x06\xff\xc0\x00\x00\xff\xff\xc2" + frame


GIF = b"GIF89a" + bytes(50)


@pytest.mark.parametrize(
    ("data", "query", "media_type", "status", "code", "message"),
    [
        (b"x", "", "text/plain", 415, "media_type", "Content-Type is text/plain; send image/jpeg"),
        (b"x", "", "", 415, "media_type", "Content-Type is missing"),
        (GIF, "", "image/jpeg", 415, "media_type", "neither JPEG nor PNG"),
        (b"", "", "image/jpeg", 422, "undecodable", "body is empty"),
        (b"\xff\xd8\xff\xd9", "", "image/jpeg", 422, "undecodable", "no frame header"),
        (png_header(64, 64), "", "image/png", 422, "undecodable", "33 bytes of format 'image/png' are no image"),
        (png_header(64, 0), "", "image/png", 422, "undecodable", "64x0"),
        (png_header(50000, 50000), "", "image/png", 413, "too_many_pixels", "50000x50000 = 2500000000 pixels"),
        (jpeg_header(65500, 65500), "", "image/jpeg", 413, "too_many_pixels", "16777216 are allowed"),
        (png_header(1, 10000), "", "image/png", 413, "too_many_pixels", "a side may have 8192"),
        (b"x" * (16 * 2**20 + 1), "", "image/jpeg", 413, "too_large", "larger than 16777216 bytes"),
        (GIF, "model=none", "image/jpeg", 404, "unknown_model", "no model 'none'; there are fpn_"),
        (GIF, "model=../models/fpn_resnet50", "image/jpeg", 404, "unknown_model", "there are fpn_"),
        (GIF, "format=bmp", "image/jpeg", 422, "bad_query", "format: Input should be 'png', 'jpeg' or 'json'"),
        (GIF, "fomat=json", "image/jpeg", 422, "bad_query", "fomat"),
        (GIF, "overlay=2", "image/jpeg", 422, "bad_query", "overlay"),
        (GIF, "overlay=1&format=json", "image/jpeg", 422, "bad_query", "an overlay is a picture"),
        (GIF, "overlay=1&confidence=1", "image/jpeg", 422, "bad_query", "one at a time"),
        (GIF, "format=jpeg", "image/jpeg", 422, "bad_query", "JPEG would change"),
        (GIF, "encoding=rle", "image/jpeg", 422, "bad_query", "add format=json"),
        (b"--", "", "multipart/form-data", 400, "bad_request", "boundary"),
        (b"--", "", "multipart/form-data; boundary=x", 422, "bad_form", "expected one file named image"),
    ],
)
def test_refusals(server, data, query, media_type, status, code, message):
    answer = server.post(data, query, media_type)
    assert (answer.status_code, problem(answer)) == (status, code)
    assert message in answer.json()["error"]["message"]


def test_refused_forms(server, jpeg):
    def refused(files, **data):
        answer = server.client.post("/v1/segment", files=files, data=data)
        assert (answer.status_code, problem(answer)) == (422, "bad_form")
        return answer.json()["error"]["message"]

    assert "the form has 2 of them; expected one file" in refused([("image", jpeg), ("image", jpeg)])
    assert "0 of them and 'picture'" in refused({"picture": jpeg})
    assert "settings go into the query" in refused({"image": jpeg}, format="json")


def test_routes_that_do_not_exist(server):
    assert problem(server.client.get("/v1/segments")) == "not_found"
    assert problem(server.client.get("/v1/segment")) == "method_not_allowed"
    assert problem(server.client.get("/static-offline-docs/%2e%2e/core.py")) == "not_found"


def test_body_without_a_length_is_limited(server):
    def endless():
        for _ in range(20):
            yield bytes(2**20)

    answer = server.client.post("/v1/segment", content=endless(), headers={"Content-Type": "image/jpeg"})
    assert (answer.status_code, problem(answer)) == (413, "too_large")


def test_large_body_is_refused_before_it_is_sent(server):
    """As curl asks for bodies of more than a megabyte."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = b""
        while received := connection.recv(4096):
            answer += received
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    assert b"larger than 16777216 bytes" in answer


class SlowEngine(Engine):
    """Takes its time, or fails."""

    name = "slow"

    def prepare(self, size, confidence=False):
        pass

    def infer(self, bgr, confidence=False):
        if bgr.shape[0] == 1:
            raise RuntimeError("/work/secret/path")
        time.sleep(0.3)
        return np.ones(bgr.shape[:2], np.uint8), None


def in_process(requests, engine=SlowEngine, **limits):
    """Answers of an app in this process with a slow engine: ``requests(client) -> answers``."""
    models = Models([], MODEL, engine)
    app = make_app(models, Limits(**limits))

    async def run():
        models.default.infer(np.zeros((2, 2, 3), np.uint8))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await requests(client)

    try:
        return asyncio.run(run())
    finally:
        models.close()


class BatchingEngine(Engine):
    """Masks with each image's own brightness, and notes what came together; refuses images that are one pixel high."""

    name = "batching"
    batches = True

    def __init__(self, bundle):
        super().__init__(bundle)
        self.calls = []
        self.busy, self.go_on = threading.Event(), threading.Event()

    def prepare(self, size, confidence=False):
        pass

    def infer(self, bgr, confidence=False):
        return self.infer_batch([bgr], confidence)[0]

    def infer_batch(self, frames, confidence=False):
        assert len({frame.shape for frame in frames}) == 1
        if self.calls:
            # The first call warms up.
            self.busy.set()
            assert self.go_on.wait(60)
        self.calls.append((len(frames), frames[0].shape[:2], confidence))
        if any(frame.max() == 255 for frame in frames):
            raise EngineError("white is refused")
        masks = [frame[..., 0] // 32 for frame in frames]
        return [(mask, np.full(mask.shape, 200, np.uint8) if confidence else None) for mask in masks]


def test_images_that_wait_go_through_the_engine_together():
    def png(value, size=(4, 6)):
        return cv2.imencode(".png", np.full((*size, 3), value, np.uint8))[1].tobytes()

    made = []
    models = Models([], MODEL, lambda bundle: made.append(BatchingEngine(bundle)) or made[0])
    app = make_app(models, Limits(queue=32))

    async def run():
        models.default.load()
        while not models.default.ready:
            await asyncio.sleep(0.01)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            def ask(data, query=""):
                answer = client.post(f"/v1/segment{query}", content=data, headers={"Content-Type": "image/png"})
                return asyncio.ensure_future(answer)

            first = ask(png(32))
            while not made[0].busy.is_set():
                await asyncio.sleep(0.01)
            values = [value for value in range(0, 224, 32)] * 2
            waiting = [ask(png(value)) for value in values]
            waiting += [ask(png(64, (5, 5))), ask(png(96), "?confidence=1"), ask(b"\x89PNG\r\n\x1a\n"), ask(png(255))]
            # One of them cannot be decoded, which its header says before it waits.
            while len(models.default._jobs) < len(waiting) - 1:
                await asyncio.sleep(0.01)
            made[0].go_on.set()
            answers = await asyncio.gather(first, *waiting)
            return values, answers, (await client.get("/metrics")).text

    try:
        values, (first, *answers), metrics = asyncio.run(run())
    finally:
        models.close()
    assert first.status_code == 200
    for value, answer in zip(values, answers, strict=False):
        assert np.array_equal(unpacked(answer.content), np.full((4, 6), value // 32)), "each has its own mask"
    other_size, confidence, broken, refused = answers[len(values) :]
    assert np.array_equal(unpacked(other_size.content), np.full((5, 5), 2))
    assert np.array_equal(unpacked(confidence.content), np.full((4, 6), 200))
    assert (broken.status_code, refused.status_code) == (422, 500)
    sizes = [count for count, _, _ in made[0].calls[1:]]
    assert max(sizes) == MAX_BATCH
    assert f'seg_node_batch_images_count{{model="{MODEL}"}} {float(len(values) + 3)}' in metrics


def test_an_engine_that_takes_one_at_a_time_is_given_one(jpeg):
    async def requests(client):
        answers = await asyncio.gather(*(post(client, jpeg) for _ in range(3)))
        return [answer.status_code for answer in answers], (await client.get("/metrics")).text

    statuses, metrics = in_process(requests)
    assert statuses == [200] * 3
    assert f'seg_node_batch_images_sum{{model="{MODEL}"}} 3.0' in metrics


def post(client, data, **options):
    return client.post("/v1/segment", content=data, headers={"Content-Type": "image/jpeg"}, **options)


def test_full_queue_and_timeout(jpeg):
    gate = threading.Semaphore(0)

    class GatedEngine(SlowEngine):
        """Lets as many of the images pass as the gate does."""

        def infer(self, bgr, confidence=False):
            if bgr.shape[:2] == SIZE:
                gate.acquire()
            return np.ones(bgr.shape[:2], np.uint8), None

    async def requests(client):
        sent = [asyncio.create_task(post(client, jpeg)) for _ in range(6)]
        try:
            while sum(request.done() for request in sent) < 2:
                await asyncio.sleep(0.01)
            gate.release(2)
            return await asyncio.gather(*sent)
        finally:
            gate.release(6)

    answers = in_process(requests, GatedEngine, queue=4, timeout=4.0)
    assert [answer.status_code for answer in answers] == [200, 200, 504, 504, 503, 503]
    assert {problem(answer) for answer in answers[2:]} == {"timeout", "queue_full"}
    assert all(answer.headers["retry-after"] == "1" for answer in answers[2:])


def test_places_are_given_back(jpeg):
    async def requests(client):
        return [(await post(client, data)).status_code for data in (b"", GIF, jpeg, b"", GIF, jpeg)]

    assert in_process(requests, queue=1) == [422, 415, 200, 422, 415, 200]


def test_slow_body(jpeg):
    async def slow():
        yield jpeg[:100]
        await asyncio.sleep(30)

    async def requests(client):
        return await post(client, slow())

    answer = in_process(requests, body_timeout=0.2)
    assert (answer.status_code, problem(answer)) == (408, "slow_body")


def test_failing_engine_says_nothing_of_the_server():
    data = cv2.imencode(".png", np.zeros((1, 9, 3), np.uint8))[1].tobytes()

    async def requests(client):
        return await post(client, data)

    answer = in_process(requests)
    assert (answer.status_code, problem(answer)) == (500, "internal")


# Batches


def test_batch(server, picture, jpeg, golden, engine):
    small = picture[:64]
    files = [
        ("image", ("a.jpg", jpeg, "image/jpeg")),
        ("image", ("../b.gif", GIF, "image/gif")),
        ("image", ("a.jpg", cv2.imencode(".png", small)[1].tobytes(), "image/png")),
    ]
    answer = server.client.post("/v1/segment/batch", files=files)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sorted(archive.namelist()) == ["000.png", "002.png", "index.json"]
        assert np.array_equal(unpacked(archive.read("000.png")), golden[0])
        assert np.array_equal(unpacked(archive.read("002.png")), engine.infer(small)[0])
        index = json.loads(archive.read("index.json"))
    assert [(entry["name"], entry["status"], entry["file"]) for entry in index] == [
        ("a.jpg", 200, "000.png"),
        ("../b.gif", 415, None),
        ("a.jpg", 200, "002.png"),
    ]
    assert index[1]["error"]["code"] == "media_type"

    listed = server.client.post("/v1/segment/batch?format=json&encoding=rle", files=files).json()
    assert [entry["status"] for entry in listed] == [200, 415, 200]
    sky = listed[0]["answer"]["categories"][-1]
    assert np.array_equal(decoded_runs(sky["rle"]), golden[0] == sky["id"])


def test_refused_batches(server):
    answer = server.client.post("/v1/segment/batch", files=[("image", GIF)] * 33)
    assert (answer.status_code, problem(answer)) == (422, "bad_form")
    assert "1 to 32 files" in answer.json()["error"]["message"]
    assert server.post(GIF, path="/v1/segment/batch").status_code == 415


# Videos


@pytest.fixture(scope="module")
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


def finished(server, video):
    deadline = time.monotonic() + 120
    while (progress := server.client.get(f"/v1/videos/{video}").json())["state"] not in ("done", "failed"):
        assert progress["frames_masked"] <= (progress["frames"] or 7)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return progress


def test_video(server, video, engine, tmp_path):
    data, frames = video
    accepted = server.post(data, media_type="video/mp4", path="/v1/videos")
    assert accepted.status_code == 202
    name = accepted.json()["id"]
    assert accepted.headers["location"] == f"/v1/videos/{name}"
    progress = finished(server, name)
    assert (progress["state"], progress["frames_masked"], progress["frames"]) == ("done", 7, 7)
    assert 3500 < progress["expires_in_seconds"] <= 3600
    described = server.client.get("/openapi.json").json()["paths"]["/v1/videos/{name}"]["get"]["responses"]["200"]
    known = {name for name, value in progress.items() if value is not None}
    assert described["content"]["application/json"]["example"].keys() == known

    masks = server.client.get(f"/v1/videos/{name}/masks")
    assert masks.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(masks.content)) as archive:
        assert archive.namelist() == [f"{number:06d}.png" for number in range(7)]
        for number, frame in enumerate(frames):
            assert np.array_equal(unpacked(archive.read(f"{number:06d}.png")), engine.infer(frame)[0])
    file = tmp_path / "overlay.mp4"
    file.write_bytes(server.client.get(f"/v1/videos/{name}/masks?format=mp4").content)
    capture = cv2.VideoCapture(str(file))
    assert (capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)) == (12.0, 7)
    shown = capture.read()[1].astype(float)
    assert np.abs(shown - (frames[0] / 2 + colorize(engine.infer(frames[0])[0]) / 2)).mean() < 8

    assert server.client.delete(f"/v1/videos/{name}").status_code == 204
    for path in (f"/v1/videos/{name}", f"/v1/videos/{name}/masks"):
        assert problem(server.client.get(path)) == "unknown_video"


def test_refused_videos(server, video, tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(video[0])
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n".encode()
    for data, media_type in ((playlist, "video/mp4"), (b"", "video/mp4"), (video[0], "image/jpeg")):
        answer = server.post(data, media_type=media_type, path="/v1/videos")
        assert (answer.status_code, problem(answer)) == (415, "media_type")
    broken = server.client.post("/v1/videos", files={"video": video[0][:40] + bytes(2000)}).json()["id"]
    progress = finished(server, broken)
    assert (progress["state"], progress["error"]["code"]) == ("failed", "undecodable")
    answer = server.client.get(f"/v1/videos/{broken}/masks")
    assert (answer.status_code, problem(answer)) == (422, "undecodable")
    assert server.client.delete(f"/v1/videos/{broken}").status_code == 204
    assert problem(server.client.get("/v1/videos/..%2f..%2fetc")) in ("unknown_video", "not_found")


def test_limits_of_videos(video):
    async def upload(client):
        return await client.post("/v1/videos", content=video[0], headers={"Content-Type": "video/mp4"})

    async def ended(client, name):
        while (progress := (await client.get(f"/v1/videos/{name}")).json())["state"] in ("waiting", "running"):
            await asyncio.sleep(0.05)
        return progress

    async def count(client):
        answers = [await upload(client) for _ in range(3)]
        names = [answer.json()["id"] for answer in answers[:2]]
        early = await client.get(f"/v1/videos/{names[1]}/masks")
        # The one that is worked on, and the one that waits.
        deleted = [(await client.delete(f"/v1/videos/{name}")).status_code for name in names]
        return [answer.status_code for answer in answers], problem(answers[2]), problem(early), deleted

    assert in_process(count, video_jobs=2) == ([202, 202, 503], "too_many_videos", "not_done", [204, 204])

    async def length(client):
        return await ended(client, (await upload(client)).json()["id"])

    progress = in_process(length, video_frames=6)
    assert (progress["state"], progress["error"]["code"]) == ("failed", "too_long")
    progress = in_process(length, max_pixels=1000)
    assert (progress["state"], progress["error"]["code"]) == ("failed", "too_many_pixels")
    progress = in_process(length, video_work=0.0)
    assert (progress["state"], progress["error"]["code"]) == ("failed", "too_long")

    async def expiry(client):
        address = (await upload(client)).headers["location"]
        deadline = time.monotonic() + 60
        while (answer := await client.get(address)).status_code == 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        return problem(answer)

    assert in_process(expiry, video_kept=0.0) == "unknown_video"


# Whatever comes


def test_concurrent_good_and_bad_requests(server, jpeg, golden):
    """200 at once: each gets its right answer or, while the queue is full, is asked to come again."""
    kinds = [
        (jpeg, "", 200),
        (jpeg, "", 200),
        (jpeg, "format=json&encoding=rle", 200),
        (jpeg[:20], "", 422),
        (GIF, "", 415),
        (jpeg_header(60000, 60000), "", 413),
        (jpeg, "model=none", 404),
        (b"", "", 422),
    ]

    def ask(data, query):
        # Each a client of its own, as they would be.
        with httpx.Client(base_url=server.url, timeout=120, verify=False) as client:
            return client.post(f"/v1/segment?{query}", content=data, headers={"Content-Type": "image/jpeg"})

    def request(number):
        data, query, expected = kinds[number % len(kinds)]
        refused = 0
        while (answer := ask(data, query)).status_code == 503:
            assert problem(answer) == "queue_full"
            assert answer.headers["retry-after"] == "1"
            refused += 1
            time.sleep(random.uniform(0.2, 1))
        assert answer.status_code == expected, answer.text
        if expected == 200 and not query:
            assert np.array_equal(unpacked(answer.content), golden[0])
        elif expected == 200:
            for category in answer.json()["categories"]:
                assert np.array_equal(decoded_runs(category["rle"]), golden[0] == category["id"])
        else:
            problem(answer)
        return refused

    with ThreadPoolExecutor(200) as pool:
        refused = sum(pool.map(request, range(200)))
    assert refused > 0, f"200 requests fitted into a queue of {QUEUE}"
    text = server.client.get("/metrics").text
    assert f'seg_node_rejected_total{{reason="queue_full"}} {float(refused)}' in text


def test_load_is_measured(tmp_path):
    """The script behind the figures in docs/serving.md, with a graph that costs nothing."""
    out = tmp_path / "load.json"
    command = [sys.executable, "benchmarks/serve_load.py", "--requests", "60", "--out", str(out)]
    command += ["--model", str(blue_bundle(tmp_path).path), "--engine", "onnxruntime", "--queue", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    load = json.loads(out.read_text())
    assert (load["model"], load["requests"], load["rounds"]) == ("blue", 60, 1)
    kinds = load["kinds"]
    assert (kinds["all"]["right"], kinds["all"]["wrong"]) == (60, 0)
    assert sum(kind["right"] for name, kind in kinds.items() if name != "all") == 60
    assert kinds["all"]["refused"] > 0 and 0 < kinds["all"]["p50_ms"] <= kinds["all"]["p99_ms"]
    assert len(load["memory_mib"]) == 11


def test_any_bytes_get_an_answer(server, picture, jpeg):
    """Random bytes, and images and forms with random changes, on every route."""
    chance = random.Random(7)
    png = cv2.imencode(".png", picture)[1].tobytes()
    form = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + jpeg + b"\r\n--b--\r\n"
    seeds = [(jpeg, "image/jpeg"), (png, "image/png"), (form, "multipart/form-data; boundary=b")]
    paths = ["/v1/segment", "/v1/segment", "/v1/segment/batch", "/v1/videos"]
    statuses = set()
    for number in range(300):
        data, media_type = chance.choice(seeds)
        path = chance.choice(paths)
        if number % 3 == 0:
            data = chance.randbytes(chance.randrange(2000))
        else:
            changed = bytearray(data[: chance.randrange(len(data))] if number % 3 == 1 else data)
            for _ in range(min(len(changed), chance.randrange(1, 20))):
                changed[chance.randrange(min(len(changed), 700))] = chance.randrange(256)
            data = bytes(changed)
        if path == "/v1/videos" and number % 2:
            data, media_type = b"\x00\x00\x00\x18ftypmp42" + data, "video/mp4"
        answer = server.post(data, chance.choice(["", "format=json", "confidence=1"]), media_type, path)
        assert answer.status_code in (200, 202, 400, 413, 415, 422, 503), answer.text
        statuses.add(answer.status_code)
        if answer.status_code == 202:
            finished(server, answer.json()["id"])
            server.client.delete(answer.headers["location"])
        elif answer.status_code != 200:
            problem(answer)
    assert {200, 415, 422} <= statuses
    assert server.client.get("/healthz").json() == {"status": "ok"}


def test_bytes_that_are_no_http(server):
    host, port = server.url.removeprefix("http://").split(":")
    chance = random.Random(3)
    for number in range(40):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            beginning = b"POST /v1/segment HTTP/1.1\r\nContent-Length: 50\r\n" if number % 2 else b""
            connection.sendall(beginning + chance.randbytes(300) + b"\r\n\r\n")
    # One that breaks off in the middle of its body.
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 50\r\n\r\nabc"
        )
    assert server.client.get("/healthz").status_code == 200


# The server itself


def test_metrics(server, jpeg):
    def value(name):
        text = server.client.get("/metrics").text
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)

    good = 'seg_node_requests_total{method="POST",route="/v1/segment",status="200"}'
    lost = 'seg_node_requests_total{method="GET",route="none",status="404"}'
    stage = f'seg_node_stage_seconds_count{{model="{MODEL}",stage="inference"}}'
    before = [value(name) for name in (good, lost, stage)]
    server.post(jpeg)
    server.client.get("/some/other/address")
    assert [value(name) for name in (good, lost, stage)] == [count + 1 for count in before]
    # Besides the one that reads it, only one that was broken off a moment ago.
    deadline = time.monotonic() + 60
    while value("seg_node_in_flight") != 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert value("process_resident_memory_bytes") > 1e7


def test_log_holds_no_bodies_and_no_queries(server, jpeg):
    answer = server.post(b"SECRET-BODY", "model=SECRET-QUERY")
    text = server.log.read_text()
    assert re.search(rf"{answer.headers['x-request-id']} POST /v1/segment 404 \d+ ms unknown_model", text)
    assert "SECRET" not in text


def test_openapi_and_docs(server):
    schema = server.client.get("/openapi.json").json()
    operation = schema["paths"]["/v1/segment"]["post"]
    assert operation["requestBody"]["content"].keys() == {"multipart/form-data", "image/jpeg", "image/png"}
    assert {"model", "format", "encoding", "overlay", "confidence"} == {p["name"] for p in operation["parameters"]}
    for status in ("404", "408", "413", "415", "422", "503", "504"):
        assert operation["responses"][status]["content"]["application/json"]["example"]["error"]["code"]
    assert schema["components"]["schemas"]["SegmentAnswer"]["example"]["model"] == MODEL
    video = schema["paths"]["/v1/videos"]["post"]["responses"]["202"]["content"]["application/json"]["example"]
    assert video["state"] == "waiting"
    batch = schema["paths"]["/v1/segment/batch"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    assert [entry["status"] for entry in batch] == [200, 415]
    page = server.client.get("/docs").text
    scripts = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert scripts and all(address.startswith("/") for address in scripts), "the page needs no other server"
    assert all(server.client.get(address).status_code == 200 for address in scripts)


def test_docs_page_in_a_browser(server, jpeg, tmp_path):
    """A visitor uploads an image on the page of the documentation, and sees its overlay."""
    from make_pictures import overlay_in_the_docs

    (tmp_path / "road.jpg").write_bytes(jpeg)
    with Browser(f"{server.url}/docs", 1100, 900) as browser:
        overlay_in_the_docs(browser, tmp_path / "road.jpg")
        image = "document.querySelector('.live-responses-table img')"
        # The page draws an answer more than once, each time with a new element that loads the picture again.
        browser.wait_for(f"{image}?.naturalHeight === {SIZE[0]} && {image}?.naturalWidth === {SIZE[1]}")
        answer = browser.evaluate("document.querySelector('.live-responses-table').innerText")
    assert f"x-model: {MODEL}" in answer and "content-type: image/" in answer


def serve(*arguments):
    command = [sys.executable, "-m", "seg_node", "serve", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_wrong_settings_are_refused(server, tmp_path):
    port = server.url.rpartition(":")[2]
    taken = serve("--port", port)
    assert taken.returncode == 2
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use; choose" in taken.stderr
    unknown = serve("--port", "0", "--model", str(tmp_path))
    assert unknown.returncode == 2
    assert "no bundle" in unknown.stderr
    twice = serve("--port", "0", "--model", MODEL, "--model", MODEL)
    assert twice.returncode == 2
    assert "two bundles are named fpn_resnet50" in twice.stderr
    for arguments in (["--queue", "0"], ["--port", "70000"], ["--max-pixels", "x"]):
        assert serve(*arguments).returncode == 2


def test_work_ends_before_the_server_does(tmp_path, jpeg):
    own = Server(tmp_path / "own.log").wait_until_ready()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(own.post, jpeg)
        while "seg_node_in_flight 2.0" not in httpx.get(f"{own.url}/metrics").text and not answer.done():
            time.sleep(0.005)
        own.process.send_signal(signal.SIGTERM)
        assert answer.result().status_code == 200
    assert own.stop() == 0


# Shapes and headers


def decoded_runs(rle):
    """Region of COCO's uncompressed RLE."""
    values = np.repeat(np.arange(len(rle["counts"])) % 2 == 1, rle["counts"])
    return values.reshape(rle["size"], order="F")


def filled(outlines, size):
    """Region by the even-odd rule: every pixel to the right of a vertical edge is toggled."""
    region = np.zeros(size, bool)
    for outline in outlines:
        for (x, y), (next_x, next_y) in zip(outline, [*outline[1:], outline[0]], strict=True):
            assert (x == next_x) != (y == next_y), "edges run along pixel borders, none is empty"
            if x == next_x:
                region[min(y, next_y) : max(y, next_y), x:] ^= True
    return region


def test_shapes_by_hand():
    ring = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0]], bool)
    # Columns: 111, 101, 111, 000.
    assert run_lengths(ring) == {"size": [3, 4], "counts": [0, 4, 1, 4, 3]}
    outlines = sorted(sorted(map(tuple, outline)) for outline in polygons(ring))
    assert outlines == [[(0, 0), (0, 3), (3, 0), (3, 3)], [(1, 1), (1, 2), (2, 1), (2, 2)]]
    diagonal = np.array([[0, 1], [1, 0]], bool)
    assert run_lengths(diagonal) == {"size": [2, 2], "counts": [1, 2, 1]}
    assert np.array_equal(filled(polygons(diagonal), (2, 2)), diagonal)
    assert polygons(np.zeros((2, 3), bool)) == []
    assert run_lengths(np.zeros((2, 3), bool)) == {"size": [2, 3], "counts": [6]}


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (7, 8), (40, 61)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_shapes_are_exact(size, share):
    for seed in range(5):
        region = np.random.default_rng(seed).random(size) < share
        assert np.array_equal(decoded_runs(run_lengths(region)), region)
        assert np.array_equal(filled(polygons(region), size), region)


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]])
def test_headers_of_jpeg(options):
    data = cv2.imencode(".jpg", np.zeros((34, 56, 3), np.uint8), options)[1].tobytes()
    header = read_header(data)
    assert (header.media_type, header.height, header.width) == ("image/jpeg", 34, 56)
    # The frame header within a comment is none.
    fake = jpeg_header(9, 9)[12:]
    comment = b"\xff\xfe" + (len(fake) + 2).to_bytes(2, "big") + fake
    assert read_header(data[:2] + comment + data[2:]) == header


def test_headers_of_png_and_others():
    header = read_header(cv2.imencode(".png", np.zeros((34, 56), np.uint8))[1].tobytes())
    assert (header.media_type, header.height, header.width) == ("image/png", 34, 56)
    assert read_header(GIF) is None
    for data in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8" + b"\xff\xfe\x00\x02" * 2000, b"\xff\xd8\xff\xc0\x00"):
        with pytest.raises(UndecodableError):
            read_header(data)


def test_core_images_need_no_ros():
    program = "import sys, seg_node.core.images; sys.exit('sensor_msgs' in sys.modules)"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment).returncode == 0
