"""Where the ground is, seen from the camera."""

import math
from dataclasses import dataclass

import numpy as np

from seg_node.core.projection.errors import Drop, ProjectionError

_OPTICAL = np.array(((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)))
"""From the optical frame (right, down, ahead) to the axes of a vehicle (ahead, left, up), REP 103."""

_FARTHEST = 1e7
"""Metres from the ground frame's origin within which a camera can be."""


@dataclass(frozen=True)
class Pose:
    """Place of a camera over the ground: ``ground = rotation @ optical + translation``; hashable.

    The ground frame's axes point ahead, to the left and up, and the ground is where the third coordinate is 0.
    """

    rotation: tuple[float, ...]
    """Row-major 3x3 matrix."""
    translation: tuple[float, float, float]
    """Place of the lens in the ground frame, metres."""

    @staticmethod
    def of_mounting(height: float, pitch: float = 0.0, roll: float = 0.0) -> "Pose":
        """A camera over the ground frame's origin.

        Args:
            height: of the lens over the ground, metres.
            pitch: radians about the axis to the left: positive looks down.
            roll: radians about the axis ahead: positive lowers the right side.
        """
        cp, sp, cr, sr = math.cos(pitch), math.sin(pitch), math.cos(roll), math.sin(roll)
        about_left = np.array(((cp, 0, sp), (0, 1, 0), (-sp, 0, cp)))
        about_ahead = np.array(((1, 0, 0), (0, cr, -sr), (0, sr, cr)))
        matrix = about_left @ about_ahead @ _OPTICAL
        return Pose(tuple(matrix.ravel().tolist()), (0.0, 0.0, float(height)))

    @staticmethod
    def of_transform(quaternion: tuple[float, float, float, float], translation: tuple[float, float, float]) -> "Pose":
        """The pose of a transform from the optical frame into the ground frame.

        Args:
            quaternion: x, y, z, w.
            translation: x, y, z in metres.

        Raises:
            ProjectionError: the quaternion has no length, or a value is not finite or out of range.
        """
        x, y, z, w = quaternion
        length = math.sqrt(x * x + y * y + z * z + w * w)
        if not (1e-6 < length < math.inf and all(abs(value) < _FARTHEST for value in translation)):
            raise ProjectionError(Drop.GROUND, f"the transform has the rotation {quaternion} and {translation}")
        x, y, z, w = x / length, y / length, z / length, w / length
        rotation = (
            1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
            2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
            2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
        )  # fmt: skip
        return Pose(rotation, tuple(map(float, translation)))

    @property
    def matrix(self) -> np.ndarray:
        """The rotation, float64 [3, 3]."""
        return np.array(self.rotation).reshape(3, 3)

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """The rotation as x, y, z, w; the inverse of ``of_transform``."""
        m = self.matrix
        # Of the four ways to begin, the one whose divisor is far from 0.
        squares = np.array((m[0, 0] - m[1, 1] - m[2, 2], m[1, 1] - m[0, 0] - m[2, 2], m[2, 2] - m[0, 0] - m[1, 1],
                            m[0, 0] + m[1, 1] + m[2, 2])) + 1  # fmt: skip
        sums = np.zeros((4, 4))
        sums[0, 1], sums[0, 2], sums[1, 2] = m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1]
        sums[0, 3], sums[1, 3], sums[2, 3] = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
        sums += sums.T + np.diag(squares)
        chosen = sums[int(squares.argmax())]
        return tuple((chosen / np.linalg.norm(chosen)).tolist())

    def to_optical(self, points: np.ndarray) -> np.ndarray:
        """Points of the ground frame, float [N, 3], in the optical frame, float64 [N, 3]."""
        return (np.asarray(points, np.float64) - self.translation) @ self.matrix


def ground_depth(rays: np.ndarray, pose: Pose) -> np.ndarray:
    """Distance along the camera's axis at which each ray meets the ground.

    Args:
        rays: float32 [2, H, W], see ``CameraModel.rays``.
        pose: of the camera.

    Returns:
        float32 [H, W], metres; NaN where a ray does not meet the ground ahead.

    Raises:
        ProjectionError: the lens is not above the ground, or no ray meets it.
    """
    height = pose.translation[2]
    if height <= 0:
        raise ProjectionError(Drop.GROUND, f"the camera is {height:.3f} m above the ground; it must be above it")
    right, down, ahead = (np.float32(value) for value in pose.rotation[6:9])
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.float32(-height) / (rays[0] * right + (rays[1] * down + ahead))
    depth[~((depth > 0) & (depth < np.float32(1e5)))] = np.nan
    if np.isnan(depth).all():
        raise ProjectionError(
            Drop.GROUND, "no pixel sees the ground: the camera looks above the horizon; correct its pitch and roll"
        )
    return depth
