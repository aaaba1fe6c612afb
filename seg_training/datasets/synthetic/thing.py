"""What all objects of the made-up street have in common."""

import functools

import numpy as np

from seg_training.datasets.synthetic.camera import View
from seg_training.datasets.synthetic.weather import Lighting


@functools.lru_cache(8192)
def uniforms(*key: int) -> tuple[float, ...]:
    """Eight random numbers in 0..1 that belong to a key."""
    return tuple(np.random.default_rng(key).random(8).tolist())


class Thing:
    """Something that stands at (s, u) and can be drawn."""

    s: float
    u: float
    layer = 2
    """Drawn by layer, then far to near: 0 behind the house line, 1 the house line, 2 pavement, 3 road."""

    def draw(self, view: View) -> None:
        raise NotImplementedError

    def shadow(self, lighting: Lighting) -> np.ndarray | None:
        """Outline of the shadow on the ground, float [N, 2] of (s, u)."""
        return None
