"""The live page: its figures, hints and pictures, its server, and the whole of it in a browser."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from helpers.blue_bundle import blue_bundle, blue_mask, blue_scene
from helpers.browser import Browser, find_chromium
from helpers.paths import ROOT

from seg_node.bags.drive import open_drive
from seg_node.core.frame_join import Frame
from seg_node.core.images import to_bgr
from seg_node.core.overlay import paint
from seg_node.core.propagation.record import NowOutcome, NowRecord
from seg_node.core.taxonomy import CATEGORY_NAMES, EIGHT, PALETTE_RGB, Category
from seg_node.core.timing import FrameRecord, Outcome
from seg_node.web.live.hints import Situation, explain
from seg_node.web.live.live import WINDOW_S, Live

MASKED = FrameRecord(Outcome.MASKED, "fpn_x", {}, 20.0, 33.4)
WELL = Situation("/a/segmentation", "7", False, "active", "/front/image", publishers=1)


def test_figures_of_a_hand_worked_case():
    now = 100.0
    live = Live(lambda: now)
    assert live.snapshot()["total"] is None
    for total in range(1, 102):
        now += 0.1
        live.add(replace(MASKED, total=float(total), late=total == 7))
        live.add(FrameRecord(Outcome.SUPERSEDED, "fpn_x", {}, 1.0))
    live.add(FrameRecord(Outcome.STALE, "fpn_y", {}, 0.0))
    found = live.snapshot()
    assert (found["received"], found["masked"], found["late"]) == (203, 101, 1)
    assert found["drops"] == {"superseded": 101, "stale": 1, "undecodable": 0, "failed": 0}
    assert found["total"] == {"p50": 51.0, "p95": 96.0}
    assert found["age"] == {"p50": 33.4, "p95": 33.4}
    # 101 masks, 10 seconds from the first to the last.
    assert found["rate"] == {"received": pytest.approx(20.3, abs=0.05), "masked": pytest.approx(10.1, abs=0.05)}
    assert found["model"] == "fpn_y"
    assert found["recent"][-3:] == [["masked", 101.0], ["superseded", 1.0], ["stale", 0.0]]
    now += 5
    assert live.silence() == (pytest.approx(5), pytest.approx(5))
    now += WINDOW_S
    found = live.snapshot()
    assert (found["received"], found["total"], found["recent"]) == (203, None, [])


def test_masks_of_now_of_the_last_seconds():
    now = 100.0
    live = Live(lambda: now)
    assert live.snapshot()["now"] is None, "nobody listens"
    for age in (100.0, 120.0, 140.0):
        live.add_now(NowRecord(NowOutcome.PROPAGATED, total=8.0, keyframe=1, keyframe_age=age))
    live.add_now(NowRecord(NowOutcome.PROPAGATED, again=True, total=9.0, keyframe=1, keyframe_age=40.0))
    found = live.snapshot()["now"]
    # Three frames in five seconds; the one that came again is no frame.
    assert (found["rate"], found["keyframe_age"]["p50"], found["why"]) == (0.6, 110.0, "")
    live.add_now(NowRecord(NowOutcome.EXPIRED, detail="too old"))
    assert live.snapshot()["now"]["why"] == "expired: too old"
    now += 6.0
    assert live.snapshot()["now"] is None


def test_ages_of_a_recording_are_no_latency():
    live = Live()
    live.add(replace(MASKED, age=6e10))
    assert live.snapshot()["age"] is None
    assert live.snapshot()["total"] is not None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ()),
        ({"starting": True, "status": None}, ("is starting",)),
        ({"status": "configuring"}, ("is starting",)),
        ({"status": None}, ("Nothing is heard of /a/segmentation", "ROS_DOMAIN_ID=7")),
        ({"status": "inactive"}, ("lifecycle set /a/segmentation activate",)),
        ({"status": "unconfigured: no bundle 'x'"}, ("no bundle 'x'", "lifecycle set /a/segmentation configure")),
        ({"since_record": 4.0, "camera": ""}, ("subscribes to no image topic",)),
        ({"since_record": 4.0, "publishers": 0}, ("Nobody publishes /front/image",)),
        (
            {"since_record": 4.0, "publishers": 0, "others": ("/front/image/compressed",)},
            ("There is /front/image/compressed", "image_transport"),
        ),
        ({"since_record": 4.0, "mismatches": ("driver: it is best effort",)}, ("QoS of /front/image", "driver: it is")),
        ({"since_record": 4.0}, ("no frame arrives", "fastdds_shm.xml")),
        ({"since_mask": 4.0, "last_drop": "stale"}, ("they are stale", "max_age_ms")),
        ({"since_mask": 4.0, "last_drop": "undecodable"}, ("they are undecodable", "encoding")),
        ({"pictures_missing": True}, ("images of /front/image do not reach this page",)),
    ],
)
def test_what_is_said_where_nothing_is_seen(changes, words):
    text = explain(replace(WELL, **changes))
    assert bool(text) == bool(words)
    for word in words:
        assert word in text


def frame(seed: int, encoding: str = "bgr8", size: tuple[int, int] = (96, 128)) -> Frame:
    """A complete frame."""
    pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")
    from std_msgs.msg import Header

    from seg_node.ros.messages import bgr8_image, mono8_image

    bgr = blue_scene(seed, size)
    image = bgr8_image(bgr, Header())
    image.encoding = encoding
    return Frame(image, mono8_image(blue_mask(bgr), Header()), MASKED)


@pytest.fixture
def pictures(ros):
    from seg_node.web.live.pictures import Pictures

    return Pictures()


def test_pictures_show_the_newest_frame_once(pictures):
    assert not pictures.wanted
    assert pictures.another(0, 0.01) is None
    assert pictures.wanted
    for seed in range(5):
        pictures.offer(frame(seed))
    picture = pictures.another(0, 60)
    shown = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
    expected = paint(blue_scene(4), blue_mask(blue_scene(4)))
    assert shown.shape == expected.shape
    # Noise suffers from JPEG; another frame, with its categories elsewhere, differs by far more.
    error = np.abs(shown.astype(float) - expected).mean()
    other = np.abs(shown.astype(float) - paint(blue_scene(3), blue_mask(blue_scene(3)))).mean()
    assert error < other / 2
    assert picture.shares == [12.5] * len(CATEGORY_NAMES)
    assert pictures.another(picture.number, 0.01) is None
    # A browser of an earlier server's page knows another number.
    assert pictures.another(999, 60) is picture


def test_vehicles_and_people_are_outlined():
    """Their colours are dark; a white line around them is seen on any road."""
    pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")
    from seg_node.web.live.pictures import _edges

    mask = np.full((20, 30), Category.FLAT, np.uint8)
    mask[5:10, 5:12], mask[12:16, 20:23] = Category.VEHICLE, Category.HUMAN
    edges = _edges(mask, EIGHT)
    assert edges.sum() == (5 * 7 - 3 * 5) + (4 * 3 - 2 * 1)
    assert not edges[mask == Category.FLAT].any()


def test_wide_pictures_are_made_smaller(pictures):
    pictures.offer(frame(0, size=(60, 2000)))
    shown = cv2.imdecode(np.frombuffer(pictures.another(0, 60).jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (38, 1280, 3)


def test_frames_that_cannot_be_read_are_passed_over(pictures):
    pictures.offer(frame(1))
    first = pictures.another(0, 60)
    pictures.offer(frame(2, encoding="no_such_encoding"))
    assert pictures.another(first.number, 0.2) is None
    assert pictures.unreadable == 1
    pictures.offer(frame(3))
    assert pictures.another(first.number, 60).number == first.number + 2


@pytest.fixture
def server(pictures) -> Iterator[SimpleNamespace]:
    """A server in this process on a free port."""
    from seg_node.web.live.pictures import Pictures
    from seg_node.web.live.server import LiveServer

    live, nows = Live(), Pictures()
    with LiveServer("127.0.0.1", 0, live, {"mask": pictures, "mask_now": nows}) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        port, cameras = served.server_address[1], served.cameras
        yield SimpleNamespace(url=served.url, port=port, live=live, pictures=pictures, nows=nows, cameras=cameras)
        served.shutdown()
        thread.join()


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, str, bytes]:
    """Status, type and body of an answer."""
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers.get_content_type(), answer.read()


def first_event(url: str) -> dict:
    with urllib.request.urlopen(f"{url}/events", timeout=60) as answer:
        return json.loads(answer.readline().removeprefix(b"data: "))


def test_routes(server):
    status, kind, body = get(server.url)
    assert (status, kind) == (200, "text/html")
    for elsewhere in (b"http://", b"https://", b"@import", b"url("):
        assert elsewhere not in body, "the page is complete in itself"
    assert [label["name"] for label in json.loads(get(f"{server.url}/labels.json")[2])] == list(CATEGORY_NAMES)
    server.pictures.offer(frame(1))
    status, kind, body = get(f"{server.url}/picture.jpg")
    assert (status, kind, body[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert not server.nows.wanted, "the node computes no masks that nobody asked for"
    server.nows.offer(frame(2))
    status, kind, other = get(f"{server.url}/picture.jpg?of=mask_now")
    assert (status, kind, server.nows.wanted) == (200, "image/jpeg", True) and other != body
    assert get(f"{server.url}/picture.jpg?of=mask")[2] == body
    server.live.add(MASKED)
    assert first_event(server.url)["masked"] == 1


def test_answers_do_not_wait_for_an_acknowledgement(server, monkeypatch):
    from seg_node.web.live import server as module

    seen = []
    original = module._Handler.do_GET

    def note(handler):
        seen.append(handler.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        original(handler)

    monkeypatch.setattr(module._Handler, "do_GET", note)
    assert get(f"{server.url}/labels.json")[0] == 200
    assert len(seen) == 1 and seen[0]


def test_a_name_that_was_pointed_here_is_refused(server):
    """As by DNS rebinding: otherwise a page of any site in this browser could look through the camera."""
    for path in ("/", "/picture.jpg", "/events", "/labels.json"):
        status, _, body = get(server.url + path, Host="evil.example")
        assert (status, b"--allowed-host" in body) == (421, True)
    assert get(f"{server.url}/labels.json", Host="localhost:8080")[0] == 200
    with urllib.request.urlopen(server.url, timeout=60) as answer:
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "method", "status", "words"),
    [
        ("/nothing", "GET", 404, "there is no '/nothing'; there are /, /events"),
        ("/../../etc/passwd", "GET", 404, "there is no"),
        ("/picture.jpg?seen=-1", "GET", 400, "seen is '-1'"),
        ("/picture.jpg?seen=" + "9" * 5000, "GET", 400, "expected the number of a picture"),
        ("/picture.jpg?seen=%D9%A1", "GET", 400, "expected the number"),
        ("/picture.jpg?wait=9", "GET", 400, "wait is '9'; expected 0"),
        ("/picture.jpg?camera=front", "GET", 404, "no camera 'front'; the node has one camera"),
        ("/picture.jpg?of=confidence", "GET", 400, "of is 'confidence'; expected mask or mask_now"),
        ("/", "POST", 501, "Unsupported method"),
        ("/" + "a" * 70000, "GET", 414, "Too Long"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(server, path, method, status, words):
    found, kind, body = get(server.url + path, method)
    assert (found, kind) == (status, "text/plain")
    assert words.lower() in body.decode().lower()
    assert b"Traceback" not in body


@pytest.mark.parametrize(
    "data", [b"garbage\r\n\r\n", b"\x00\xff" * 500 + b"\r\n\r\n", b"GET http://[ HTTP/1.1\r\n\r\n"]
)
def test_any_bytes_get_an_answer(server, data):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert b"400" in connection.recv(65536)
    assert get(server.url)[0] == 200


def test_browsers_that_do_not_read_hold_up_nobody(server):
    """Every place but one is taken by a browser that asks and never reads; then too many come."""
    from seg_node.web.live.server import MAX_CONNECTIONS

    sleepers: list[socket.socket] = []

    def sleep() -> None:
        sleepers.append(socket.create_connection(("127.0.0.1", server.port), timeout=60))
        sleepers[-1].sendall(b"GET /events HTTP/1.1\r\n\r\n")

    try:
        for _ in range(MAX_CONNECTIONS - 1):
            sleep()
        server.pictures.offer(frame(1))
        assert get(f"{server.url}/picture.jpg")[0] == 200
        deadline = time.monotonic() + 60
        # A place is free again a moment after its connection has ended, so it may take more than one.
        while (answer := get(server.url))[0] != 503:
            assert time.monotonic() < deadline, "no browser is ever one too many"
            sleep()
        assert b"close another page" in answer[2]
    finally:
        for sleeper in sleepers:
            sleeper.close()
    deadline = time.monotonic() + 60
    while get(server.url)[0] == 503:
        assert time.monotonic() < deadline, "places are never free again"
        time.sleep(0.1)


@pytest.fixture
def view(ros):
    """``python -m seg_node view ARGUMENTS`` as a process; its output is printed for a test that fails."""
    started: list[subprocess.Popen] = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-u", "-m", "seg_node", "view", "--no-browser", *arguments]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        print(process.communicate(timeout=60)[0])


def address(process: subprocess.Popen) -> str:
    """Of the page, as the process prints it."""
    for line in process.stdout:
        if " is shown at " in line:
            return line.split(" is shown at ")[1].split(";")[0]
    raise AssertionError("no page is shown")


def test_page_in_a_browser(view, tmp_path):
    """The real node on a drive of noise, seen by Chromium: pictures and counts rise, and words say what is shown."""
    find_chromium()
    model = str(blue_bundle(tmp_path).path)
    process = view("--bag", drive_of_noise(tmp_path), "--model", model, "--engine", "onnxruntime", "--port", "0")
    with Browser(address(process)) as page:
        number = "Number(document.getElementById('picture').dataset.number || 0)"
        received = "Number(document.getElementById('received')?.textContent || 0)"
        first, counted = page.wait_for(number), page.wait_for(received)
        page.wait_for(f"{number} > {first} && {received} > {counted}")
        # A picture has no size while the next one takes its place.
        page.wait_for("document.getElementById('picture').naturalWidth")
        page.wait_for("picture.naturalWidth === 128 && picture.naturalHeight === 96")
        page.wait_for("document.getElementById('state').textContent.includes('live')")
        page.wait_for("document.getElementById('hint').textContent === ''")
        legend = page.evaluate("[...document.querySelectorAll('#legend li')].map(row => row.innerText)")
        assert [row.split()[1] for row in legend] == list(CATEGORY_NAMES)
        alternative = page.evaluate("document.getElementById('picture').alt")
        assert "percent sky" in alternative
        assert "were masked" in page.evaluate("document.getElementById('chart').getAttribute('aria-label')")
        text = page.evaluate("document.body.innerText")
        assert "blue" in text
        assert "onnxruntime" in text
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        (node,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        # What the page says when its server is gone.
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not Path(f"/proc/{node}").exists(), "the node outlives the page that started it"
        page.wait_for("document.getElementById('hint').textContent.includes('make view')")


def test_page_fits_a_telephone_and_the_dark(server):
    """By itself, with records and a picture as a node would send them."""
    find_chromium()
    server.live.tell(node="/vehicle/front/segmentation", model="fpn_resnet50", engine="openvino", camera="/front/image")
    for total in range(700, 760):
        server.live.add(replace(MASKED, total=float(total)))
        server.live.add(FrameRecord(Outcome.SUPERSEDED, "fpn_x", {}, 1.0))
    server.pictures.offer(frame(1))
    with Browser(server.url, 390, 844) as page:
        page.evaluate(
            "window.drawn = []; const before = CanvasRenderingContext2D.prototype.fillText;"
            "CanvasRenderingContext2D.prototype.fillText = function (text, ...at) {"
            " window.drawn.push(text); return before.call(this, text, ...at) }"
        )
        page.wait_for("document.getElementById('picture').dataset.number")
        for width in (390, 1280):
            for dark in (False, True):
                page.resize(width, 844)
                page.dark(dark)
                assert page.cut() == [], (width, dark)
                assert page.dim() == [], (width, dark)
        drawn = page.wait_for("window.drawn.some(text => text.startsWith('p50')) && window.drawn")
        assert all(text.endswith(" ms") for text in drawn), "each figure has its unit"
        # Not above: axe writes into canvases, too.
        for width in (390, 1280):
            page.resize(width, 844)
            assert page.barriers() == [], width
        own = page.evaluate(
            "[...document.querySelectorAll('#legend meter')].map(m => m.style.getPropertyValue('--own'))"
        )
        assert own == [f"rgb({','.join(map(str, rgb))})" for rgb in PALETTE_RGB.tolist()], (
            "bars in the legend's colours"
        )
        assert "void: what belongs to no category" in page.evaluate("document.body.innerText")
        assert page.evaluate("document.getElementById('now').hidden") and not server.nows.wanted
        page.evaluate("document.querySelector('[value=mask_now]').click()")
        for _ in range(3):
            server.live.add_now(NowRecord(NowOutcome.PROPAGATED, total=8.0, keyframe=1, keyframe_age=120.0))
        server.nows.offer(frame(2))
        page.wait_for("document.getElementById('picture').dataset.source === 'mask_now'")
        page.wait_for("document.getElementById('now-age').innerText.startsWith('120 ms')")
        assert page.cut() == [] and page.dim() == [] and page.barriers() == []
        page.evaluate("document.querySelector('[value=mask]').click()")
        server.pictures.offer(frame(3))
        page.wait_for("document.getElementById('picture').dataset.source === 'mask'")


def several(server, *names: str) -> dict:
    """Let a server show cameras of a node; returns what it shows of each."""
    from seg_node.web.live.pictures import Pictures
    from seg_node.web.live.server import View

    for name in names:
        server.cameras[name] = View(Live(), {"mask": Pictures(), "mask_now": Pictures()})
        server.cameras[name].live.tell(node=f"/segmentation/{name}", state="active")
    server.live.tell(node="/segmentation", state="active", engine="openvino", cameras=list(names))
    return server.cameras


def test_each_camera_has_its_own_addresses(server):
    alone = get(server.url)[2]
    cameras = several(server, "front", "rear")
    grid = get(server.url)[2]
    assert b"all cameras" in grid and grid != alone and get(f"{server.url}/?camera=rear")[2] == alone
    for elsewhere in (b"http://", b"https://", b"@import", b"url(", b"style.css"):
        assert elsewhere not in grid, "the page is complete in itself"
    cameras["front"].pictures["mask"].offer(frame(1))
    assert get(f"{server.url}/picture.jpg?camera=front&wait=0")[:2] == (200, "image/jpeg")
    assert get(f"{server.url}/picture.jpg?camera=rear&wait=0")[0] == 204, "one camera's picture is not another's"
    assert not cameras["front"].pictures["mask_now"].wanted
    assert get(f"{server.url}/picture.jpg?camera=left")[0] == 404
    assert b"there are front, rear" in get(f"{server.url}/events?camera=left")[2]
    cameras["rear"].live.add(MASKED)
    with urllib.request.urlopen(f"{server.url}/overview", timeout=60) as answer:
        told = json.loads(answer.readline().removeprefix(b"data: "))
    assert {name: of["masked"] for name, of in told["cameras"].items()} == {"front": 0, "rear": 1}
    assert told["node"]["engine"] == "openvino"
    with urllib.request.urlopen(f"{server.url}/events?camera=rear", timeout=60) as answer:
        assert json.loads(answer.readline().removeprefix(b"data: "))["recent"] == [["masked", 20.0]]


def tile(name: str, part: str) -> str:
    """Expression for a part of a camera in the grid."""
    return f"document.querySelector('[data-camera={name}]').closest('section').querySelector('{part}')"


def test_grid_of_cameras_in_a_browser(server):
    """By itself: five cameras, one of which is silent, which costs the others nothing."""
    find_chromium()
    names = ["front", "left", "right", "rear", "a_camera_with_a_very_long_name_on_the_roof"]
    cameras = several(server, *names)
    hint = "Nobody publishes /rear/image, from which /segmentation/rear takes its images."
    for seed, (name, of) in enumerate(cameras.items()):
        if name == "rear":
            of.live.tell(hint=hint)
            continue
        for _ in range(3):
            of.live.add(replace(MASKED, age=40.0 + seed))
        of.pictures["mask"].offer(frame(seed))
    with Browser(server.url, 390, 844) as page:
        for name in names:
            if name != "rear":
                page.wait_for(f"document.querySelector('[data-camera={name}]')?.dataset.source === 'mask'")
                page.wait_for(f"{tile(name, '.state')}.textContent.includes('live')")
        page.wait_for(f"{tile('rear', '.hint')}.textContent === {json.dumps(hint)}")
        assert page.evaluate(f"{tile('left', '.age')}.textContent") == "41 ms"
        assert "percent sky" in page.evaluate(f"{tile('left', 'img')}.alt")
        assert page.evaluate(f"{tile('rear', 'img')}.alt") == "No picture has come yet."
        page.wait_for("document.getElementById('state').textContent === '4 of 5 cameras live'")
        shown = page.evaluate("[...document.querySelectorAll('#legend li')].map(row => row.innerText.split(' ')[1])")
        assert shown == list(CATEGORY_NAMES)
        for width in (390, 1280):
            for dark in (False, True):
                page.resize(width, 844)
                page.dark(dark)
                where = f"{width} px, {'dark' if dark else 'light'}"
                assert (page.cut(), page.dim(), page.barriers()) == ([], [], []), where
            lefts = page.evaluate(
                "[...document.querySelectorAll('#cameras li')].map(t => t.getBoundingClientRect().left)"
            )
            assert len(set(lefts)) == (1 if width == 390 else 3), "tiles side by side where there is room"
        page.dark(False)

        # Whoever has no mouse gets to a camera, and to the switch.
        reached = "[...document.querySelectorAll('a, input')].filter(e => e.tabIndex >= 0).length"
        assert page.evaluate(reached) == len(names) + 2
        assert not any(of.pictures["mask_now"].wanted for of in cameras.values())
        page.evaluate("document.querySelector('[value=mask_now]').click()")
        cameras["front"].live.add_now(NowRecord(NowOutcome.PROPAGATED, total=8.0, keyframe=1, keyframe_age=120.0))
        cameras["front"].pictures["mask_now"].offer(frame(7))
        page.wait_for("document.querySelector('[data-camera=front]').dataset.source === 'mask_now'")
        page.wait_for(f"{tile('front', '.age')}.textContent === '120 ms'")
        page.wait_for(f"{tile('left', '.hint')}.textContent.includes('propagate')")
        assert page.barriers() == []
        page.evaluate(f"{tile('left', 'a')}.click()")
        page.wait_for("document.getElementById('picture')?.dataset.number")
        assert page.evaluate("document.getElementById('node').textContent") == "/segmentation/left"
        assert page.barriers() == []
        page.evaluate("document.getElementById('all').click()")
        page.wait_for("document.querySelectorAll('[data-camera]').length === 5")


def test_a_page_of_one_turns_into_that_of_all(server):
    """Names of cameras come with a node's reports, which may be later than the page."""
    find_chromium()
    with Browser(server.url) as page:
        page.wait_for("document.getElementById('picture') !== null")
        several(server, "front")
        page.wait_for("document.querySelector('[data-camera=front]') !== null")


