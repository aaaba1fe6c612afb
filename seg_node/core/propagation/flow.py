"""Dense optical flow between two small pictures, and what can be made of it: composition, extrapolation, maps.

A flow is float32 [h, w, 2]: for each pixel (x, y) of the later picture, how far to the right and down in the earlier
one its content stands, in pixels of the flow's own grid. All arrays that a method takes or returns have one size,
unless it says otherwise.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From the later and the earlier grey picture, uint8 [h, w], to a flow."""

_FINEST_SCALE = 1
"""Level of the pyramid at which the estimation stops: each second pixel. The preset's own, 2, loses about 3 points of
``miou_7`` and saves 2 ms; 0 wins 2 points and costs 11 ms."""
_FORECAST_STEPS = 2
"""Iterations of the fixed point that turns a flow from where things are into one from where they will be."""


def dis_flow() -> Flow:
    """Estimator of Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse Search", ECCV 2016.

    Raises (when called):
        cv2.error: the pictures are too small, which is below 12 pixels.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    dis.setFinestScale(_FINEST_SCALE)
    # None: an array given for the result would be taken for a first guess.
    return lambda now, before: dis.calc(now, before, None)


class Grid:
    """Work on flows of one size, in buffers that are kept: the pages of fresh memory cost more than the work.

    Not for several threads at once.

    Args:
        size: height and width of the flows.
    """

    def __init__(self, size: tuple[int, int]):
        self.size = size
        self._places = _places(*size)
        self._maps = np.empty_like(self._places)
        self._moved = np.empty_like(self._places)

    def compose(self, step: np.ndarray, before: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Flow to an early picture, from the step to the one between and the flow from there.

        Args:
            step: from the newest picture to the one before it.
            before: from the one before it to the early one.
            out: takes the result; none of the other two.
        """
        cv2.add(self._places, step, dst=self._maps)
        cv2.remap(before, self._maps, None, cv2.INTER_LINEAR, dst=out, borderMode=cv2.BORDER_REPLICATE)
        return cv2.add(out, step, dst=out)

    def forecast(self, step: np.ndarray, factor: float, flow: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Flow to an early picture from one that is not there yet, if all goes on as in the last step.

        What will be at x came by way v, and stands now where y = x + v(y). That is a fixed point, since v is known for
        where things stand now.

        Args:
            step: the last one.
            factor: time from the newest picture to the forecast one, in steps.
            flow: from the newest picture to the early one.
            out: takes the result; none of the other two.
        """
        velocity = cv2.multiply(step, (factor, factor, 0, 0))
        way = velocity
        for _ in range(_FORECAST_STEPS):
            cv2.add(self._places, way, dst=self._maps)
            way = cv2.remap(
                velocity, self._maps, None, cv2.INTER_LINEAR, dst=self._moved, borderMode=cv2.BORDER_REPLICATE
            )
        return self.compose(way, flow, out)

    def warp(self, image: np.ndarray, flow: np.ndarray) -> np.ndarray:
        """The early grey picture, uint8, as the later one should look."""
        cv2.add(self._places, flow, dst=self._maps)
        return cv2.remap(image, self._maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


class LabelWarp:
    """Moves labels of the camera's size by a flow of a smaller size, in kept buffers. Not for several threads at once.

    Args:
        size: height and width of the labels.
    """

    def __init__(self, size: tuple[int, int]):
        self.size = size
        self._places = _places(*size)
        self._maps = np.empty_like(self._places)
        self._moved = np.empty(size, np.uint8)

    def __call__(self, labels: np.ndarray, flow: np.ndarray) -> np.ndarray:
        """Take each pixel's label from where the flow points; beyond the border, from the border.

        Args:
            labels: uint8 [H, W].
            flow: float32 [h, w, 2], in pixels of its own grid.

        Returns:
            uint8 [H, W], valid until the next call.
        """
        height, width = self.size
        scaled = cv2.multiply(flow, (width / flow.shape[1], height / flow.shape[0], 0, 0))
        cv2.resize(scaled, (width, height), dst=self._maps, interpolation=cv2.INTER_LINEAR)
        cv2.add(self._maps, self._places, dst=self._maps)
        return cv2.remap(labels, self._maps, None, cv2.INTER_NEAREST, dst=self._moved, borderMode=cv2.BORDER_REPLICATE)


def resized(flow: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A flow on a smaller grid of (height, width), in pixels of that grid."""
    height, width = size
    if flow.shape[:2] == size:
        return flow
    small = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.multiply(small, (width / flow.shape[1], height / flow.shape[0], 0, 0), dst=small)


class _SingleThread:
    """Who wants OpenCV at one thread, and how many threads it had before."""

    lock = threading.Lock()
    holders = 0
    threads = 0


@contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """Keep OpenCV at one thread as long as anybody in the process is in here.

    The number of threads is one for the whole process, and setting it starts or ends OpenCV's threads. So it is set
    where propagation begins and given back where it ends, not around each call. On pictures this small, threads of
    OpenCV's own only take turns with those of the inference.
    """
    with _SingleThread.lock:
        if not _SingleThread.holders:
            _SingleThread.threads = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _SingleThread.holders += 1
    try:
        yield
    finally:
        with _SingleThread.lock:
            _SingleThread.holders -= 1
            if not _SingleThread.holders:
                cv2.setNumThreads(_SingleThread.threads)


def _places(height: int, width: int) -> np.ndarray:
    """Coordinates x, y of each pixel, float32 [H, W, 2]."""
    return np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
