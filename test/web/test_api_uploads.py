"""The HTTP API: bodies that come slowly, are many or large cost only those who send them."""

import asyncio
import json
import socket
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")
httpx = pytest.importorskip("httpx", reason="httpx is missing: pip install -e '.[test]'")

from helpers.blue_bundle import blue_bundle  # noqa: E402
from helpers.paths import ROOT  # noqa: E402
from helpers.serving import GIF, QUEUE, QuickEngine, in_process, post, problem, unpacked  # noqa: E402

from seg_node.web.api.errors import ApiError  # noqa: E402
from seg_node.web.api.places import Uploads  # noqa: E402


def test_slow_clients_take_no_places(server, jpeg, golden):
    """More of them than the queue has places; each has sent its headers and a few bytes."""
    host, port = server.url.removeprefix("http://").split(":")
    head = b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 9999\r\n\r\n"
    slow = [socket.create_connection((host, int(port)), timeout=60) for _ in range(QUEUE + 4)]
    try:
        for connection in slow:
            connection.sendall(head + jpeg[:100])
        deadline = time.monotonic() + 60
        while f"seg_node_in_flight {len(slow) + 1}.0" not in server.client.get("/metrics").text:
            assert time.monotonic() < deadline
        answer = server.post(jpeg)
        assert (answer.status_code, np.array_equal(unpacked(answer.content), golden[0])) == (200, True)
    finally:
        for connection in slow:
            connection.close()


def test_slow_clients_are_measured(tmp_path):
    """The script behind the figures in docs/serving.md, with a graph that costs nothing."""
    out = tmp_path / "slow.json"
    command = [sys.executable, "benchmarks/serve_slow.py", "--requests", "10", "--phases", "1", "--out", str(out)]
    command += ["--model", str(blue_bundle(tmp_path).path), "--engine", "onnxruntime", "--width", "64"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    assert (figures["slow_clients"], figures["alone"]["right"], figures["beside"]["right"]) == (16, 10, 10)
    assert 0 < figures["alone"]["p50_ms"] <= figures["alone"]["p99_ms"] and figures["ratio_p99"] > 0


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"body_timeout": 0.2}, "did not arrive within 0.2 s"),
        ({"rate_grace": 0.1, "min_rate": 1000}, "comes too slowly, 100 bytes in 0 s; 1000 bytes/s are asked for"),
    ],
)
def test_slow_bodies_are_given_up(jpeg, limits, message):
    async def slow():
        yield jpeg[:100]
        await asyncio.sleep(30)

    async def requests(client):
        return await post(client, slow())

    answer = in_process(requests, **limits)
    assert (answer.status_code, problem(answer)) == (408, "slow_body")
    assert message in answer.json()["error"]["message"]


def test_a_body_that_comes_steadily_is_waited_for(jpeg):
    async def steady():
        for at in range(0, len(jpeg), 400):
            yield jpeg[at : at + 400]
            await asyncio.sleep(0.02)

    async def requests(client):
        return await post(client, steady())

    assert in_process(requests, rate_grace=0.5, min_rate=2000).status_code == 200


def test_bytes_of_all_bodies_together_are_bounded(jpeg):
    async def begun(go_on):
        yield jpeg[:-10]
        await go_on.wait()
        yield jpeg[-10:]

    async def requests(client):
        go_on = asyncio.Event()
        first = asyncio.create_task(post(client, begun(go_on)))
        await asyncio.sleep(0.1)
        refused = await post(client, jpeg)
        go_on.set()
        return await first, refused, await post(client, jpeg)

    first, refused, later = in_process(requests, held_bytes=len(jpeg) * 3 // 2)
    assert (first.status_code, later.status_code) == (200, 200)
    assert (refused.status_code, problem(refused), refused.headers["retry-after"]) == (503, "uploads_full", "1")

    async def many(client):
        go_on = asyncio.Event()
        first = asyncio.create_task(post(client, begun(go_on)))
        await asyncio.sleep(0.1)
        refused = await post(client, jpeg)
        go_on.set()
        return (await first).status_code, problem(refused)

    assert in_process(many, uploads=1) == (200, "uploads_full")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=30), st.integers(1, 4), st.integers(1, 100))
def test_what_is_held_is_given_back(steps, count, capacity):
    """Whatever comes and goes, sums are those of the bodies that are here, and never above the bounds."""
    uploads, here = Uploads(count, capacity), {}
    for who, size in steps:
        if who in here and size % 3 == 0:
            here.pop(who)[0].__exit__(None, None, None)
        elif who in here:
            try:
                here[who][1].add(size)
            except ApiError as error:
                assert error.status == 503 and sum(held.size for _, held in here.values()) + size > capacity
        else:
            admitted = uploads.admit()
            try:
                here[who] = (admitted, admitted.__enter__())
            except ApiError as error:
                assert error.status == 503 and len(here) == count
        assert uploads._bodies == len(here) <= count
        assert uploads._bytes == sum(held.size for _, held in here.values()) <= capacity
    for admitted, _ in here.values():
        admitted.__exit__(None, None, None)
    assert (uploads._bodies, uploads._bytes) == (0, 0)


