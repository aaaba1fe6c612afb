"""What the server accepts, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of requests. Sizes of bodies in bytes, times in seconds.

    Together they bound the memory: at most ``queue`` bodies of ``max_bytes`` wait; of each model one image is decoded,
    or ``models.MAX_BATCH`` where the engine takes several at once.
    """

    max_bytes: int = 16 * 2**20
    """Of one image as it is sent."""
    max_pixels: int = 4096 * 4096
    """Of one image; read from its header, before anything is decoded."""
    max_side: int = 8192
    """Pixels of an image's longer side. The network pads to multiples of 32, which makes very thin images costly."""
    queue: int = 16
    """Requests with a body that wait or are worked on; further ones are refused."""
    timeout: float = 30.0
    """From an image's complete body to its answer."""
    body_timeout: float = 30.0
    """To receive a body."""

    batch_files: int = 32
    batch_bytes: int = 64 * 2**20
    """Of all images of a batch together."""

    video_bytes: int = 256 * 2**20
    video_body_timeout: float = 300.0
    video_frames: int = 3600
    """Two minutes at 30 frames per second."""
    video_work: float = 1800.0
    """To mask one video."""
    video_jobs: int = 4
    """Videos that are kept, whether they wait, are worked on or have ended."""
    video_kept: float = 3600.0
    """That a result can be fetched."""
