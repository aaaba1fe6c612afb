"""The HTTP API: masks, JSON, overlays and batches equal those of the engine and the node."""

import io
import json
import re
import shutil
import signal
import subprocess
import zipfile

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")
httpx = pytest.importorskip("httpx", reason="httpx is missing: pip install -e '.[test]'")

from helpers.blue_bundle import blue_bundle, blue_mask  # noqa: E402
from helpers.paths import ROOT  # noqa: E402
from helpers.serving import (  # noqa: E402
    ENGINE,
    GIF,
    MODEL,
    SIZE,
    Server,
    decoded_runs,
    filled,
    problem,
    unpacked,
)

from seg_node.core.bundle import load_bundle, shipped_bundles  # noqa: E402
from seg_node.core.engines import create_engine  # noqa: E402
from seg_node.core.taxonomy import CATEGORY_NAMES, colorize  # noqa: E402


def decoded(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


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


def test_png_is_decoded_like_the_node_does(server, engine, picture):
    png = cv2.imencode(".png", picture)[1].tobytes()
    assert np.array_equal(unpacked(server.post(png, media_type="image/png").content), engine.infer(picture)[0])


def with_orientation(jpeg: bytes, turn: int) -> bytes:
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00" + bytes([turn]) + bytes(6)
    exif = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_mask_and_overlay_stand_upright_as_the_photo_does(server, engine, jpeg, turn):
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    shown = np.ascontiguousarray(np.rot90(bgr, {1: 0, 3: 2, 6: -1, 8: 1}[turn]))
    photo = with_orientation(jpeg, turn)
    assert np.array_equal(unpacked(server.post(photo).content), engine.infer(shown)[0])
    overlay = unpacked(server.post(photo, "overlay=1&format=png").content)
    assert overlay.shape == shown.shape


@pytest.mark.parametrize(
    "media_type", ["", "image/jpg", "image/png", "application/octet-stream", "application/x-www-form-urlencoded", "x"]
)
def test_an_image_is_what_its_content_says(server, jpeg, golden, media_type):
    assert np.array_equal(unpacked(server.post(jpeg, media_type=media_type).content), golden[0])


def test_jpegs_of_cameras_and_phones(server, jpeg, golden):
    motion = jpeg + b"MotionPhoto_Data\0\0\0\x18ftypmp42" + b"\0\xff\xda\0" * 40 + bytes(500)
    for data in (jpeg[:-2], motion, jpeg + b"\0\xff\xda\0" * 39 + b"\xff\xd9"):
        assert np.array_equal(unpacked(server.post(data).content), golden[0])
    cut = server.post(jpeg[: len(jpeg) * 2 // 3])
    assert cut.status_code == 422
    assert "the JPEG is cut off or damaged: Corrupt JPEG data: premature end" in cut.json()["error"]["message"]


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
        assert category["pixels"] == region.sum()
        assert category["share"] == round(region.sum() / mask.size, 4)
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
    bgr = decoded(jpeg)
    expected = (bgr.astype(float) + colorize(golden[0])) / 2
    exact = server.post(jpeg, "overlay=1&format=png")
    assert np.abs(unpacked(exact.content) - expected).max() <= 0.5
    lossy = server.post(jpeg, "overlay=1")
    assert lossy.headers["content-type"] == "image/jpeg"
    assert np.abs(unpacked(lossy.content) - expected).mean() < 6
    confidence = server.post(jpeg, "confidence=1")
    assert np.array_equal(unpacked(confidence.content), golden[1])


def test_model_by_name(server, jpeg):
    expected = create_engine(load_bundle("fpn_convnextv2"), ENGINE).infer(decoded(jpeg))[0]
    answer = server.post(jpeg, "model=fpn_convnextv2")
    assert answer.headers["x-model"] == "fpn_convnextv2"
    assert np.array_equal(unpacked(answer.content), expected)
    answer = server.post(jpeg, "model=blue")
    assert answer.headers["x-model"] == "blue"
    assert np.array_equal(unpacked(answer.content), blue_mask(decoded(jpeg)))


def test_model_by_path_is_the_default(jpeg, tmp_path):
    own = Server(tmp_path / "own.log", "--model", str(blue_bundle(tmp_path).path)).wait_until_ready()
    try:
        listed = {model["name"]: model for model in own.client.get("/v1/models").json()["models"]}
        assert listed.keys() == {"blue", *shipped_bundles()}
        assert (listed["blue"]["default"], listed["blue"]["loaded"]) == (True, True)
        answer = own.post(jpeg)
        assert answer.headers["x-model"] == "blue"
        assert np.array_equal(unpacked(answer.content), blue_mask(decoded(jpeg)))
    finally:
        assert own.stop(signal.SIGINT) == 0


def test_models(server):
    answer = server.client.get("/v1/models")
    model = next(m for m in answer.json()["models"] if m["name"] == MODEL)
    manifest = load_bundle(MODEL).manifest
    assert model["metrics"] == manifest.metrics
    for field in ("licence", "training_data_terms", "commercial_use"):
        assert model[field] == getattr(manifest, field), "each by itself: the file's licence lifts no terms of the data"
    assert [c["name"] for c in model["categories"]] == list(CATEGORY_NAMES)
    assert str(ROOT) not in answer.text


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
