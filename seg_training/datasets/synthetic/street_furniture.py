"""Things that stand beside the made-up street: walls and houses, trees, poles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seg_node.core.taxonomy import Category
from seg_training.datasets.synthetic.camera import View
from seg_training.datasets.synthetic.textures import Colour, Texture, tree_crowns
from seg_training.datasets.synthetic.thing import Thing
from seg_training.datasets.synthetic.weather import Lighting

_STEEL = (112, 116, 118)


@dataclass
class Wall(Thing):
    """House front, garden wall, fence or hedge along the street."""

    s: float
    u: float
    length: float
    texture: Texture
    category: int
    layer: int = 1
    depth: float = 0.0
    """Depth of a house away from the street, metres; 0 is a mere wall."""
    roof: float = 0.0
    """Height of a pitched roof, metres."""
    roof_colour: Colour = (62, 58, 66)
    tint: float = 1.0

    def draw(self, view: View) -> None:
        side = math.copysign(1, self.u)
        end = self.s + self.length
        gain = self.tint * view.lighting.side_gain(side)
        top, back = self.texture.height, self.u + side * self.depth
        if self.depth and self.s > view.s:
            gable = [(self.u, 0), (back, 0), (back, top), (self.u, top)]
            if self.roof:
                gable.insert(3, ((self.u + back) / 2, top + self.roof))
            u, h = np.array(gable).T
            front = self.tint * view.lighting.front_gain * 0.92
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

    def shadow(self, lighting: Lighting) -> np.ndarray | None:
        side = math.copysign(1, self.u)
        if side != lighting.sun_side:
            return None
        reach = self.u - side * min(self.texture.height * lighting.sun_slope, 16.0)
        end = self.s + self.length
        return np.array(((self.s, self.u), (end, self.u), (end, reach), (self.s, reach)))


@dataclass
class Tree(Thing):
    s: float
    u: float
    crown: int
    height: float
    width: float
    trunk: float
    """Height at which the crown begins, metres; 0 makes a bush."""
    layer: int = 2
    tint: float = 1.0

    def draw(self, view: View) -> None:
        if not view.sees(self.s, self.u, self.width / 2 + 0.5):
            return
        gain = view.lighting.mean_gain * self.tint
        if self.trunk:
            half = 0.08 + 0.018 * self.height
            points = view.camera_points(self.s, self.u + np.array((-half, half, half * 0.7, -half * 0.7)), (0, 0, 1, 1))
            points[2:, 1] = self.trunk + 0.25 * (self.height - self.trunk) - view.eye
            view.polygon(points, (48, 62, 76), Category.NATURE, gain)
            points[1::2] = (points[0] + points[1]) / 2, (points[2] + points[3]) / 2
            points[[1, 2], 0] = points[[0, 3], 0] + half * 0.7
            view.polygon(points, (64, 82, 98), None, gain)
        crowns = tree_crowns()
        low = self.trunk * 0.85
        view.sprite(crowns[self.crown % len(crowns)], self.s, self.u, low, self.width, self.height - low, gain)

    def shadow(self, lighting: Lighting) -> np.ndarray:
        angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        reach = -lighting.sun_side * lighting.sun_slope * (self.trunk + self.height) / 2
        return np.column_stack(
            (
                self.s + 1.5 + np.cos(angle) * self.width * 0.55,
                self.u + reach + np.sin(angle) * self.height * 0.4 * (1 + 0.2 * np.sin(3 * angle)),
            )
        )


@dataclass
class Pole(Thing):
    """Street lamp, traffic light, traffic sign or bollard."""

    s: float
    u: float
    kind: str
    variant: int = 0

    def draw(self, view: View) -> None:
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
            own = view.lighting.mean_gain if gain is None else gain
            view.fill(view.pixels(points), view.colour(colour, z, own), Category.OBJECT, z)

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
            glow = view.lighting.light == "dusk"
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

    def shadow(self, lighting: Lighting) -> np.ndarray:
        reach = -lighting.sun_side * lighting.sun_slope * 4
        return np.array(
            (
                (self.s - 0.08, self.u),
                (self.s + 0.08, self.u),
                (self.s + 1.5, self.u + reach),
                (self.s + 1.3, self.u + reach),
            )
        )
