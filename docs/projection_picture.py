"""The picture of docs/planner.md: a frame under its mask, its cloud from above, and grids of the ground."""

import cv2
import numpy as np

from seg_node.core.bundle import DEFAULT_MODEL, load_bundle
from seg_node.core.engines import create_engine
from seg_node.core.overlay import paint
from seg_node.core.projection.camera_model import Calibration
from seg_node.core.projection.cloud import POINT, POINT_STEP
from seg_node.core.projection.grid import DRIVABLE, OBSTACLE, GridSpec, class_table
from seg_node.core.projection.ground import Pose
from seg_node.core.projection.projector import Projector
from seg_node.core.taxonomy import CATEGORY_NAMES, PALETTE_RGB
from seg_training.datasets.synthetic import SyntheticDrive
from seg_training.datasets.synthetic.plan import true_grid

_SEED, _FRAME = 7, 90
_SIDE = 320
"""Pixels of a view from above."""
_INK, _PAPER = (24, 24, 24), (255, 255, 255)


def projection_picture() -> np.ndarray:
    """Draw it: uint8 [H, W, 3] BGR."""
    drive, spec = SyntheticDrive(_SEED, turns=True), GridSpec()
    image, truth, depth = drive.measured_frame(_FRAME)
    mask = create_engine(load_bundle(DEFAULT_MODEL)).infer(image)[0]
    fx, fy, cx, cy = drive.camera
    camera, pose = (
        Calibration(*truth.shape, "", (), (fx, 0, cx, 0, fy, cy, 0, 0, 1)),
        Pose.of_mounting(*drive.mounting(_FRAME)),
    )
    projector = Projector(spec, class_table(CATEGORY_NAMES, ["flat"], ["void", "sky"]))
    measured = np.where(np.isfinite(depth), depth, np.nan).astype(np.float32)
    points = np.empty(mask.size * POINT_STEP, np.uint8)
    projector.write_points(points, mask, None, camera, pose, measured)
    views = {
        "~/points with depth": _from_above(points.view(POINT), pose, spec),
        "~/grid, flat ground": _coloured(projector.grid(mask, camera, pose)),
        "~/grid with depth": _coloured(projector.grid(mask, camera, pose, measured)),
        "truth": _coloured(true_grid(drive, _FRAME, spec, truth, depth)),
    }
    row = np.hstack([_titled(name, view) for name, view in views.items()])
    scale = row.shape[1] / 2 / image.shape[1]
    frames = [cv2.resize(picture, None, fx=scale, fy=scale) for picture in (image, paint(image, mask))]
    return np.vstack((np.hstack(frames), row))


def _from_above(points: np.ndarray, pose: Pose, spec: GridSpec) -> np.ndarray:
    """Points below 2.5 m in the colours of their categories, as the grid lies: uint8 [rows, columns, 3]."""
    places = np.stack([points[axis] for axis in "xyz"], 1) @ pose.matrix.T + pose.translation
    low = places[:, 2] < spec.max_height
    cells = (places[low, :2] - spec.origin) // spec.resolution
    inside = ((cells >= 0) & (cells < spec.shape[::-1])).all(1)
    view = np.full((*spec.shape, 3), _PAPER, np.uint8)
    column, row = cells[inside].astype(int).T
    view[row, column] = PALETTE_RGB[points["category"][low][inside]][:, ::-1]
    return view


def _coloured(grid: np.ndarray) -> np.ndarray:
    """Drivable green, obstacles red, unknown grey: uint8 [rows, columns, 3]."""
    view = np.full((*grid.shape, 3), (200, 200, 200), np.uint8)
    view[grid == DRIVABLE], view[grid == OBSTACLE] = (110, 190, 90), (50, 50, 210)
    return view


def _titled(title: str, view: np.ndarray) -> np.ndarray:
    """A view with what is ahead at the top and what is left at the left, below its title."""
    turned = cv2.resize(view.transpose(1, 0, 2)[::-1, ::-1], (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
    turned = cv2.copyMakeBorder(turned, 30, 4, 4, 4, cv2.BORDER_CONSTANT, value=_PAPER)
    cv2.putText(turned, title, (8, 21), cv2.FONT_HERSHEY_SIMPLEX, 0.55, _INK, 1, cv2.LINE_AA)
    return turned
