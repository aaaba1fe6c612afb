"""Layout of the made-up street: what stands in each piece of it, and who moves along it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from seg_node.core.taxonomy import Category
from seg_training.datasets.synthetic.camera import FAR, View
from seg_training.datasets.synthetic.people import Cyclist, Person
from seg_training.datasets.synthetic.street_furniture import Pole, Tree, Wall
from seg_training.datasets.synthetic.textures import garden_walls, house_fronts
from seg_training.datasets.synthetic.thing import Thing, uniforms
from seg_training.datasets.synthetic.vehicle import BODIES, BODY_CHOICE, PAINT, Vehicle

CHUNK = 12.0
"""Length of the pieces in which the street is made up, metres."""
LANE = 3.3
"""Width of a lane, metres."""
_PARKING = 2.2
"""Width of a row of parked cars, metres."""
_MANY = 10**6
"""Makes the numbers of moving places positive, and tells people apart."""

_ASPHALT = ((118, 118, 118), (132, 130, 128), (104, 104, 106), (138, 140, 144))
_PAVING = ((148, 152, 156), (160, 162, 162), (130, 138, 146), (140, 146, 158))
_GRASS = ((52, 108, 84), (48, 118, 100), (44, 94, 74), (62, 118, 112))
_ZONES = ("shops", "shops", "houses", "houses", "park", "field")


@dataclass
class Chunk:
    """What stands in one piece of the street."""

    things: list[Thing] = field(default_factory=list)
    junctions: list[tuple[int, float]] = field(default_factory=list)
    """Side roads: (side, s of its middle)."""
    crossing: float | None = None
    """s of a zebra crossing."""
    patches: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    """Repaired asphalt: (s0, s1, u0, u1, brightness)."""


class Street:
    """Layout of one made-up street, and everything that stands and moves on it.

    Args:
        seed: decides what stands where.
        rng: generator of the drive; widths, colours and traffic are drawn from it.
        speed: mean speed of the camera in metres per second; the traffic's speeds follow it.
        waves: (amplitude in radians, length in metres, phase) of the waves whose sum is the street's heading.
        side_road: length of side roads in metres; less than the radius of the tightest bend.
    """

    def __init__(
        self,
        seed: int,
        rng: np.random.Generator,
        speed: float,
        waves: Sequence[tuple[float, float, float]],
        side_road: float,
    ):
        self.seed, self._speed, self._waves, self.side_road = seed, speed, waves, side_road
        self.traffic = 1 if rng.random() < 0.7 else -1
        """Side on which one drives: 1 right, -1 left."""
        self.lanes = 2 if rng.random() < 0.25 else 1
        """Number of lanes in each direction."""
        self.parking = bool(rng.random() < 0.6)
        self.kerb = self.lanes * LANE + (_PARKING if self.parking else 0.4)
        """Distance of the kerb from the middle of the street, metres."""
        self.verge = 0.0 if rng.random() < 0.5 else 1.7
        self.pavement = rng.uniform(2.0, 3.2)
        self.lane = self.traffic * (LANE / 2 + (LANE if self.lanes == 2 and rng.random() < 0.6 else 0))
        self.asphalt = _ASPHALT[int(rng.integers(4))]
        self.paving = _PAVING[int(rng.integers(4))]
        self.grass = _GRASS[int(rng.integers(4))]
        self._foliage = rng.uniform(0.8, 1.2)
        self._lead = (rng.random() < 0.7, rng.uniform(13, 26), int(rng.integers(100)))
        self._people = rng.uniform(11, 26)
        self._cars = rng.uniform(26, 60)
        self._chunks: dict[int, Chunk] = {}

    def heading(self, s: float) -> float:
        """Direction of the street at s, in radians, positive to the right."""
        return sum(a * math.sin(2 * math.pi * s / length + phase) for a, length, phase in self._waves)

    def headings(self, s: np.ndarray) -> np.ndarray:
        """``heading`` of many places at once, float64 [N]."""
        return sum(a * np.sin(2 * np.pi * s / length + phase) for a, length, phase in self._waves)

    def centre(self, s: float) -> tuple[float, float]:
        """Place of the street's middle in the world: metres along and to the right of the heading 0."""
        grid = np.append(np.arange(0.0, s), s)
        headings, step = self.headings(grid), np.diff(grid)
        ahead, aside = np.cos(headings), np.sin(headings)
        return float(step @ (ahead[1:] + ahead[:-1]) / 2), float(step @ (aside[1:] + aside[:-1]) / 2)

    def bend(self, s: float, z: np.ndarray) -> np.ndarray:
        """Sideways distance of the street's middle from its tangent at s, after z metres (small angles)."""
        total = -z * self.heading(s)
        for a, length, phase in self._waves:
            k = 2 * math.pi / length
            total += a / k * (math.cos(k * s + phase) - np.cos(k * (s + z) + phase))
        return total

    def _zone(self, s: float, side: int) -> str:
        rng = np.random.default_rng((self.seed, 4, int(s // (8 * CHUNK)), side + 1))
        return _ZONES[int(rng.integers(len(_ZONES)))]

    def chunk(self, k: int) -> Chunk:
        """What stands in the piece of the street from ``k * CHUNK`` on."""
        if k not in self._chunks:
            if len(self._chunks) > 64:
                self._chunks.clear()
            self._chunks[k] = self._make_chunk(k)
        return self._chunks[k]

    def _make_chunk(self, k: int) -> Chunk:
        chunk, s0 = Chunk(), k * CHUNK
        inner, outer = self.kerb + self.verge, self.kerb + self.verge + self.pavement
        for side in (-1, 1):
            rng = np.random.default_rng((self.seed, 5, k, side + 1))
            zone = self._zone(s0, side)
            things = chunk.things

            def add_tree(s: float, u: float, layer: int, small: float = 1.0, rng=rng, side=side, things=things) -> None:
                height = rng.uniform(6, 11) * small
                width, trunk = height * rng.uniform(0.6, 0.85), height * rng.uniform(0.18, 0.3)
                tint = self._foliage * rng.uniform(0.85, 1.15)
                things.append(Tree(s, side * u, int(rng.integers(100)), height, width, trunk, layer, tint))

            if self._is_junction(k, side):
                chunk.junctions.append((side, s0 + CHUNK / 2))
                chunk.crossing = s0 - 2.0
                things.append(Pole(s0 - 0.5, side * (self.kerb + 0.5), "light", int(rng.integers(6))))
                add_tree(s0 + rng.uniform(0, CHUNK), outer + 45, 0)
                add_tree(s0 + rng.uniform(0, CHUNK), outer + 30, 0)
                continue

            facades, walls = house_fronts(), garden_walls()
            house = facades[int(rng.integers(len(facades)))]
            if zone == "shops":
                roof, tint = (rng.uniform(1.5, 3) if rng.random() < 0.5 else 0.0), rng.uniform(0.82, 1.15)
                things.append(Wall(s0, side * outer, CHUNK, house, Category.CONSTRUCTION, 1, 12.0, roof, tint=tint))
            elif zone == "houses":
                low = [f for f in facades if f.height < 11]
                house = low[int(rng.integers(len(low)))]
                set_back = outer + rng.uniform(4, 7)
                length = rng.uniform(8.5, 10.5)
                slate = ((62, 58, 66), (52, 66, 110), (72, 78, 92))[int(rng.integers(3))]
                things.append(
                    Wall(
                        s0 + 1,
                        side * set_back,
                        length,
                        house,
                        Category.CONSTRUCTION,
                        0,
                        8.0,
                        rng.uniform(2, 3.2),
                        slate,
                        rng.uniform(0.85, 1.15),
                    )
                )
                kind = ("brick", "concrete", "planks", "hedge", "hedge")[int(rng.integers(5))]
                category = Category.NATURE if kind == "hedge" else Category.CONSTRUCTION
                things.append(Wall(s0, side * (outer + 0.1), CHUNK, walls[kind], category))
                if rng.random() < 0.7:
                    add_tree(s0 + rng.uniform(1, 11), outer + rng.uniform(1.5, 3.5), 0, 0.75)
            elif zone == "park":
                for _ in range(int(rng.integers(2, 5))):
                    add_tree(s0 + rng.uniform(0, CHUNK), outer + rng.uniform(3, 22), 0, rng.uniform(0.8, 1.2))
                kind = ("hedge", "planks", "hedge", "brick")[
                    int(np.random.default_rng((self.seed, 6, k // 8)).integers(4))
                ]
                category = Category.NATURE if kind == "hedge" else Category.CONSTRUCTION
                things.append(Wall(s0, side * (outer + 0.2), CHUNK, walls[kind], category))
            else:
                for _ in range(int(rng.integers(1, 4))):
                    add_tree(s0 + rng.uniform(0, CHUNK), outer + rng.uniform(4, 40), 0)
                for _ in range(int(rng.integers(2, 6))):
                    size = rng.uniform(0.8, 2.6)
                    spot = s0 + rng.uniform(0, CHUNK), side * (outer + rng.uniform(0.8, 9) + size / 2)
                    things.append(Tree(*spot, int(rng.integers(100)), size, size * 1.3, 0.0, 0, self._foliage))

            if zone != "shops" and rng.random() < 0.45 or self.verge and rng.random() < 0.6:
                add_tree(s0 + rng.uniform(2, 10), self.kerb + (0.85 if self.verge else self.pavement - 0.5), 2, 0.85)
            if (k + (side > 0)) % 2 == 0:
                things.append(Pole(s0 + 6, side * (self.kerb + 0.45), "lamp", self.seed))
            if rng.random() < 0.28:
                things.append(Pole(s0 + rng.uniform(1, 11), side * (self.kerb + 0.55), "sign", int(rng.integers(10))))
            if not self.verge and rng.random() < 0.15:
                start = s0 + rng.uniform(0, 4)
                things.extend(Pole(start + 1.5 * i, side * (self.kerb + 0.35), "bollard") for i in range(4))
            if rng.random() < 0.35 * 20 / self._people:
                # Somebody who stands and waits.
                spot = s0 + rng.uniform(0, CHUNK), side * rng.uniform(inner + 0.4, outer - 0.4)
                things.append(Person(*spot, int(rng.integers(10**6)), 0.3, 0.05))
            if self.parking:
                for slot in (3.0, 9.0):
                    if rng.random() < 0.5:
                        body = BODIES[BODY_CHOICE[int(rng.integers(15))]]
                        u = side * (self.lanes * LANE + 1.05 + rng.uniform(-0.1, 0.1))
                        paint = PAINT[int(rng.integers(len(PAINT)))]
                        along = 1 if side == self.traffic else -1
                        things.append(Vehicle(s0 + slot + rng.uniform(-0.4, 0.4), u, body, paint, along))
        rng = np.random.default_rng((self.seed, 7, k))
        for _ in range(int(rng.integers(0, 3))):
            start, left = s0 + rng.uniform(0, 8), rng.uniform(-self.kerb, self.kerb - 1)
            size = rng.uniform(0.8, 4), rng.uniform(0.6, 1.8)
            right = min(left + size[1], self.kerb - 0.1)
            chunk.patches.append((start, start + size[0], left, right, rng.uniform(0.72, 1.12)))
        return chunk

    def _is_junction(self, k: int, side: int) -> bool:
        block, place = divmod(k, 9)
        rng = np.random.default_rng((self.seed, 8, block))
        return place == int(rng.integers(2, 8)) and bool(rng.random(2)[(side + 1) // 2] < 0.6)

    def movers(self, view: View) -> list[Thing]:
        """Everybody who moves and can be seen, at the time of the view."""
        things: list[Thing] = []
        time, traffic = view.time, self.traffic
        present, gap, look = self._lead
        if present:
            gap += 4 * math.sin(0.21 * time + look)
            things.append(self._vehicle((self.seed, 10, look), view.s + gap + 2, self.lane, 1, ("bus", "lorry")))
        for lane in range(self.lanes):
            u = -traffic * (lane + 0.5) * LANE
            for k, s in _slots(view.s - 8, self._cars + 17 * lane, -self._speed * (0.85 + 0.2 * lane) * time):
                pick = uniforms(self.seed, 11, lane, k + _MANY)
                if pick[0] < 0.75:
                    things.append(self._vehicle((self.seed, 12, lane, k + _MANY), s + 12 * pick[1], u, -1))
        if self.lanes == 2:
            u = traffic * 2 * LANE - self.lane
            for k, s in _slots(view.s - 8, self._cars, self._speed * 0.93 * time):
                pick = uniforms(self.seed, 13, k + _MANY)
                if pick[0] < 0.7:
                    things.append(self._vehicle((self.seed, 14, k + _MANY), s + 12 * pick[1], u, 1))
        inner, outer = self.kerb + self.verge, self.kerb + self.verge + self.pavement
        for side in (-1, 1):
            heading = side * traffic
            for k, s in _slots(view.s - 2, 60.0, heading * 5.0 * time):
                pick = uniforms(self.seed, 15, k + _MANY, side + 1)
                if pick[0] < 0.45:
                    u, phase = side * (self.lanes * LANE - 0.45 + 0.2 * pick[1]), 8.0 * time + 6 * pick[2]
                    things.append(Cyclist(s + 40 * pick[3], u, int(pick[4] * _MANY), phase, heading))
            for way in (-1, 1):
                for k, s in _slots(view.s, self._people, way * 1.35 * time):
                    pick = uniforms(self.seed, 16, k + _MANY, side + 1, way + 1)
                    for place, where, look in (pick[1:4], pick[4:7])[
                        : 0 if pick[0] > 0.6 else 1 if pick[0] > 0.18 else 2
                    ]:
                        u = side * (inner + 0.35 + (outer - inner - 0.7) * where)
                        ahead = s + (0.5 + 0.1 * place) * self._people + 4 * pick[7]
                        things.append(Person(ahead, u, int(look * _MANY), 7.2 * time + 6 * place, 0.13 * way))
        return [thing for thing in things if thing.s - view.s < FAR]

    def _vehicle(self, key: tuple, s: float, u: float, heading: int, without: tuple[str, ...] = ()) -> Vehicle:
        pick = uniforms(*key)
        kinds = [kind for kind in BODY_CHOICE if kind not in without]
        body = BODIES[kinds[int(pick[0] * len(kinds))]]
        return Vehicle(s, u, body, PAINT[int(pick[1] * len(PAINT))], heading)


def _slots(s: float, spacing: float, shift: float):
    """Places that move together: (number, s now) of those from ``s`` on that are near enough to be seen."""
    first = math.floor((s - shift) / spacing) - 1
    return ((k, k * spacing + shift) for k in range(first, first + int(FAR / spacing) + 3))
