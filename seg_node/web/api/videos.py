"""Videos are masked in the background, one after the other; their results are kept for a while."""

import asyncio
import json
import logging
import math
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np

from seg_node.core.overlay import paint
from seg_node.web.api.answers import picture
from seg_node.web.api.errors import ApiError
from seg_node.web.api.limits import Deadline, Limits
from seg_node.web.api.models import Model
from seg_node.web.api.probe import check_size

log = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "failed"]

_SIGNATURES = {4: (b"ftyp",), 0: (b"\x1aE\xdf\xa3", b"RIFF")}
"""First bytes of MP4 and MOV, of Matroska and WebM, and of AVI, by their offset."""

SOURCE, OVERLAY, MASKS = "source", "overlay.mp4", "masks.zip"
RESULTS = {"mp4": (OVERLAY, "video/mp4"), "zip": (MASKS, "application/zip")}
"""File and media type of each form of result."""


_WAIT_SECONDS = 0.1
"""Time between two looks whether a video has ended."""


@dataclass
class Video:
    """One video and what became of it."""

    id: str
    """Also all that is needed to read the result: it cannot be guessed."""
    folder: Path
    model: Model
    state: State = "waiting"
    frames: int = 0
    """Number of frames as the file says; 0 where it does not."""
    masked: int = 0
    error: dict[str, str] | None = None
    ended: float | None = None
    """Reading of ``time.monotonic``."""
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def source(self) -> Path:
        """The file that was uploaded."""
        return self.folder / SOURCE

    def describe(self, kept: float) -> dict[str, Any]:
        """What clients are told; ``kept`` is the time in seconds that results are kept."""
        left = None if self.ended is None else max(0, round(self.ended + kept - time.monotonic()))
        return {
            "id": self.id,
            "state": self.state,
            "model": self.model.bundle.name,
            "frames_masked": self.masked,
            "frames": self.frames or None,
            "error": self.error,
            "expires_in_seconds": left,
        }


def check_format(file: Path) -> None:
    """Refuse what is of no format that is read.

    Raises:
        ApiError: 415.
    """
    with file.open("rb") as opened:
        beginning = opened.read(16)
    if not any(beginning.startswith(s, at) for at, signatures in _SIGNATURES.items() for s in signatures):
        raise ApiError(415, "media_type", "the data is no video that is read here; send MP4, MOV, WebM, MKV or AVI")


class Videos:
    """All videos of a server, in a folder that ends with it.

    Its methods belong to the event loop; what may take the disk some time is done in threads of its own.

    Args:
        limits: see there.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._root = tempfile.TemporaryDirectory(prefix="seg_node_videos_")
        self._videos: dict[str, Video] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="videos")
        self._cleaner = ThreadPoolExecutor(1, thread_name_prefix="videos_cleaner")

    def make_folder(self) -> Path:
        """A folder for a video that is about to be uploaded; its name becomes the video's id."""
        folder = Path(self._root.name, secrets.token_urlsafe(16))
        folder.mkdir()
        return folder

    def check_room(self) -> Video | None:
        """The finished video that makes room for another one, where one has to.

        Raises:
            ApiError: 503 if none can.
        """
        self.expire()
        count = self._limits.video_jobs
        if len(self._videos) < count:
            return None
        ended = [video for video in self._videos.values() if video.ended is not None]
        if not ended:
            message = f"{count} videos are waiting or being masked; DELETE one, or wait until one is done"
            raise ApiError(503, "too_many_videos", message, retry_after=60)
        oldest = min(ended, key=lambda video: video.ended)
        left = oldest.ended + self._limits.video_least - time.monotonic()
        if left > 0:
            message = f"{count} videos are kept, and the oldest result is for {left:.0f} s more; DELETE one, or wait"
            raise ApiError(503, "too_many_videos", message, retry_after=math.ceil(left))
        return oldest

    def add(self, folder: Path, model: Model) -> Video:
        """Mask the video that was uploaded into a folder as soon as its turn comes.

        Raises:
            ApiError: 503 if there is no room.
        """
        if oldest := self.check_room():
            self.delete(oldest)
        video = Video(folder.name, folder, model)
        self._videos[video.id] = video
        self._executor.submit(self._run, video)
        return video

    def find(self, name: str) -> Video:
        """Video of an id.

        Raises:
            ApiError: 404 if there is none.
        """
        self.expire()
        if name not in self._videos:
            raise ApiError(404, "unknown_video", "no video of this id; it may have expired")
        return self._videos[name]

    async def wait(self, name: str, seconds: float) -> Video:
        """Video of an id, once it has ended or the time is over.

        Raises:
            ApiError: 404 if there is none, or no longer.
        """
        deadline = Deadline(seconds)
        while (video := self.find(name)).ended is None and deadline.left:
            await asyncio.sleep(min(_WAIT_SECONDS, deadline.left))
        return video

    def result(self, name: str, form: str) -> tuple[Path, str]:
        """File and media type of a result.

        Raises:
            ApiError: 404 without such a video, 409 while it is not done, 422 if it failed.
        """
        video = self.find(name)
        if video.error:
            raise ApiError(422, video.error["code"], video.error["message"])
        if video.state != "done":
            of = f" of {video.frames}" if video.frames else ""
            message = f"the video is {video.state}, {video.masked}{of} frames are masked; ask again later, or with"
            raise ApiError(409, "not_done", f"{message} wait={self._limits.video_wait:g}", retry_after=1)
        file, media_type = RESULTS[form]
        return video.folder / file, media_type

    def delete(self, video: Video) -> None:
        """Forget a video, ending the work on it."""
        video.cancelled.set()
        self._videos.pop(video.id, None)
        self.discard(video.folder)

    def discard(self, folder: Path) -> None:
        """Delete the folder of a video that is not, or no longer, among them."""
        self._cleaner.submit(shutil.rmtree, folder, ignore_errors=True)

    def expire(self) -> None:
        """Delete results that have been kept long enough."""
        oldest = time.monotonic() - self._limits.video_kept
        for video in list(self._videos.values()):
            if video.ended is not None and video.ended < oldest:
                self.delete(video)

    def close(self) -> None:
        """Delete all."""
        for video in list(self._videos.values()):
            video.cancelled.set()
        self._executor.shutdown(cancel_futures=True)
        self._cleaner.shutdown()
        self._root.cleanup()

    def _run(self, video: Video) -> None:
        if video.cancelled.is_set():
            return
        video.state = "running"
        try:
            _mask_video(video, self._limits)
            video.state = "done"
        except Exception as error:
            # Whatever happens to one video, the next one has its turn.
            video.state = "failed"
            if isinstance(error, ApiError):
                video.error = error.body()
            elif not video.cancelled.is_set():
                log.exception("video %s failed", video.id)
                video.error = {"code": "internal", "message": "the server failed on this video"}
        finally:
            video.ended = time.monotonic()
            if video.cancelled.is_set():
                # Files that were written after the folder was deleted.
                shutil.rmtree(video.folder, ignore_errors=True)
            else:
                video.source.unlink(missing_ok=True)


