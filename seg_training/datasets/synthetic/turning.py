"""View of a street with real turns, in which angles are not small."""

import math

import numpy as np

from seg_training.datasets.synthetic.camera import NEAR, Camera, View, clip
from seg_training.datasets.synthetic.street import Street
from seg_training.datasets.synthetic.textures import Colour
from seg_training.datasets.synthetic.weather import Lighting

_BEHIND, _AHEAD, _STEP = 24.0, 420.0, 0.5
"""Part of the street that is projected, and the distance of its points, metres."""


class TurningView(View):
    """A ``View`` that follows the street's middle exactly: the camera yaws with the street, and far things turn away.

    The heading has to stay within a right angle of the camera's, so that what comes later along the street is farther
    away.
    """

    steps = 12

    def __init__(
        self, camera: Camera, pose: tuple[float, float, float, float], time: float, street: Street, lighting: Lighting
    ):
        super().__init__(camera, pose, time, street, lighting)
        self._along = np.arange(-_BEHIND, _AHEAD, _STEP)
        self._world_heading = street.heading(self.s) + self.yaw
        self._turn = street.headings(self.s + self._along) - self._world_heading
        aside, ahead = self._integral(np.sin(self._turn)), self._integral(np.cos(self._turn))
        here = round(_BEHIND / _STEP)
        self._aside = aside - aside[here] - self.u * math.cos(self._turn[here])
        self._ahead = ahead - ahead[here] + self.u * math.sin(self._turn[here])
        along, across = street.centre(self.s)
        heading = street.heading(self.s)
        self._world = along - self.u * math.sin(heading), across + self.u * math.cos(heading)

    @staticmethod
    def _integral(values: np.ndarray) -> np.ndarray:
        return np.concatenate(((0.0,), np.cumsum((values[1:] + values[:-1]) / 2 * _STEP)))

    def _middle(self, s) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Street's middle in the camera's frame, metres to the right and forward, and its direction, radians."""
        along = np.subtract(s, self.s)
        return tuple(np.interp(along, self._along, values) for values in (self._aside, self._ahead, self._turn))

    def camera_points(self, s, u, h) -> np.ndarray:
        """Points (s, u, h) in the camera's frame, like ``View.camera_points``."""
        aside, ahead, turn = self._middle(s)
        x, z = aside + u * np.cos(turn), ahead - u * np.sin(turn)
        points = np.empty((max(np.size(x), np.size(h)), 3))
        points[:, 0], points[:, 1], points[:, 2] = x, np.subtract(h, self.eye), z
        return points

    def sees(self, s: float, u: float, radius: float) -> bool:
        """Whether something of a radius in metres around (s, u) can be in the picture."""
        x, _, z = self.camera_points(s, u, 0.0)[0]
        return z + radius > NEAR and abs(x) - radius < (z + radius) * self._aperture

    def offset(self, s: float, u: float) -> float:
        """Distance of the camera to the right of an object at (s, u), as the object sees it, in metres."""
        aside, ahead, turn = self._middle(s)
        return float(ahead * np.sin(turn) - aside * np.cos(turn) - u)

    def shifted(self, points: np.ndarray, s: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Points at the places ``s``, moved to the right across the street by metres."""
        turn = self._middle(s)[2]
        moved = points.copy()
        moved[:, 0] += across * np.cos(turn)
        moved[:, 2] -= across * np.sin(turn)
        return moved

    def ground(self, z: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places in the world, so that the ground's structure lies still while the camera turns."""
        sine, cosine = np.float32(math.sin(self._world_heading)), np.float32(math.cos(self._world_heading))
        z, x = z[:, None], z[:, None] * slope
        along, across = (np.float32(place % 4096) for place in self._world)
        return along + z * cosine - x * sine, across + z * sine + x * cosine

    def strip(self, s: np.ndarray, u: np.ndarray, colour: Colour, category: int | None) -> None:
        """Fill a flat polygon on the ground whose colour is final."""
        points = clip(self.camera_points(s, u, 0.0))
        if len(points) >= 3:
            self.fill(self.pixels(points), colour, category)
