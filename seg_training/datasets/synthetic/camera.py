"""Camera of a made-up drive: projection of the street into one frame, and drawing into picture and mask."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_node.core.taxonomy import Category
from seg_training.datasets.synthetic.textures import Colour, Texture, to_bytes
from seg_training.datasets.synthetic.weather import Lighting

if TYPE_CHECKING:
    from seg_training.datasets.synthetic.street import Street

NEAR = 0.6
"""Distance of the clipping plane, metres."""
FAR = 130.0
"""Distance up to which objects stand, metres."""


@dataclass(frozen=True)
class Camera:
    """Pinhole camera without distortion, at a fixed height above the street."""

    height: int
    """Rows of the picture."""
    width: int
    """Columns of the picture."""
    fx: float
    fy: float
    cx: float
    cy: float
    """Intrinsics in pixels."""
    eye: float
    """Height of the lens above the street, metres."""


class View:
    """One frame being drawn: projection, picture and mask. The street bends so little that angles are small.

    Args:
        camera: intrinsics and height of the camera.
        pose: (s, u, yaw, pitch) of the camera; metres and radians.
        time: seconds since the start of the drive.
        street: street that the camera looks along.
        lighting: light on the street.
    """

    steps = 4
    """Corners of a strip of the ground for each factor e of distance."""

    def __init__(
        self,
        camera: Camera,
        pose: tuple[float, float, float, float],
        time: float,
        street: "Street",
        lighting: Lighting,
    ):
        height, width = camera.height, camera.width
        self.lighting, self.mood = lighting, lighting.mood
        self.height, self.width, self.eye = height, width, camera.eye
        self.time = time
        self.s, self.u, self.yaw, pitch = pose
        self.fx, self.fy, self.cx = camera.fx, camera.fy, camera.cx
        self.cy = camera.cy + pitch * self.fy
        self._focal, self._centre = np.array((self.fx, -self.fy)), np.array((self.cx, self.cy))
        self._aperture = (width / 2 + 8) / self.fx
        self.horizon = round(self.cy)
        self._grid = np.arange(-24.0, 420.0, 2.0)
        self._bend = street.bend(self.s, self._grid) - self.yaw * self._grid
        self.image = np.empty((height, width, 3), np.uint8)
        self.mask = np.empty((height, width), np.uint8)
        self.depth: np.ndarray | None = None
        """Distance along the camera's axis, float32 [H, W] metres, inf where nothing is near; None leaves it out."""
        self.haze = np.empty((height, width, 3), np.uint8)
        self.haze[:] = to_bytes(np.array(self.mood.horizon))

    def measure(self) -> None:
        """Begin a depth image, with the bare ground; what is drawn from now on is drawn into it, too."""
        rows = np.arange(self.height) - self.cy
        with np.errstate(divide="ignore"):
            ground = np.where(rows > 0, self.eye * self.fy / rows, np.inf).astype(np.float32)
        self.depth = np.repeat(ground[:, None], self.width, 1)

    def bend(self, z: np.ndarray | float) -> np.ndarray | float:
        """Sideways shift of the street's middle at a distance, seen along the camera's axis, in metres."""
        return np.interp(z, self._grid, self._bend)

    def camera_points(self, s, u, h) -> np.ndarray:
        """Points (s, u, h) in the camera's frame: float64 [N, 3] of right, up (0 at the lens) and forward, metres."""
        z = np.subtract(s, self.s)
        x = np.subtract(u, self.u) + self.bend(z)
        points = np.empty((max(np.size(z), np.size(x), np.size(h)), 3))
        points[:, 0], points[:, 1], points[:, 2] = x, np.subtract(h, self.eye), z
        return points

    def offset(self, s: float, u: float) -> float:
        """Distance of the camera to the right of an object at (s, u), as the object sees it, in metres."""
        return self.u - self.bend(s - self.s) - u

    def shifted(self, points: np.ndarray, s: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Points at the places ``s``, moved to the right across the street by metres."""
        moved = points.copy()
        moved[:, 0] += across
        return moved

    def ground(self, z: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places on the ground in metres to which its structure is tied.

        Args:
            z: float32 [rows], distance of each row of pixels.
            slope: float32 [columns], metres to the right for each metre of distance.

        Returns:
            Along and across: float32, broadcasting to [rows, columns].
        """
        across = z[:, None] * slope + (self.u - self.bend(z)).astype(np.float32)[:, None]
        return (self.s % 4096 + z)[:, None], across

    def strip(self, s: np.ndarray, u: np.ndarray, colour: Colour, category: int | None) -> None:
        """Fill a flat polygon on the ground whose colour is final, ahead of the near plane."""
        self.fill(self.pixels(self.camera_points(s, u, 0.0)), colour, category)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Project points in front of the near plane: float64 [N, 2] of column, row."""
        return points[:, :2] * self._focal / points[:, 2:] + self._centre

    def sees(self, s: float, u: float, radius: float) -> bool:
        """Whether something of a radius in metres around (s, u) can be in the picture."""
        z = s - self.s
        return z + radius > NEAR and abs(u - self.u + self.bend(z)) - radius < (z + radius) * self._aperture

    def fog(self, z: float) -> float:
        return 1 - math.exp(-max(z, 0.0) * self.mood.haze)

    def colour(self, colour: Colour, z: float, gain: float = 1.0) -> Colour:
        """Colour of a surface as it is seen from a distance."""
        fog = self.fog(z)
        keep, (b, g, r), air = gain * (1 - fog), colour, self.mood.horizon
        return (b * keep + air[0] * fog, g * keep + air[1] * fog, r * keep + air[2] * fog)

    def fill(
        self, pixels: np.ndarray, colour: Colour, category: int | None, z: np.ndarray | float | None = None
    ) -> None:
        """Fill a polygon.

        Args:
            pixels: its corners, float [N, 2] of column, row.
            colour: of all of it.
            category: None leaves mask and depth as they are, for details upon a surface.
            z: distance of each corner, float [N], or of all; None for what lies on the ground or is far away.
        """
        corners = np.rint(np.minimum(np.maximum(pixels, -8000), 8000) * 16).astype(np.int32)
        cv2.fillPoly(self.image, [corners], colour, cv2.LINE_AA, 4)
        if category is None:
            return
        cv2.fillPoly(self.mask, [corners], int(category), cv2.LINE_8, 4)
        if self.depth is None or z is None:
            return
        x0, y0 = np.clip(np.floor(pixels.min(0)).astype(int), 0, (self.width, self.height))
        x1, y1 = np.clip(np.ceil(pixels.max(0)).astype(int) + 1, 0, (self.width, self.height))
        if x1 > x0 and y1 > y0:
            stencil = np.zeros((y1 - y0, x1 - x0), np.uint8)
            cv2.fillPoly(stencil, [corners - (x0 * 16, y0 * 16)], 1, cv2.LINE_8, 4)
            self._put(stencil, x0, y0, np.column_stack((pixels, np.broadcast_to(z, len(pixels)))))

    def _put(self, stencil: np.ndarray, x0: int, y0: int, corners: np.ndarray) -> None:
        """Set the depth where a stencil, uint8 [h, w] from column x0 and row y0, is not 0.

        The inverse of the distance is linear in the picture: it is fitted to the corners of a flat surface, float
        [N, 3] of column, row and distance.
        """
        if self.depth is None:
            return
        place = np.column_stack((corners[:, :2], np.ones(len(corners))))
        (across, downward, start), *_ = np.linalg.lstsq(place, 1 / corners[:, 2], rcond=None)
        rows, columns = np.nonzero(stencil)
        inverse = (columns + x0) * across + (rows + y0) * downward + start
        # A surface seen from its edge has no slope that a fit can find.
        near, far = corners[:, 2].min(), corners[:, 2].max()
        depth = np.clip(1 / np.maximum(inverse, 1e-6), near, far)
        self.depth[rows + y0, columns + x0] = depth

    def polygon(self, points: np.ndarray, colour: Colour, category: int | None, gain: float = 1.0) -> None:
        """Fill a flat polygon given in the camera's frame, float [N, 3]."""
        points = clip(points)
        if len(points) >= 3:
            depth = (points[0, 2] + points[len(points) // 2, 2]) / 2
            self.fill(self.pixels(points), self.colour(colour, depth, gain), category, points[:, 2])

    def wall(self, texture: Texture, start, end, category: int, gain: float, base: float = 0.0) -> None:
        """Draw an upright textured wall.

        Args:
            texture: spans the wall's whole length and its height.
            start: (s, u) of the texture's left edge.
            end: (s, u) of its right edge.
            category: of its pixels.
            gain: brightness.
            base: height of the lower edge, metres.
        """
        top = base + texture.height
        quad = self.camera_points(
            (start[0], end[0], end[0], start[0]), (start[1], end[1], end[1], start[1]), (base, base, top, top)
        )
        visible = clip(quad)
        if len(visible) < 3:
            return
        pixels = self.pixels(visible)
        x0, y0 = np.maximum(np.floor(pixels.min(0)).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(pixels.max(0)).astype(int) + 1, (self.width, self.height))
        if x1 - x0 < 1 or y1 - y0 < 1:
            return
        (xa, _, za), (xb, _, zb) = quad[0], quad[1]
        # Columns: step along the texture, step down it, its upper left corner; homogeneous pixels.
        rows, cols = self._level(texture, visible[:, 2].min()).shape[:2]
        along = np.array((self.fx * (xb - xa) + self.cx * (zb - za), self.cy * (zb - za), zb - za)) / cols
        down = np.array((0, self.fy, 0)) * texture.height / rows
        corner = np.array((self.fx * xa + self.cx * za, self.fy * (self.eye - top) + self.cy * za, za))
        matrix = np.array(((1, 0, -x0), (0, 1, -y0), (0, 0, 1))) @ np.column_stack((along, down, corner))
        size = (int(x1 - x0), int(y1 - y0))
        picture = cv2.warpPerspective(
            self._level(texture, visible[:, 2].min()),
            matrix,
            size,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        stencil = np.zeros(size[::-1], np.uint8)
        cv2.fillPoly(stencil, [np.rint((pixels - (x0, y0)) * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
        self._stamp(picture, stencil, x0, y0, category, gain, visible[:, 2].mean())
        self._put(stencil, x0, y0, np.column_stack((pixels, visible[:, 2])))

    def _level(self, texture: Texture, nearest: float) -> np.ndarray:
        texels = texture.levels[0].shape[0] / texture.height
        level = math.log2(max(texels * max(nearest, NEAR) / self.fy, 1.0))
        return texture.levels[min(int(level + 0.4), len(texture.levels) - 1)]

    def sprite(
        self, levels: list[np.ndarray], s: float, u: float, low: float, width: float, height: float, gain: float
    ):
        """Draw an upright cut-out that faces the camera: vegetation, ``low`` metres above the ground."""
        x, y, z = self.camera_points(s, u, low)[0]
        if z < 1.5:
            return
        scale = self.fx / z
        left, bottom = self.cx + (x - width / 2) * scale, self.cy - y * self.fy / z
        w, h = width * scale, height * self.fy / z
        x0, y0 = max(int(left), 0), max(int(bottom - h), 0)
        x1, y1 = min(int(left + w) + 1, self.width), min(int(bottom) + 1, self.height)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        level = min(max(int(math.log2(max(levels[0].shape[0] / h, 1.0)) + 0.4), 0), len(levels) - 1)
        source = levels[level]
        matrix = np.array(((w / source.shape[1], 0, left - x0), (0, h / source.shape[0], bottom - h - y0)))
        picture = cv2.warpAffine(source, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
        stencil = cv2.threshold(picture[..., 3], 127, 255, cv2.THRESH_BINARY)[1]
        self._stamp(picture[..., :3], stencil, x0, y0, Category.NATURE, gain, z)
        if self.depth is not None:
            self.depth[y0:y1, x0:x1][stencil > 0] = z

    def _stamp(self, picture, stencil, x0: int, y0: int, category: int, gain: float, z: float) -> None:
        rows, cols = slice(y0, y0 + stencil.shape[0]), slice(x0, x0 + stencil.shape[1])
        fog = self.fog(z)
        shaded = cv2.addWeighted(np.ascontiguousarray(picture), gain * (1 - fog), self.haze[rows, cols], fog, 0)
        cv2.copyTo(shaded, stencil, self.image[rows, cols])
        self.mask[rows, cols][stencil > 0] = category


def clip(points: np.ndarray) -> np.ndarray:
    """Cut a polygon, float [N, 3], at the near plane (Sutherland and Hodgman)."""
    if points[:, 2].min() >= NEAR:
        return points
    ahead = points[:, 2] >= NEAR
    if not ahead.any():
        return points[:0]
    kept = []
    for i in range(len(points)):
        a, b = points[i - 1], points[i]
        if ahead[i - 1] != ahead[i]:
            kept.append(a + (b - a) * (NEAR - a[2]) / (b[2] - a[2]))
        if ahead[i]:
            kept.append(b)
    return np.array(kept)
