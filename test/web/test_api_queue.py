"""The HTTP API: what waits, for how long, and what goes through an engine together."""

import asyncio
import json
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")
httpx = pytest.importorskip("httpx", reason="httpx is missing: pip install -e '.[test]'")

from helpers.blue_bundle import blue_bundle  # noqa: E402
from helpers.paths import ROOT  # noqa: E402
from helpers.serving import (  # noqa: E402
    GIF,
    MODEL,
    SIZE,
    QuickEngine,
    default_bundle,
    in_process,
    post,
    problem,
    unpacked,
)

from seg_node.core.engines.base import Engine, EngineError  # noqa: E402
from seg_node.web.api.app import make_app  # noqa: E402
from seg_node.web.api.limits import Limits  # noqa: E402
from seg_node.web.api.models import MAX_BATCH, Models  # noqa: E402


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
    models = Models([default_bundle()], lambda bundle: made.append(BatchingEngine(bundle)) or made[0])
    app = make_app(models, Limits(queue=32))

    async def run():
        models.default.load()
        while not models.default.ready:
            await asyncio.sleep(0.01)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

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
            while models.default.waiting < len(waiting) - 1:
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


def test_full_queue_and_timeout(jpeg):
    gate = threading.Semaphore(0)

    class GatedEngine(QuickEngine):
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

    answers = in_process(requests, GatedEngine, queue=4, timeout=2.0)
    assert [answer.status_code for answer in answers] == [200, 200, 504, 504, 503, 503]
    assert {problem(answer) for answer in answers[2:]} == {"timeout", "queue_full"}
    assert all(answer.headers["retry-after"] == "1" for answer in answers[2:])


def test_places_are_given_back(jpeg):
    async def requests(client):
        return [(await post(client, data)).status_code for data in (b"", GIF, jpeg, b"", GIF, jpeg)]

    assert in_process(requests, queue=1) == [422, 415, 200, 422, 415, 200]


def test_load_is_measured(tmp_path):
    """The script behind the figures in docs/serving.md, with a graph that costs nothing."""
    out = tmp_path / "load.json"
    command = [sys.executable, "benchmarks/serve_load.py", "--requests", "30", "--out", str(out)]
    command += ["--model", str(blue_bundle(tmp_path).path), "--engine", "onnxruntime", "--queue", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    load = json.loads(out.read_text())
    assert (load["model"], load["requests"], load["rounds"]) == ("blue", 30, 1)
    kinds = load["kinds"]
    assert (kinds["all"]["right"], kinds["all"]["wrong"]) == (30, 0)
    assert sum(kind["right"] for name, kind in kinds.items() if name != "all") == 30
    assert kinds["all"]["refused"] > 0 and 0 < kinds["all"]["p50_ms"] <= kinds["all"]["p99_ms"]
    assert len(load["memory_mib"]) == 11
