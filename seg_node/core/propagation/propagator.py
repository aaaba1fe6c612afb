"""Carries the newest inferred mask along with the camera, picture by picture."""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from seg_node.core.propagation.flow import Flow, Grid, LabelWarp, dis_flow, resized
from seg_node.core.propagation.picture import Picture
from seg_node.core.taxonomy import Category

CUT = 0.4
"""Unexplained share of a step, see ``unexplained``, from which two pictures show different scenes."""
_LEAST_RESIDUAL = 4.0
"""Grey levels of 255. A residual below is noise, however little contrast the picture has."""
_MAX_STEPS_AHEAD = 8.0
"""Longest forecast, in steps: two stamps that lie close together would make a great speed of a small error."""
_REMEMBERED = 4
"""Pictures at which a chain can still begin."""
_MAX_CHAINS = 3
"""A mask that is carried, one that is handed over, and a frame in inference."""
_BONNET = 254
"""No category: marks the own vehicle while a mask is moved."""


@dataclass(eq=False)
class _Chain:
    """Way from the newest picture back to a keyframe."""

    stamp: int
    arrived: int
    grey: np.ndarray
    """Keyframe's picture on the grid of flows."""
    flow: np.ndarray
    spare: np.ndarray
    frames: int = 0
    mask: np.ndarray | None = None
    """Inferred mask of the keyframe, once there is one."""
    bonnet: np.ndarray | None = None
    """uint8 [H, W], 255 where the vehicle itself is seen; None where it is not."""
    marked: np.ndarray | None = None
    """The mask to be moved: with ``_BONNET`` in these places."""


@dataclass(frozen=True, eq=False)
class _Seen:
    """One of the last pictures."""

    number: int
    small: np.ndarray
    """uint8, on the grid of flows."""
    step: np.ndarray | None
    """Flow to the picture before; None where they are not related."""


@dataclass(frozen=True, eq=False)
class Carried:
    """A mask that was carried to a picture, or ahead of it."""

    mask: np.ndarray
    """uint8 [H, W] of category ids; valid until the next call of ``Propagator.carry``."""
    keyframe: int
    """Stamp in nanoseconds of the frame whose inferred mask it is."""
    arrived: int
    """When that frame arrived, as ``Propagator.begin`` was told."""
    stamp: int
    """Stamp in nanoseconds of the picture to which the mask was carried."""
    horizon_ms: float
    """Time ahead of that picture for which the mask holds."""
    frames: int
    """Number of steps from the keyframe to the picture."""
    residual: float
    """Mean grey difference of the carried keyframe to the picture, 0 to 255."""

    @property
    def target(self) -> int:
        """Time in nanoseconds for which the mask holds."""
        return self.stamp + round(1e6 * self.horizon_ms)

    @property
    def age_ms(self) -> float:
        """Time from the keyframe until the mask holds."""
        return (self.target - self.keyframe) / 1e6


