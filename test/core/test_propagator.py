"""The propagator against slow references, and what ends a propagation."""

import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_node.core.errors import UndecodableError
from seg_node.core.propagation import flow as flows
from seg_node.core.propagation.flow import Grid, LabelWarp, dis_flow, resized, single_threaded_opencv
from seg_node.core.propagation.picture import Picture, picture_of_compressed, picture_of_image, reduction
from seg_node.core.propagation.propagator import Propagator, bonnet, unexplained

MS = 10**6


def raw(bgr):
    height, width = bgr.shape[:2]
    return SimpleNamespace(
        height=height, width=width, encoding="bgr8", is_bigendian=0, step=3 * width, data=bgr.tobytes()
    )


def encoded(bgr, extension):
    return SimpleNamespace(format=extension, data=cv2.imencode(extension, bgr)[1].tobytes())


def scene(seed, size=(180, 320)):
    """A random picture that optical flow can follow: structure of all sizes, full contrast."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.random((n, n), np.float32), size[::-1], interpolation=cv2.INTER_CUBIC) for n in (4, 12, 40)
    ]
    total = sum(layers)
    return cv2.normalize(total, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def picture(grey, factor=2):
    return Picture(grey, (grey.shape[0] * factor, grey.shape[1] * factor))


def labels(seed, size):
    rng = np.random.default_rng(seed)
    small = rng.integers(1, 8, (size[0] // 20, size[1] // 20), dtype=np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_NEAREST)


def bilinear(image, x, y):
    """Value of an image at one place, beyond the border that of the border."""
    height, width = image.shape[:2]
    left, top = int(np.floor(x)), int(np.floor(y))
    total = 0.0
    for row, wy in ((top, top + 1 - y), (top + 1, y - top)):
        for column, wx in ((left, left + 1 - x), (left + 1, x - left)):
            total = total + wy * wx * image[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
    return total


def smooth_flow(seed, size, strength):
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.uniform(-strength, strength, (3, 4, 2)).astype(np.float32), size[::-1])


@given(st.integers(0, 2**32 - 1), st.sampled_from([(9, 14), (12, 7)]), st.floats(0.1, 5))
@settings(max_examples=15, deadline=None)
def test_composition_is_that_of_each_pixel_by_itself(seed, size, strength):
    step, before = smooth_flow(seed, size, strength), smooth_flow(seed + 1, size, strength)
    found = Grid(size).compose(step, before, np.empty_like(step))
    for y in range(size[0]):
        for x in range(size[1]):
            expected = step[y, x] + bilinear(before, x + step[y, x, 0], y + step[y, x, 1])
            # OpenCV interpolates in steps of 1/32 pixel.
            assert np.abs(found[y, x] - expected).max() < strength / 8 + 1e-3


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3]), st.sampled_from([(8, 12), (11, 9)]))
@settings(max_examples=15, deadline=None)
def test_labels_are_moved_like_each_pixel_by_itself(seed, factor, small):
    size = (small[0] * factor, small[1] * factor)
    mask = np.random.default_rng(seed).integers(0, 8, size, dtype=np.uint8)
    flow = smooth_flow(seed, small, 2.0)
    found = LabelWarp(size)(mask, flow)
    for y in range(size[0]):
        for x in range(size[1]):
            # The centre of a pixel of the camera on the grid of the flow.
            dx, dy = factor * bilinear(flow, (x + 0.5) / factor - 0.5, (y + 0.5) / factor - 0.5)
            near = {
                mask[min(max(round(y + dy + e), 0), size[0] - 1), min(max(round(x + dx + f), 0), size[1] - 1)]
                for e in (-0.05, 0.05)
                for f in (-0.05, 0.05)
            }
            assert found[y, x] in near


def test_a_forecast_is_where_things_will_be():
    """A point moves by a known, growing speed: with where it stands at x + v(x) the fixed point is met."""
    size = (40, 60)
    x = np.arange(60, dtype=np.float32)
    # Way back of a zoom about x = 30: the content of x stood at 30 + (x - 30) / 1.1.
    step = np.zeros((*size, 2), np.float32)
    step[..., 0] = (30 + (x - 30) / 1.1) - x
    found = Grid(size).forecast(step, 1.0, np.zeros_like(step), np.empty_like(step))
    # If everything goes on by the velocity that it has now, x' = y - v(y), so y = x' + v(y).
    expected = np.array([(value - 30) / (1 - (1 / 1.1 - 1)) + 30 for value in x]) - x
    assert np.abs(found[20, 5:55, 0] - expected[5:55]).max() < 0.05
    assert np.abs(found[..., 1]).max() == 0


@pytest.mark.parametrize("shift", [(2, 0), (-4, 2), (6, -4)])
@pytest.mark.parametrize("reduced", [True, False])
def test_a_picture_that_is_shifted_by_whole_pixels_is_propagated_exactly(shift, reduced):
    """Both with the true flow and with the estimated one; but for what enters at the borders."""
    factor = 2 if reduced else 1
    big = scene(1, (400 if reduced else 220, 680 if reduced else 360))
    size = (360, 640) if reduced else (180, 320)
    truth = labels(2, (big.shape[0], big.shape[1]))

    def view(image, n):
        y, x = 20 + n * shift[1], 20 + n * shift[0]
        return np.ascontiguousarray(image[y : y + size[0], x : x + size[1]])

    def small(n):
        grey = view(big, n)
        return Picture(cv2.resize(grey, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA), size)

    def true_flow(now, before):
        return np.full((*now.shape, 2), np.float32(shift) / factor, np.float32)

    border = 20
    for estimate, least in ((true_flow, 1.0), (None, 0.99)):
        propagator = Propagator(estimate)
        for n in range(4):
            propagator.advance(n, small(n), n * 33 * MS)
            if n == 0:
                assert propagator.begin(0, 0, 0)
        assert propagator.finish(0, view(truth, 0))
        for horizon, target in ((0, 3), (33, 4)):
            if max(abs(target * v) for v in shift) > 20:
                continue
            carried = propagator.carry(horizon)
            inner = np.s_[border:-border, border:-border]
            assert (carried.mask[inner] == view(truth, target)[inner]).mean() >= least
            assert carried.frames == 3 and carried.horizon_ms == horizon and carried.target == (99 + horizon) * MS
        assert carried.residual < 4


def test_a_chain_that_begins_late_is_the_one_that_began_in_time():
    frames = [np.roll(scene(3), (n, 2 * n), (0, 1)) for n in range(6)]
    mask, found = labels(1, (360, 640)), []
    for late in (0, 2):
        propagator = Propagator()
        for n, grey in enumerate(frames):
            propagator.advance(n, picture(grey), n * 33 * MS)
            if n == 2 + late:
                assert propagator.begin(2, 66 * MS, 7)
        assert propagator.finish(2, mask)
        carried = propagator.carry()
        assert (carried.keyframe, carried.arrived, carried.frames) == (66 * MS, 7, 3)
        found.append((carried.mask.copy(), carried.residual))
    assert (found[0][0] == found[1][0]).all() and found[0][1] == found[1][1]
    assert not propagator.begin(0, 0, 0), "too long ago"
    assert not propagator.begin(99, 0, 0), "never seen"


def test_the_newest_finished_mask_is_carried_while_later_frames_are_in_inference():
    propagator = Propagator()
    first, second = np.full((360, 640), 1, np.uint8), np.full((360, 640), 2, np.uint8)
    for n in range(8):
        propagator.advance(n, picture(scene(3)), n * MS)
        if n in (0, 2, 4, 6):
            propagator.begin(n, n * MS, 0)
        if n == 3:
            assert propagator.finish(0, first)
            assert propagator.carry().mask[0, 0] == 1
        if n == 5:
            # That of frame 2 has failed.
            assert propagator.finish(4, second)
            assert not propagator.finish(2, first), "an older mask replaces no newer one"
    assert propagator.carry().mask[0, 0] == 2 and propagator.carry().keyframe == 4 * MS


def running(size=(180, 320)):
    """A propagator that carries a mask."""
    propagator = Propagator()
    propagator.advance(0, picture(scene(3, size)), 0)
    propagator.begin(0, 0, 0)
    propagator.finish(0, np.ones((2 * size[0], 2 * size[1]), np.uint8))
    propagator.advance(1, picture(scene(3, size)), 33 * MS)
    assert propagator.carry() is not None
    propagator.begin(1, 33 * MS, 0)
    return propagator


BREAKS = {
    "another size": (lambda p: p.advance(2, picture(scene(3, (90, 160))), 66 * MS), "640x360 to 320x180"),
    "a stamp that goes back": (lambda p: p.advance(2, picture(scene(3)), 13 * MS), "went back by 20 ms"),
    "another scene": (lambda p: p.advance(2, picture(scene(9)), 66 * MS), "the scene changed"),
    "a covered lens": (lambda p: p.advance(2, picture(np.zeros((180, 320), np.uint8)), 66 * MS), "the scene changed"),
    "a reset": (lambda p: p.reset("the model was swapped"), "swapped"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_breaks_the_relation_between_two_pictures_ends_all_chains(name):
    happen, reason = BREAKS[name]
    propagator = running()
    happen(propagator)
    assert propagator.carry() is None and reason in propagator.reason
    assert not propagator.finish(1, np.ones((360, 640), np.uint8)), "that inference began before"
    assert propagator.carry() is None
    number = propagator.number
    assert propagator.begin(number, 0, 0), "the next inference counts again"
    assert propagator.finish(number, np.full(propagator._picture.size, 3, np.uint8))
    assert propagator.carry().mask[0, 0] == 3


def test_a_flat_picture_with_noise_is_no_change_of_scene():
    rng = np.random.default_rng(0)
    propagator = Propagator()
    for n in range(3):
        propagator.advance(n, picture((100 + rng.normal(0, 3, (180, 320))).astype(np.uint8)), n * MS)
        propagator.begin(n, n * MS, 0)
    assert propagator.finish(0, np.ones((360, 640), np.uint8)) and propagator.carry() is not None


def test_pictures_that_are_too_small_for_flow_are_an_error_and_not_a_mask():
    propagator = Propagator()
    grey = scene(1, (8, 10))
    propagator.advance(0, Picture(grey, (8, 10)), 0)
    propagator.begin(0, 0, 0)
    propagator.finish(0, np.ones((8, 10), np.uint8))
    with pytest.raises(cv2.error):
        propagator.advance(1, Picture(grey, (8, 10)), MS)
    assert propagator.carry() is None and "no optical flow" in propagator.reason


def test_without_two_stamps_there_is_no_forecast():
    propagator = running()
    propagator.advance(2, picture(scene(3)), 33 * MS)
    carried = propagator.carry(33.0)
    assert carried.horizon_ms == 0 and carried.target == 33 * MS


def test_a_forecast_across_two_close_stamps_is_bounded():
    propagator = running()
    propagator.advance(2, picture(scene(3)), 34 * MS)
    assert propagator.carry(200.0).horizon_ms == pytest.approx(8)


def test_the_own_bonnet_stays_and_leaves_no_trail():
    grey = scene(5, (180, 400))
    propagator = Propagator(lambda now, before: np.full((*now.shape, 2), (3, -6), np.float32))
    mask = labels(1, (360, 640))
    mask[300:, 100:500] = 0
    mask[50:60, 50:60] = 0
    kept = mask.copy()
    for n in range(5):
        view = np.ascontiguousarray(np.roll(grey, (6 * n, -3 * n), (0, 1))[:, 40:360])
        propagator.advance(n, picture(view), n * MS)
        if n == 0:
            propagator.begin(0, 0, 0)
            propagator.finish(0, mask)
    carried = propagator.carry().mask
    assert (mask == kept).all(), "the inferred mask is not changed"
    assert (carried[300:] == 0).sum() == (mask[300:] == 0).sum() and (carried[300:, 100:500] == 0).all()
    moved = np.zeros_like(mask, bool)
    moved[50 + 48 : 60 + 48, 50 - 24 : 60 - 24] = True
    assert (carried[moved] == 0).all(), "void that is not the vehicle itself moves"
    assert set(np.unique(carried)) <= set(range(8))


def test_the_bonnet_is_the_void_that_reaches_the_lower_edge():
    mask = np.ones((6, 8), np.uint8)
    assert bonnet(mask) is None
    mask[0:2, 0:2] = 0
    assert bonnet(mask) is None
    mask[4:, 3:6] = 0
    expected = np.zeros((6, 8), np.uint8)
    expected[4:, 3:6] = 255
    assert (bonnet(mask) == expected).all()


def test_how_much_motion_leaves_unexplained():
    assert unexplained(scene(1), scene(1)) == 0
    assert unexplained(scene(1), scene(2)) > 0.8
    night = scene(1) // 16
    assert unexplained(night, scene(2) // 16) == 0, "differences of a few grey levels are noise"


def test_flow_on_a_smaller_grid_is_in_pixels_of_that_grid():
    flow = np.full((10, 20, 2), (4.0, -2.0), np.float32)
    small = resized(flow, (5, 5))
    assert small.shape == (5, 5, 2) and np.allclose(small, (1.0, -1.0))


def test_opencv_gets_its_threads_back_when_the_last_has_left():
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        entered, leave = threading.Event(), threading.Event()

        def other():
            with single_threaded_opencv():
                entered.set()
                leave.wait(60)

        thread = threading.Thread(target=other)
        with single_threaded_opencv():
            thread.start()
            assert entered.wait(60) and cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == 1, "the other one is still in"
        leave.set()
        thread.join()
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_the_estimator_does_not_remember():
    """A result handed in would be taken for a first guess, and results of one instance would depend on its past."""
    estimate, a, b, c = dis_flow(), scene(1), np.roll(scene(1), 3, 1), np.roll(scene(1), 9, 0)
    first = estimate(b, a)
    estimate(c, a)
    assert (estimate(b, a) == first).all() and flows._FINEST_SCALE == 1


@pytest.mark.parametrize("width, factor", [(1, 1), (320, 1), (480, 2), (640, 2), (1280, 4), (1920, 8), (3840, 8)])
def test_pictures_have_about_320_columns(width, factor):
    assert reduction(width) == factor


@pytest.mark.parametrize("size", [(360, 640), (361, 643), (719, 1281), (20, 30)])
def test_jpeg_png_and_raw_give_the_same_picture(size):
    height, width = size
    bgr = cv2.cvtColor(cv2.resize(scene(4), (width, height)), cv2.COLOR_GRAY2BGR)
    made = [
        picture_of_image(raw(bgr)),
        picture_of_compressed(encoded(bgr, ".png")),
        picture_of_compressed(encoded(bgr, ".jpg")),
    ]
    for other in made:
        assert other.size == size and other.grey.dtype == np.uint8 and other.grey.flags.c_contiguous
        assert max(abs(np.subtract(other.grey.shape, made[0].grey.shape))) <= 1
    rows, columns = (min(other.grey.shape[axis] for other in made) for axis in (0, 1))
    for other in made[1:]:
        difference = cv2.absdiff(other.grey[:rows, :columns], made[0].grey[:rows, :columns])
        # Odd sides are sampled half a pixel apart.
        assert difference.mean() < (6 if height % 2 else 3)


def test_data_that_is_no_image_has_no_picture():
    broken = encoded(cv2.cvtColor(scene(4), cv2.COLOR_GRAY2BGR), ".jpg")
    broken.data = broken.data[: len(broken.data) // 2]
    with pytest.raises(UndecodableError, match="cut off"):
        picture_of_compressed(broken)
