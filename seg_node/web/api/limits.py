"""What the server accepts, in one place."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of requests. Sizes of bodies in bytes, times in seconds.

    Together they bound the memory: bodies of images, and what batches have collected so far, are at most
    ``held_bytes``; of each model one image is decoded, or ``models.MAX_BATCH`` where the engine takes several at once;
    ``queue`` answers at most are on their way. Videos and what is uploaded of them lie on the disk.
    """

    max_bytes: int = 16 * 2**20
    """Size of one image as it is sent."""
    max_pixels: int = 4096 * 4096
    """Pixels of one image; read from its header, before anything is decoded."""
    max_side: int = 8192
    """Pixels of an image's longer side. The network pads to multiples of 32, which makes very thin images costly."""

    uploads: int = 256
    """Requests whose body is being received; further ones are refused. Slow ones take nothing else from others."""
    held_bytes: int = 256 * 2**20
    """Bodies of images, received or being received, and collected answers of batches, of all requests together."""
    body_timeout: float = 30.0
    """Time to receive a body."""
    min_rate: int = 16 * 2**10
    """Bytes per second, on average, below which a body is no longer waited for."""
    rate_grace: float = 5.0
    """Time before that rate is asked for."""

    queue: int = 16
    """Requests whose body is complete and that wait or are worked on; further ones are refused."""
    timeout: float = 30.0
    """Time from an image's complete body to its answer."""
    batch_timeout: float = 120.0
    """Time from the complete body of a batch to its answer; images that were not reached say so."""

    stalled: float = 15.0
    """Time that a model may be in one step before the server is no longer ready."""
    stuck: float = 120.0
    """Time that a model may be in one step before only a new start is expected to help."""
    load: float = 600.0
    """Time that a model may take to load before only a new start is expected to help."""

    batch_files: int = 32
    """Images of a batch."""
    batch_bytes: int = 64 * 2**20
    """Size of all images of a batch together."""

    video_bytes: int = 256 * 2**20
    """Size of one video as it is sent."""
    video_upload_bytes: int = 2**30
    """Size of what is being received of videos, all together."""
    video_body_timeout: float = 300.0
    """Time to receive a video."""
    video_frames: int = 3600
    """Frames of one video: two minutes at 30 frames per second."""
    video_work: float = 1800.0
    """Time to mask one video."""
    video_jobs: int = 4
    """Videos that are kept, whether they wait, are worked on or have ended."""
    video_kept: float = 3600.0
    """Time that a result can be fetched, unless a newer video needs its place."""
    video_wait: float = 60.0
    """Time for which a client may ask to wait for the end of a video."""
    video_least: float = 60.0
    """Time that a result can be fetched in any case."""


class Deadline:
    """The end of the time that a request has.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; 0 when it has passed."""
        return max(0.0, self._end - time.monotonic())