def drive_of_noise(folder: Path) -> str:
    """A drive of small frames whose masks have all categories."""
    from seg_node.bags.writer import BagWriter

    with BagWriter(folder / "drive") as bag:
        for seed in range(8):
            bag.write_image((seed + 1) * 100_000_000, blue_scene(seed))
    return str(folder / "drive")


def test_two_cameras_of_a_real_node_in_a_browser(view, tmp_path):
    """One node with two cameras, started by the page: both come, and the mask of now of both while it is shown."""
    find_chromium()
    from seg_node.bags.writer import BagWriter

    # Of a scene that moves: what is noise cannot be carried from frame to frame.
    with BagWriter(tmp_path / "drive") as bag:
        for place, one in enumerate(open_drive(ROOT / "rosbags" / "synthetic_drive", duration=1.0).frames[::2]):
            small = cv2.resize(to_bgr(one.image), (320, 180), interpolation=cv2.INTER_AREA)
            bag.write_image((place + 1) * 66_000_000, small)
    arguments = ["--bag", str(tmp_path / "drive"), "--cameras", "front", "rear", "--engine", "onnxruntime"]
    process = view(*arguments, "--model", str(blue_bundle(tmp_path).path), "--port", "0")
    with Browser(address(process)) as page:
        number = "[...document.querySelectorAll('[data-camera]')].map(i => Number(i.dataset.number || 0))"
        page.wait_for(f"{number}.length === 2 && {number}.every(n => n > 0)")
        first = page.evaluate(number)
        page.wait_for(f"{number}.every((n, i) => n > {first}[i])")
        assert page.evaluate("[...document.querySelectorAll('[data-camera]')].map(i => i.dataset.camera)") == [
            "front",
            "rear",
        ]
        page.wait_for("document.getElementById('state').textContent === '2 of 2 cameras live'")
        page.wait_for("[...document.querySelectorAll('[data-camera]')].every(i => i.naturalWidth === 320)")
        page.evaluate("document.querySelector('[value=mask_now]').click()")
        page.wait_for("[...document.querySelectorAll('[data-camera]')].every(i => i.dataset.source === 'mask_now')")
        page.wait_for(f"/^\\d+ ms$/.test({tile('front', '.age')}.textContent)")
        page.evaluate(f"{tile('rear', 'a')}.click()")
        page.wait_for("document.getElementById('node')?.textContent.endsWith('/segmentation/rear')")
        page.wait_for("Number(document.getElementById('received')?.textContent || 0) > 3")
        page.wait_for("document.getElementById('camera').textContent.includes('/rear/image')")


