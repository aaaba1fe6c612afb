"""People on foot and on bicycles."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from seg_node.core.taxonomy import Category
from seg_training.datasets.synthetic.camera import View
from seg_training.datasets.synthetic.textures import Colour
from seg_training.datasets.synthetic.thing import Thing, uniforms
from seg_training.datasets.synthetic.weather import Lighting

_SKIN = ((150, 180, 225), (120, 155, 205), (70, 95, 140), (45, 62, 95))
_CLOTHES = (
    (40, 40, 45), (95, 60, 40), (60, 60, 66), (140, 100, 60), (48, 44, 150),
    (190, 190, 190), (60, 100, 70), (70, 130, 180), (130, 60, 120), (40, 160, 200),
)  # fmt: skip


@dataclass
class Person(Thing):
    s: float
    u: float
    look: int
    """Seeds height, clothes and hair."""
    phase: float
    """Phase of the step, radians."""
    across: float = 0.12
    """How much of the stride the camera sees sideways, metres."""
    layer: int = 2

    def draw(self, view: View) -> None:
        x, _, z = view.camera_points(self.s, self.u, 0.0)[0]
        if z < 1.2 or not view.sees(self.s, self.u, 0.6):
            return
        pick = uniforms(75, self.look)
        size = 0.86 + 0.2 * pick[0]
        jacket, trousers = (_CLOTHES[int(p * len(_CLOTHES))] for p in pick[1:3])
        skin = _SKIN[int(pick[3] * len(_SKIN))]
        hair = ((30, 32, 38), (50, 70, 95), (60, 120, 165), (150, 150, 152))[int(pick[4] * 4)]
        coat, bag = pick[5] < 0.3, pick[6] < 0.3
        gain = view.lighting.mean_gain
        scale = view.fx / z * size
        foot = np.array((view.cx + view.fx * x / z, view.cy + view.fy * view.eye / z))

        def shape(corners, colour: Colour, brightness: float = 1.0) -> None:
            pixels = foot + np.asarray(corners, float) * (scale, -scale)
            view.fill(pixels, view.colour(colour, z, gain * brightness), Category.HUMAN, z)

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

    def shadow(self, lighting: Lighting) -> np.ndarray:
        reach = -lighting.sun_side * lighting.sun_slope * 1.6
        return np.array(
            (
                (self.s - 0.2, self.u),
                (self.s + 0.2, self.u),
                (self.s + 0.7, self.u + reach),
                (self.s + 0.3, self.u + reach),
            )
        )


@dataclass
class Cyclist(Thing):
    s: float
    u: float
    look: int
    phase: float
    heading: int
    layer: int = 3

    def draw(self, view: View) -> None:
        z = float(view.camera_points(self.s, self.u, 0.0)[0, 2])
        if z < 1.8 or not view.sees(self.s, self.u, 1.5):
            return
        pick = uniforms(76, self.look)
        jacket, trousers, helmet = (_CLOTHES[int(p * len(_CLOTHES))] for p in pick[:3])
        skin = _SKIN[int(pick[3] * len(_SKIN))]
        gain = view.lighting.mean_gain

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
            view.fill(corners, view.colour(colour, z, gain * brightness), category, z)

        rim = np.linspace(0, 2 * np.pi, 16)
        for wheel in (-0.5, 0.52) if self.heading < 0 else (0.52, -0.5):
            points = view.camera_points(
                self.s + self.heading * (wheel + 0.33 * np.cos(rim)), self.u, 0.34 + 0.33 * np.sin(rim)
            )
            line = np.rint(np.clip(view.pixels(points), -8000, 8000) * 16).astype(np.int32)
            thickness = max(round(0.05 * view.fx / z), 1)
            cv2.polylines(view.image, [line], False, view.colour((28, 28, 30), z), thickness, cv2.LINE_AA, 4)
            cv2.polylines(view.mask, [line], False, int(Category.VEHICLE), thickness, cv2.LINE_8, 4)
            if view.depth is not None:
                cv2.polylines(view.depth, [line], False, z, thickness, cv2.LINE_8, 4)
        pedal = 0.17 * math.sin(self.phase), 0.17 * math.cos(self.phase)
        bike = (60, 50, 130) if self.look % 2 else (120, 110, 60)
        for a, b in (
            ((-0.5, 0, 0.34), (0, 0, 0.3)), ((0, 0, 0.3), (-0.15, 0, 0.9)), ((-0.12, 0, 0.8), (0.4, 0, 0.85)),
            ((0, 0, 0.3), (0.4, 0, 0.85)), ((0.4, 0, 0.98), (0.52, 0, 0.34)), ((0.4, -0.28, 1.0), (0.4, 0.28, 1.0)),
        ):  # fmt: skip
            tube(a, b, 0.04, bike, Category.VEHICLE)
        for side, turn in ((-1, 1), (1, -1)):
            foot = (0.0 + turn * pedal[0], 0.11 * side, 0.3 + turn * pedal[1])
            knee = (0.28, 0.12 * side, (0.92 + foot[2]) / 2 + 0.1)
            tube((-0.15, 0.09 * side, 0.95), knee, 0.15, trousers, Category.HUMAN, 0.9)
            tube(knee, foot, 0.11, trousers, Category.HUMAN)
            tube(foot, (foot[0] + 0.12, foot[1], foot[2]), 0.09, (40, 40, 44), Category.HUMAN)
        torso = (
            (-0.15, -0.15, 0.9),
            (-0.15, 0.15, 0.9),
            (0.12, 0.21, 1.42),
            (0.1, 0.1, 1.5),
            (0.1, -0.1, 1.5),
            (0.12, -0.21, 1.42),
        )
        x, across, up = np.array(torso).T
        shape(x, across, up, jacket, Category.HUMAN)
        tube((-0.15, 0, 0.95), (0.1, 0, 1.38), 0.2, jacket, Category.HUMAN, 0.9)
        for side in (-1, 1):
            tube((0.12, 0.19 * side, 1.4), (0.38, 0.25 * side, 1.02), 0.09, jacket, Category.HUMAN, 0.8)
        circle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        shape(0.2, 0.09 * np.cos(circle), 1.62 + 0.12 * np.sin(circle), skin, Category.HUMAN)
        shape(0.2, 0.11 * np.cos(circle), 1.67 + 0.085 * np.sin(circle), helmet, Category.HUMAN, 1.1)

    def shadow(self, lighting: Lighting) -> np.ndarray:
        reach = -lighting.sun_side * lighting.sun_slope * 1.6
        ends = (
            (self.s - 0.8, self.u),
            (self.s + 0.8, self.u),
            (self.s + 0.6, self.u + reach),
            (self.s + 0.1, self.u + reach),
        )
        return np.array(ends)
