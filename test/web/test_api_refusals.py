"""The HTTP API: what it refuses, and what nobody foresaw, gets an answer that says why."""

import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")
httpx = pytest.importorskip("httpx", reason="httpx is missing: pip install -e '.[test]'")

from helpers.serving import (  # noqa: E402
    GIF,
    QUEUE,
    decoded_runs,
    finished,
    in_process,
    jpeg_header,
    png_header,
    post,
    problem,
    unpacked,
)


@pytest.mark.parametrize(
    ("data", "query", "media_type", "status", "code", "message"),
    [
        (b"x", "", "text/plain", 415, "media_type", "the data is neither JPEG nor PNG; send one of these"),
        (b"x", "", "", 415, "media_type", "the data is neither JPEG nor PNG"),
        (b"a=b", "", "application/x-www-form-urlencoded", 415, "media_type", "the data is neither JPEG nor PNG"),
        (b"", "", "", 422, "undecodable", "body is empty"),
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
            b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = b""
        while received := connection.recv(4096):
            answer += received
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    assert b"larger than 16777216 bytes" in answer


def test_failing_engine_says_nothing_of_the_server():
    data = cv2.imencode(".png", np.zeros((1, 9, 3), np.uint8))[1].tobytes()

    async def requests(client):
        return await post(client, data)

    answer = in_process(requests)
    assert (answer.status_code, problem(answer)) == (500, "internal")


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
        if path == "/v1/videos" and number % 4 == 0:
            # Each of these starts a process that tries to decode it.
            data, media_type = b"\x00\x00\x00\x18ftypmp42" + data, "video/mp4"
        answer = server.post(
            data, chance.choice(["model=blue", "model=blue&format=json", "model=blue&confidence=1"]), media_type, path
        )
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
            b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 50\r\n\r\nabc"
        )
    assert server.client.get("/healthz").status_code == 200
