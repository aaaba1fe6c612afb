"""Light and weather of a made-up drive as numbers."""

from dataclasses import dataclass, replace

import numpy as np

from seg_training.datasets.synthetic.textures import Colour

LIGHTS = ("sun", "overcast", "dusk")
WEATHERS = ("dry", "rain", "fog")


@dataclass(frozen=True)
class Mood:
    """Light and weather as numbers."""

    zenith: Colour
    horizon: Colour
    cloud: Colour
    cover: float
    """Share of the sky that is in clouds, roughly."""
    sunlit: float
    """Brightness of what the sun reaches."""
    shade: float
    """Brightness of what it does not."""
    shadow: float
    """Darkness of cast shadows, 0..1."""
    haze: float
    """Share of the light that a metre of air replaces by the colour of the horizon."""
    gain: Colour
    """Factors of the finished picture's blue, green and red."""


def make_mood(rng: np.random.Generator, light: str, weather: str) -> Mood:
    mood = {
        "sun": Mood((215, 150, 85), (238, 218, 190), (250, 248, 245), 0.35, 1.12, 0.62, 0.55, 0.0012, (0.97, 1, 1.03)),
        "overcast": Mood(
            (205, 200, 192), (228, 226, 222), (212, 209, 205), 0.6, 0.92, 0.82, 0.0, 0.003, (1.02, 1, 0.97)
        ),
        "dusk": Mood((150, 100, 70), (135, 170, 230), (105, 98, 125), 0.4, 0.74, 0.54, 0.0, 0.0025, (0.98, 0.94, 1.02)),
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


@dataclass(frozen=True)
class Lighting:
    """Light on the street: where the sun stands and what it reaches."""

    light: str
    """One of ``LIGHTS``."""
    weather: str
    """One of ``WEATHERS``."""
    mood: Mood
    sun_side: int
    """Side of the street on which the sun stands: -1 left, 1 right."""
    sun_slope: float
    """Length of a shadow across the street for each metre of height."""
    front_gain: float
    """Brightness of surfaces that face the camera."""

    @property
    def mean_gain(self) -> float:
        """Brightness of surfaces that have no direction, such as crowns and people."""
        return (self.mood.sunlit + self.mood.shade) / 2

    def side_gain(self, side: float) -> float:
        """Brightness of a surface on a side of the street that faces the street."""
        return self.mood.shade if side == self.sun_side else self.mood.sunlit
