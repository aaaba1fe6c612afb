"""Ground of the made-up street: surfaces, road markings, shadows, wetness and haze."""

import math

import cv2
import numpy as np

from seg_node.core.taxonomy import Category
from seg_training.datasets.synthetic.camera import NEAR, View, clip
from seg_training.datasets.synthetic.street import LANE, Chunk, Street
from seg_training.datasets.synthetic.textures import Colour, ground_tiles, to_bytes
from seg_training.datasets.synthetic.thing import Thing
from seg_training.datasets.synthetic.vehicle import Vehicle

_PAINTED = (222, 224, 224)


def draw_ground(view: View, street: Street, chunks: list[Chunk], things: list[Thing]) -> None:
    """Draw everything that lies flat, with the shadows on it.

    Args:
        view: frame to draw into.
        street: the street's widths and colours.
        chunks: pieces of the street that can be seen.
        things: objects that cast shadows.
    """
    top = min(max(view.horizon + 1, 0), view.height)
    view.image[top:] = to_bytes(np.array(street.grass) * _gain(view))
    view.mask[top:] = Category.NATURE
    draw_surfaces(view, street, chunks)
    _weather_ground(view, top, things)


def _gain(view: View) -> float:
    """Brightness of what lies flat."""
    return view.mood.sunlit * (0.72 if view.lighting.weather == "rain" else 0.95)


def draw_surfaces(view: View, street: Street, chunks: list[Chunk]) -> None:
    """Draw what lies on the grass, its markings included; see ``draw_ground``."""
    gain = _gain(view)

    def shade(colour: Colour, factor: float = 1.0) -> Colour:
        return tuple(c * gain * factor for c in colour)

    def strip(s0: float, s1: float, u0: float, u1: float, colour: Colour, category: int | None) -> None:
        start, end = max(s0 - view.s, NEAR), min(s1 - view.s, 330.0)
        if end <= start:
            return
        z = np.exp(np.linspace(math.log(start), math.log(end), max(int(math.log(end / start) * view.steps), 1) + 1))
        s = view.s + np.concatenate((z, z[::-1]))
        u = np.concatenate((np.full(len(z), u0), np.full(len(z), u1)))
        view.strip(s, u, colour, category)

    inner, outer = street.kerb + street.verge, street.kerb + street.verge + street.pavement
    forever = view.s + 330
    paving, side_road = shade(street.paving), shade(street.asphalt, 0.97)
    for side in (-1, 1):
        strip(view.s, forever, side * inner, side * outer, paving, Category.FLAT)
        edge = side * street.kerb, side * (street.kerb + 0.18)
        strip(view.s, forever, *edge, shade(street.paving, 1.12), Category.FLAT)
        if not street.verge:
            continue
        strip(view.s, forever, side * (inner - 0.08), side * inner, shade(street.paving, 0.8), Category.FLAT)
    strip(view.s, forever, -street.kerb, street.kerb, shade(street.asphalt), Category.FLAT)
    for side in (-1, 1):
        strip(view.s, forever, side * (street.kerb - 0.12), side * street.kerb, shade(street.asphalt, 0.7), None)
    for chunk in chunks:
        for s0, s1, u0, u1, brightness in chunk.patches:
            strip(s0, s1, u0, u1, shade(street.asphalt, brightness), None)
        for side, middle in chunk.junctions:
            near, far = side * (street.kerb - 0.2), side * street.side_road
            strip(middle - 5.2, middle + 5.2, near, far, paving, Category.FLAT)
            strip(middle - 3.6, middle + 3.6, near, far, side_road, Category.FLAT)
    paint = shade(_PAINTED, 0.92)
    for offset in (0.0,) if street.lanes == 1 else (0.0, LANE, -LANE):
        period, length = (6.0, 4.0) if offset == 0 else (9.0, 3.0)
        if offset == 0 and street.lanes == 2:
            for beside in (-0.12, 0.12):
                strip(view.s, view.s + 150, beside - 0.06, beside + 0.06, paint, None)
            continue
        start = math.floor(view.s / period) * period
        for k in range(int(80 / period)):
            strip(start + k * period, start + k * period + length, offset - 0.07, offset + 0.07, paint, None)
    for side in (-1, 1):
        edge = side * (street.lanes * LANE - (0 if street.parking else 0.05))
        strip(view.s, view.s + 150, edge - 0.06, edge + 0.06, paint, None)
    for chunk in chunks:
        if chunk.crossing is not None and chunk.crossing - view.s < 70:
            for k in range(int(2 * street.kerb / 1.0)):
                u = -street.kerb + 0.25 + k
                strip(chunk.crossing - 3, chunk.crossing, u, u + 0.5, paint, None)
            lane = sorted((street.traffic * 0.15, street.traffic * street.lanes * LANE))
            strip(chunk.crossing - 5, chunk.crossing - 4.6, *lane, paint, None)


