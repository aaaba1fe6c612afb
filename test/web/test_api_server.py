"""The HTTP API: what the server tells of itself, its settings and its end."""

import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")
httpx = pytest.importorskip("httpx", reason="httpx is missing: pip install -e '.[test]'")

from helpers.browser import Browser  # noqa: E402
from helpers.serving import (  # noqa: E402
    MODEL,
    SIZE,
    Server,
    problem,
)

from seg_node.__main__ import main  # noqa: E402


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


def test_names_of_the_server_are_an_option(server):
    """The tests' server was started with ``--allowed-host robot.example``."""
    assert server.client.get("/healthz", headers={"Host": "robot.example:8000"}).status_code == 200
    refused = server.client.get("/healthz", headers={"Host": "evil.example"})
    assert (refused.status_code, problem(refused)) == (421, "foreign_host")


def test_log_holds_no_bodies_and_no_queries(server, jpeg):
    answer = server.post(b"SECRET-BODY", "model=SECRET-QUERY")
    line = rf"{answer.headers['x-request-id']} POST /v1/segment 404 \d+ ms unknown_model"
    deadline = time.monotonic() + 60
    # It is written when the answer is on its way.
    while not re.search(line, text := server.log.read_text()):
        assert time.monotonic() < deadline, text
        time.sleep(0.01)
    assert "SECRET" not in text


def test_the_address_alone_leads_to_the_documentation(server):
    answer = server.client.get("/", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/docs")
    assert "swagger" in answer.text


def test_openapi_and_docs(server):
    schema = server.client.get("/openapi.json").json()
    operation = schema["paths"]["/v1/segment"]["post"]
    first = operation["parameters"][0]
    assert first["name"] == "overlay" and "nearly black" in first["description"]
    assert schema["info"]["description"].index("overlay=1") < schema["info"]["description"].index("mask.png")
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


def refusal(capsys, *arguments):
    """What ``seg_node serve`` says of settings that it refuses."""
    assert main(["serve", *arguments]) == 2
    return capsys.readouterr().err


def test_wrong_settings_are_refused(server, capsys, tmp_path, monkeypatch):
    # The command sets it, which must end with this test.
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**30))
    port = server.url.rpartition(":")[2]
    taken = refusal(capsys, "--port", port, "--model", "fpn_resnet50")
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use; choose" in taken
    assert "no bundle" in refusal(capsys, "--port", "0", "--model", str(tmp_path))
    assert "two bundles are named fpn_resnet50" in refusal(capsys, "--port", "0", "--model", MODEL, "--model", MODEL)
    for arguments in (["--queue", "0"], ["--port", "70000"], ["--max-pixels", "x"]):
        with pytest.raises(SystemExit) as ended:
            main(["serve", *arguments])
        assert ended.value.code == 2
        assert arguments[0] in capsys.readouterr().err


def test_answers_do_not_wait_for_an_acknowledgement():
    """Nagle's algorithm would hold the body of each answer back for 40 ms on a connection that is kept."""
    from seg_node.commands.serve import _listen

    with _listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_work_ends_before_the_server_does(tmp_path, jpeg):
    own = Server(tmp_path / "own.log").wait_until_ready()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(own.post, jpeg)
        while "seg_node_in_flight 2.0" not in httpx.get(f"{own.url}/metrics").text and not answer.done():
            time.sleep(0.005)
        own.process.send_signal(signal.SIGTERM)
        assert answer.result().status_code == 200
    assert own.stop() == 0