def _mask_video(video: Video, limits: Limits) -> None:
    """Write the results of a video into its folder.

    Raises:
        ApiError: it cannot be decoded, or exceeds the limits.
    """
    command = [sys.executable, "-m", "seg_node.web.api.video_reader", str(video.source)]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    too_late = threading.Event()

    def stop() -> None:
        too_late.set()
        reader.kill()

    watch = threading.Timer(limits.video_work, stop)
    watch.start()
    try:
        header = json.loads(reader.stdout.readline() or b'{"error": "the decoder ended"}')
        if "width" in header:
            check_size(header["height"], header["width"], limits)
            video.frames = header["frames"]
            _check_length(video.frames, limits)
            _mask_frames(video, reader.stdout, header, limits, lambda: video.cancelled.is_set() or too_late.is_set())
        if too_late.is_set():
            raise InterruptedError("the time is over")
        if "error" in header:
            raise ApiError(422, "undecodable", f"the video cannot be read: {header['error']}")
        if reader.wait():
            raise ApiError(422, "undecodable", f"the video cannot be decoded after frame {video.masked}")
        video.frames = video.masked
    except InterruptedError:
        if not too_late.is_set():
            raise
        message = f"the video took more than {limits.video_work:g} s; send a shorter one"
        raise ApiError(422, "too_long", message) from None
    finally:
        watch.cancel()
        reader.kill()
        reader.wait()
        reader.stdout.close()


def _mask_frames(
    video: Video, frames: BinaryIO, header: dict[str, Any], limits: Limits, given_up: Callable[[], bool]
) -> None:
    height, width = header["height"], header["width"]
    # The codec takes even sides only.
    size = (width // 2 * 2, height // 2 * 2)
    if not all(size):
        raise ApiError(422, "undecodable", f"the video is {width}x{height}; expected at least 2x2")
    writer = cv2.VideoWriter(str(video.folder / OVERLAY), cv2.VideoWriter.fourcc(*"mp4v"), header["fps"], size)
    if not writer.isOpened():
        raise RuntimeError("this build of OpenCV cannot write MP4")
    try:
        # PNG is compressed already.
        with zipfile.ZipFile(video.folder / MASKS, "w", zipfile.ZIP_STORED) as masks:
            while len(data := frames.read(height * width * 3)) == height * width * 3:
                if given_up():
                    raise InterruptedError(video.id)
                _check_length(video.masked + 1, limits)
                bgr = np.frombuffer(data, np.uint8).reshape(height, width, 3)
                mask = video.model.infer(bgr, given_up)
                masks.writestr(f"{video.masked:06d}.png", picture(mask, "png").content)
                painted = paint(bgr, mask, taxonomy=video.model.bundle.manifest.taxonomy)
                writer.write(np.ascontiguousarray(painted[: size[1], : size[0]]))
                video.masked += 1
    finally:
        writer.release()


def _check_length(frames: int, limits: Limits) -> None:
    if frames > limits.video_frames:
        raise ApiError(413, "too_long", f"the video has {frames} frames or more; {limits.video_frames} are allowed")
