"""Sky over the made-up street, with hills and buildings at the horizon."""

import cv2
import numpy as np

from seg_node.core.taxonomy import Category
from seg_training.datasets.synthetic.camera import View
from seg_training.datasets.synthetic.textures import ground_tiles, to_bytes


class Sky:
    """Backdrop of one drive.

    Args:
        seed: decides clouds, hills and skyline.
    """

    def __init__(self, seed: int):
        self.seed = seed
        bumps = np.random.default_rng((seed, 2))
        hills = np.convolve(np.tile(bumps.random(96), 3), np.hanning(9) / 4, "same")[96:192]
        self._hills = 0.008 + 0.03 * hills
        self._skyline = np.where(bumps.random(180) < 0.4, bumps.uniform(0.01, 0.07, 180), 0.0)

    def draw(self, view: View, heading: float) -> None:
        """Fill the picture and the mask above the horizon; ``heading`` is that of the street at the camera."""
        mood, rows = view.mood, max(view.horizon + 2, 1)
        rows = min(rows, view.height)
        height = np.linspace(1, 0, rows, dtype=np.float32)[:, None] ** 0.8
        sky = np.array(mood.zenith, np.float32) * height[..., None] + np.array(mood.horizon, np.float32) * (
            1 - height[..., None]
        )
        if mood.cover:
            turn = (heading + view.yaw) * 700 + self.seed * 97 % 2048 + view.time * 1.5
            matrix = np.array(((700 / view.fx, 0, turn), (0, 230 / rows, 8)), np.float64)
            clouds = cv2.warpAffine(
                ground_tiles()["clouds"],
                matrix,
                (view.width, rows),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_WRAP,
            ).astype(np.float32)
            alpha = np.clip((clouds - 255 * (0.85 - 0.75 * mood.cover)) / 130, 0, 1) * (0.25 + 0.75 * height)
            body = np.array(mood.cloud, np.float32) * (1.05 - 0.18 * alpha[..., None] * (0.3 + mood.cover))
            sky = sky + (body - sky) * alpha[..., None]
        else:
            sky = np.broadcast_to(sky, (rows, view.width, 3))
        view.image[:rows] = to_bytes(sky)
        view.mask[:rows] = Category.SKY

        distance = 260.0
        if view.fog(distance) > 0.97:
            return
        columns = np.linspace(0, view.width, 81)
        angle = (columns - view.cx) / view.fx + heading + view.yaw
        hills = np.interp(angle * 30 % 96, np.arange(97), np.append(self._hills, self._hills[0]))
        base = view.cy + 3
        outline = np.column_stack((columns, view.cy - hills * view.fy))
        ends = ((view.width, base), (0, base))
        gain = view.lighting.mean_gain
        view.fill(np.vstack((outline, ends)), view.colour((58, 92, 70), distance, gain), Category.NATURE)
        bins = np.floor(angle[:-1] * 60).astype(int)
        for b in range(bins.min(), bins.max() + 2):
            tall = self._skyline[b % 180]
            if not tall:
                continue
            left, right = (view.cx + view.fx * (edge / 60 - heading - view.yaw) for edge in (b, b + 1))
            top = view.cy - tall * view.fy
            shade = 0.8 + 3 * tall
            box = np.array(((left, base), (right, base), (right, top), (left, top)))
            view.fill(box, view.colour((128, 132, 138), distance, gain * shade), Category.CONSTRUCTION)
