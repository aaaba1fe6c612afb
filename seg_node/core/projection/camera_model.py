"""The lens of a camera: from pixels to rays and back, by the distortion models of ``sensor_msgs/CameraInfo``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from seg_node.core.projection.errors import Drop, ProjectionError

COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
"""Numbers of coefficients that each distortion model may have. Those of 12 and 14 are a thin prism and a tilted sensor,
which OpenCV adds to the rational polynomial."""

_ALIASES = {"fisheye": "equidistant", "radtan": "plumb_bob", "rational": "rational_polynomial"}

_WRONG_PX = 0.5
"""Distance in pixels from which a ray that is projected back is not the pixel's own: beyond the edge of the lens the
polynomials of a calibration turn back, and have no or several rays for a pixel."""

_STEEPEST = 1e3
"""Slope from which a ray is taken for one along the picture, and has no place: 0.06 degrees of it."""

_FOCAL = 1e-2, 1e6
"""Range of a focal length in pixels."""

_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-9)


@dataclass(frozen=True)
class Calibration:
    """What ``sensor_msgs/CameraInfo`` says, without the header; hashable, so that what follows from it can be kept."""

    height: int
    width: int
    """Size in pixels for which ``k`` and ``p`` hold."""
    model: str
    """``plumb_bob``, ``rational_polynomial`` or ``equidistant``; empty for a camera without distortion."""
    d: tuple[float, ...]
    """Coefficients of the model."""
    k: tuple[float, ...]
    """Row-major intrinsic matrix of the raw image: fx 0 cx, 0 fy cy, 0 0 1, in pixels."""
    p: tuple[float, ...] = ()
    """Row-major 3x4 projection matrix of the rectified image; empty where it is not known."""
    binning: tuple[int, int] = (1, 1)
    """Columns and rows of the sensor for each pixel of the image."""
    offset: tuple[int, int] = (0, 0)
    """First column and row of the region of interest, in pixels of the full image."""
    region: tuple[int, int] = (0, 0)
    """Width and height of the region of interest, 0 for the full image."""


class CameraModel:
    """A calibrated camera for images of one size. A pixel's centre has whole coordinates, as in OpenCV.

    Args:
        calibration: of the camera.
        height: of the images, in pixels.
        width: of the images, in pixels.
        rectified: whether the images are rectified: ``p`` holds, and there is no distortion.

    Raises:
        ProjectionError: the calibration cannot be used, or is for images of another size.
    """

    def __init__(self, calibration: Calibration, height: int, width: int, rectified: bool = False):
        _check_size(calibration, height, width)
        fx, fy, cx, cy = _intrinsics(calibration, rectified)
        (bx, by), (left, top) = (max(step, 1) for step in calibration.binning), calibration.offset
        self.height, self.width = height, width
        self.matrix = np.array(((fx / bx, 0, (cx - left) / bx), (0, fy / by, (cy - top) / by), (0, 0, 1)), np.float64)
        """Intrinsic matrix of the images at hand, float64 [3, 3]."""
        self._fisheye = False
        self._d = np.zeros(5)
        if not rectified:
            self._fisheye, self._d = _distortion(calibration)
        self._straight = not (self._fisheye or self._d.any())

    @cached_property
    def rays(self) -> np.ndarray:
        """Direction of each pixel in the camera's optical frame (right, down, ahead).

        float32 [2, H, W]: metres to the right and down for each metre ahead; NaN for pixels beyond the lens.
        """
        columns, rows = np.meshgrid(np.arange(self.width, dtype=np.float64), np.arange(self.height, dtype=np.float64))
        pixels = np.stack((columns.ravel(), rows.ravel()), 1)
        slopes = self._undistort(pixels)
        with np.errstate(over="ignore", invalid="ignore"):
            shown = np.hypot(*(self._distort(slopes) - pixels).T) < _WRONG_PX
        slopes[~shown | (np.abs(slopes) > _STEEPEST).any(1)] = np.nan
        return np.ascontiguousarray(slopes.T.reshape(2, self.height, self.width).astype(np.float32))

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Project points of the optical frame.

        Args:
            points: float [N, 3], metres to the right, down and ahead.

        Returns:
            float64 [N, 2], column and row, which may lie outside of the image; NaN for points behind the camera, and
            for those farther from its axis than any pixel looks.
        """
        points = np.asarray(points, np.float64)
        found = np.full((len(points), 2), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = points[:, :2] / points[:, 2:]
            # Beyond, the polynomials may turn back into the image.
            shown = np.flatnonzero((points[:, 2] > 1e-6) & ((slopes**2).sum(1) <= self._reach))
        if shown.size:
            found[shown] = self._distort(slopes[shown])
        return found

    @cached_property
    def _reach(self) -> float:
        """Square of the greatest slope of a ray, with a margin of a pixel."""
        squares = (self.rays.astype(np.float64) ** 2).sum(0)
        return 0.0 if np.isnan(squares).all() else float((math.sqrt(np.nanmax(squares)) + 1 / self.matrix[0, 0]) ** 2)

    def _undistort(self, pixels: np.ndarray) -> np.ndarray:
        if self._straight:
            return (pixels - self.matrix[:2, 2]) / self.matrix[[0, 1], [0, 1]]
        given = np.ascontiguousarray(pixels, np.float64)[:, None]
        if self._fisheye:
            return cv2.fisheye.undistortPoints(given, self.matrix, self._d)[:, 0]
        if hasattr(cv2, "undistortPointsIter"):
            # OpenCV 4; its undistortPoints stops after five rounds, pixels away from where they belong.
            return cv2.undistortPointsIter(given, self.matrix, self._d, np.eye(3), np.eye(3), _CRITERIA)[:, 0]
        return cv2.undistortPoints(given, self.matrix, self._d, criteria=_CRITERIA)[:, 0]

    def _distort(self, slopes: np.ndarray) -> np.ndarray:
        if self._straight:
            return slopes * self.matrix[[0, 1], [0, 1]] + self.matrix[:2, 2]
        points = np.column_stack((slopes, np.ones(len(slopes))))[:, None]
        still = np.zeros(3)
        if self._fisheye:
            return cv2.fisheye.projectPoints(points, still, still, self.matrix, self._d)[0].reshape(-1, 2)
        return cv2.projectPoints(points, still, still, self.matrix, self._d)[0].reshape(-1, 2)


def _check_size(calibration: Calibration, height: int, width: int) -> None:
    region = calibration.region if all(calibration.region) else (calibration.width, calibration.height)
    expected = tuple(side // max(step, 1) for side, step in zip(region, calibration.binning, strict=True))
    if expected != (width, height):
        raise ProjectionError(
            Drop.SIZE,
            f"the mask is {width}x{height}, but camera_info is of images of {expected[0]}x{expected[1]}; "
            "calibrate the camera at the size that it sends, or relay the camera_info of the scaled image",
        )


def _intrinsics(calibration: Calibration, rectified: bool) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy."""
    name, values, size = ("p", calibration.p, 12) if rectified else ("k", calibration.k, 9)
    if len(values) != size or not all(map(math.isfinite, values)):
        raise ProjectionError(Drop.CAMERA_INFO, f"{name} of camera_info is {_short(values)}; expected {size} numbers")
    rows = np.array(values).reshape(3, -1)
    if not all(_FOCAL[0] <= rows[axis, axis] <= _FOCAL[1] for axis in (0, 1)):
        focal = f"the focal lengths must be from {_FOCAL[0]:g} to {_FOCAL[1]:g} pixels"
        hint = "all zeros: the camera is not calibrated" if not any(values) else focal
        raise ProjectionError(Drop.CAMERA_INFO, f"{name} of camera_info is {_short(values)}; {hint}")
    return rows[0, 0], rows[1, 1], rows[0, 2], rows[1, 2]


def _distortion(calibration: Calibration) -> tuple[bool, np.ndarray]:
    """Whether the lens is a fisheye, and its coefficients, float64 [N]."""
    given: Sequence[float] = calibration.d
    if not all(map(math.isfinite, given)):
        raise ProjectionError(Drop.CAMERA_INFO, f"d of camera_info is {_short(given)}; expected finite numbers")
    model = _ALIASES.get(calibration.model, calibration.model)
    if model in COEFFICIENTS and len(given) not in (0, *COEFFICIENTS[model]):
        counts = " or ".join(map(str, COEFFICIENTS[model]))
        raise ProjectionError(Drop.CAMERA_INFO, f"d of camera_info has {len(given)} coefficients; {model} has {counts}")
    if model == "equidistant":
        return True, np.array(given or (0.0,) * 4)
    if not any(given):
        # Simulators leave the model empty.
        return False, np.zeros(5)
    if model not in COEFFICIENTS:
        raise ProjectionError(
            Drop.CAMERA_INFO,
            f"distortion_model of camera_info is {calibration.model[:40]!r}; expected {', '.join(COEFFICIENTS)}",
        )
    return False, np.array(given)


def _short(values: Sequence[float]) -> str:
    """Numbers for people, who need not see all of them."""
    text = str(list(values))
    return text if len(text) <= 200 else f"{text[:200]}..."
