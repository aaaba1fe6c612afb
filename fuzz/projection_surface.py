"""Calibration, depth image and pose of a mask that is projected."""

import math
import warnings
from random import Random

import numpy as np
from cases import Case
from surfaces import ACCEPTED, Surface, expect, refused

from seg_node.core.images import RawPixels
from seg_node.core.projection.camera_model import Calibration
from seg_node.core.projection.cloud import POINT, POINT_STEP
from seg_node.core.projection.depth import read_depth
from seg_node.core.projection.errors import ProjectionError
from seg_node.core.projection.grid import DRIVABLE, OBSTACLE, UNKNOWN, GridSpec, class_table
from seg_node.core.projection.ground import Pose
from seg_node.core.projection.projector import Projector
from seg_node.core.taxonomy import CATEGORY_NAMES

_SIZE = (12, 16)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-9, 1e9, 1e300, -1e300, 5e-324, math.nan, math.inf, -math.inf)
_MODELS = (
    ("plumb_bob", 5),
    ("plumb_bob", 4),
    ("rational_polynomial", 8),
    ("equidistant", 4),
    ("fisheye", 4),
    ("", 0),
    ("odd", 5),
    ("x" * 3000, 5),
)
"""Names, and the number of coefficients that some have."""
_SPEC = GridSpec(0.5, 8.0, 8.0)


class ProjectionSurface(Surface):
    """Projecting a mask; refuses with ``ProjectionError``."""

    def __init__(self, folder):
        super().__init__(folder)
        self._table = class_table(CATEGORY_NAMES, ["flat"], ["void", "sky"])

    def draw(self, rng: Random) -> Case:
        def number(usual: float) -> float:
            return rng.choice(_FLOATS) if rng.random() < 0.02 else usual * rng.uniform(0.3, 3)

        height, width = _SIZE
        model, known = rng.choice(_MODELS)
        case = {
            "size": [height, width] if rng.random() < 0.95 else [rng.choice((0, 1, 2**32 - 1)), width],
            "model": model,
            "d": [number(0.05) for _ in range(known if rng.random() < 0.8 else rng.choice((0, 4, 5, 8, 12, 14, 300)))],
            "k": [number(20), 0.0, number(8), 0.0, number(20), number(5), 0.0, 0.0, 1.0],
            "binning": rng.choice((*([[0, 0], [1, 1]] * 8), [2, 2], [2**32 - 1, 1])),
            "roi": rng.choice((*([[0, 0, 0, 0]] * 8), [3, 2, width, height], [2**32 - 1] * 4)),
            "quaternion": list(Pose.of_mounting(1.0, rng.uniform(-0.6, 1), rng.uniform(-1, 1)).quaternion),
            "place": [number(1), number(1), number(1.4)],
            "depth": None,
            "mask": rng.randbytes(height * width),
        }
        if rng.random() < 0.1:
            case["quaternion"] = [number(1) for _ in range(4)]
        if rng.random() < 0.5:
            encoding, size = rng.choice((("32FC1", 4), ("16UC1", 2), ("mono16", 2), ("bgr8", 3)))
            step = size * width if rng.random() < 0.8 else rng.choice((0, 1, 7 * width, 2**32 - 1))
            case["depth"] = [
                encoding,
                rng.randrange(2),
                step,
                rng.randbytes(max(min(step, 200) * height - (rng.random() < 0.1), 0)),
            ]
        return case

    def feed(self, case: Case) -> str:
        mask = np.frombuffer(case["mask"], np.uint8).reshape(_SIZE)
        (left, top, width, height), sides = case["roi"], case["size"]
        calibration = Calibration(
            *sides,
            case["model"],
            tuple(case["d"]),
            tuple(case["k"]),
            (),
            tuple(case["binning"]),
            (left, top),
            (width, height),
        )
        points = np.empty(mask.size * POINT_STEP, np.uint8)
        projector = Projector(_SPEC, self._table)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                pose = Pose.of_transform(tuple(case["quaternion"]), tuple(case["place"]))
                depth = None
                if case["depth"]:
                    encoding, big, step, data = case["depth"]
                    depth = read_depth(RawPixels(*_SIZE, encoding, big, step, data), *_SIZE)
                projector.write_points(points, mask, mask, calibration, pose, depth)
                grid = projector.grid(mask, calibration, pose, depth)
        except ProjectionError as error:
            return refused(error)
        found = points.view(POINT).reshape(_SIZE)
        expect(np.array_equal(found["category"], mask), "a point has another category than its pixel")
        nowhere = [np.isnan(found[axis]) for axis in "xyz"]
        expect(np.array_equal(nowhere[0], nowhere[1]) and np.array_equal(nowhere[1], nowhere[2]), "half a place")
        expect(not np.isinf(found["x"]).any() and (found["z"][~nowhere[2]] > 0).all(), "a place that is none")
        expect(grid.shape == _SPEC.shape and np.isin(grid, (DRIVABLE, OBSTACLE, UNKNOWN)).all(), "a grid that is none")
        return ACCEPTED
