"""The HTTP API: videos are masked in the background, frame by frame like images."""

import asyncio
import io
import re
import shutil
import struct
import subprocess
import time
import zipfile

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")
httpx = pytest.importorskip("httpx", reason="httpx is missing: pip install -e '.[test]'")

from helpers.paths import ROOT  # noqa: E402
from helpers.serving import (  # noqa: E402
    SlowEngine,
    finished,
    in_process,
    problem,
    unpacked,
)

from seg_node.core.taxonomy import colorize  # noqa: E402


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
    picture = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    for data, media_type in ((playlist, "video/mp4"), (b"", "video/mp4"), (picture, "video/mp4")):
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

    assert in_process(count, SlowEngine, video_jobs=2) == ([202, 202, 503], "too_many_videos", "not_done", [204, 204])

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


def test_waiting_for_a_video(video):
    async def requests(client):
        kind = {"Content-Type": "video/mp4"}
        address = (await client.post("/v1/videos", content=video[0], headers=kind)).headers["location"]
        early = await client.get(f"{address}/masks")
        short = await client.get(f"{address}?wait=0.1")
        masks = await client.get(f"{address}/masks?wait=60")
        refused = [await client.get(f"{address}?wait={wait}") for wait in ("-1", "61", "nan", "x")]
        unknown = await client.get("/v1/videos/none?wait=60")
        return early, short, masks, refused, unknown, await client.get(f"{address}?wait=60")

    early, short, masks, refused, unknown, ended = in_process(requests, SlowEngine)
    assert (early.status_code, problem(early)) == (409, "not_done")
    assert "frames are masked; ask again later, or with wait=60" in early.json()["error"]["message"]
    assert short.json()["state"] in ("waiting", "running")
    assert (masks.status_code, ended.json()["state"]) == (200, "done")
    with zipfile.ZipFile(io.BytesIO(masks.content)) as archive:
        assert len(archive.namelist()) == 7
    assert [problem(answer) for answer in refused] == ["bad_query"] * 4
    assert problem(unknown) == "unknown_video"


def test_the_loop_of_the_documents(server, video, tmp_path):
    """What docs/serving.md shows, word by word, at this server's address."""
    if not shutil.which("curl"):
        pytest.skip("curl is missing")
    section = (ROOT / "docs" / "serving.md").read_text().split("## Videos", 1)[1]
    commands = re.search(r"```sh\n(.+?)```", section, re.DOTALL)[1]
    assert "SERVER=http://127.0.0.1:8000" in commands
    (tmp_path / "drive.mp4").write_bytes(video[0])
    script = "set -e\n" + commands.replace("http://127.0.0.1:8000", server.url)
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, timeout=120)
    with zipfile.ZipFile(tmp_path / "masks.zip") as archive:
        assert len(archive.namelist()) == 7
    assert cv2.VideoCapture(str(tmp_path / "overlay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 7


def test_a_portrait_video_stands_upright_and_any_media_type_will_do(server, video, tmp_path):
    """As phones store it: frames on their side, and a matrix of a quarter turn in the track's header."""
    data, frames = video
    matrix = data.index(b"tkhd") + 44
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    portrait = data[:matrix] + quarter + data[matrix + 36 :]
    for media_type in ("", "application/octet-stream"):
        accepted = server.post(portrait, "model=blue", media_type, path="/v1/videos")
        assert accepted.status_code == 202
        name = accepted.json()["id"]
        assert finished(server, name)["state"] == "done"
        with zipfile.ZipFile(io.BytesIO(server.client.get(f"/v1/videos/{name}/masks").content)) as archive:
            assert unpacked(archive.read("000000.png")).shape == frames[0].shape[1::-1]
        assert server.client.delete(f"/v1/videos/{name}").status_code < 300
