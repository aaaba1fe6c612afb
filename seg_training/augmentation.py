"""Training augmentation: geometry, colour and blur from torchvision.transforms.v2, and the weather that it lacks.

Everything is drawn from the sample's seed, with a generator of its own for each switch: a switch that is turned off or
on changes nothing about the others.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from seg_node.core.errors import UserError
from seg_node.core.taxonomy import NO_LABEL

PADDING = 114
"""Grey around images that are smaller than the crop."""


@dataclass(frozen=True)
class AugmentationConfig:
    """Probability of each switch, 0..1."""

    flip: float = 0.5
    """Mirror left and right."""
    color: float = 0.8
    """Other brightness, contrast, saturation and hue."""
    blur: float = 0.2
    """Blur of a lens that is out of focus."""
    noise: float = 0.2
    """Noise of the sensor."""
    rain: float = 0.0
    """Streaks, haze, wet colours and drops on the windscreen."""
    fog: float = 0.0
    """Haze that thickens with distance."""
    night: float = 0.0
    """Headlights and street lamps in place of daylight."""
    jpeg: float = 0.2
    """Artefacts of compression."""

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UserError(f"augmentation {field.name} is {value!r}; expected a probability, 0..1")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "AugmentationConfig":
        """Defaults with some values replaced.

        Raises:
            UserError: a key is unknown or a value is no probability; the message names it.
        """
        names = [field.name for field in fields(cls)]
        if unknown := [key for key in values if key not in names]:
            raise UserError(f"unknown augmentation {', '.join(map(str, unknown))}; there are {', '.join(names)}")
        return cls(**values)


@dataclass(frozen=True)
class _View:
    """Where the pixels of a crop lie in the camera's frame, as float32 fractions of its height and width."""

    rows: np.ndarray
    columns: np.ndarray
    height: float
    """Height of the whole frame at the crop's zoom, in pixels."""


class Augmentation:
    """Scale jitter, crop, and the switches of a configuration, on an image and its mask together.

    Args:
        crop: (height, width) of the result in pixels.
        scale: least and greatest zoom of the source image before the crop.
        config: probability of each switch.
    """

    def __init__(
        self,
        crop: tuple[int, int],
        scale: tuple[float, float],
        config: AugmentationConfig = AugmentationConfig(),  # noqa: B008  it cannot change
    ):
        self.crop, self.scale, self.config = crop, scale, config

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment one sample; the same seed gives the same result in any process.

        Args:
            image: uint8 [H, W, 3], BGR.
            mask: uint8 [H, W].
            seed: of this sample's random choices, 0 or more.

        Returns:
            uint8 [3, h, w], BGR, and int64 [h, w].
        """
        geometry = np.random.default_rng((seed, 0))
        zoom = geometry.uniform(*self.scale)
        (top, height, out_height, above), (left, width, out_width, beside) = (
            _window(side, crop, zoom, geometry) for side, crop in zip(mask.shape, self.crop, strict=True)
        )
        box, out = (slice(top, top + height), slice(left, left + width)), [out_height, out_width]
        pixels = functional.resize(torch.from_numpy(image[box].copy()).permute(2, 0, 1), out, antialias=True)
        # Not NEAREST, which reads half a pixel beside the place where the image is read.
        labels = functional.resize(
            torch.from_numpy(mask[box].copy())[None], out, interpolation=InterpolationMode.NEAREST_EXACT
        )[0]

        view = _View(
            ((top + (np.arange(out_height) + 0.5) * height / out_height) / mask.shape[0]).astype(np.float32),
            ((left + (np.arange(out_width) + 0.5) * width / out_width) / mask.shape[1]).astype(np.float32),
            mask.shape[0] * out_height / height,
        )
        pixels = _to_tensor(self._photometric(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), view, seed))
        if geometry.random() < self.config.flip:
            pixels, labels = functional.horizontal_flip(pixels), functional.horizontal_flip(labels)
        if (out_height, out_width) != tuple(self.crop):
            around = [beside, above, self.crop[1] - out_width - beside, self.crop[0] - out_height - above]
            pixels = functional.pad(pixels, around, fill=PADDING)
            labels = functional.pad(labels[None], around, fill=NO_LABEL)[0]
        return pixels.contiguous(), labels.long()

    def _photometric(self, image: np.ndarray, view: _View, seed: int) -> np.ndarray:
        """What changes colours only, from the scene through the lens and the sensor to the file."""
        for number, (name, change) in enumerate(_CHANGES.items(), start=1):
            probability = getattr(self.config, name)
            if probability:
                rng = np.random.default_rng((seed, number))
                if rng.random() < probability:
                    image = change(image, view, rng)
        return image


def _window(side: int, crop: int, zoom: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Part of a source side that fills the crop: (start, length), its length in the crop, and the padding before it."""
    length = max(1, round(crop / zoom))
    place = rng.random()
    if length <= side:
        return int(place * (side - length + 1)), length, crop, 0
    out = min(crop, max(1, round(side * zoom)))
    return 0, side, out, int(place * (crop - out + 1))


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 [3, H, W], one plane after the other, of uint8 [H, W, 3]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _to_array(image: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 255).astype(np.uint8)


