"""A grid of the ground ahead, as ``nav_msgs/OccupancyGrid`` has it: drivable, obstacle or unknown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seg_node.core.errors import UserError
from seg_node.core.projection.camera_model import CameraModel
from seg_node.core.projection.ground import Pose
from seg_node.core.taxonomy import NO_LABEL

DRIVABLE, OBSTACLE, UNKNOWN = 0, 100, -1

MAX_CELLS = 4_000_000
"""Greatest number of cells of a grid."""

_SEEN, _BLOCKED, _OPEN = 0, 1, 2
"""What a pixel says of the place that it shows: drivable, an obstacle, nothing."""


@dataclass(frozen=True)
class GridSpec:
    """Extent of a grid: ``length`` ahead of the ground frame's origin, half of ``width`` to either side.

    Raises:
        UserError: a value is out of range.
    """

    resolution: float = 0.1
    """Side of a cell, metres."""
    length: float = 20.0
    """Metres ahead."""
    width: float = 20.0
    """Metres across."""
    obstacle_depth: float = 1.0
    """Metres behind the foot of an obstacle that are taken for a part of it; what is farther is hidden: unknown."""
    ground_tolerance: float = 0.2
    """Height in metres up to which a point of a depth image belongs to the ground."""
    max_height: float = 2.5
    """Height in metres from which an obstacle of a depth image is overhead."""

    def __post_init__(self):
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name, value in values.items():
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"{name} is {value}; expected a positive number of metres")
        rows, columns = self.shape
        if not rows or not columns or rows * columns > MAX_CELLS:
            raise UserError(
                f"a grid of {self.length} m x {self.width} m with cells of {self.resolution} m has {columns}x{rows}"
                f" cells; expected 1 to {MAX_CELLS}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (across, from the right) and columns (ahead)."""
        return round(self.width / self.resolution), round(self.length / self.resolution)

    @property
    def origin(self) -> tuple[float, float]:
        """Corner of the first cell in the ground frame: ahead and to the left, metres."""
        return 0.0, -self.shape[0] * self.resolution / 2

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Places of the columns ahead and of the rows to the left, float64, metres."""
        rows, columns = self.shape
        x0, y0 = self.origin
        return x0 + (np.arange(columns) + 0.5) * self.resolution, y0 + (np.arange(rows) + 0.5) * self.resolution


def class_table(names: Sequence[str], drivable: Sequence[str], ignored: Sequence[str]) -> np.ndarray:
    """What each mask value says of the ground.

    Args:
        names: of the categories, in the order of the mask's values.
        drivable: names of those that can be driven on.
        ignored: names of those that say nothing, such as the sky; all others are obstacles.

    Returns:
        uint8 [256], for ``GroundGrid``.

    Raises:
        UserError: a name is no category, or is in both lists.
    """
    for listed in (drivable, ignored):
        for name in listed:
            if name not in names:
                raise UserError(f"{name!r} is no category; expected some of {', '.join(names)}")
    if both := set(drivable) & set(ignored):
        raise UserError(f"{', '.join(sorted(both))}: drivable and ignored; name each category once")
    table = np.full(256, _OPEN, np.uint8)
    for value, name in enumerate(names):
        table[value] = _SEEN if name in drivable else _OPEN if name in ignored else _BLOCKED
    table[NO_LABEL] = _OPEN
    return table


class GroundGrid:
    """The grid for one camera at one place.

    Args:
        spec: extent.
        camera: that the masks come from.
        pose: of the camera.
    """

    def __init__(self, spec: GridSpec, camera: CameraModel, pose: Pose):
        self.spec, self._camera, self._pose = spec, camera, pose

    def of_flat_ground(self, mask: np.ndarray, table: np.ndarray) -> np.ndarray:
        """The grid by a mask alone, on ground that is flat.

        Pixels of the ground show it where they are. Those of an obstacle show only where it begins, nearest to the
        camera: what it hides is unknown.

        Args:
            mask: uint8 [H, W].
            table: see ``class_table``.

        Returns:
            int8 [rows, columns].
        """
        pixels, cells = self._fans
        seen = np.take(table, np.append(mask, NO_LABEL)[pixels])
        steps = np.arange(seen.shape[1], dtype=np.int32)
        blocked = seen == _BLOCKED
        before = np.maximum.accumulate(np.where(blocked, np.int32(-1), steps), axis=1)
        depth = max(round(self.spec.obstacle_depth / self.spec.resolution), 1)
        state = np.full((seen.shape[0], seen.shape[1] + 1), UNKNOWN, np.int8)
        inner = state[:, :-1]
        inner[seen == _SEEN] = DRIVABLE
        inner[blocked & (steps - before <= depth)] = OBSTACLE
        return np.take(state.ravel(), cells)

    def of_depth(self, mask: np.ndarray, table: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """The grid by a mask and a depth image.

        A cell is what the pixel says that shows it, if the point of that pixel lies on the ground; beside that, every
        point in the height of a vehicle marks the cell below it.

        Args:
            mask: uint8 [H, W].
            table: see ``class_table``.
            depth: float32 [H, W], metres along the camera's axis; NaN where nothing was measured.

        Returns:
            int8 [rows, columns].
        """
        spec, (rows, columns) = self.spec, self.spec.shape
        lens, tolerance = np.float32(self._pose.translation[2]), np.float32(spec.ground_tolerance)
        height = self._axes[2] * depth + lens
        seen = table[mask]
        off = np.abs(height)
        low = off <= tolerance
        # A point above the plane lies before the cell that its pixel shows: a wall's foot must not cover what it hides.
        there = low & ((seen == _SEEN) | (off * depth <= np.float32(spec.obstacle_depth) * lens))
        said = np.append(np.where(there, seen, np.uint8(_OPEN)), np.uint8(_OPEN))[self._pixels]
        # With a border for what lies beside the grid.
        grid = np.full((rows + 2, columns + 2), UNKNOWN, np.int8)
        grid[1:-1, 1:-1] = np.array((DRIVABLE, OBSTACLE, UNKNOWN), np.int8)[said]
        flat = grid.ravel()
        # A road that climbs is not on the plane, but is where its points are.
        where = self._cells_below((seen == _SEEN) & ~low & (off < np.float32(spec.max_height)), depth)
        flat[where[flat[where] == UNKNOWN]] = DRIVABLE
        upright = (seen == _BLOCKED) & (height > -tolerance) & (height < np.float32(spec.max_height))
        flat[self._cells_below(upright, depth)] = OBSTACLE
        return grid[1:-1, 1:-1].copy()

    def _cells_below(self, chosen: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Indices, in the grid with its border, of the cells below the points of chosen pixels, bool [H, W]."""
        at, (rows, columns) = np.flatnonzero(chosen), self.spec.shape
        metres, origin = depth.ravel()[at], self.spec.origin
        row, column = (
            np.clip(axis.ravel()[at] * metres + np.float32((place - start) / self.spec.resolution + 1), 0, count + 1)
            for axis, place, start, count in zip(
                self._axes[:2], self._pose.translation[1::-1], origin[::-1], (rows, columns), strict=True
            )
        )
        return row.astype(np.int32) * (columns + 2) + column.astype(np.int32)

    @cached_property
    def _axes(self) -> np.ndarray:
        """Cells to the left and ahead, and metres upward, for each metre of a pixel's depth: float32 [3, H, W]."""
        right, down = self._camera.rays
        scale = 1 / self.spec.resolution
        rows = self._pose.matrix[[1, 0, 2]] * ((scale,), (scale,), (1.0,))
        return np.stack([right * np.float32(r) + (down * np.float32(d) + np.float32(a)) for r, d, a in rows])

    def _pixels_of(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Index of the pixel that shows each place of the ground, H * W where there is none; int32 [N]."""
        height, width = self._camera.height, self._camera.width
        points = np.column_stack((x, y, np.zeros(len(x))))
        with np.errstate(invalid="ignore"):
            column, row = np.rint(self._camera.pixels(self._pose.to_optical(points))).T
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index = np.full(len(x), height * width, np.int32)
        index[inside] = (row[inside] * width + column[inside]).astype(np.int32)
        return index

    @cached_property
    def _pixels(self) -> np.ndarray:
        """Pixel of each cell, int32 [rows, columns]."""
        ahead, left = self.spec.centres()
        x, y = np.meshgrid(ahead, left)
        return self._pixels_of(x.ravel(), y.ravel()).reshape(self.spec.shape)

    @cached_property
    def _fans(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels along lines over the ground away from the camera, int32 [lines, steps], and the place in them, with
        one step more for what is nowhere, of each cell, int [rows, columns]."""
        resolution = self.spec.resolution
        px, py, _ = self._pose.translation
        ahead, left = self.spec.centres()
        x, y = (places.ravel() for places in np.meshgrid(ahead, left))
        shown = self._pixels_of(x, y) < self._camera.height * self._camera.width
        distance, angle = np.hypot(x - px, y - py), np.arctan2(y - py, x - px)
        steps = max(math.ceil(distance[shown].max() / resolution), 1) if shown.any() else 1
        # Straight ahead of the camera is in the middle, so that no line crosses from 180 to -180 degrees.
        axis = math.atan2(self._pose.rotation[5], self._pose.rotation[2])
        angle = (angle - axis + math.pi) % (2 * math.pi) - math.pi
        first, last = (angle[shown].min(), angle[shown].max()) if shown.any() else (0.0, 0.0)
        lines = min(max(math.ceil((last - first) * steps) + 1, 1), 20_000)
        spread = (last - first) / max(lines - 1, 1) or 1.0
        bearings = axis + first + np.arange(lines) * spread
        ranges = (np.arange(steps) + 0.5) * resolution
        fan_x = (px + np.cos(bearings)[:, None] * ranges).ravel()
        fan_y = (py + np.sin(bearings)[:, None] * ranges).ravel()
        pixels = self._pixels_of(fan_x, fan_y).reshape(lines, steps)
        line = np.clip(np.rint((angle - first) / spread), 0, lines - 1).astype(np.intp)
        step = np.minimum((distance / resolution).astype(np.intp), steps)
        cells = np.where(shown, line * (steps + 1) + step, steps)
        return pixels, cells.reshape(self.spec.shape)
