"""Write a made-up drive with its ground truth as a bag."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from seg_node.bags.drive import CameraInfo
from seg_node.bags.writer import BagWriter
from seg_node.core.errors import UserError
from seg_node.core.projection.grid import GridSpec
from seg_node.core.projection.ground import Pose
from seg_training.datasets.synthetic import SyntheticDrive
from seg_training.datasets.synthetic.plan import true_grid

FIRST_STAMP = 1_700_000_000 * 10**9
"""Stamp of every drive's first frame, in nanoseconds: fixed, so that the same seed gives the same bag."""

GROUND_FRAME = "base_footprint"
"""Frame on the ground below the camera."""


def write_drive(
    path: str | Path,
    seed: int,
    seconds: float,
    size: tuple[int, int] = (360, 640),
    *,
    fps: float = 30.0,
    light: str | None = None,
    weather: str | None = None,
    turns: bool = False,
    geometry: bool = False,
    quality: int = 50,
    progress: bool = False,
) -> int:
    """Write one made-up drive: JPEG images, calibration and PNG masks under equal stamps.

    Args:
        path: folder to create.
        seed: see ``SyntheticDrive``.
        seconds: length of the drive.
        size: (height, width) in pixels.
        fps: frames per second.
        light: see ``SyntheticDrive``.
        weather: see ``SyntheticDrive``.
        turns: see ``SyntheticDrive``.
        geometry: write depth images, the camera's place over the ground, and the true grid of the ground, too.
        quality: of the JPEG images, 1..100.
        progress: show a progress bar.

    Returns:
        The number of frames.

    Raises:
        BagError: ``path`` exists or cannot be created, or the quality is out of range.
        UserError: another value is out of range.
    """
    drive = SyntheticDrive(seed, size, fps, weather, light, turns)
    frames = round(seconds * fps)
    if frames < 1:
        raise UserError(f"{seconds} s at {fps} frames per second is no frame")
    fx, fy, cx, cy = drive.camera
    info = CameraInfo(drive.size[0], drive.size[1], np.array((fx, 0, cx, 0, fy, cy, 0, 0, 1)))
    spec = GridSpec()
    with BagWriter(path, quality=quality) as bag:
        for index in tqdm(range(frames), unit="frame", disable=not progress):
            stamp = FIRST_STAMP + round(index * 1e9 / fps)
            if geometry:
                image, mask, depth = drive.measured_frame(index)
                bag.write_pose(stamp, Pose.of_mounting(*drive.mounting(index)), GROUND_FRAME)
                bag.write_depth(stamp, depth)
                bag.write_grid(stamp, true_grid(drive, index, spec, mask, depth), spec, GROUND_FRAME)
            else:
                image, mask = drive.frame(index)
            bag.write_camera_info(stamp, info)
            bag.write_image(stamp, image)
            bag.write_mask(stamp, mask)
    return frames
