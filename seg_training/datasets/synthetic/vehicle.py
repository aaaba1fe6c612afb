"""Cars, vans, buses and lorries of the made-up street."""

import math
from dataclasses import dataclass

import numpy as np

from seg_node.core.taxonomy import Category
from seg_training.datasets.synthetic.camera import NEAR, View
from seg_training.datasets.synthetic.textures import Colour
from seg_training.datasets.synthetic.thing import Thing
from seg_training.datasets.synthetic.weather import Lighting


@dataclass(frozen=True)
class Body:
    """Shape of a kind of vehicle; x runs from the rear end, metres."""

    width: float
    outline: tuple[tuple[float, float], ...]
    """(x, h) from the lower rear corner over the roof to the lower front corner."""
    glass: tuple[int, ...]
    """Outline edges, by their first corner, that are windows."""
    windows: tuple[tuple[tuple[float, float], ...], ...]
    """Outlines of the side's windows, (x, h) each."""
    wheels: tuple[float, ...]
    radius: float = 0.32

    @property
    def length(self) -> float:
        return max(x for x, _ in self.outline)


BODIES = {
    "hatchback": Body(
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
    "saloon": Body(
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
    "suv": Body(
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
    "van": Body(
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
    "bus": Body(
        2.5,
        ((0, 0.4), (0, 1.5), (0, 2.6), (0.05, 3.1), (11.7, 3.1), (11.9, 2.7), (12.0, 1.2), (12.0, 0.4)),
        (1, 5),
        tuple(((x, 1.35), (x, 2.5), (x + 1.7, 2.5), (x + 1.7, 1.35)) for x in (0.4, 2.3, 4.2, 6.1, 8.0, 9.9)),
        (2.6, 9.2),
        0.48,
    ),
    "lorry": Body(
        2.4,
        ((0, 0.8), (0, 1.9), (0, 3.3), (6.4, 3.3), (6.5, 2.7), (7.9, 2.6), (8.1, 1.6), (8.2, 0.5)),
        (5,),
        (((6.9, 1.6), (6.9, 2.4), (7.7, 2.4), (7.8, 1.6)),),
        (1.5, 7.0),
        0.48,
    ),
}
BODY_CHOICE = ("hatchback",) * 5 + ("saloon",) * 5 + ("suv",) * 4 + ("van",) * 2 + ("bus", "lorry")
PAINT = (
    (222, 224, 225), (165, 168, 168), (92, 94, 96), (38, 38, 40), (110, 68, 36),
    (34, 36, 140), (138, 110, 72), (60, 84, 52), (52, 58, 84),
)  # fmt: skip
_GLASS = (62, 56, 50)


@dataclass
class Vehicle(Thing):
    s: float
    """Place of the vehicle's middle along the street, metres."""
    u: float
    body: Body
    paint: Colour
    heading: int
    """1 along s, -1 against it."""
    layer: int = 3

    def draw(self, view: View) -> None:
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
        right = view.shifted(left, s, 2 * lean)
        distance = self.s - view.s
        if left[:, 2].max() < NEAR:
            return
        tall = view.fy * outline[:, 1].max() / max(distance, NEAR)
        edges = range(len(outline) - 1) if self.heading < 0 else range(len(outline) - 2, -1, -1)
        front = view.lighting.front_gain
        # Underbody, down to the wheels.
        end = self._along(np.array(0.25 if self.heading > 0 else body.length - 0.25))
        u = self.u + np.array((-half, half, half, -half)) * 0.9
        view.polygon(view.camera_points(end, u, (0.08, 0.08, 0.5, 0.5)), (22, 22, 23), Category.VEHICLE)
        offset = view.offset(self.s, self.u)
        if abs(offset) > half:
            eye_side = int(math.copysign(1, offset))
            flank = right if eye_side > 0 else left
            gain = view.lighting.side_gain(-eye_side)
            view.polygon(flank, self.paint, Category.VEHICLE, gain)
            if tall > 9:
                self._flank_details(view, eye_side, gain, belt, tall > 30)
        for edge in edges:
            if self._faces_camera(outline, edge):
                self._strip(view, left, right, edge, front)
        if tall > 9 and left[:, 2].min() > NEAR:
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

    def _strip(self, view: View, left: np.ndarray, right: np.ndarray, edge: int, gain: float) -> None:
        quad = np.array((left[edge], right[edge], right[edge + 1], left[edge + 1]))
        if self._flat(edge):
            # A face that lies flat is seen from above only.
            if left[edge, 1] > 0:
                return
            gain = max(gain, view.mood.sunlit) * 1.05
        if edge in self.body.glass:
            view.polygon(quad, self.paint, Category.VEHICLE, gain * 0.8)
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
            view.polygon(quad, self.paint, Category.VEHICLE, gain)

    def _flank_details(self, view: View, side: int, gain: float, belt: float, close: bool) -> None:
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
                (1.0, (24, 24, 25), Category.VEHICLE),
                (0.6, (128, 130, 132), None),
                (0.2, (60, 60, 60), None),
            )[:rings]:
                x, h = wheel + radius * body.radius * np.cos(angle), body.radius + radius * body.radius * np.sin(angle)
                view.polygon(view.camera_points(self._along(x), u, h), colour, category, gain)

    def _end_details(self, view: View, half: float, close: bool) -> None:
        """Lights, plate, bumper and tyres of the end that the camera sees."""
        body = self.body
        rear = self.heading > 0
        ends = [x for x, _ in body.outline]
        x = min(ends) - 0.01 if rear else max(ends) + 0.01
        s = self._along(np.array(x))
        big = max(h for _, h in body.outline) > 2
        low = body.outline[0][1] if rear else body.outline[-1][1]
        glow = view.lighting.light == "dusk" or view.lighting.weather != "dry"
        front = view.lighting.front_gain

        def rectangle(u0: float, h0: float, u1: float, h1: float, colour: Colour, category: int | None, gain: float):
            points = view.camera_points(s, self.u + np.array((u0, u1, u1, u0)), (h0, h0, h1, h1))
            view.polygon(points, colour, category, gain)

        for side in (-1, 1):
            inner, outer = sorted((side * (half - 0.1), side * (half - 0.32)))
            rectangle(inner, 0.0, outer, low + 0.1, (24, 24, 25), Category.VEHICLE, 1.0)
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

    def shadow(self, lighting: Lighting) -> np.ndarray:
        length, half = self.body.length / 2 + 0.15, self.body.width / 2 + 0.08
        reach = -lighting.sun_side * min(lighting.sun_slope, 1.0) * 1.3 * max(h for _, h in self.body.outline) / 1.5
        low, high = sorted((self.u - math.copysign(half, reach), self.u + math.copysign(half, reach) + reach))
        return np.array(
            ((self.s - length, low), (self.s + length, low), (self.s + length, high), (self.s - length, high))
        )
