"""Masks into clouds and grids; what depends on camera and ground alone is computed once and kept."""

from functools import lru_cache

import numpy as np

from seg_node.core.projection.camera_model import Calibration, CameraModel
from seg_node.core.projection.cloud import POINT_STEP, write_categories, write_places
from seg_node.core.projection.errors import Drop, ProjectionError
from seg_node.core.projection.grid import GridSpec, GroundGrid
from seg_node.core.projection.ground import Pose, ground_depth


class Projector:
    """Projects masks of one camera, whose calibration and pose may change.

    Args:
        spec: extent of the grids.
        table: what each mask value says of the ground, see ``seg_node.core.projection.grid.class_table``.
        rectified: whether the masks are of rectified images.
    """

    def __init__(self, spec: GridSpec, table: np.ndarray, rectified: bool = False):
        self._spec, self._table, self._rectified = spec, table, rectified
        # Of an object's own, so that its arrays go with it.
        self._camera = lru_cache(maxsize=2)(self._make_camera)
        self._ground = lru_cache(maxsize=2)(self._make_ground)
        self._places = lru_cache(maxsize=1)(self._make_places)
        self._grid = lru_cache(maxsize=2)(self._make_grid)

    def write_points(
        self,
        points: np.ndarray,
        mask: np.ndarray,
        confidence: np.ndarray | None,
        calibration: Calibration,
        pose: Pose | None,
        depth: np.ndarray | None = None,
    ) -> None:
        """Write the cloud of a mask: a point for each pixel in the camera's optical frame, NaN where there is none.

        Args:
            points: uint8 [H * W * 16], aligned to four bytes; filled with points as ``seg_node.core.projection.cloud``
                describes them.
            mask: uint8 [H, W].
            confidence: uint8 [H, W], or None.
            calibration: of the camera.
            pose: of the camera over flat ground, on which the points lie where there is no depth.
            depth: float32 [H, W], metres along the camera's axis, or None.

        Raises:
            ProjectionError: calibration or pose cannot be used, or is not for this mask.
        """
        if depth is None:
            points[:] = self._places(calibration, *mask.shape, self._known(pose))
        else:
            write_places(points, self._camera(calibration, *mask.shape).rays, depth)
        write_categories(points, mask, confidence)

    def grid(
        self, mask: np.ndarray, calibration: Calibration, pose: Pose | None, depth: np.ndarray | None = None
    ) -> np.ndarray:
        """The grid of a mask.

        Args:
            mask: uint8 [H, W].
            calibration: of the camera.
            pose: of the camera over the ground.
            depth: float32 [H, W], metres along the camera's axis, or None for flat ground.

        Returns:
            int8 [rows, columns], values and places as in ``seg_node.core.projection.grid``.

        Raises:
            ProjectionError: calibration or pose cannot be used, or is not for this mask.
        """
        grid = self._grid(calibration, *mask.shape, self._known(pose))
        if depth is not None:
            return grid.of_depth(mask, self._table, depth)
        return grid.of_flat_ground(mask, self._table)

    @staticmethod
    def _known(pose: Pose | None) -> Pose:
        if pose is None:
            raise ProjectionError(
                Drop.GROUND, "the camera's height above the ground is not known: set camera_height, or ground to tf"
            )
        return pose

    def _make_camera(self, calibration: Calibration, height: int, width: int) -> CameraModel:
        return CameraModel(calibration, height, width, self._rectified)

    def _make_ground(self, calibration: Calibration, height: int, width: int, pose: Pose) -> np.ndarray:
        return ground_depth(self._camera(calibration, height, width).rays, pose)

    def _make_places(self, calibration: Calibration, height: int, width: int, pose: Pose) -> np.ndarray:
        depth = self._ground(calibration, height, width, pose)
        points = np.empty(height * width * POINT_STEP, np.uint8)
        write_places(points, self._camera(calibration, height, width).rays, depth)
        return points

    def _make_grid(self, calibration: Calibration, height: int, width: int, pose: Pose) -> GroundGrid:
        # Asked for the depth first: it says what is wrong with a pose.
        self._ground(calibration, height, width, pose)
        return GroundGrid(self._spec, self._camera(calibration, height, width), pose)