class Propagator:
    """Follows the pictures of one camera, and carries to each the mask of an earlier one.

    Frames are identified by numbers that rise with their arrival: stamps may repeat or go back. For a frame in
    inference, ``begin`` starts a chain of flows that ``advance`` makes longer with each picture. When its mask comes,
    ``finish`` makes it the keyframe, so that ``carry`` needs no flow but the composed one.

    What breaks the relation between two pictures ends all chains: see ``reason``. Not for several threads at once.

    Args:
        flow: estimator of optical flow.
    """

    def __init__(self, flow: Flow | None = None):
        self.reason = "no mask has been inferred yet"
        """Why there is no keyframe, where there is none."""
        self._estimate = flow or dis_flow()
        self._stamp = 0
        self._picture: Picture | None = None
        self._grid: Grid | None = None
        self._warp: LabelWarp | None = None
        self._recent: deque[_Seen] = deque(maxlen=_REMEMBERED)
        self._step_ms = 0.0
        self._chains: dict[int, _Chain] = {}
        self._key: int | None = None

    @property
    def number(self) -> int:
        """Number of the newest picture; -1 before the first."""
        return self._recent[-1].number if self._recent else -1

    @property
    def keyframe(self) -> int | None:
        """Number of the frame whose mask is carried; None without one."""
        return self._key

    def reset(self, reason: str) -> None:
        """Forget all keyframes: there is no mask to carry until one is inferred of a frame that begins after this."""
        self._chains.clear()
        while len(self._recent) > 1:
            self._recent.popleft()
        self._key, self.reason = None, reason

    def advance(self, number: int, picture: Picture, stamp: int) -> None:
        """Take the next picture and make all chains longer by the step to it.

        Args:
            number: greater than that of the picture before.
            picture: what the camera sees.
            stamp: of the frame, in nanoseconds.

        Raises:
            cv2.error: no flow can be computed of such a picture. All chains have ended.
        """
        before, self._picture = self._picture, picture
        self._step_ms, self._stamp = (stamp - self._stamp) / 1e6, stamp
        if before is None or before.size != picture.size:
            # The estimator stops at each second pixel, so a finer grid would hold no more.
            height, width = (max(1, side // 2) for side in picture.grey.shape)
            self._grid, self._warp = Grid((height, width)), LabelWarp(picture.size)
        small = cv2.resize(picture.grey, self._grid.size[::-1], interpolation=cv2.INTER_AREA)
        try:
            step, broken = self._step_from(before, small)
        except cv2.error as error:
            step, broken = None, f"no optical flow: {error.err}"
            raise
        finally:
            self._recent.append(_Seen(number, small, step))
            if broken:
                self.reset(broken)
        if step is not None:
            for chain in self._chains.values():
                self._lengthen(chain, step)

    def _step_from(self, before: Picture | None, small: np.ndarray) -> tuple[np.ndarray | None, str]:
        """Flow from the newest picture to the one before, and what makes it none."""
        if before is None:
            return None, ""
        if before.size != self._picture.size:
            return None, f"the camera's size changed from {_size(before)} to {_size(self._picture)}"
        if self._step_ms < 0:
            return None, f"the camera's stamps went back by {-self._step_ms:.0f} ms"
        step = resized(self._estimate(self._picture.grey, before.grey), self._grid.size)
        share = unexplained(self._grid.warp(self._recent[-1].small, step), small)
        if share > CUT:
            return None, f"the scene changed: motion does not explain {100 * share:.0f} % of the picture"
        return step, ""

    def begin(self, number: int, stamp: int, arrived: int) -> bool:
        """Start the chain of a frame whose inference begins.

        Args:
            number: of a picture that ``advance`` has taken, one of the last few.
            stamp: of the frame, in nanoseconds.
            arrived: when the frame arrived, in nanoseconds of a steady clock.

        Returns:
            Whether there is a chain; there is none if the picture is too old or ``advance`` was never given it.
        """
        start = next((seen for seen in self._recent if seen.number == number), None)
        if start is None:
            return False
        zero = np.zeros((*self._grid.size, 2), np.float32)
        chain = _Chain(stamp, arrived, start.small, zero, np.empty_like(zero))
        for seen in self._recent:
            if seen.number > number:
                self._lengthen(chain, seen.step)
        self._chains[number] = chain
        # A frame that failed never ends its chain.
        for oldest in sorted(self._chains.keys() - {self._key})[: max(0, len(self._chains) - _MAX_CHAINS)]:
            del self._chains[oldest]
        return True

    def finish(self, number: int, mask: np.ndarray, void: int | None = Category.VOID) -> bool:
        """Make a frame the keyframe, now that its mask was inferred.

        Args:
            number: of ``begin``.
            mask: uint8 [H, W] of category ids; kept, not changed.
            void: category of the own vehicle's bonnet; None where the categories have none.

        Returns:
            Whether it is: not if its chain has ended.
        """
        chain = self._chains.get(number)
        if chain is None or mask.shape != self._picture.size:
            return False
        chain.mask = chain.marked = mask
        chain.bonnet = None if void is None else bonnet(mask, void)
        if chain.bonnet is not None:
            chain.marked = mask.copy()
            chain.marked[chain.bonnet > 0] = _BONNET
        self._key = number
        for older in [other for other in self._chains if other < number]:
            del self._chains[older]
        return True

    def carry(self, horizon_ms: float = 0.0) -> Carried | None:
        """Carry the keyframe's mask to the newest picture, or ahead of it.

        Args:
            horizon_ms: time ahead, from 0 on. Less where the speed is not known or the last step was much shorter.

        Returns:
            None without a keyframe; ``reason`` says why.
        """
        if self._key is None:
            return None
        chain, seen = self._chains[self._key], self._recent[-1]
        flow, steps_ahead = chain.flow, 0.0
        if horizon_ms > 0 and seen.step is not None and self._step_ms > 0:
            steps_ahead = min(horizon_ms / self._step_ms, _MAX_STEPS_AHEAD)
            flow = self._grid.forecast(seen.step, steps_ahead, chain.flow, chain.spare)
        moved = self._warp(chain.marked, flow)
        if chain.bonnet is not None:
            # It stays where it is, and where flow has drawn it elsewhere, the label of the place is the best guess.
            drawn = cv2.compare(moved, _BONNET, cv2.CMP_EQ)
            cv2.copyTo(chain.mask, cv2.bitwise_or(drawn, chain.bonnet), dst=moved)
        residual = cv2.mean(cv2.absdiff(self._grid.warp(chain.grey, chain.flow), seen.small))[0]
        return Carried(
            moved, chain.stamp, chain.arrived, self._stamp, steps_ahead * self._step_ms, chain.frames, residual
        )

    def _lengthen(self, chain: _Chain, step: np.ndarray) -> None:
        self._grid.compose(step, chain.flow, chain.spare)
        chain.flow, chain.spare = chain.spare, chain.flow
        chain.frames += 1


def unexplained(moved: np.ndarray, now: np.ndarray) -> float:
    """Share of a picture that the motion does not explain: 0 where all fits, about 1 for two pictures of other scenes.

    The mean difference, relative to the mean contrast of whichever picture has more.

    Args:
        moved: the earlier picture, carried to the later one; uint8 [h, w].
        now: the later one.
    """
    residual = cv2.mean(cv2.absdiff(moved, now))[0]
    if residual < _LEAST_RESIDUAL:
        return 0.0
    contrast = max(cv2.mean(cv2.absdiff(image, cv2.mean(image)[0]))[0] for image in (moved, now))
    return residual / max(contrast, _LEAST_RESIDUAL)


def bonnet(mask: np.ndarray, void: int = Category.VOID) -> np.ndarray | None:
    """Where a camera sees its own vehicle: the void that reaches the lower edge.

    Args:
        mask: uint8 [H, W] of category ids.
        void: category of what belongs to no other.

    Returns:
        uint8 [H, W], 255 there and 0 elsewhere; None where there is none.
    """
    if not (mask[-1] == void).any():
        return None
    count, parts = cv2.connectedComponents(cv2.compare(mask, int(void), cv2.CMP_EQ), connectivity=4, ltype=cv2.CV_16U)
    touches = np.zeros(count, bool)
    touches[parts[-1]] = True
    # Number 0 is all that is no void.
    touches[0] = False
    return (touches[parts] * np.uint8(255)).astype(np.uint8, copy=False)


def _size(picture: Picture) -> str:
    return f"{picture.size[1]}x{picture.size[0]}"
