"""Made-up drives with exact masks: streets in perspective through which a camera moves.

The world is a flat street that bends gently. A point is given by (s, u, h): metres along the street, to the right of
its middle, and above it. Everything is drawn far to near as polygons, textured walls and cut-out sprites, into the
picture and the mask at once. What stands where is drawn from random generators seeded by (seed, place), so a frame is
a pure function of (seed, index) and a drive never ends.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from seg_node.core.taxonomy import Category

LIGHTS = ("sun", "overcast", "dusk")
WEATHERS = ("dry", "rain", "fog")

_NEAR = 0.6
"""Distance of the clipping plane, metres."""
_FAR = 130.0
"""Distance up to which objects stand, metres."""
_CHUNK = 12.0
"""Length of the pieces in which the street is made up, metres."""
_MANY = 10**6
"""Makes the numbers of moving places positive, and tells people apart."""
_LANE = 3.3
_PARKING = 2.2

_FLAT, _CONSTRUCTION, _OBJECT = Category.FLAT, Category.CONSTRUCTION, Category.OBJECT
_NATURE, _HUMAN, _VEHICLE = Category.NATURE, Category.HUMAN, Category.VEHICLE

Colour = tuple[float, float, float]


def _noise(rng: np.random.Generator, height: int, width: int, cells: Sequence[int], weights: Sequence[float]):
    """Sum of smooth noises that repeats at its borders, float32 [height, width], mean 0, about -1..1."""
    total = np.zeros((height, width), np.float32)
    for cell, weight in zip(cells, weights, strict=True):
        grid = rng.standard_normal((max(height // cell, 2), max(width // cell, 2))).astype(np.float32)
        padded = np.pad(grid, 2, mode="wrap")
        sy, sx = height / grid.shape[0], width / grid.shape[1]
        big = cv2.resize(
            padded, (round(padded.shape[1] * sx), round(padded.shape[0] * sy)), interpolation=cv2.INTER_CUBIC
        )
        y, x = round(2 * sy), round(2 * sx)
        total += weight * big[y : y + height, x : x + width]
    return total / 2


def _pyramid(texture: np.ndarray, levels: int = 5) -> list[np.ndarray]:
    result = [texture]
    while len(result) < levels and min(result[-1].shape[:2]) > 8:
        height, width = result[-1].shape[:2]
        result.append(cv2.resize(result[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return result


@dataclass(frozen=True)
class _Texture:
    """Picture of a wall, with its size in metres."""

    levels: list[np.ndarray]
    width: float
    height: float
    colour: Colour
    """Of the plain wall."""


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    return np.clip(pixels, 0, 255).astype(np.uint8)


_PLASTER = ((150, 175, 190), (120, 160, 190), (170, 180, 185), (105, 135, 165), (140, 150, 150), (175, 195, 205))
_BRICK = ((62, 78, 130), (75, 92, 138), (88, 112, 150), (70, 80, 105))


@functools.cache
def _facades() -> list[_Texture]:
    return [_facade(np.random.default_rng((71, k)), k) for k in range(18)]


def _facade(rng: np.random.Generator, number: int) -> _Texture:
    scale = 20  # pixels per metre
    width, floors = 12.0, int(rng.integers(2, 6))
    storey = rng.uniform(2.8, 3.4)
    height = floors * storey + 0.8
    rows, cols = round(height * scale), round(width * scale)
    brick = number % 3 == 0
    colour = np.array((_BRICK if brick else _PLASTER)[int(rng.integers(4 if brick else 6))], np.float32)
    image = np.empty((rows, cols, 3), np.float32)
    image[:] = colour
    if brick:
        image *= rng.normal(1, 0.1, (rows // 2 + 1, cols // 5 + 1)).repeat(2, 0).repeat(5, 1)[:rows, :cols, None]
        image[::2] *= 0.9
    image *= 1 + 0.12 * _noise(rng, rows, cols, (3, 16, 64), (0.6, 0.7, 1.0))[..., None]
    image[: round(0.4 * scale)] *= 0.75  # cornice
    image[round(0.4 * scale) : round(0.55 * scale)] *= 0.5
    if rng.random() < 0.6:
        for floor in range(1, floors):
            line = round(rows - floor * storey * scale)
            image[line - 2 : line + 2] *= 1.15
    columns = int(rng.integers(3, 6))
    window = rng.uniform(0.38, 0.62) * width / columns
    tall = rng.uniform(1.3, 1.9)
    frame = np.array((225, 228, 230) if rng.random() < 0.7 else (60, 65, 75), np.float32)
    shop = rng.random() < 0.4
    for floor in range(floors):
        for column in range(columns):
            x = (column + 0.5) * width / columns
            bottom = floor * storey + 0.9
            if floor == 0 and shop:
                continue
            if floor == 0 and column == columns // 2:
                door = np.array(((50, 60, 95), (80, 60, 40), (45, 80, 45), (55, 55, 60))[int(rng.integers(4))])
                _paint(image, scale, x - 0.6, 0, x + 0.6, 2.2, frame * 0.9)
                _paint(image, scale, x - 0.5, 0, x + 0.5, 2.1, door)
                continue
            _paint(image, scale, x - window / 2 - 0.1, bottom - 0.1, x + window / 2 + 0.1, bottom + tall + 0.1, frame)
            glass = np.array((95, 85, 75), np.float32) * rng.uniform(0.45, 1.3)
            _paint(image, scale, x - window / 2, bottom, x + window / 2, bottom + tall, glass)
            _paint(image, scale, x - window / 2, bottom + tall * 0.55, x + window / 2, bottom + tall, glass * 1.35)
            if rng.random() < 0.4:  # curtain
                _paint(image, scale, x - window / 2, bottom, x - window / 4, bottom + tall, frame * 0.7)
            _paint(image, scale, x - 0.03, bottom, x + 0.03, bottom + tall, frame)
            _paint(
                image, scale, x - window / 2 - 0.15, bottom - 0.2, x + window / 2 + 0.15, bottom - 0.08, colour * 0.6
            )
    if shop:
        sign = np.array(
            ((60, 40, 160), (130, 70, 30), (50, 110, 50), (40, 140, 190), (50, 50, 55))[int(rng.integers(5))]
        )
        _paint(image, scale, 0.3, 0, width - 0.3, storey - 0.2, colour * 0.55)
        for column in range(3):
            x = 0.6 + column * (width - 1.2) / 3
            pane = np.array((100, 95, 90), np.float32) * rng.uniform(0.5, 1.4)
            _paint(image, scale, x, 0.5, x + (width - 1.2) / 3 - 0.3, storey - 0.9, pane)
            for _ in range(5):
                left, goods = rng.uniform(x, x + 2.4), rng.uniform(30, 220, 3)
                _paint(image, scale, left, 0.5, left + rng.uniform(0.2, 0.6), rng.uniform(0.8, 1.5), goods)
        _paint(image, scale, 0.3, storey - 0.8, width - 0.3, storey - 0.2, sign)
        for _ in range(8):
            left = rng.uniform(width * 0.25, width * 0.7)
            _paint(image, scale, left, storey - 0.62, left + 0.3, storey - 0.38, np.array((220, 225, 225)))
    image[-round(0.3 * scale) :] *= 0.7
    return _Texture(_pyramid(_to_bytes(image)), width, height, tuple(map(float, colour)))


def _paint(image: np.ndarray, scale: int, left: float, bottom: float, right: float, top: float, colour: np.ndarray):
    """Fill a rectangle given in metres from the lower left corner."""
    rows = image.shape[0]
    image[
        max(round(rows - top * scale), 0) : round(rows - bottom * scale), round(left * scale) : round(right * scale)
    ] = colour


@functools.cache
def _walls() -> dict[str, _Texture]:
    """Garden walls, fences and hedges, 12 m long."""
    rng = np.random.default_rng(72)
    scale, width = 20, 12.0
    cols = round(width * scale)

    def texture(height: float, image: np.ndarray, colour: Colour) -> _Texture:
        return _Texture(_pyramid(_to_bytes(image)), width, height, colour)

    def plain(height: float, colour: Colour, contrast: float) -> np.ndarray:
        rows = round(height * scale)
        image = np.empty((rows, cols, 3), np.float32)
        image[:] = colour
        return image * (1 + contrast * _noise(rng, rows, cols, (2, 5, 20), (0.8, 0.8, 0.8))[..., None])

    brick = plain(1.3, (70, 85, 130), 0.15)
    brick *= rng.normal(1, 0.1, (14, 49)).repeat(2, 0).repeat(5, 1)[: len(brick), :cols, None]
    brick[::3] *= 0.85
    brick[:3] = (140, 145, 150)
    concrete = plain(1.6, (135, 140, 142), 0.1)
    concrete[:, ::60] *= 0.7
    concrete[:3] *= 1.2
    planks = plain(1.8, (70, 100, 135), 0.12)
    planks *= rng.normal(1, 0.12, cols // 4).repeat(4)[None, :, None]
    planks[:, ::4] *= 0.6
    planks[6:9] *= 0.8
    hedge = plain(1.7, (38, 82, 62), 0.55)
    hedge *= np.linspace(1.25, 0.6, len(hedge), dtype=np.float32)[:, None, None]
    return {
        "brick": texture(1.3, brick, (70, 85, 130)),
        "concrete": texture(1.6, concrete, (135, 140, 142)),
        "planks": texture(1.8, planks, (70, 100, 135)),
        "hedge": texture(1.7, hedge, (38, 82, 62)),
    }


@functools.cache
def _trees() -> list[list[np.ndarray]]:
    """Crowns and bushes as pyramids of uint8 [N, N, 4], BGR and alpha."""
    return [_pyramid(_crown(np.random.default_rng((73, k)), k)) for k in range(14)]


def _crown(rng: np.random.Generator, number: int) -> np.ndarray:
    n = 192
    y, x = np.mgrid[:n, :n].astype(np.float32) / n
    density = np.full((n, n), -1.0, np.float32)
    light = np.zeros((n, n), np.float32)
    conifer = number % 7 == 6
    for _ in range(70 if conifer else 42):
        if conifer:
            cy = rng.uniform(0.08, 0.95)
            cx, r = 0.5 + rng.uniform(-0.36, 0.36) * cy, 0.06 + 0.05 * cy
        else:
            angle, radius = rng.uniform(0, 2 * np.pi), 0.34 * math.sqrt(rng.random())
            cx, cy, r = 0.5 + radius * math.cos(angle), 0.5 + radius * math.sin(angle) * 0.95, rng.uniform(0.08, 0.15)
        blob = 1 - np.hypot(x - cx, y - cy) / r
        front = blob > density
        # Each clump is lit from above left.
        light[front] = (-(x - cx) * 0.5 - (y - cy))[front] / r * 0.35 + (0.45 - cy) * 0.5 + rng.uniform(-0.12, 0.12)
        density = np.maximum(density, blob)
    leaves = _noise(rng, n, n, (2, 4, 9), (0.9, 0.9, 0.6))
    alpha = density + 0.30 * leaves > 0.05
    alpha &= ~((leaves < -1.15) & (density < 0.6))
    green = np.array(((40, 98, 74), (34, 84, 58), (48, 112, 96), (36, 74, 50), (52, 108, 118))[number % 5], np.float32)
    shade = np.clip(1 + light + 0.34 * leaves, 0.22, 1.9)
    bgr = green * shade[..., None] * np.array((0.95, 1, 1), np.float32)
    return np.dstack([_to_bytes(bgr), np.where(alpha, 255, 0).astype(np.uint8)])


@functools.cache
def _tiles() -> dict[str, np.ndarray]:
    """Repeating uint8 tiles: ground structure around 128, clouds 0..255, sensor noise around 128, rain 0..255."""
    rng = np.random.default_rng(74)
    fine = 128 + 22 * _noise(rng, 512, 512, (1, 2, 6), (0.7, 0.8, 0.5))
    coarse = 128 + 18 * _noise(rng, 512, 512, (6, 32, 128), (0.7, 0.9, 1.0))
    grass = 128 + 58 * _noise(rng, 512, 512, (1, 3, 9, 40), (0.7, 0.8, 0.6, 0.6))
    clouds = 128 + 150 * _noise(rng, 256, 2048, (6, 16, 40, 110), (0.18, 0.35, 0.6, 0.8))
    rain = np.zeros((512, 1024), np.uint8)
    for _ in range(420):
        x, y, length = int(rng.integers(1024)), int(rng.integers(512)), int(rng.integers(8, 30))
        cv2.line(rain, (x, y), (x + length // 6, y + length), int(rng.integers(40, 120)), 1, cv2.LINE_AA)
    sensor = 128 + rng.normal(0, 24, (1100, 2200, 3)) + rng.normal(0, 16, (1100, 2200, 1))
    return {
        "fine": _to_bytes(fine),
        "coarse": _to_bytes(coarse),
        "grass": _to_bytes(grass),
        "clouds": _to_bytes(clouds),
        "rain": rain,
        "sensor": _to_bytes(sensor),
    }


@dataclass(frozen=True)
class _Mood:
    """Light and weather as numbers."""

    zenith: Colour
    horizon: Colour
    cloud: Colour
    cover: float
    """Share of the sky in clouds, roughly."""
    sunlit: float
    """Brightness of what the sun reaches."""
    shade: float
    """Brightness of what it does not."""
    shadow: float
    """Darkness of cast shadows, 0..1."""
    haze: float
    """Per metre."""
    gain: Colour
    """Of the finished picture, per channel."""


def _mood(rng: np.random.Generator, light: str, weather: str) -> _Mood:
    mood = {
        "sun": _Mood((215, 150, 85), (238, 218, 190), (250, 248, 245), 0.35, 1.12, 0.62, 0.55, 0.0012, (0.97, 1, 1.03)),
        "overcast": _Mood(
            (205, 200, 192), (228, 226, 222), (212, 209, 205), 0.6, 0.92, 0.82, 0.0, 0.003, (1.02, 1, 0.97)
        ),
        "dusk": _Mood(
            (150, 100, 70), (135, 170, 230), (105, 98, 125), 0.4, 0.74, 0.54, 0.0, 0.0025, (0.98, 0.94, 1.02)
        ),
    }[light]
    mood = replace(mood, cover=max(mood.cover + rng.uniform(-0.25, 0.2), 0.1))
    changes: dict = {}
    if weather == "rain":
        grey = tuple(0.35 * c + 0.65 * np.mean(mood.horizon) * 0.85 for c in mood.zenith)
        changes = {"zenith": grey, "horizon": tuple(0.4 * c + 0.5 * np.mean(mood.horizon) for c in mood.horizon)}
        changes |= {"cover": 0.8, "cloud": tuple(0.8 * c for c in grey), "shadow": 0.0, "haze": 0.008}
        changes |= {"sunlit": mood.sunlit * 0.8, "shade": mood.shade * 0.9}
    elif weather == "fog":
        grey = tuple(0.3 * c + 0.62 * np.mean(mood.horizon) for c in mood.horizon)
        changes = {"zenith": grey, "horizon": grey, "cover": 0.0, "shadow": 0.0, "haze": rng.uniform(0.012, 0.024)}
        changes |= {"sunlit": mood.sunlit * 0.82, "shade": mood.shade * 0.95}
    return replace(mood, **changes)


class _View:
    """One frame being drawn: projection, picture and mask."""

    def __init__(self, drive: "SyntheticDrive", index: int):
        height, width = drive.size
        self.drive, self.mood = drive, drive._mood
        self.height, self.width = height, width
        self.time = index / drive.fps
        self.s, self.u, self.yaw, pitch = drive._pose(self.time)
        self.fx, self.fy, self.cx, _ = drive.camera
        self.cy = drive.camera[3] + pitch * self.fy
        self.eye = drive._eye
        self._focal, self._centre = np.array((self.fx, -self.fy)), np.array((self.cx, self.cy))
        self._aperture = (width / 2 + 8) / self.fx
        self.horizon = round(self.cy)
        self._grid = np.arange(-2 * _CHUNK, 420.0, 2.0)
        self._bend = drive._bend(self.s, self._grid) - self.yaw * self._grid
        self.image = np.empty((height, width, 3), np.uint8)
        self.mask = np.empty((height, width), np.uint8)
        self.haze = np.empty((height, width, 3), np.uint8)
        self.haze[:] = _to_bytes(np.array(self.mood.horizon))

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

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Project points in front of the near plane: float64 [N, 2] of column, row."""
        return points[:, :2] * self._focal / points[:, 2:] + self._centre

    def sees(self, s: float, u: float, radius: float) -> bool:
        """Whether something of a radius in metres around (s, u) can be in the picture."""
        z = s - self.s
        return z + radius > _NEAR and abs(u - self.u + self.bend(z)) - radius < (z + radius) * self._aperture

    def fog(self, z: float) -> float:
        return 1 - math.exp(-max(z, 0.0) * self.mood.haze)

    def colour(self, colour: Colour, z: float, gain: float = 1.0) -> Colour:
        """Colour of a surface as it is seen from a distance."""
        fog = self.fog(z)
        keep, (b, g, r), air = gain * (1 - fog), colour, self.mood.horizon
        return (b * keep + air[0] * fog, g * keep + air[1] * fog, r * keep + air[2] * fog)

    def fill(self, pixels: np.ndarray, colour: Colour, category: int | None) -> None:
        """Fill a polygon given in pixels; None leaves the mask as it is, for details upon a surface."""
        corners = np.rint(np.minimum(np.maximum(pixels, -8000), 8000) * 16).astype(np.int32)
        cv2.fillPoly(self.image, [corners], colour, cv2.LINE_AA, 4)
        if category is not None:
            cv2.fillPoly(self.mask, [corners], int(category), cv2.LINE_8, 4)

    def polygon(self, points: np.ndarray, colour: Colour, category: int | None, gain: float = 1.0) -> None:
        """Fill a flat polygon given in the camera's frame, float [N, 3]."""
        points = _clip(points)
        if len(points) >= 3:
            depth = (points[0, 2] + points[len(points) // 2, 2]) / 2
            self.fill(self.pixels(points), self.colour(colour, depth, gain), category)

    def wall(self, texture: _Texture, start, end, category: int, gain: float, base: float = 0.0) -> None:
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
        visible = _clip(quad)
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

    def _level(self, texture: _Texture, nearest: float) -> np.ndarray:
        texels = texture.levels[0].shape[0] / texture.height
        level = math.log2(max(texels * max(nearest, _NEAR) / self.fy, 1.0))
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
        self._stamp(picture[..., :3], stencil, x0, y0, _NATURE, gain, z)

    def _stamp(self, picture, stencil, x0: int, y0: int, category: int, gain: float, z: float) -> None:
        rows, cols = slice(y0, y0 + stencil.shape[0]), slice(x0, x0 + stencil.shape[1])
        fog = self.fog(z)
        shaded = cv2.addWeighted(np.ascontiguousarray(picture), gain * (1 - fog), self.haze[rows, cols], fog, 0)
        cv2.copyTo(shaded, stencil, self.image[rows, cols])
        self.mask[rows, cols][stencil > 0] = category


def _clip(points: np.ndarray) -> np.ndarray:
    """Cut a polygon, float [N, 3], at the near plane (Sutherland and Hodgman)."""
    if points[:, 2].min() >= _NEAR:
        return points
    ahead = points[:, 2] >= _NEAR
    if not ahead.any():
        return points[:0]
    kept = []
    for i in range(len(points)):
        a, b = points[i - 1], points[i]
        if ahead[i - 1] != ahead[i]:
            kept.append(a + (b - a) * (_NEAR - a[2]) / (b[2] - a[2]))
        if ahead[i]:
            kept.append(b)
    return np.array(kept)


@functools.lru_cache(8192)
def _uniforms(*key: int) -> tuple[float, ...]:
    """Eight random numbers in 0..1 that belong to a key."""
    return tuple(np.random.default_rng(key).random(8).tolist())


class _Thing:
    """Something that stands at (s, u) and can be drawn."""

    s: float
    u: float
    layer = 2
    """Drawn by layer, then far to near: 0 behind the house line, 1 the house line, 2 pavement, 3 road."""

    def draw(self, view: _View) -> None:
        raise NotImplementedError

    def shadow(self, drive: "SyntheticDrive") -> np.ndarray | None:
        """Outline of the shadow on the ground, float [N, 2] of (s, u)."""
        return None


@dataclass
class _Wall(_Thing):
    """House front, garden wall, fence or hedge along the street."""

    s: float
    u: float
    length: float
    texture: _Texture
    category: int
    layer: int = 1
    depth: float = 0.0
    """Of a house, away from the street, metres; 0 is a mere wall."""
    roof: float = 0.0
    """Height of a pitched roof, metres."""
    roof_colour: Colour = (62, 58, 66)
    tint: float = 1.0

    def draw(self, view: _View) -> None:
        side = math.copysign(1, self.u)
        end = self.s + self.length
        gain = self.tint * view.drive._side_gain(side)
        top, back = self.texture.height, self.u + side * self.depth
        if self.depth and self.s > view.s:
            gable = [(self.u, 0), (back, 0), (back, top), (self.u, top)]
            if self.roof:
                gable.insert(3, ((self.u + back) / 2, top + self.roof))
            u, h = np.array(gable).T
            front = self.tint * view.drive._front_gain * 0.92
            view.polygon(view.camera_points(self.s, u, h), self.texture.colour, self.category, front)
        if self.roof:
            eaves, ridge = self.u - side * 0.4, (self.u + back) / 2
            points = view.camera_points(
                (self.s, end, end, self.s),
                (eaves, eaves, ridge, ridge),
                (top - 0.1, top - 0.1, top + self.roof, top + self.roof),
            )
            view.polygon(points, self.roof_colour, self.category, gain)
        view.wall(self.texture, (self.s, self.u), (end, self.u), self.category, gain)

    def shadow(self, drive: "SyntheticDrive") -> np.ndarray | None:
        side = math.copysign(1, self.u)
        if side != drive._sun_side:
            return None
        reach = self.u - side * min(self.texture.height * drive._sun_slope, 16.0)
        end = self.s + self.length
        return np.array(((self.s, self.u), (end, self.u), (end, reach), (self.s, reach)))


@dataclass
class _Tree(_Thing):
    s: float
    u: float
    crown: int
    height: float
    width: float
    trunk: float
    """Height at which the crown begins, metres; 0 makes a bush."""
    layer: int = 2
    tint: float = 1.0

    def draw(self, view: _View) -> None:
        if not view.sees(self.s, self.u, self.width / 2 + 0.5):
            return
        gain = view.drive._mean_gain * self.tint
        if self.trunk:
            half = 0.08 + 0.018 * self.height
            points = view.camera_points(self.s, self.u + np.array((-half, half, half * 0.7, -half * 0.7)), (0, 0, 1, 1))
            points[2:, 1] = self.trunk + 0.25 * (self.height - self.trunk) - view.eye
            view.polygon(points, (48, 62, 76), _NATURE, gain)
            points[1::2] = (points[0] + points[1]) / 2, (points[2] + points[3]) / 2
            points[[1, 2], 0] = points[[0, 3], 0] + half * 0.7
            view.polygon(points, (64, 82, 98), None, gain)
        crowns = _trees()
        low = self.trunk * 0.85
        view.sprite(crowns[self.crown % len(crowns)], self.s, self.u, low, self.width, self.height - low, gain)

    def shadow(self, drive: "SyntheticDrive") -> np.ndarray:
        angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        reach = -drive._sun_side * drive._sun_slope * (self.trunk + self.height) / 2
        return np.column_stack(
            (
                self.s + 1.5 + np.cos(angle) * self.width * 0.55,
                self.u + reach + np.sin(angle) * self.height * 0.4 * (1 + 0.2 * np.sin(3 * angle)),
            )
        )


_STEEL = (112, 116, 118)


@dataclass
class _Pole(_Thing):
    """Street lamp, traffic light, traffic sign or bollard."""

    s: float
    u: float
    kind: str
    variant: int = 0

    def draw(self, view: _View) -> None:
        foot = view.camera_points(self.s, self.u, 0.0)[0]
        if foot[2] < 1.0 or not view.sees(self.s, self.u, 2.2):
            return
        x, _, z = foot
        inward = -math.copysign(1, self.u)
        dark = (70, 74, 72) if self.variant % 2 else _STEEL

        def shape(corners: Sequence[tuple[float, float]], colour: Colour, gain: float | None = None) -> None:
            points = np.zeros((len(corners), 3))
            points[:, :2] = corners
            points += (x, -view.eye, z)
            own = view.drive._mean_gain if gain is None else gain
            view.fill(view.pixels(points), view.colour(colour, z, own), _OBJECT)

        def rectangle(left: float, low: float, right: float, high: float, colour: Colour, gain=None) -> None:
            shape(((left, low), (right, low), (right, high), (left, high)), colour, gain)

        def disc(across: float, up: float, radius: float, colour: Colour, gain=None, corners: int = 14) -> None:
            angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + np.pi / corners
            shape(list(zip(across + radius * np.cos(angle), up + radius * np.sin(angle), strict=True)), colour, gain)

        thick = 0.075
        if self.kind == "lamp":
            rectangle(-thick * 1.5, 0, thick * 1.5, 1.2, dark)
            rectangle(-thick, 1.2, thick, 7.4, dark)
            tip = inward * 1.8
            shape(((0, 7.3), (0, 7.5), (tip, 8.0), (tip, 7.85)), dark)
            glow = view.drive.light == "dusk"
            shape(
                ((tip - 0.35, 7.8), (tip + 0.35, 7.8), (tip + 0.3, 8.02), (tip - 0.3, 8.02)),
                (190, 225, 255) if glow else (165, 168, 168),
                1.3 if glow else None,
            )
        elif self.kind == "light":
            rectangle(-thick, 0, thick, 3.5, dark)
            rectangle(-0.2, 2.3, 0.2, 3.45, (38, 40, 40))
            lit = int(view.time / 4 + self.variant) % 3
            for lamp, colour in enumerate(((60, 60, 245), (60, 200, 255), (120, 235, 90))):
                on = lamp == lit
                disc(0, 3.22 - 0.34 * lamp, 0.13, colour if on else (34, 38, 42), 1.15 if on else None)
        elif self.kind == "sign":
            rectangle(-thick * 0.6, 0, thick * 0.6, 2.6, _STEEL)
            kind = self.variant % 5
            if kind == 0:  # prohibition
                disc(0, 2.4, 0.36, (45, 40, 200))
                disc(0, 2.4, 0.25, (235, 238, 238))
                rectangle(-0.12, 2.3, 0.12, 2.5, (50, 50, 50))
            elif kind == 1:  # warning
                shape(((-0.45, 2.1), (0.45, 2.1), (0, 2.9)), (45, 40, 200))
                shape(((-0.28, 2.2), (0.28, 2.2), (0, 2.7)), (235, 238, 238))
            elif kind == 2:  # instruction
                disc(0, 2.4, 0.35, (165, 95, 35))
                shape(
                    ((-0.06, 2.2), (0.06, 2.2), (0.06, 2.5), (0.16, 2.5), (0, 2.65), (-0.16, 2.5), (-0.06, 2.5)),
                    (238,) * 3,
                )
            elif kind == 3:  # directions
                rectangle(-0.1, 2.2, 1.5, 2.85, (235, 238, 238))
                rectangle(-0.05, 2.25, 1.45, 2.8, (150, 90, 30) if self.variant % 2 else (60, 120, 40))
                rectangle(0.15, 2.45, 1.15, 2.6, (232, 235, 235))
            else:  # right of way
                disc(0, 2.4, 0.42, (238, 240, 240), corners=4)
                disc(0, 2.4, 0.30, (50, 190, 235), corners=4)
        else:
            rectangle(-0.09, 0, 0.09, 0.95, (58, 60, 62))
            rectangle(-0.09, 0.7, 0.09, 0.82, (220, 222, 222))

    def shadow(self, drive: "SyntheticDrive") -> np.ndarray:
        reach = -drive._sun_side * drive._sun_slope * 4
        return np.array(
            (
                (self.s - 0.08, self.u),
                (self.s + 0.08, self.u),
                (self.s + 1.5, self.u + reach),
                (self.s + 1.3, self.u + reach),
            )
        )


@dataclass(frozen=True)
class _Body:
    """Shape of a kind of vehicle; x runs from the rear end, metres."""

    width: float
    outline: tuple[tuple[float, float], ...]
    """(x, h) from the lower rear corner over the roof to the lower front corner."""
    glass: tuple[int, ...]
    """Outline edges, by their first corner, that are windows."""
    windows: tuple[tuple[tuple[float, float], ...], ...]
    """Of the side."""
    wheels: tuple[float, ...]
    radius: float = 0.32

    @property
    def length(self) -> float:
        return max(x for x, _ in self.outline)


_BODIES = {
    "hatchback": _Body(
        1.75,
        (
            (0, 0.28),
            (0.02, 0.88),
            (0.12, 0.95),
            (0.55, 1.42),
            (2.35, 1.47),
            (3.1, 0.98),
            (3.95, 0.82),
            (4.05, 0.55),
            (4.05, 0.25),
        ),
        (2, 4),
        (
            ((0.65, 0.98), (0.85, 1.36), (1.65, 1.40), (1.65, 0.98)),
            ((1.75, 0.98), (1.75, 1.40), (2.3, 1.38), (2.85, 0.98)),
        ),
        (0.72, 3.25),
    ),
    "saloon": _Body(
        1.8,
        (
            (0, 0.3),
            (0.03, 0.92),
            (0.85, 0.98),
            (1.45, 1.40),
            (2.75, 1.42),
            (3.5, 0.96),
            (4.4, 0.82),
            (4.55, 0.55),
            (4.55, 0.25),
        ),
        (2, 4),
        (((1.15, 0.98), (1.6, 1.34), (2.1, 1.36), (2.1, 0.98)), ((2.2, 0.98), (2.2, 1.36), (2.7, 1.34), (3.25, 0.98))),
        (0.9, 3.65),
    ),
    "suv": _Body(
        1.9,
        (
            (0, 0.4),
            (0.03, 1.05),
            (0.1, 1.12),
            (0.4, 1.7),
            (2.75, 1.72),
            (3.45, 1.15),
            (4.45, 1.02),
            (4.6, 0.7),
            (4.6, 0.35),
        ),
        (2, 4),
        (((0.45, 1.14), (0.6, 1.62), (1.7, 1.65), (1.7, 1.14)), ((1.8, 1.14), (1.8, 1.65), (2.7, 1.62), (3.2, 1.14))),
        (0.9, 3.7),
        0.37,
    ),
    "van": _Body(
        2.0,
        (
            (0, 0.4),
            (0.02, 1.15),
            (0.04, 1.75),
            (0.06, 2.3),
            (3.9, 2.35),
            (4.75, 1.35),
            (5.35, 1.15),
            (5.45, 0.7),
            (5.45, 0.35),
        ),
        (1, 4),
        (((3.5, 1.3), (3.5, 1.95), (3.95, 1.95), (4.5, 1.3)),),
        (1.0, 4.5),
        0.35,
    ),
    "bus": _Body(
        2.5,
        ((0, 0.4), (0, 1.5), (0, 2.6), (0.05, 3.1), (11.7, 3.1), (11.9, 2.7), (12.0, 1.2), (12.0, 0.4)),
        (1, 5),
        tuple(((x, 1.35), (x, 2.5), (x + 1.7, 2.5), (x + 1.7, 1.35)) for x in (0.4, 2.3, 4.2, 6.1, 8.0, 9.9)),
        (2.6, 9.2),
        0.48,
    ),
    "lorry": _Body(
        2.4,
        ((0, 0.8), (0, 1.9), (0, 3.3), (6.4, 3.3), (6.5, 2.7), (7.9, 2.6), (8.1, 1.6), (8.2, 0.5)),
        (5,),
        (((6.9, 1.6), (6.9, 2.4), (7.7, 2.4), (7.8, 1.6)),),
        (1.5, 7.0),
        0.48,
    ),
}
_BODY_CHOICE = ("hatchback",) * 5 + ("saloon",) * 5 + ("suv",) * 4 + ("van",) * 2 + ("bus", "lorry")
_PAINT = (
    (222, 224, 225), (165, 168, 168), (92, 94, 96), (38, 38, 40), (110, 68, 36),
    (34, 36, 140), (138, 110, 72), (60, 84, 52), (52, 58, 84),
)  # fmt: skip
_GLASS = (62, 56, 50)


@dataclass
class _Vehicle(_Thing):
    s: float
    """Of its middle."""
    u: float
    body: _Body
    paint: Colour
    heading: int
    """1 along s, -1 against it."""
    layer: int = 3

    def draw(self, view: _View) -> None:
        body = self.body
        outline = np.array(body.outline)
        half = body.width / 2
        # The cabin leans in towards the roof.
        belt = 1.0 if outline[:, 1].max() < 2 else 99.0
        lean = half - 0.22 * np.clip((outline[:, 1] - belt) / 0.45, 0, 1)
        if not view.sees(self.s, self.u, body.length / 2 + 1):
            return
        s = self._along(outline[:, 0])
        left = view.camera_points(s, self.u - lean, outline[:, 1])
        right = left.copy()
        right[:, 0] += 2 * lean
        distance = self.s - view.s
        if left[:, 2].max() < _NEAR:
            return
        tall = view.fy * outline[:, 1].max() / max(distance, _NEAR)
        edges = range(len(outline) - 1) if self.heading < 0 else range(len(outline) - 2, -1, -1)
        front = view.drive._front_gain
        # Underbody, down to the wheels.
        end = self._along(np.array(0.25 if self.heading > 0 else body.length - 0.25))
        u = self.u + np.array((-half, half, half, -half)) * 0.9
        view.polygon(view.camera_points(end, u, (0.08, 0.08, 0.5, 0.5)), (22, 22, 23), _VEHICLE)
        offset = view.u - view.bend(distance) - self.u
        if abs(offset) > half:
            eye_side = int(math.copysign(1, offset))
            flank = right if eye_side > 0 else left
            gain = view.drive._side_gain(-eye_side)
            view.polygon(flank, self.paint, _VEHICLE, gain)
            if tall > 9:
                self._flank_details(view, eye_side, gain, belt, tall > 30)
        for edge in edges:
            if self._faces_camera(outline, edge):
                self._strip(view, left, right, edge, front)
        if tall > 9 and left[:, 2].min() > _NEAR:
            self._end_details(view, half, tall > 30)

    def _along(self, x: np.ndarray) -> np.ndarray:
        return self.s + self.heading * (x - self.body.length / 2)

    def _faces_camera(self, outline: np.ndarray, edge: int) -> bool:
        """Whether a strip of the hull slopes towards the end that the camera sees, or upwards."""
        (_, h0), (_, h1) = outline[edge], outline[edge + 1]
        return (h1 - h0) * self.heading > 0.02 or self._flat(edge)

    def _flat(self, edge: int) -> bool:
        (x0, h0), (x1, h1) = self.body.outline[edge : edge + 2]
        return abs(x1 - x0) > 0.5 and abs(h1 - h0) < 0.3

    def _strip(self, view: _View, left: np.ndarray, right: np.ndarray, edge: int, gain: float) -> None:
        quad = np.array((left[edge], right[edge], right[edge + 1], left[edge + 1]))
        if self._flat(edge):
            # A face that lies flat is seen from above only.
            if left[edge, 1] > 0:
                return
            gain = max(gain, view.mood.sunlit) * 1.05
        if edge in self.body.glass:
            view.polygon(quad, self.paint, _VEHICLE, gain * 0.8)
            inner = quad.mean(0) + (quad - quad.mean(0)) * (0.88, 0.86, 0.88)
            view.polygon(inner, _GLASS, None, 1.0)
            if quad[0, 2] > 40:
                return
            glint = inner.copy()
            glint[:2] = inner[:2] * 0.45 + inner[[3, 2]] * 0.55
            view.polygon(
                glint, tuple(0.45 * g + 0.28 * z for g, z in zip(_GLASS, view.mood.zenith, strict=True)), None, 1.0
            )
        else:
            view.polygon(quad, self.paint, _VEHICLE, gain)

    def _flank_details(self, view: _View, side: int, gain: float, belt: float, close: bool) -> None:
        body = self.body
        u = self.u + side * (body.width / 2 + 0.01)
        for window in body.windows:
            x, h = np.array(window).T
            inset = 0.22 * np.clip((h - belt) / 0.45, 0, 1)
            view.polygon(view.camera_points(self._along(x), u - side * inset, h), _GLASS, None, gain)
        x = np.array((0.1, body.length - 0.1))
        s = self._along(x[[0, 1, 1, 0]])
        view.polygon(view.camera_points(s, u, (0.28, 0.28, 0.42, 0.42)), self.paint, None, gain * 0.55)
        angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        rings = 3 if close else 1
        for wheel in body.wheels:
            for radius, colour, category in (
                (1.0, (24, 24, 25), _VEHICLE),
                (0.6, (128, 130, 132), None),
                (0.2, (60, 60, 60), None),
            )[:rings]:
                x, h = wheel + radius * body.radius * np.cos(angle), body.radius + radius * body.radius * np.sin(angle)
                view.polygon(view.camera_points(self._along(x), u, h), colour, category, gain)

    def _end_details(self, view: _View, half: float, close: bool) -> None:
        """Lights, plate, bumper and tyres of the end that the camera sees."""
        body = self.body
        rear = self.heading > 0
        ends = [x for x, _ in body.outline]
        x = min(ends) - 0.01 if rear else max(ends) + 0.01
        s = self._along(np.array(x))
        big = max(h for _, h in body.outline) > 2
        low = body.outline[0][1] if rear else body.outline[-1][1]
        glow = view.drive.light == "dusk" or view.drive.weather != "dry"
        front = view.drive._front_gain

        def rectangle(u0: float, h0: float, u1: float, h1: float, colour: Colour, category: int | None, gain: float):
            points = view.camera_points(s, self.u + np.array((u0, u1, u1, u0)), (h0, h0, h1, h1))
            view.polygon(points, colour, category, gain)

        for side in (-1, 1):
            inner, outer = sorted((side * (half - 0.1), side * (half - 0.32)))
            rectangle(inner, 0.0, outer, low + 0.1, (24, 24, 25), _VEHICLE, 1.0)
        if close:
            plate = (60, 190, 215) if rear and not big else (225, 228, 228)
            rectangle(-half * 0.97, low, half * 0.97, low + 0.17, (44, 45, 46), None, front)
            rectangle(-0.26, low + 0.2, 0.26, low + 0.31, plate, None, front)
        level = low + (0.75 if big else 0.36)
        for side in (-1, 1):
            inner, outer = sorted((side * (half - 0.04), side * (half - (0.3 if rear else 0.42))))
            if rear:
                rectangle(
                    inner,
                    level,
                    outer,
                    level + 0.2,
                    (45, 35, 215) if glow else (40, 32, 150),
                    None,
                    1.25 if glow else front,
                )
            else:
                rectangle(inner, level - 0.08, outer, level + 0.1, (235, 245, 250), None, 1.25 if glow else front)
        if close and not rear:
            rectangle(-half * 0.5, level - 0.07, half * 0.5, level + 0.07, (36, 37, 38), None, front)

    def shadow(self, drive: "SyntheticDrive") -> np.ndarray:
        length, half = self.body.length / 2 + 0.15, self.body.width / 2 + 0.08
        reach = -drive._sun_side * min(drive._sun_slope, 1.0) * 1.3 * max(h for _, h in self.body.outline) / 1.5
        low, high = sorted((self.u - math.copysign(half, reach), self.u + math.copysign(half, reach) + reach))
        return np.array(
            ((self.s - length, low), (self.s + length, low), (self.s + length, high), (self.s - length, high))
        )


_SKIN = ((150, 180, 225), (120, 155, 205), (70, 95, 140), (45, 62, 95))
_CLOTHES = (
    (40, 40, 45), (95, 60, 40), (60, 60, 66), (140, 100, 60), (48, 44, 150),
    (190, 190, 190), (60, 100, 70), (70, 130, 180), (130, 60, 120), (40, 160, 200),
)  # fmt: skip


@dataclass
class _Person(_Thing):
    s: float
    u: float
    look: int
    """Seeds height, clothes and hair."""
    phase: float
    """Of the step, radians."""
    across: float = 0.12
    """How much of the stride the camera sees sideways, metres."""
    layer: int = 2

    def draw(self, view: _View) -> None:
        x, _, z = view.camera_points(self.s, self.u, 0.0)[0]
        if z < 1.2 or not view.sees(self.s, self.u, 0.6):
            return
        pick = _uniforms(75, self.look)
        size = 0.86 + 0.2 * pick[0]
        jacket, trousers = (_CLOTHES[int(p * len(_CLOTHES))] for p in pick[1:3])
        skin = _SKIN[int(pick[3] * len(_SKIN))]
        hair = ((30, 32, 38), (50, 70, 95), (60, 120, 165), (150, 150, 152))[int(pick[4] * 4)]
        coat, bag = pick[5] < 0.3, pick[6] < 0.3
        gain = view.drive._mean_gain
        scale = view.fx / z * size
        foot = np.array((view.cx + view.fx * x / z, view.cy + view.fy * view.eye / z))

        def shape(corners, colour: Colour, brightness: float = 1.0) -> None:
            pixels = foot + np.asarray(corners, float) * (scale, -scale)
            view.fill(pixels, view.colour(colour, z, gain * brightness), _HUMAN)

        angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        swing = math.sin(self.phase)
        if scale < 11:
            # Too small for limbs.
            step = 0.6 * self.across * swing
            shape(((-0.16, 0.85), (0.16, 0.85), (0.08 + step, 0), (-0.08 - step, 0)), trousers)
            shape(((-0.16, 0.8), (0.16, 0.8), (0.24, 1.38), (0.1, 1.48), (-0.1, 1.48), (-0.24, 1.38)), jacket)
            shape(
                ((-0.09, 1.48), (0.09, 1.48), (0.1, 1.65), (0, 1.74), (-0.1, 1.65)), hair if self.across > 0 else skin
            )
            return
        for side in (-1, 1):
            step = side * swing
            hip, ankle = 0.085 * side, 0.085 * side * 0.8 + self.across * step
            lift = 0.07 * max(step, 0)
            knee = (hip + ankle) / 2 + 0.06 * max(step, 0) * math.copysign(1, self.across)
            shade = 0.8 if side < 0 else 1.0
            shape(
                ((hip - 0.095, 0.86), (hip + 0.095, 0.86), (knee + 0.075, 0.47), (ankle + 0.05, 0.06 + lift),
                 (ankle - 0.05, 0.06 + lift), (knee - 0.075, 0.47)),
                trousers, shade,
            )  # fmt: skip
            shape(
                ((ankle - 0.06, lift), (ankle + 0.07, lift), (ankle + 0.06, 0.09 + lift), (ankle - 0.05, 0.09 + lift)),
                (35, 36, 40),
            )
        hem = 0.55 if coat else 0.82
        for side in (-1, 1):
            hand = 0.24 * side - 0.7 * self.across * side * swing
            shape(
                ((0.15 * side, 1.42), (0.235 * side, 1.38), (hand + 0.045 * side, 0.84), (hand - 0.04 * side, 0.84)),
                jacket,
                0.72,
            )
            shape(((hand - 0.04, 0.76), (hand + 0.04, 0.76), (hand + 0.04, 0.86), (hand - 0.04, 0.86)), skin)
        shape(
            (
                (-0.16, hem),
                (0.16, hem),
                (0.165, 1.0),
                (0.215, 1.36),
                (0.12, 1.46),
                (-0.12, 1.46),
                (-0.215, 1.36),
                (-0.165, 1.0),
            ),
            jacket,
        )
        shape(((0.02, hem), (0.16, hem), (0.165, 1.0), (0.215, 1.36), (0.12, 1.45)), jacket, 0.82)
        if bag:
            shape(((-0.15, 0.98), (0.15, 0.98), (0.14, 1.4), (-0.14, 1.4)), (60, 70, 80))
        shape(((-0.045, 1.42), (0.045, 1.42), (0.045, 1.54), (-0.045, 1.54)), skin, 0.85)
        shape(np.column_stack((0.088 * np.cos(angle), 1.615 + 0.115 * np.sin(angle))), skin)
        shape(
            np.column_stack((0.095 * np.cos(angle), 1.655 + 0.09 * np.sin(angle) * (1 - 0.4 * (np.sin(angle) < 0)))),
            hair,
        )

    def shadow(self, drive: "SyntheticDrive") -> np.ndarray:
        reach = -drive._sun_side * drive._sun_slope * 1.6
        return np.array(
            (
                (self.s - 0.2, self.u),
                (self.s + 0.2, self.u),
                (self.s + 0.7, self.u + reach),
                (self.s + 0.3, self.u + reach),
            )
        )


@dataclass
class _Cyclist(_Thing):
    s: float
    u: float
    look: int
    phase: float
    heading: int
    layer: int = 3

    def draw(self, view: _View) -> None:
        z = float(view.camera_points(self.s, self.u, 0.0)[0, 2])
        if z < 1.8 or not view.sees(self.s, self.u, 1.5):
            return
        pick = _uniforms(76, self.look)
        jacket, trousers, helmet = (_CLOTHES[int(p * len(_CLOTHES))] for p in pick[:3])
        skin = _SKIN[int(pick[3] * len(_SKIN))]
        gain = view.drive._mean_gain

        def shape(x, across, up, colour: Colour, category: int, brightness: float = 1.0) -> None:
            points = view.camera_points(self.s + self.heading * np.asarray(x), self.u + np.asarray(across), up)
            view.polygon(points, colour, category, gain * brightness)

        def tube(a, b, width: float, colour: Colour, category: int, brightness: float = 1.0) -> None:
            """Limb or pipe between two points (x, across, up), seen with a constant width in metres."""
            pair = np.array((a, b), float)
            points = view.camera_points(self.s + self.heading * pair[:, 0], self.u + pair[:, 1], pair[:, 2])
            p, q = view.pixels(points)
            direction = (q - p) / (np.hypot(*(q - p)) + 1e-6)
            normal = np.array((-direction[1], direction[0])) * max(width * view.fx / z / 2, 0.5)
            cap = direction * normal.dot(normal) ** 0.5 * 0.5
            corners = np.array((p - cap + normal, q + cap + normal, q + cap - normal, p - cap - normal))
            view.fill(corners, view.colour(colour, z, gain * brightness), category)

        rim = np.linspace(0, 2 * np.pi, 16)
        for wheel in (-0.5, 0.52) if self.heading < 0 else (0.52, -0.5):
            points = view.camera_points(
                self.s + self.heading * (wheel + 0.33 * np.cos(rim)), self.u, 0.34 + 0.33 * np.sin(rim)
            )
            line = np.rint(np.clip(view.pixels(points), -8000, 8000) * 16).astype(np.int32)
            thickness = max(round(0.05 * view.fx / z), 1)
            cv2.polylines(view.image, [line], False, view.colour((28, 28, 30), z), thickness, cv2.LINE_AA, 4)
            cv2.polylines(view.mask, [line], False, int(_VEHICLE), thickness, cv2.LINE_8, 4)
        pedal = 0.17 * math.sin(self.phase), 0.17 * math.cos(self.phase)
        bike = (60, 50, 130) if self.look % 2 else (120, 110, 60)
        for a, b in (
            ((-0.5, 0, 0.34), (0, 0, 0.3)), ((0, 0, 0.3), (-0.15, 0, 0.9)), ((-0.12, 0, 0.8), (0.4, 0, 0.85)),
            ((0, 0, 0.3), (0.4, 0, 0.85)), ((0.4, 0, 0.98), (0.52, 0, 0.34)), ((0.4, -0.28, 1.0), (0.4, 0.28, 1.0)),
        ):  # fmt: skip
            tube(a, b, 0.04, bike, _VEHICLE)
        for side, turn in ((-1, 1), (1, -1)):
            foot = (0.0 + turn * pedal[0], 0.11 * side, 0.3 + turn * pedal[1])
            knee = (0.28, 0.12 * side, (0.92 + foot[2]) / 2 + 0.1)
            tube((-0.15, 0.09 * side, 0.95), knee, 0.15, trousers, _HUMAN, 0.9)
            tube(knee, foot, 0.11, trousers, _HUMAN)
            tube(foot, (foot[0] + 0.12, foot[1], foot[2]), 0.09, (40, 40, 44), _HUMAN)
        torso = (
            (-0.15, -0.15, 0.9),
            (-0.15, 0.15, 0.9),
            (0.12, 0.21, 1.42),
            (0.1, 0.1, 1.5),
            (0.1, -0.1, 1.5),
            (0.12, -0.21, 1.42),
        )
        x, across, up = np.array(torso).T
        shape(x, across, up, jacket, _HUMAN)
        tube((-0.15, 0, 0.95), (0.1, 0, 1.38), 0.2, jacket, _HUMAN, 0.9)
        for side in (-1, 1):
            tube((0.12, 0.19 * side, 1.4), (0.38, 0.25 * side, 1.02), 0.09, jacket, _HUMAN, 0.8)
        circle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        shape(0.2, 0.09 * np.cos(circle), 1.62 + 0.12 * np.sin(circle), skin, _HUMAN)
        shape(0.2, 0.11 * np.cos(circle), 1.67 + 0.085 * np.sin(circle), helmet, _HUMAN, 1.1)

    def shadow(self, drive: "SyntheticDrive") -> np.ndarray:
        reach = -drive._sun_side * drive._sun_slope * 1.6
        ends = (
            (self.s - 0.8, self.u),
            (self.s + 0.8, self.u),
            (self.s + 0.6, self.u + reach),
            (self.s + 0.1, self.u + reach),
        )
        return np.array(ends)


_ASPHALT = ((118, 118, 118), (132, 130, 128), (104, 104, 106), (138, 140, 144))
_PAVING = ((148, 152, 156), (160, 162, 162), (130, 138, 146), (140, 146, 158))
_GRASS = ((52, 108, 84), (48, 118, 100), (44, 94, 74), (62, 118, 112))
_PAINTED = (222, 224, 224)
_ZONES = ("shops", "shops", "houses", "houses", "park", "field")


@dataclass
class _Chunk:
    """What stands in one piece of the street."""

    things: list[_Thing] = field(default_factory=list)
    junctions: list[tuple[int, float]] = field(default_factory=list)
    """Side roads: (side, s of its middle)."""
    crossing: float | None = None
    """s of a zebra crossing."""
    patches: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    """Repaired asphalt: (s0, s1, u0, u1, brightness)."""


class SyntheticDrive:
    """An endless drive through a made-up street.

    Args:
        seed: decides the street, everybody on it, light, weather and camera; not negative.
        size: (height, width) of the pictures in pixels.
        fps: frames per second.
        weather: one of ``WEATHERS``; None lets the seed choose.
        light: one of ``LIGHTS``; None lets the seed choose.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    def __init__(
        self,
        seed: int,
        size: tuple[int, int] = (360, 640),
        fps: float = 30,
        weather: str | None = None,
        light: str | None = None,
    ):
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must not be negative")
        if min(size) < 64:
            raise ValueError(f"size is {size[0]}x{size[1]} pixels (height x width); it must be at least 64x64")
        if not fps > 0:
            raise ValueError(f"fps is {fps}; it must be positive")
        for name, value, known in (("weather", weather, WEATHERS), ("light", light, LIGHTS)):
            if value is not None and value not in known:
                raise ValueError(f"{name} is {value!r}; expected {', '.join(known)}")
        rng = np.random.default_rng((seed, 0))
        # Drawn in any case, so that choosing light or weather leaves the street as it is.
        chosen_light = LIGHTS[int(rng.choice(3, p=(0.5, 0.35, 0.15)))]
        chosen_weather = WEATHERS[int(rng.choice(3, p=(0.7, 0.18, 0.12)))]
        self.seed, self.size, self.fps = seed, (int(size[0]), int(size[1])), fps
        self.light, self.weather = light or chosen_light, weather or chosen_weather

        height, width = self.size
        focal = rng.uniform(0.82, 1.1) * width
        self.camera = (focal, focal, width / 2 + rng.uniform(-4, 4), height * rng.uniform(0.40, 0.47))
        """fx, fy, cx, cy in pixels."""
        self._eye = rng.uniform(1.2, 1.45)
        self._speed = rng.uniform(10, 14)
        self._waves = [(rng.uniform(0.05, 0.11), rng.uniform(280, 520), rng.uniform(0, 6.3)) for _ in range(2)]
        self._sway = rng.uniform(0, 6.3, 6)

        self._traffic = 1 if rng.random() < 0.7 else -1
        self._lanes = 2 if rng.random() < 0.25 else 1
        self._parking = bool(rng.random() < 0.6)
        self._kerb = self._lanes * _LANE + (_PARKING if self._parking else 0.4)
        self._verge = 0.0 if rng.random() < 0.5 else 1.7
        self._pavement = rng.uniform(2.0, 3.2)
        self._lane = self._traffic * (_LANE / 2 + (_LANE if self._lanes == 2 and rng.random() < 0.6 else 0))
        self._asphalt = _ASPHALT[int(rng.integers(4))]
        self._paving = _PAVING[int(rng.integers(4))]
        self._grass = _GRASS[int(rng.integers(4))]
        self._foliage = rng.uniform(0.8, 1.2)
        self._lead = (rng.random() < 0.7, rng.uniform(13, 26), int(rng.integers(100)))
        self._people = rng.uniform(11, 26)
        self._cars = rng.uniform(26, 60)

        self._sun_side = 1 if rng.random() < 0.5 else -1
        self._sun_slope = rng.uniform(0.5, 1.3)
        sun_behind = rng.random() < 0.5
        self._mood = _mood(np.random.default_rng((seed, 1)), self.light, self.weather)
        self._front_gain = self._mood.sunlit if sun_behind else self._mood.shade
        self._mean_gain = (self._mood.sunlit + self._mood.shade) / 2
        bumps = np.random.default_rng((seed, 2))
        hills = np.convolve(np.tile(bumps.random(96), 3), np.hanning(9) / 4, "same")[96:192]
        self._hills = 0.008 + 0.03 * hills
        self._skyline = np.where(bumps.random(180) < 0.4, bumps.uniform(0.01, 0.07, 180), 0.0)
        self._bonnet = self._make_bonnet(np.random.default_rng((seed, 3)))
        self._tone = self._make_tone()
        self._chunks: dict[int, _Chunk] = {}

    @property
    def camera_info(self) -> dict[str, float]:
        """Intrinsics of the camera in pixels: ``fx``, ``fy``, ``cx``, ``cy``; it has no distortion."""
        return dict(zip(("fx", "fy", "cx", "cy"), self.camera, strict=True))

    def frame(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw one frame; a pure function of the arguments of the drive and the index.

        Args:
            index: from 0.

        Returns:
            uint8 [H, W, 3] BGR picture and uint8 [H, W] mask of the categories 0..7.
        """
        view = _View(self, index)
        first = math.floor((view.s - 4) / _CHUNK)
        chunks = [self._chunk(k) for k in range(first, first + int(_FAR / _CHUNK) + 1)]
        things = [thing for chunk in chunks for thing in chunk.things] + self._movers(view)
        self._draw_sky(view)
        self._draw_ground(view, chunks, things)
        for thing in sorted(things, key=lambda t: (t.layer, -t.s)):
            thing.draw(view)
        return self._finish(view, index)

    def _side_gain(self, side: float) -> float:
        """Brightness of a surface on a side of the street that faces the street."""
        return self._mood.shade if side == self._sun_side else self._mood.sunlit

    def _pose(self, time: float) -> tuple[float, float, float, float]:
        """(s, u, yaw, pitch) of the camera; metres and radians."""
        sway = self._sway
        s = self._speed * (time + 0.9 * math.sin(0.35 * time + sway[0])) + 500
        u = self._lane + 0.18 * math.sin(0.5 * time + sway[1])
        yaw = 0.006 * math.sin(0.5 * time + sway[2]) + 0.0015 * math.sin(2.3 * time + sway[3])
        pitch = 0.0025 * math.sin(7.1 * time + sway[4]) + 0.002 * math.sin(11.7 * time + sway[5])
        return s, u, yaw, pitch

    def _heading(self, s: float) -> float:
        return sum(a * math.sin(2 * math.pi * s / length + phase) for a, length, phase in self._waves)

    def _bend(self, s: float, z: np.ndarray) -> np.ndarray:
        """Sideways distance of the street's middle from its tangent at s, after z metres (small angles)."""
        total = -z * self._heading(s)
        for a, length, phase in self._waves:
            k = 2 * math.pi / length
            total += a / k * (math.cos(k * s + phase) - np.cos(k * (s + z) + phase))
        return total

    def _zone(self, s: float, side: int) -> str:
        rng = np.random.default_rng((self.seed, 4, int(s // (8 * _CHUNK)), side + 1))
        return _ZONES[int(rng.integers(len(_ZONES)))]

    def _chunk(self, k: int) -> _Chunk:
        if k not in self._chunks:
            if len(self._chunks) > 64:
                self._chunks.clear()
            self._chunks[k] = self._make_chunk(k)
        return self._chunks[k]

    def _make_chunk(self, k: int) -> _Chunk:
        chunk, s0 = _Chunk(), k * _CHUNK
        inner, outer = self._kerb + self._verge, self._kerb + self._verge + self._pavement
        for side in (-1, 1):
            rng = np.random.default_rng((self.seed, 5, k, side + 1))
            zone = self._zone(s0, side)
            things = chunk.things

            def add_tree(s: float, u: float, layer: int, small: float = 1.0, rng=rng, side=side, things=things) -> None:
                height = rng.uniform(6, 11) * small
                width, trunk = height * rng.uniform(0.6, 0.85), height * rng.uniform(0.18, 0.3)
                tint = self._foliage * rng.uniform(0.85, 1.15)
                things.append(_Tree(s, side * u, int(rng.integers(100)), height, width, trunk, layer, tint))

            if self._is_junction(k, side):
                chunk.junctions.append((side, s0 + _CHUNK / 2))
                chunk.crossing = s0 - 2.0
                things.append(_Pole(s0 - 0.5, side * (self._kerb + 0.5), "light", int(rng.integers(6))))
                add_tree(s0 + rng.uniform(0, _CHUNK), outer + 45, 0)
                add_tree(s0 + rng.uniform(0, _CHUNK), outer + 30, 0)
                continue

            facades, walls = _facades(), _walls()
            house = facades[int(rng.integers(len(facades)))]
            if zone == "shops":
                roof, tint = (rng.uniform(1.5, 3) if rng.random() < 0.5 else 0.0), rng.uniform(0.82, 1.15)
                things.append(_Wall(s0, side * outer, _CHUNK, house, _CONSTRUCTION, 1, 12.0, roof, tint=tint))
            elif zone == "houses":
                low = [f for f in facades if f.height < 11]
                house = low[int(rng.integers(len(low)))]
                set_back = outer + rng.uniform(4, 7)
                length = rng.uniform(8.5, 10.5)
                slate = ((62, 58, 66), (52, 66, 110), (72, 78, 92))[int(rng.integers(3))]
                things.append(
                    _Wall(
                        s0 + 1,
                        side * set_back,
                        length,
                        house,
                        _CONSTRUCTION,
                        0,
                        8.0,
                        rng.uniform(2, 3.2),
                        slate,
                        rng.uniform(0.85, 1.15),
                    )
                )
                kind = ("brick", "concrete", "planks", "hedge", "hedge")[int(rng.integers(5))]
                category = _NATURE if kind == "hedge" else _CONSTRUCTION
                things.append(_Wall(s0, side * (outer + 0.1), _CHUNK, walls[kind], category))
                if rng.random() < 0.7:
                    add_tree(s0 + rng.uniform(1, 11), outer + rng.uniform(1.5, 3.5), 0, 0.75)
            elif zone == "park":
                for _ in range(int(rng.integers(2, 5))):
                    add_tree(s0 + rng.uniform(0, _CHUNK), outer + rng.uniform(3, 22), 0, rng.uniform(0.8, 1.2))
                kind = ("hedge", "planks", "hedge", "brick")[
                    int(np.random.default_rng((self.seed, 6, k // 8)).integers(4))
                ]
                category = _NATURE if kind == "hedge" else _CONSTRUCTION
                things.append(_Wall(s0, side * (outer + 0.2), _CHUNK, walls[kind], category))
            else:
                for _ in range(int(rng.integers(1, 4))):
                    add_tree(s0 + rng.uniform(0, _CHUNK), outer + rng.uniform(4, 40), 0)
                for _ in range(int(rng.integers(2, 6))):
                    size = rng.uniform(0.8, 2.6)
                    spot = s0 + rng.uniform(0, _CHUNK), side * (outer + rng.uniform(0.8, 9) + size / 2)
                    things.append(_Tree(*spot, int(rng.integers(100)), size, size * 1.3, 0.0, 0, self._foliage))

            if zone != "shops" and rng.random() < 0.45 or self._verge and rng.random() < 0.6:
                add_tree(s0 + rng.uniform(2, 10), self._kerb + (0.85 if self._verge else self._pavement - 0.5), 2, 0.85)
            if (k + (side > 0)) % 2 == 0:
                things.append(_Pole(s0 + 6, side * (self._kerb + 0.45), "lamp", self.seed))
            if rng.random() < 0.28:
                things.append(_Pole(s0 + rng.uniform(1, 11), side * (self._kerb + 0.55), "sign", int(rng.integers(10))))
            if not self._verge and rng.random() < 0.15:
                start = s0 + rng.uniform(0, 4)
                things.extend(_Pole(start + 1.5 * i, side * (self._kerb + 0.35), "bollard") for i in range(4))
            if rng.random() < 0.35 * 20 / self._people:
                # Somebody who stands and waits.
                spot = s0 + rng.uniform(0, _CHUNK), side * rng.uniform(inner + 0.4, outer - 0.4)
                things.append(_Person(*spot, int(rng.integers(10**6)), 0.3, 0.05))
            if self._parking:
                for slot in (3.0, 9.0):
                    if rng.random() < 0.5:
                        body = _BODIES[_BODY_CHOICE[int(rng.integers(15))]]
                        u = side * (self._lanes * _LANE + 1.05 + rng.uniform(-0.1, 0.1))
                        paint = _PAINT[int(rng.integers(len(_PAINT)))]
                        along = 1 if side == self._traffic else -1
                        things.append(_Vehicle(s0 + slot + rng.uniform(-0.4, 0.4), u, body, paint, along))
        rng = np.random.default_rng((self.seed, 7, k))
        for _ in range(int(rng.integers(0, 3))):
            start, left = s0 + rng.uniform(0, 8), rng.uniform(-self._kerb, self._kerb - 1)
            size = rng.uniform(0.8, 4), rng.uniform(0.6, 1.8)
            right = min(left + size[1], self._kerb - 0.1)
            chunk.patches.append((start, start + size[0], left, right, rng.uniform(0.72, 1.12)))
        return chunk

    def _is_junction(self, k: int, side: int) -> bool:
        block, place = divmod(k, 9)
        rng = np.random.default_rng((self.seed, 8, block))
        return place == int(rng.integers(2, 8)) and bool(rng.random(2)[(side + 1) // 2] < 0.6)

    def _movers(self, view: _View) -> list[_Thing]:
        things: list[_Thing] = []
        time, traffic = view.time, self._traffic
        present, gap, look = self._lead
        if present:
            gap += 4 * math.sin(0.21 * time + look)
            things.append(self._vehicle((self.seed, 10, look), view.s + gap + 2, self._lane, 1, ("bus", "lorry")))
        for lane in range(self._lanes):
            u = -traffic * (lane + 0.5) * _LANE
            for k, s in _slots(view.s - 8, self._cars + 17 * lane, -self._speed * (0.85 + 0.2 * lane) * time):
                pick = _uniforms(self.seed, 11, lane, k + _MANY)
                if pick[0] < 0.75:
                    things.append(self._vehicle((self.seed, 12, lane, k + _MANY), s + 12 * pick[1], u, -1))
        if self._lanes == 2:
            u = traffic * 2 * _LANE - self._lane
            for k, s in _slots(view.s - 8, self._cars, self._speed * 0.93 * time):
                pick = _uniforms(self.seed, 13, k + _MANY)
                if pick[0] < 0.7:
                    things.append(self._vehicle((self.seed, 14, k + _MANY), s + 12 * pick[1], u, 1))
        inner, outer = self._kerb + self._verge, self._kerb + self._verge + self._pavement
        for side in (-1, 1):
            heading = side * traffic
            for k, s in _slots(view.s - 2, 60.0, heading * 5.0 * time):
                pick = _uniforms(self.seed, 15, k + _MANY, side + 1)
                if pick[0] < 0.45:
                    u, phase = side * (self._lanes * _LANE - 0.45 + 0.2 * pick[1]), 8.0 * time + 6 * pick[2]
                    things.append(_Cyclist(s + 40 * pick[3], u, int(pick[4] * _MANY), phase, heading))
            for way in (-1, 1):
                for k, s in _slots(view.s, self._people, way * 1.35 * time):
                    pick = _uniforms(self.seed, 16, k + _MANY, side + 1, way + 1)
                    for place, where, look in (pick[1:4], pick[4:7])[
                        : 0 if pick[0] > 0.6 else 1 if pick[0] > 0.18 else 2
                    ]:
                        u = side * (inner + 0.35 + (outer - inner - 0.7) * where)
                        ahead = s + (0.5 + 0.1 * place) * self._people + 4 * pick[7]
                        things.append(_Person(ahead, u, int(look * _MANY), 7.2 * time + 6 * place, 0.13 * way))
        return [thing for thing in things if thing.s - view.s < _FAR]

    def _vehicle(self, key: tuple, s: float, u: float, heading: int, without: tuple[str, ...] = ()) -> _Vehicle:
        pick = _uniforms(*key)
        kinds = [kind for kind in _BODY_CHOICE if kind not in without]
        body = _BODIES[kinds[int(pick[0] * len(kinds))]]
        return _Vehicle(s, u, body, _PAINT[int(pick[1] * len(_PAINT))], heading)

    def _draw_sky(self, view: _View) -> None:
        mood, rows = view.mood, max(view.horizon + 2, 1)
        rows = min(rows, view.height)
        height = np.linspace(1, 0, rows, dtype=np.float32)[:, None] ** 0.8
        sky = np.array(mood.zenith, np.float32) * height[..., None] + np.array(mood.horizon, np.float32) * (
            1 - height[..., None]
        )
        if mood.cover:
            turn = (self._heading(view.s) + view.yaw) * 700 + self.seed * 97 % 2048 + view.time * 1.5
            matrix = np.array(((700 / self.camera[0], 0, turn), (0, 230 / rows, 8)), np.float64)
            clouds = cv2.warpAffine(
                _tiles()["clouds"],
                matrix,
                (view.width, rows),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_WRAP,
            ).astype(np.float32)
            alpha = np.clip((clouds - 255 * (0.85 - 0.75 * mood.cover)) / 130, 0, 1) * (0.25 + 0.75 * height)
            body = np.array(mood.cloud, np.float32) * (1.05 - 0.18 * alpha[..., None] * (0.3 + mood.cover))
            sky = sky + (body - sky) * alpha[..., None]
        else:
            sky = np.broadcast_to(sky, (rows, view.width, 3))
        view.image[:rows] = _to_bytes(sky)
        view.mask[:rows] = Category.SKY

        distance = 260.0
        if view.fog(distance) > 0.97:
            return
        columns = np.linspace(0, view.width, 81)
        angle = (columns - view.cx) / view.fx + self._heading(view.s) + view.yaw
        hills = np.interp(angle * 30 % 96, np.arange(97), np.append(self._hills, self._hills[0]))
        base = view.cy + 3
        outline = np.column_stack((columns, view.cy - hills * view.fy))
        ends = ((view.width, base), (0, base))
        view.fill(np.vstack((outline, ends)), view.colour((58, 92, 70), distance, self._mean_gain), _NATURE)
        bins = np.floor(angle[:-1] * 60).astype(int)
        for b in range(bins.min(), bins.max() + 2):
            tall = self._skyline[b % 180]
            if not tall:
                continue
            left, right = (view.cx + view.fx * (edge / 60 - self._heading(view.s) - view.yaw) for edge in (b, b + 1))
            top = view.cy - tall * view.fy
            shade = 0.8 + 3 * tall
            box = np.array(((left, base), (right, base), (right, top), (left, top)))
            view.fill(box, view.colour((128, 132, 138), distance, self._mean_gain * shade), _CONSTRUCTION)

    def _draw_ground(self, view: _View, chunks: list[_Chunk], things: list[_Thing]) -> None:
        top = min(max(view.horizon + 1, 0), view.height)
        gain = self._mood.sunlit * (0.72 if self.weather == "rain" else 0.95)
        view.image[top:] = _to_bytes(np.array(self._grass) * gain)
        view.mask[top:] = _NATURE

        def shade(colour: Colour, factor: float = 1.0) -> Colour:
            return tuple(c * gain * factor for c in colour)

        def strip(s0: float, s1: float, u0: float, u1: float, colour: Colour, category: int | None) -> None:
            start, end = max(s0 - view.s, _NEAR), min(s1 - view.s, 330.0)
            if end <= start:
                return
            z = np.exp(np.linspace(math.log(start), math.log(end), max(int(math.log(end / start) * 4), 1) + 1))
            s = view.s + np.concatenate((z, z[::-1]))
            u = np.concatenate((np.full(len(z), u0), np.full(len(z), u1)))
            view.fill(view.pixels(view.camera_points(s, u, 0.0)), colour, category)

        inner, outer = self._kerb + self._verge, self._kerb + self._verge + self._pavement
        forever = view.s + 330
        for side in (-1, 1):
            strip(view.s, forever, side * inner, side * outer, shade(self._paving), _FLAT)
            strip(view.s, forever, side * self._kerb, side * (self._kerb + 0.18), shade(self._paving, 1.12), _FLAT)
            if not self._verge:
                continue
            strip(view.s, forever, side * (inner - 0.08), side * inner, shade(self._paving, 0.8), _FLAT)
        strip(view.s, forever, -self._kerb, self._kerb, shade(self._asphalt), _FLAT)
        for side in (-1, 1):
            strip(view.s, forever, side * (self._kerb - 0.12), side * self._kerb, shade(self._asphalt, 0.7), None)
        for chunk in chunks:
            for s0, s1, u0, u1, brightness in chunk.patches:
                strip(s0, s1, u0, u1, shade(self._asphalt, brightness), None)
            for side, middle in chunk.junctions:
                strip(middle - 5.2, middle + 5.2, side * (self._kerb - 0.2), side * 90, shade(self._paving), _FLAT)
                strip(
                    middle - 3.6, middle + 3.6, side * (self._kerb - 0.2), side * 90, shade(self._asphalt, 0.97), _FLAT
                )
        paint = shade(_PAINTED, 0.92)
        for offset in (0.0,) if self._lanes == 1 else (0.0, _LANE, -_LANE):
            period, length = (6.0, 4.0) if offset == 0 else (9.0, 3.0)
            if offset == 0 and self._lanes == 2:
                for beside in (-0.12, 0.12):
                    strip(view.s, view.s + 150, beside - 0.06, beside + 0.06, paint, None)
                continue
            start = math.floor(view.s / period) * period
            for k in range(int(80 / period)):
                strip(start + k * period, start + k * period + length, offset - 0.07, offset + 0.07, paint, None)
        for side in (-1, 1):
            edge = side * (self._lanes * _LANE - (0 if self._parking else 0.05))
            strip(view.s, view.s + 150, edge - 0.06, edge + 0.06, paint, None)
        for chunk in chunks:
            if chunk.crossing is not None and chunk.crossing - view.s < 70:
                for k in range(int(2 * self._kerb / 1.0)):
                    u = -self._kerb + 0.25 + k
                    strip(chunk.crossing - 3, chunk.crossing, u, u + 0.5, paint, None)
                lane = sorted((self._traffic * 0.15, self._traffic * self._lanes * _LANE))
                strip(chunk.crossing - 5, chunk.crossing - 4.6, *lane, paint, None)
        self._weather_ground(view, top, things)

    def _weather_ground(self, view: _View, top: int, things: list[_Thing]) -> None:
        """Structure, shadows, wetness and haze of the ground."""
        rows = view.height - top
        if rows < 2:
            return
        z = (self._eye * view.fy / (np.arange(top, view.height) + 0.5 - view.cy).clip(0.3)).astype(np.float32)
        shadow = np.full((rows, view.width), 255, np.uint8)
        darkness = np.zeros_like(shadow)
        depth = round(view.mood.shadow * 255)
        for thing in things:
            if thing.s - view.s > 70:
                continue
            if isinstance(thing, _Vehicle):
                self._contact_shadow(view, thing, shadow, top)
            outline = thing.shadow(self) if depth else None
            if outline is None:
                continue
            points = _clip(view.camera_points(outline[:, 0], outline[:, 1], 0.0))
            if len(points) >= 3:
                corners = np.clip(view.pixels(points) - (0, top), -8000, 8000)
                cast = np.rint(corners * 16).astype(np.int32)
                cv2.fillPoly(darkness, [cast], depth, cv2.LINE_8, 4)
        shadow = cv2.blur(cv2.min(shadow, cv2.bitwise_not(darkness)), (5, 3))

        column = (np.arange(view.width, dtype=np.float32) - view.cx) / view.fx
        u = z[:, None] * column + (view.u - view.bend(z)).astype(np.float32)[:, None]
        s = view.s % 4096 + z
        tiles = _tiles()

        def structure(tile: str, texels: float, first: int = 0) -> np.ndarray:
            columns = (u[first:] * np.float32(texels)).astype(np.int32) & 511
            columns += ((s[first:] * texels).astype(np.int32) & 511)[:, None] * 512
            return np.take(tiles[tile].reshape(-1), columns)

        factor = structure("coarse", 12.0)
        near = int(np.searchsorted(-z, -16.0))
        if rows - near > 1:
            fine = structure("fine", 40.0, near)
            factor[near:] = cv2.addWeighted(factor[near:], 0.6, fine, 0.4, 0)
        grass = structure("grass", 18.0)
        cv2.copyTo(grass, (view.mask[top:] == _NATURE).astype(np.uint8), factor)
        factor = cv2.multiply(factor, shadow, scale=1 / 255)
        ground = cv2.multiply(view.image[top:], cv2.merge((factor, factor, factor)), scale=1 / 128)
        if self.weather == "rain" and top > 8:
            mirrored = cv2.flip(view.image[max(top - rows, 0) : top], 0)
            mirrored = cv2.blur(cv2.resize(mirrored, (view.width, rows)), (3, 21))
            wet = cv2.addWeighted(ground, 0.72, mirrored, 0.30, 0)
            cv2.copyTo(wet, (view.mask[top:] == _FLAT).astype(np.uint8), ground)
        fog = 1 - np.exp(-z * view.mood.haze)
        clear = np.broadcast_to(((1 - fog) * 255).astype(np.uint8)[:, None, None], ground.shape)
        air = np.broadcast_to(_to_bytes(fog[:, None] * np.array(view.mood.horizon))[:, None], ground.shape)
        view.image[top:] = cv2.add(
            cv2.multiply(ground, np.ascontiguousarray(clear), scale=1 / 255), np.ascontiguousarray(air)
        )

    def _contact_shadow(self, view: _View, car: _Vehicle, shadow: np.ndarray, top: int) -> None:
        """Darkness underneath a vehicle, which any light leaves."""
        length, half = car.body.length / 2, car.body.width / 2
        s, u = car.s + np.array((-1, 1, 1, -1)) * length, car.u + np.array((-1, -1, 1, 1)) * half
        points = _clip(view.camera_points(s, u, 0.0))
        if len(points) >= 3:
            corners = np.clip(view.pixels(points) - (0, top), -8000, 8000)
            cv2.fillPoly(shadow, [np.rint(corners * 16).astype(np.int32)], 70, cv2.LINE_8, 4)

    def _make_bonnet(self, rng: np.random.Generator) -> tuple[int, np.ndarray, np.ndarray]:
        """(first row, uint8 [h, W, 3] picture, uint8 [h, W] stencil) of the own car's bonnet."""
        height, width = self.size
        rows = round(height * rng.uniform(0.07, 0.13))
        x = np.linspace(-1, 1, width, dtype=np.float32)
        crest = rows * (0.18 + 0.75 * np.abs(x) ** rng.uniform(2.4, 4) + 0.04 * np.cos(x * 7))
        y = np.arange(rows, dtype=np.float32)[:, None]
        depth = (y - crest) / rows
        paint = np.array(_PAINT[int(rng.integers(len(_PAINT)))], np.float32) * self._mood.sunlit * 0.8
        reflection = np.array(self._mood.zenith, np.float32) * 0.5 + np.array(self._mood.horizon, np.float32) * 0.3
        mirror = np.clip(0.75 - 1.1 * depth, 0.12, 0.75)[..., None]
        crease = 1 - 0.25 * np.exp(-(((np.abs(x) - 0.52) / 0.012) ** 2))[None, :, None]
        picture = (paint * (1 - mirror) + reflection * mirror) * crease
        picture *= np.where(depth < 0.06, 0.6, 1.0)[..., None]
        return height - rows, _to_bytes(picture), (depth > 0).astype(np.uint8)

    def _make_tone(self) -> np.ndarray:
        """Response of the camera, uint8 [1, 256, 3]."""
        level = np.arange(256) / 255
        curve = level**0.94 + 0.03 * np.sin(2 * np.pi * (level - 0.5))
        gain = np.array(self._mood.gain)
        return _to_bytes(curve[:, None] * gain * 255)[None]

    def _finish(self, view: _View, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rain in the air, the own bonnet, lens and sensor."""
        image, mask = view.image, view.mask
        rng = np.random.default_rng((self.seed, 9, index))
        height, width = self.size
        if self.weather == "rain":
            y, x = int(rng.integers(512)), int(rng.integers(1024))
            streaks = np.take(
                np.take(_tiles()["rain"], np.arange(y, y + height), 0, mode="wrap"),
                np.arange(x, x + width),
                1,
                mode="wrap",
            )
            image = cv2.add(image, cv2.merge((streaks,) * 3) // 2)
        top, picture, stencil = self._bonnet
        cv2.copyTo(picture, stencil, image[top:])
        mask[top:][stencil > 0] = Category.VOID
        image = cv2.GaussianBlur(image, (3, 3), 0.55)
        image = cv2.LUT(image, self._tone)
        sensor = _tiles()["sensor"]
        y, x = int(rng.integers(256)), int(rng.integers(512))
        noise = np.take(
            np.take(sensor, np.arange(y, y + height), 0, mode="wrap"), np.arange(x, x + width), 1, mode="wrap"
        )
        strength = 0.24 if self.light == "dusk" else 0.13
        return cv2.addWeighted(image, 1.0, noise, strength, -128 * strength), mask


def _slots(s: float, spacing: float, shift: float):
    """Places that move together: (number, s now) of those from ``s`` on that are near enough to be seen."""
    first = math.floor((s - shift) / spacing) - 1
    return ((k, k * spacing + shift) for k in range(first, first + int(_FAR / spacing) + 3))


class SyntheticScenes:
    """Random access to frames of many drives, like ``camvid.CamVid``.

    Args:
        seeds: of the drives.
        frames: taken from each drive.
        stride: frames from one to the next; 30 are a second.
        size: (height, width) in pixels.
        weather: one of ``WEATHERS``; None lets each seed choose.
        light: one of ``LIGHTS``; None lets each seed choose.

    Raises:
        ValueError: there are no seeds or frames, or a value is out of range.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        frames: int = 1,
        stride: int = 30,
        size: tuple[int, int] = (360, 640),
        weather: str | None = None,
        light: str | None = None,
    ):
        if not len(seeds) or frames < 1 or stride < 1:
            raise ValueError(f"{len(seeds)} seeds, {frames} frames, stride {stride}: each must be at least 1")
        self.seeds, self.frames, self.stride = seeds, frames, stride
        self._drive = functools.partial(SyntheticDrive, size=size, weather=weather, light=light)
        self.weather, self.light = weather, light
        self._drive(seeds[0])
        self.names = [f"seed{seed}_frame{frame * stride}" for seed in seeds for frame in range(frames)]
        self.description = f"made-up drives, seeds {seeds[0]} to {seeds[-1]}{self._conditions()} ({len(self)} images)"

    def __len__(self) -> int:
        return len(self.seeds) * self.frames

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw one sample.

        Returns:
            uint8 [H, W, 3] BGR image and uint8 [H, W] mask of categories.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        drive, frame = divmod(index, self.frames)
        return self._drive(self.seeds[drive]).frame(frame * self.stride)

    def _conditions(self) -> str:
        return "".join(f", {condition}" for condition in (self.weather, self.light) if condition)