def test_attached_to_a_node_with_several_cameras(view, node_process, tmp_path):
    """Their names come with the node's reports; nobody has to tell them."""
    parameters = {"model": str(blue_bundle(tmp_path).path), "engine": "onnxruntime", "warm_up_size": [96, 128]}
    node_process(parameters | {"cameras": ["front", "left"]}, namespace="/v2")
    url = address(view("--attach", "/v2/segmentation", "--port", "0"))
    deadline, told = time.monotonic() + 90, {}
    while sorted(told) != ["front", "left"] or any("Nobody publishes" not in of["hint"] for of in told.values()):
        assert time.monotonic() < deadline, told
        time.sleep(0.2)
        with urllib.request.urlopen(f"{url}/overview", timeout=60) as answer:
            told = json.loads(answer.readline().removeprefix(b"data: "))["cameras"]
    assert told["left"]["node"] == "/v2/segmentation/left" and "/v2/left/image" in told["left"]["hint"]
    assert b"all cameras" in get(url)[2]


def test_attached_to_nothing(view):
    process = view("--attach", "/nobody/segmentation", "--port", "0")
    url = address(process)
    deadline = time.monotonic() + 60
    while "Nothing is heard of /nobody/segmentation" not in (hint := first_event(url)["hint"]):
        assert time.monotonic() < deadline, hint
        time.sleep(0.2)
    assert os.environ["ROS_DOMAIN_ID"] in hint
    # Who has no browser before them reads it in the terminal.
    assert any(hint in line for line in process.stdout)