def _weather_ground(view: View, top: int, things: list[Thing]) -> None:
    """Structure, shadows, wetness and haze of the ground."""
    rows = view.height - top
    if rows < 2:
        return
    z = (view.eye * view.fy / (np.arange(top, view.height) + 0.5 - view.cy).clip(0.3)).astype(np.float32)
    shadow = np.full((rows, view.width), 255, np.uint8)
    darkness = np.zeros_like(shadow)
    depth = round(view.mood.shadow * 255)
    for thing in things:
        if thing.s - view.s > 70:
            continue
        if isinstance(thing, Vehicle):
            _contact_shadow(view, thing, shadow, top)
        outline = thing.shadow(view.lighting) if depth else None
        if outline is None:
            continue
        points = clip(view.camera_points(outline[:, 0], outline[:, 1], 0.0))
        if len(points) >= 3:
            corners = np.clip(view.pixels(points) - (0, top), -8000, 8000)
            cast = np.rint(corners * 16).astype(np.int32)
            cv2.fillPoly(darkness, [cast], depth, cv2.LINE_8, 4)
    shadow = cv2.blur(cv2.min(shadow, cv2.bitwise_not(darkness)), (5, 3))

    column = (np.arange(view.width, dtype=np.float32) - view.cx) / view.fx
    along, across = view.ground(z, column)
    tiles = ground_tiles()

    def structure(tile: str, texels: float, first: int = 0) -> np.ndarray:
        columns = (across[first:] * np.float32(texels)).astype(np.int32) & 511
        columns += ((along[first:] * texels).astype(np.int32) & 511) * 512
        return np.take(tiles[tile].reshape(-1), columns)

    factor = structure("coarse", 12.0)
    near = int(np.searchsorted(-z, -16.0))
    if rows - near > 1:
        fine = structure("fine", 40.0, near)
        factor[near:] = cv2.addWeighted(factor[near:], 0.6, fine, 0.4, 0)
    grass = structure("grass", 18.0)
    cv2.copyTo(grass, (view.mask[top:] == Category.NATURE).astype(np.uint8), factor)
    factor = cv2.multiply(factor, shadow, scale=1 / 255)
    ground = cv2.multiply(view.image[top:], cv2.merge((factor, factor, factor)), scale=1 / 128)
    if view.lighting.weather == "rain" and top > 8:
        mirrored = cv2.flip(view.image[max(top - rows, 0) : top], 0)
        mirrored = cv2.blur(cv2.resize(mirrored, (view.width, rows)), (3, 21))
        wet = cv2.addWeighted(ground, 0.72, mirrored, 0.30, 0)
        cv2.copyTo(wet, (view.mask[top:] == Category.FLAT).astype(np.uint8), ground)
    fog = 1 - np.exp(-z * view.mood.haze)
    clear = np.broadcast_to(((1 - fog) * 255).astype(np.uint8)[:, None, None], ground.shape)
    air = np.broadcast_to(to_bytes(fog[:, None] * np.array(view.mood.horizon))[:, None], ground.shape)
    view.image[top:] = cv2.add(
        cv2.multiply(ground, np.ascontiguousarray(clear), scale=1 / 255), np.ascontiguousarray(air)
    )


def _contact_shadow(view: View, car: Vehicle, shadow: np.ndarray, top: int) -> None:
    """Darkness underneath a vehicle, which any light leaves."""
    length, half = car.body.length / 2, car.body.width / 2
    s, u = car.s + np.array((-1, 1, 1, -1)) * length, car.u + np.array((-1, -1, 1, 1)) * half
    points = clip(view.camera_points(s, u, 0.0))
    if len(points) >= 3:
        corners = np.clip(view.pixels(points) - (0, top), -8000, 8000)
        cv2.fillPoly(shadow, [np.rint(corners * 16).astype(np.int32)], 70, cv2.LINE_8, 4)
