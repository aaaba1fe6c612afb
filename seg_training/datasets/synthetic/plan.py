"""The made-up street from above, and the true grid of the ground that a camera sees."""

import numpy as np

from seg_node.core.projection.grid import DRIVABLE, OBSTACLE, UNKNOWN, GridSpec
from seg_node.core.taxonomy import Category
from seg_training.datasets.synthetic.camera import View


def plan_view(view: type[View], spec: GridSpec) -> type[View]:
    """A class of views like another one that look straight down.

    Args:
        view: the other class, which follows the street its own way.
        spec: extent of the picture, from below the camera.

    Returns:
        A class whose objects draw into ``image`` and ``mask`` of [rows, columns], placed as in a
        ``nav_msgs/OccupancyGrid``; all of it is grass at first.
    """

    class Plan(view):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.image = np.zeros((*spec.shape, 3), np.uint8)
            self.mask = np.full(spec.shape, Category.NATURE, np.uint8)

        def pixels(self, points: np.ndarray) -> np.ndarray:
            """Cells of points, their height left out: float64 [N, 2] of column, row."""
            x0, y0 = spec.origin
            # A cell's centre has whole coordinates, like that of a pixel.
            return np.column_stack((points[:, 2] - x0, -points[:, 0] - y0)) / spec.resolution - 0.5

    return Plan


def true_grid(drive, index: int, spec: GridSpec, mask: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The grid of the ground that the camera of a made-up drive sees.

    A cell is known where the camera sees its ground, or a point of something that stands on it, below ``max_height``.
    The ground's category comes from the street's plan, not from the mask.

    Args:
        drive: a ``SyntheticDrive``.
        index: of the frame.
        spec: extent, from below the camera.
        mask: uint8 [H, W], of the frame.
        depth: float32 [H, W], of the frame; see ``SyntheticDrive.measured_frame``.

    Returns:
        int8 [rows, columns]: ``DRIVABLE`` for flat ground, ``OBSTACLE``, ``UNKNOWN``.
    """
    fx, fy, cx, cy = drive.camera
    height, pitch = drive.mounting(index)
    # Of the picture: the street is drawn with a level camera whose centre moves up and down.
    eye, cy = height / np.cos(pitch), cy - np.tan(pitch) * fy
    grid = np.full(spec.shape, UNKNOWN, np.int8)
    ahead, left = np.meshgrid(*spec.centres())
    column, row = np.rint(cx - fx * left / ahead), np.rint(cy + fy * eye / ahead)
    inside = (column >= 0) & (column < mask.shape[1]) & (row >= 0) & (row < mask.shape[0])
    column, row = column[inside].astype(int), row[inside].astype(int)
    bare = (eye * fy / (np.arange(mask.shape[0]) - cy)).astype(np.float32)
    ground = np.isfinite(depth) & (np.abs(depth - bare[:, None]) <= 1e-4 * bare[:, None])
    surface = np.where(drive.surfaces(index, spec)[inside] == Category.FLAT, DRIVABLE, OBSTACLE)
    grid[inside] = np.where(ground[row, column], surface, UNKNOWN)

    stands = np.isfinite(depth) & ~ground & (mask != Category.VOID)
    rows, columns = np.nonzero(stands)
    z = depth[stands]
    low = eye - (rows - cy) / fy * z < spec.max_height
    x0, y0 = spec.origin
    cell = np.column_stack((-(columns - cx) / fx * z - y0, z - x0))[low] // spec.resolution
    cell = cell[((cell >= 0) & (cell < spec.shape)).all(1)].astype(int)
    grid[cell[:, 0], cell[:, 1]] = OBSTACLE
    return grid
