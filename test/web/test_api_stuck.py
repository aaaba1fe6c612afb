"""The HTTP API with an engine that hangs: it says so, keeps nothing of what it cannot answer, and can be ended."""

import asyncio
import gc
import threading
import time
import weakref

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")
httpx = pytest.importorskip("httpx", reason="httpx is missing: pip install -e '.[test]'")

from helpers.serving import QuickEngine, default_bundle, in_process, post, problem  # noqa: E402

from seg_node.core.engines.base import EngineError  # noqa: E402
from seg_node.web.api import worker  # noqa: E402
from seg_node.web.api.app import make_app  # noqa: E402
from seg_node.web.api.errors import ApiError  # noqa: E402
from seg_node.web.api.limits import Deadline, Limits  # noqa: E402
from seg_node.web.api.models import Model, Models  # noqa: E402
from seg_node.web.api.uploads import Upload  # noqa: E402

REQUESTS, AT_ONCE = 10_000, 500


@pytest.fixture
def hanging():
    """Class of engines that are warm and then hang until the test ends, or lets them go on by ``go_on``."""

    class HangingEngine(QuickEngine):
        go_on = threading.Event()

        def infer(self, bgr, confidence=False):
            # Larger images are those that warm up.
            if bgr.shape[0] == 4:
                self.go_on.wait()
            return np.ones(bgr.shape[:2], np.uint8), None

    yield HangingEngine
    HangingEngine.go_on.set()


def image():
    return cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1].tobytes()


class Weighty(Upload):
    """An image that can be watched, and is like no other."""

    __eq__, __hash__ = object.__eq__, object.__hash__


def test_nothing_is_kept_of_requests_that_timed_out(hanging):
    model = Model(default_bundle(), hanging)
    model.infer(np.zeros((2, 2, 3), np.uint8))
    kept = weakref.WeakSet()

    async def ask(data):
        upload = Weighty("png", data)
        kept.add(upload)
        with pytest.raises(ApiError) as refused:
            await model.segment(upload, False, lambda segmented: None, Deadline(0.001))
        assert refused.value.code == "timeout"

    async def all_requests():
        for _ in range(REQUESTS // AT_ONCE):
            await asyncio.gather(*(ask(image()) for _ in range(AT_ONCE)))
            counts.append(len(model._worker._turns))

    counts = []
    try:
        asyncio.run(all_requests())
        gc.collect()
        # The one in the engine is held by it.
        assert (len(kept), set(counts), model.waiting) == (1, {0}, 0)
    finally:
        hanging.go_on.set()
        model.close()
    gc.collect()
    assert len(kept) == 0


def test_the_server_says_that_it_hangs(hanging):
    async def ask(client):
        async def states():
            answers = [await client.get(path) for path in ("/readyz", "/healthz")]
            return [(a.status_code, problem(a) if a.status_code >= 500 else "") for a in answers]

        before = await states()
        timed_out = await client.post("/v1/segment", content=image(), headers={"Content-Type": "image/png"})
        stalled = await states()
        metrics = (await client.get("/metrics")).text
        deadline = time.monotonic() + 60
        while (stuck := await states())[1][0] == 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        why = (await client.get("/healthz")).json()["error"]["message"]
        hanging.go_on.set()
        while (after := await states()) != before:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        return before, timed_out, stalled, stuck, after, metrics, why

    before, timed_out, stalled, stuck, after, metrics, why = in_process(
        ask, hanging, timeout=0.5, stalled=0.2, stuck=1.5
    )
    assert before == after == [(200, ""), (200, "")]
    assert (timed_out.status_code, problem(timed_out)) == (504, "timeout")
    assert stalled == [(503, "stuck"), (200, "")], "not ready within the timeout of a request"
    assert stuck == [(503, "stuck"), (500, "stuck")]
    assert "has been working on one image for" in why and "start the server anew" in why
    busy = next(line for line in metrics.splitlines() if line.startswith("seg_node_worker_busy_seconds{"))
    assert float(busy.split()[-1]) >= 0.2
    assert f'seg_node_queue_length{{model="{default_bundle().name}"}} 0.0' in metrics


def test_many_steps_are_not_one_that_hangs():
    """A queue that is worked off makes the server busy, not stuck."""

    class SteadyEngine(QuickEngine):
        seconds = 0.1

    async def ask(client):
        data = cv2.imencode(".jpg", np.zeros((8, 8, 3)))[1].tobytes()
        requests = [asyncio.create_task(post(client, data)) for _ in range(16)]
        states = set()
        while not all(request.done() for request in requests):
            states.add((await client.get("/readyz")).status_code)
            await asyncio.sleep(0.01)
        return states, {request.result().status_code for request in requests}

    # All together take longer than the limit.
    assert in_process(ask, SteadyEngine, stalled=1.0) == ({200}, {200})


def test_a_model_that_cannot_be_loaded_is_tried_again():
    attempts = []

    def create(bundle):
        attempts.append(bundle.name)
        if len(attempts) == 1:
            raise EngineError("the device is in use")
        return QuickEngine(bundle)

    models = Models([default_bundle()], create)
    app = make_app(models, Limits())

    async def run():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            models.default.load()
            while not models.default.load_failed:
                await asyncio.sleep(0.01)
            failed = await client.get("/readyz")
            models.default.load()
            while not models.default.ready:
                await asyncio.sleep(0.01)
            return failed, await client.get("/readyz")

    try:
        failed, ready = asyncio.run(run())
    finally:
        models.close()
    assert (failed.status_code, problem(failed)) == (503, "not_ready")
    assert "could not be loaded" in failed.json()["error"]["message"]
    assert (ready.status_code, len(attempts)) == (200, 2)


def test_a_video_does_not_wait_for_an_engine_that_hangs(hanging, video):
    class HangsOnVideos(hanging):
        def infer(self, bgr, confidence=False):
            return super().infer(bgr[:4], confidence) if bgr.shape[0] == 96 else super().infer(bgr, confidence)

    async def ask(client):
        sent = await client.post("/v1/videos", content=video[0], headers={"Content-Type": "video/mp4"})
        deadline = time.monotonic() + 60
        while (progress := (await client.get(sent.headers["location"])).json())["state"] != "failed":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        hanging.go_on.set()
        return progress

    progress = in_process(ask, HangsOnVideos, video_work=1.0)
    assert progress["error"]["code"] == "too_long"


def test_a_server_with_an_engine_that_hangs_ends(hanging, monkeypatch):
    monkeypatch.setattr(worker, "_CLOSE_SECONDS", 0.1)
    model = Model(default_bundle(), hanging)

    async def ask():
        with pytest.raises(ApiError):
            await model.segment(Upload("png", image()), False, lambda segmented: None, Deadline(0.1))

    asyncio.run(ask())
    model.close()
    assert model.busy_seconds > 0, "it was left behind"
