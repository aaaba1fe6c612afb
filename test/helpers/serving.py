"""A server of the HTTP API for tests: as a process, or its application in this one."""

import asyncio
import functools
import re
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import httpx
import numpy as np

from helpers.paths import ROOT
from seg_node.core.bundle import load_bundle
from seg_node.core.engines.base import Engine
from seg_node.web.api.app import make_app
from seg_node.web.api.limits import Limits
from seg_node.web.api.models import Models

ENGINE = "onnxruntime"
MODEL = "fpn_resnet50"
SIZE = (96, 128)
QUEUE = 12
GIF = b"GIF89a" + bytes(50)


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


class QuickEngine(Engine):
    """Category 1 everywhere, at once; fails on images that are one pixel high."""

    name = "quick"
    seconds = 0.0

    def prepare(self, size, confidence=False):
        pass

    def infer(self, bgr, confidence=False):
        if bgr.shape[0] == 1:
            raise RuntimeError("/work/secret/path")
        time.sleep(self.seconds)
        return np.ones(bgr.shape[:2], np.uint8), None


class SlowEngine(QuickEngine):
    """The same, in its own time."""

    seconds = 0.3


@functools.cache
def default_bundle():
    """The default model's bundle, read once."""
    return load_bundle(MODEL)


def in_process(requests, engine=QuickEngine, *, bundle=None, app_options=None, **limits):
    """Answers of an app in this process: ``requests(client) -> answers``.

    The engine is created for the bundle, by default the default model's; no other is served.
    ``app_options`` are those of ``make_app``.
    """
    models = Models([bundle or default_bundle()], engine)
    app = make_app(models, Limits(**limits), **(app_options or {}))

    async def run():
        models.default.infer(np.zeros((2, 2, 3), np.uint8))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await requests(client)

    try:
        return asyncio.run(run())
    finally:
        models.close()


def post(client, data, **options):
    return client.post("/v1/segment", content=data, headers={"Content-Type": "image/jpeg"}, **options)


def unpacked(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def problem(answer):
    """Code of an error, whose form and discretion are checked."""
    error = answer.json()["error"]
    assert error.keys() == {"code", "message", "request_id"}
    assert error["request_id"] == answer.headers["x-request-id"]
    assert not re.search(r"/work|/tmp|/home|/opt|\.py\b|\.onnx|Traceback", answer.text), answer.text
    return error["code"]


def finished(server, video):
    deadline = time.monotonic() + 120
    while (progress := server.client.get(f"/v1/videos/{video}?wait=10").json())["state"] not in ("done", "failed"):
        assert progress["frames_masked"] <= (progress["frames"] or 7)
        assert time.monotonic() < deadline
    return progress


def png_header(width, height):
    """A PNG that says how large it is, and nothing more."""
    content = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\x0d" + content + zlib.crc32(content).to_bytes(4, "big")


def jpeg_header(width, height):
    frame = b"\x00\x0b\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\x01\x01\x11\x00"
    return b"\xff\xd8\xff\xfe\x00\x06\xff\xc0\x00\x00\xff\xff\xc2" + frame


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