def _color(image: np.ndarray, view: _View, rng: np.random.Generator) -> np.ndarray:
    brightness, contrast, saturation = rng.uniform(0.6, 1.4, 3).tolist()
    rgb = functional.adjust_brightness(_to_tensor(image[..., ::-1]), brightness)
    rgb = functional.adjust_saturation(functional.adjust_contrast(rgb, contrast), saturation)
    # torchvision's adjust_hue takes 10 ms where this takes half of one.
    hsv = cv2.cvtColor(_to_array(rgb), cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(int(rng.integers(-13, 14)) % 256)  # in 1/256 of the circle, which wraps around
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL)


def _blur(image: np.ndarray, view: _View, rng: np.random.Generator) -> np.ndarray:
    return _to_array(functional.gaussian_blur(_to_tensor(image), [5, 5], [rng.uniform(0.4, 1.5)] * 2))


def _noise(image: np.ndarray, view: _View, rng: np.random.Generator) -> np.ndarray:
    """Read-out noise, and photon noise whose variance grows with the light."""
    read, photons = rng.uniform(2, 8), rng.uniform(0, 0.6)
    deviation = np.sqrt(read**2 + photons * image.astype(np.float32))
    return _to_bytes(image + deviation * rng.standard_normal(image.shape, np.float32) + 0.5)


def _jpeg(image: np.ndarray, view: _View, rng: np.random.Generator) -> np.ndarray:
    quality = int(rng.integers(30, 91))
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


_FAR = 300.0
"""Distance of the sky, metres."""
_STREET = 50.0
"""Distance beyond which something stands in the way, metres."""


def _distance(image: np.ndarray, view: _View, horizon: float) -> np.ndarray:
    """Rough distance of each pixel in metres, float32 [H, W], for a camera in a car in a street.

    Down from the vanishing point it is that of the road, up that at which something 8 m tall ends, and to the sides
    that of facades 7.5 m away. What is bright up there is taken for sky. The mask is not asked: effects that follow
    its outlines would tell the answer.
    """
    down = view.rows - horizon
    height = np.where(down > 0, np.float32(1.5), np.float32(8))
    inverse = np.hypot((down / height)[:, None], (view.columns - np.float32(0.5)) / np.float32(7.5))
    metres = 1 / np.maximum(inverse, np.float32(1 / _STREET))
    return metres + (_FAR - metres) * _sky_likeness(image, view, horizon)


def _sky_likeness(image: np.ndarray, view: _View, horizon: float) -> np.ndarray:
    """float32 [H, W], 0..1: large bright areas, and small ones if they are very bright, such as between branches."""
    bright = image.max(axis=2)
    large = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((9, 9), np.uint8)).astype(np.float32)
    likeness = np.maximum(np.clip((large - 150) / 50, 0, 1), np.clip((bright.astype(np.float32) - 185) / 50, 0, 1))
    likeness *= np.clip((horizon - view.rows) / 0.08, 0, 1)[:, None]
    return cv2.blur(likeness, (3, 3))


def _fog(image: np.ndarray, view: _View, rng: np.random.Generator) -> np.ndarray:
    """Koschmieder's law: light fades by exp(-3 distance / visibility), and the colour of the fog takes its place."""
    visibility, horizon = math.exp(rng.uniform(math.log(40), math.log(250))), rng.uniform(0.42, 0.52)
    thickness = 1 + 0.25 * _clouds(image.shape[:2], rng)
    seen = np.exp(-3 / visibility * _distance(image, view, horizon) * thickness)[..., None]
    # Fog glows with the daylight that is there: in a dark picture it is no brighter than the sky.
    glow = min(rng.uniform(165, 220), float(np.percentile(image[::8, ::8], 95)) + 20)
    tint = np.float32((4, 0, -3)) * rng.uniform(0, 2)
    return _to_bytes(image * seen + (glow + tint) * (1 - seen))