def test_a_camera_whose_quality_of_service_does_not_fit(view, ros, node_process, tmp_path):
    """A node that was told to ask for reliable images, and a camera that offers best effort."""
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    parameters = {"model": str(blue_bundle(tmp_path).path), "engine": "onnxruntime", "warm_up_size": [96, 128]}
    parameters["qos_overrides./v1/image.subscription.reliability"] = "reliable"
    node_process(parameters, namespace="/v1")
    camera = ros.create_node("best_effort_camera")
    camera.create_publisher(Image, "/v1/image", qos_profile_sensor_data)
    try:
        url = address(view("--attach", "/v1/segmentation", "--port", "0"))
        deadline = time.monotonic() + 90
        while "The QoS of /v1/image does not fit: best_effort_camera" not in (hint := first_event(url)["hint"]):
            assert time.monotonic() < deadline, hint
            time.sleep(0.2)
    finally:
        camera.destroy_node()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--bag", "nowhere"), "nowhere does not exist"),
        (("--model", "nowhere"), "no bundle 'nowhere'"),
        (("--attach", "/no name"), "no name of a node"),
        (("--cameras", "a b"), "cameras has 'a b'"),
        (("--attach", "/x", "--cameras", "front"), "all cameras of one that runs are shown anyway"),
        (("--attach", "/x", "--host", "192.0.2.1"), "cannot listen on 192.0.2.1"),
    ],
)
def test_wrong_options_end_with_a_reason(view, arguments, words):
    process = view("--port", "0", *arguments)
    output = process.stdout.read()
    assert process.wait(90) == 2
    assert words in output
    assert "Traceback" not in output