class DeliberateEngine(QuickEngine):
    seconds = 0.2


def batch(client, data, count):
    return client.post("/v1/segment/batch?format=json", files=[("image", data)] * count)


def test_a_batch_has_one_deadline(jpeg):
    async def requests(client):
        return await batch(client, jpeg, 8)

    answer = in_process(requests, DeliberateEngine, batch_timeout=0.7)
    statuses = [entry["status"] for entry in answer.json()]
    assert (answer.status_code, len(statuses)) == (200, 8)
    # The images that were masked are answered, those that were not reached say so.
    assert statuses[0] == 200 and statuses[-4:] == [504] * 4
    assert {entry["error"]["code"] for entry in answer.json() if entry["status"] == 504} == {"timeout"}


def test_answers_of_a_batch_are_held_too(jpeg):
    body = len(httpx.Request("POST", "http://localhost", files=[("image", jpeg)] * 8).read())

    async def requests(client):
        return await batch(client, jpeg, 8)

    # An answer has some 120 bytes.
    answer = in_process(requests, held_bytes=body + 400)
    statuses = [entry["status"] for entry in answer.json()]
    assert answer.status_code == 200 and statuses[0] == 200 and statuses[-1] == 503
    assert answer.json()[-1]["error"]["code"] == "uploads_full"


def test_json_of_a_batch_is_json():
    names = ['"', "\\", "é\n", ""]

    async def requests(client):
        data = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
        files = [("image", (name or "x", content)) for name in names for content in (data, GIF)]
        return await client.post("/v1/segment/batch?format=json&encoding=polygons", files=files)

    entries = in_process(requests).json()
    assert [entry["status"] for entry in entries] == [200, 415] * len(names)
    assert all(entry["answer"]["categories"][0]["polygons"] for entry in entries[::2])


def test_videos_are_written_beside_the_event_loop(video, monkeypatch):
    """A disk that takes its time holds nobody up."""
    from seg_node.web.api import uploads

    class SlowFile:
        def __init__(self, file):
            self._file = file

        def write(self, data):
            time.sleep(0.5)
            return self._file.write(data)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

    original = uploads.Path.open
    monkeypatch.setattr(
        uploads.Path,
        "open",
        lambda path, *mode: SlowFile(original(path, *mode)) if mode == ("wb",) else original(path, *mode),
    )

    async def requests(client):
        uploading = asyncio.create_task(
            client.post("/v1/videos", content=video[0], headers={"Content-Type": "video/mp4"})
        )
        healthy, longest = 0, 0.0
        while not uploading.done():
            started = time.monotonic()
            healthy += (await client.get("/healthz")).status_code == 200
            longest = max(longest, time.monotonic() - started)
            await asyncio.sleep(0.01)
        return uploading.result().status_code, healthy

    status, healthy = in_process(requests)
    # In the loop, the write would leave room for one answer before it and one after it.
    assert status == 202 and healthy > 3


def test_the_oldest_finished_video_makes_room(video):
    async def upload(client):
        return await client.post("/v1/videos", content=video[0], headers={"Content-Type": "video/mp4"})

    async def ended(client, answer):
        deadline = time.monotonic() + 60
        while (await client.get(answer.headers["location"])).json()["state"] not in ("done", "failed"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    async def requests(client):
        answers = []
        for _ in range(3):
            answers.append(await upload(client))
            if answers[-1].status_code == 202:
                await ended(client, answers[-1])
        return answers, [(await client.get(a.headers["location"])).status_code for a in answers if a.status_code == 202]

    answers, states = in_process(requests, video_jobs=2, video_least=0.0)
    assert [answer.status_code for answer in answers] == [202] * 3
    assert states == [404, 200, 200], "the oldest has gone"
    answers, states = in_process(requests, video_jobs=2, video_least=50.0)
    assert [answer.status_code for answer in answers] == [202, 202, 503]
    assert problem(answers[2]) == "too_many_videos"
    assert 30 < int(answers[2].headers["retry-after"]) <= 50, "the time at which the oldest makes room"
    assert states == [200, 200]


def test_refused_videos_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def requests(client):
        for data in (b"no video", b"\x00\x00\x00\x18ftypmp42" + bytes(5000)):
            answer = await client.post("/v1/videos", content=data, headers={"Content-Type": "video/mp4"})
        left = [folder for root in tmp_path.iterdir() for folder in root.iterdir()]
        deadline = time.monotonic() + 60
        while left and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            left = [folder for root in tmp_path.iterdir() for folder in root.iterdir()]
        return answer.status_code, left

    assert in_process(requests, video_bytes=1000) == (413, [])
