"""Made-up drives and scenes: frames with exact masks as pure functions of a seed and an index."""

import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np

from seg_node.core.projection.grid import GridSpec
from seg_node.core.taxonomy import Category
from seg_training.datasets.synthetic.camera import FAR, Camera, View
from seg_training.datasets.synthetic.ground import draw_ground, draw_surfaces
from seg_training.datasets.synthetic.plan import plan_view
from seg_training.datasets.synthetic.sky import Sky
from seg_training.datasets.synthetic.street import CHUNK, Chunk, Street
from seg_training.datasets.synthetic.textures import ground_tiles, to_bytes
from seg_training.datasets.synthetic.thing import Thing
from seg_training.datasets.synthetic.turning import TurningView
from seg_training.datasets.synthetic.vehicle import PAINT
from seg_training.datasets.synthetic.weather import LIGHTS, WEATHERS, Lighting, make_mood


class SyntheticDrive:
    """An endless drive through a made-up street.

    Args:
        seed: decides the street, everybody on it, light, weather and camera; not negative.
        size: (height, width) of the pictures in pixels.
        fps: frames per second.
        weather: one of ``WEATHERS``; None lets the seed choose.
        light: one of ``LIGHTS``; None lets the seed choose.
        turns: let the street swing left and right by 30 to 40 degrees, so that the camera yaws by up to about 10
            degrees per second. Without it a seed's street is nearly straight.

    Raises:
        ValueError: a value is out of range; the message names it.

    Example:
        >>> drive = SyntheticDrive(seed=7, size=(90, 160), light="dusk")
        >>> picture, mask = drive.frame(0)
        >>> picture.shape, mask.shape, drive.light
        ((90, 160, 3), (90, 160), 'dusk')
        >>> bool((drive.frame(0)[0] == picture).all())  # the same arguments give the same street
        True
    """

    def __init__(
        self,
        seed: int,
        size: tuple[int, int] = (360, 640),
        fps: float = 30,
        weather: str | None = None,
        light: str | None = None,
        turns: bool = False,
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
        self._camera = Camera(height, width, *self.camera, eye=rng.uniform(1.2, 1.45))
        self._speed = rng.uniform(10, 14)
        waves = [(rng.uniform(0.05, 0.11), rng.uniform(280, 520), rng.uniform(0, 6.3)) for _ in range(2)]
        self._sway = rng.uniform(0, 6.3, 6)
        self.turns = turns
        if turns:
            bends = np.random.default_rng((seed, 17))
            waves.append((bends.uniform(0.5, 0.65), bends.uniform(280, 340), bends.uniform(0, 6.3)))
        self._street = Street(seed, rng, self._speed, waves, side_road=45 if turns else 90)
        sun_side, sun_slope = 1 if rng.random() < 0.5 else -1, rng.uniform(0.5, 1.3)
        sun_behind = rng.random() < 0.5
        mood = make_mood(np.random.default_rng((seed, 1)), self.light, self.weather)
        front_gain = mood.sunlit if sun_behind else mood.shade
        self._lighting = Lighting(self.light, self.weather, mood, sun_side, sun_slope, front_gain)
        self._sky = Sky(seed)
        self._bonnet = self._make_bonnet(np.random.default_rng((seed, 3)))
        self._tone = self._make_tone()

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
        return self._draw(self._view(index), index)

    def measured_frame(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw one frame as a camera with a depth sensor sees it.

        Args:
            index: from 0.

        Returns:
            Picture and mask as ``frame`` draws them, and the distance along the camera's axis, float32 [H, W], metres:
            inf where nothing is near, as in the sky, and on the own bonnet.
        """
        view = self._view(index)
        view.measure()
        image, mask = self._draw(view, index)
        view.depth[self._bonnet[0] :][self._bonnet[2] > 0] = np.inf
        return image, mask, view.depth

    def mounting(self, index: int) -> tuple[float, float]:
        """Where the camera of a frame is over the street.

        Args:
            index: from 0.

        Returns:
            Height of the lens in metres, and the pitch in radians, positive where it looks down.
        """
        slope = self._pose(index / self.fps)[3]
        return self._camera.eye / math.hypot(1, slope), -math.atan(slope)

    def surfaces(self, index: int, spec: GridSpec) -> np.ndarray:
        """Draw the bare ground of a frame from above, without all that stands on it.

        Args:
            index: from 0.
            spec: extent, from below the camera.

        Returns:
            uint8 [rows, columns] of the categories ``flat`` and ``nature``, placed as in a ``nav_msgs/OccupancyGrid``.
        """
        view = self._view(index)
        plan = plan_view(type(view), spec)(self._camera, self._pose(view.time), view.time, self._street, self._lighting)
        draw_surfaces(plan, self._street, self._chunks(view))
        return plan.mask

    def _view(self, index: int) -> View:
        time = index / self.fps
        make_view = TurningView if self.turns else View
        return make_view(self._camera, self._pose(time), time, self._street, self._lighting)

    def _chunks(self, view: View) -> list[Chunk]:
        """Pieces of the street that can be seen."""
        first = math.floor((view.s - 4) / CHUNK)
        return [self._street.chunk(k) for k in range(first, first + int(FAR / CHUNK) + 1)]

    def _draw(self, view: View, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Picture and mask."""
        chunks = self._chunks(view)
        things = [thing for chunk in chunks for thing in chunk.things] + self._street.movers(view)
        self._sky.draw(view, self._street.heading(view.s))
        draw_ground(view, self._street, chunks, things)
        for thing in sorted(things, key=self._order):
            thing.draw(view)
        return self._finish(view, index)

    def _order(self, thing: Thing) -> tuple[float, ...]:
        """Key by which things are drawn."""
        if self.turns:
            # A house in a bend hides the road behind it, so layers count within a piece of the street only.
            return -math.floor(thing.s / CHUNK), thing.layer, -thing.s
        return thing.layer, -thing.s

    def _pose(self, time: float) -> tuple[float, float, float, float]:
        """(s, u, yaw, pitch) of the camera; metres and radians."""
        sway = self._sway
        s = self._speed * (time + 0.9 * math.sin(0.35 * time + sway[0])) + 500
        u = self._street.lane + 0.18 * math.sin(0.5 * time + sway[1])
        yaw = 0.006 * math.sin(0.5 * time + sway[2]) + 0.0015 * math.sin(2.3 * time + sway[3])
        pitch = 0.0025 * math.sin(7.1 * time + sway[4]) + 0.002 * math.sin(11.7 * time + sway[5])
        return s, u, yaw, pitch

    def _make_bonnet(self, rng: np.random.Generator) -> tuple[int, np.ndarray, np.ndarray]:
        """(first row, uint8 [h, W, 3] picture, uint8 [h, W] stencil) of the own car's bonnet."""
        (height, width), mood = self.size, self._lighting.mood
        rows = round(height * rng.uniform(0.07, 0.13))
        x = np.linspace(-1, 1, width, dtype=np.float32)
        crest = rows * (0.18 + 0.75 * np.abs(x) ** rng.uniform(2.4, 4) + 0.04 * np.cos(x * 7))
        y = np.arange(rows, dtype=np.float32)[:, None]
        depth = (y - crest) / rows
        paint = np.array(PAINT[int(rng.integers(len(PAINT)))], np.float32) * mood.sunlit * 0.8
        reflection = np.array(mood.zenith, np.float32) * 0.5 + np.array(mood.horizon, np.float32) * 0.3
        mirror = np.clip(0.75 - 1.1 * depth, 0.12, 0.75)[..., None]
        crease = 1 - 0.25 * np.exp(-(((np.abs(x) - 0.52) / 0.012) ** 2))[None, :, None]
        picture = (paint * (1 - mirror) + reflection * mirror) * crease
        picture *= np.where(depth < 0.06, 0.6, 1.0)[..., None]
        return height - rows, to_bytes(picture), (depth > 0).astype(np.uint8)

    def _make_tone(self) -> np.ndarray:
        """Response of the camera, uint8 [1, 256, 3]."""
        level = np.arange(256) / 255
        curve = level**0.94 + 0.03 * np.sin(2 * np.pi * (level - 0.5))
        gain = np.array(self._lighting.mood.gain)
        return to_bytes(curve[:, None] * gain * 255)[None]

    def _finish(self, view: View, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rain in the air, the own bonnet, lens and sensor."""
        image, mask = view.image, view.mask
        rng = np.random.default_rng((self.seed, 9, index))
        height, width = self.size
        if self.weather == "rain":
            y, x = int(rng.integers(512)), int(rng.integers(1024))
            streaks = np.take(
                np.take(ground_tiles()["rain"], np.arange(y, y + height), 0, mode="wrap"),
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
        sensor = ground_tiles()["sensor"]
        y, x = int(rng.integers(256)), int(rng.integers(512))
        noise = np.take(
            np.take(sensor, np.arange(y, y + height), 0, mode="wrap"), np.arange(x, x + width), 1, mode="wrap"
        )
        strength = 0.24 if self.light == "dusk" else 0.13
        return cv2.addWeighted(image, 1.0, noise, strength, -128 * strength), mask


class SyntheticScenes:
    """Random access to frames of many drives, like ``camvid.CamVid``.

    Args:
        seeds: of the drives.
        frames: taken from each drive.
        stride: frames from one to the next; 30 are a second.
        size: (height, width) in pixels.
        weather: one of ``WEATHERS``; None lets each seed choose.
        light: one of ``LIGHTS``; None lets each seed choose.
        turns: see ``SyntheticDrive``.

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
        turns: bool = False,
    ):
        if not len(seeds) or frames < 1 or stride < 1:
            raise ValueError(f"{len(seeds)} seeds, {frames} frames, stride {stride}: each must be at least 1")
        self.seeds, self.frames, self.stride = seeds, frames, stride
        self._drive = functools.partial(SyntheticDrive, size=size, weather=weather, light=light, turns=turns)
        self.weather, self.light, self.turns = weather, light, turns
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
        conditions = (self.weather, self.light, "turns" if self.turns else None)
        return "".join(f", {condition}" for condition in conditions if condition)
