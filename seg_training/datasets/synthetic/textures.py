"""Textures of the made-up street: house fronts, garden walls, tree crowns and repeating tiles, drawn once."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Colour = tuple[float, float, float]
"""Blue, green and red, 0..255."""


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
class Texture:
    """Picture of a wall, with its size in metres."""

    levels: list[np.ndarray]
    width: float
    height: float
    colour: Colour
    """Colour of the plain wall."""


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    return np.clip(pixels, 0, 255).astype(np.uint8)


_PLASTER = ((150, 175, 190), (120, 160, 190), (170, 180, 185), (105, 135, 165), (140, 150, 150), (175, 195, 205))
_BRICK = ((62, 78, 130), (75, 92, 138), (88, 112, 150), (70, 80, 105))


@functools.cache
def house_fronts() -> list[Texture]:
    return [_facade(np.random.default_rng((71, k)), k) for k in range(18)]


def _facade(rng: np.random.Generator, number: int) -> Texture:
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
    return Texture(_pyramid(to_bytes(image)), width, height, tuple(map(float, colour)))


def _paint(image: np.ndarray, scale: int, left: float, bottom: float, right: float, top: float, colour: np.ndarray):
    """Fill a rectangle given in metres from the lower left corner."""
    rows = image.shape[0]
    image[
        max(round(rows - top * scale), 0) : round(rows - bottom * scale), round(left * scale) : round(right * scale)
    ] = colour


@functools.cache
def garden_walls() -> dict[str, Texture]:
    """Garden walls, fences and hedges, 12 m long."""
    rng = np.random.default_rng(72)
    scale, width = 20, 12.0
    cols = round(width * scale)

    def texture(height: float, image: np.ndarray, colour: Colour) -> Texture:
        return Texture(_pyramid(to_bytes(image)), width, height, colour)

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
def tree_crowns() -> list[list[np.ndarray]]:
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
    return np.dstack([to_bytes(bgr), np.where(alpha, 255, 0).astype(np.uint8)])


@functools.cache
def ground_tiles() -> dict[str, np.ndarray]:
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
        "fine": to_bytes(fine),
        "coarse": to_bytes(coarse),
        "grass": to_bytes(grass),
        "clouds": to_bytes(clouds),
        "rain": rain,
        "sensor": to_bytes(sensor),
    }