def _clouds(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Smooth noise, float32 [H, W], about -1..1."""
    grid = rng.uniform(-1, 1, (4, 6)).astype(np.float32)
    return cv2.resize(grid, size[::-1], interpolation=cv2.INTER_CUBIC)


def _rain(image: np.ndarray, view: _View, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    frame = view.height
    horizon, strength = rng.uniform(0.42, 0.52), rng.uniform(0.3, 1.0)

    # Wet air takes the light and the colours, and distance.
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR).astype(np.float32)
    wet = image * np.float32(0.6) + grey * np.float32(0.4)
    wet *= 1 - 0.25 * strength
    seen = np.exp(-_distance(image, view, horizon) * (strength / 120))[..., None]
    wet = wet * seen + np.float32(150) * (1 - seen)

    # Streaks: far ones short, fine and many, near ones long and faint. They are water: as bright as what is around.
    slant = rng.uniform(-0.25, 0.25)
    streaks = np.zeros((height, width), np.float32)
    for length, share, opacity in ((0.025, 0.006, 0.3), (0.05, 0.0024, 0.34), (0.11, 0.0007, 0.24)):
        drops = rng.random((height, width), np.float32)
        drops = np.where(drops < share * strength, 0.5 + drops / (2 * share * strength), 0).astype(np.float32)
        streaks += opacity * cv2.filter2D(drops, -1, _line(max(3, round(length * frame)), slant))
    streaks = cv2.GaussianBlur(np.minimum(streaks, 0.5), (3, 3), 0.7)[..., None]
    wet += (wet.mean() + 90 - wet) * streaks
    image = _to_bytes(wet)
    return _drops_on_glass(image, frame, int(rng.integers(0, 40) * strength), rng)


def _line(length: int, slant: float) -> np.ndarray:
    """Kernel that draws a point out to a line; slant is the tangent of its angle to the vertical."""
    half = round(abs(slant) * length / 2) + 1
    kernel = np.zeros((length, 2 * half + 1), np.uint8)
    reach = slant * length / 2
    ends = ((round(half - reach), 0), (round(half + reach), length - 1))
    return cv2.line(kernel, *ends, 255, 1, cv2.LINE_AA).astype(np.float32) / 255


def _drops_on_glass(image: np.ndarray, frame: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Drops on the windscreen: each shows the scene around it small, upside down and out of focus."""
    height, width = image.shape[:2]
    source, result = cv2.blur(image, (3, 3)), image.copy()
    for y, x, size, shape in zip(*(rng.random((4, count))), strict=True):
        radius = max(2.0, (0.006 + 0.02 * size**2) * frame)
        ry, rx = round(radius * (1 + 0.5 * shape)), round(radius)
        y, x = int(y * height), int(x * width)
        top, bottom = max(y - ry, 0), min(y + ry + 1, height)
        left, right = max(x - rx, 0), min(x + rx + 1, width)
        v, u = np.mgrid[top:bottom, left:right].astype(np.float32)
        dv, du = (v - y) / ry, (u - x) / rx
        away = np.sqrt(dv**2 + du**2)
        lens = cv2.remap(source, u - du * rx * 5, v - dv * ry * 5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        alpha = np.clip((1 - away) * 3, 0, 1)[..., None] * 0.85
        shade = (1 - 0.35 * np.clip(away, 0, 1) ** 3 + 0.1 * np.clip(-dv, 0, 1))[..., None]
        patch = result[top:bottom, left:right]
        patch[:] = _to_bytes(patch * (1 - alpha) + lens * shade * alpha)
    return result


def _night(image: np.ndarray, view: _View, rng: np.random.Generator) -> np.ndarray:
    """Take the daylight away, in linear light, and put the lamps of the car and the street in its place."""
    horizon = rng.uniform(0.42, 0.52)
    linear = ((np.arange(256) / 255) ** 2.2).astype(np.float32)[image]
    away = _distance(image, view, horizon)
    lit = 1 - _sky_likeness(image, view, horizon)

    town = (0.3 + 0.7 * lit) * rng.uniform(0.03, 0.08)  # what comes down from the sky, bluish
    across = (view.columns - rng.uniform(0.42, 0.58))[None] * np.minimum(away, 60) / 9
    low = np.clip(1 - (horizon - 0.06 - view.rows) / 0.12, 0, 1)[:, None]
    headlights = np.exp(-(across**2)) * low / (1 + (away / 18) ** 2) * np.clip(away / 6, 0.25, 1)
    headlights *= rng.uniform(0.4, 1.0)
    lamps, glow = np.zeros_like(away), np.zeros_like(away)
    for _ in range(int(rng.integers(1, 6))):
        y, x, size = rng.uniform(0.05, horizon - 0.05), rng.uniform(0, 1), rng.uniform(0.004, 0.012)
        dy, dx = (view.rows - y)[:, None] ** 2, (view.columns - x)[None] ** 2 * 1.7
        near = dy + dx
        lamps += 0.16 * np.exp(-10 * dx) * np.exp(-5 * dy)
        glow += np.exp(-dy / size**2) * np.exp(-dx / size**2) + 0.06 / (1 + near / (9 * size**2))
    bluish, white, warm = np.float32((1.15, 1.0, 0.9)), np.float32((0.85, 0.97, 1.0)), np.float32((0.45, 0.78, 1.0))
    light = town[..., None] * bluish + headlights[..., None] * white + (lamps * lit)[..., None] * warm
    dark = cv2.pow(np.clip(linear * light + glow[..., None] * warm, 0, 1), 1 / 2.2)
    return _noise(_to_bytes(255 * dark), view, rng)


_CHANGES: dict[str, Callable[[np.ndarray, _View, np.random.Generator], np.ndarray]] = {
    "night": _night,
    "fog": _fog,
    "rain": _rain,
    "color": _color,
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
}
