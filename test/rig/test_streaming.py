"""Streaming accuracy, flicker and disagreement against cases worked by hand and references made here."""

import zlib

import cv2
import numpy as np
import pytest

from seg_node.compare.consistency import disagreement, flicker
from seg_node.core.metrics import scores
from seg_node.core.taxonomy import CATEGORY_NAMES, NO_LABEL, Category
from seg_node.core.timing import FrameRecord, Outcome
from seg_node.rig.frames import ArrivedMask, FrameObservation, Run
from seg_node.rig.streaming import confusion_with_misses, instants, streaming_confusions

MS = 10**6
FLAT, SKY, VEHICLE = Category.FLAT, Category.SKY, Category.VEHICLE


def run_of(
    masks: list[np.ndarray | None], arrivals: list[float | None], period: float = 100.0, warm_up: int = 0
) -> Run:
    """Frames that are sent ``period`` ms apart; the mask of each arrives at a time in ms, or never."""
    frames = []
    for i, (mask, arrival) in enumerate(zip(masks, arrivals, strict=True)):
        sent = round(i * period * MS)
        arrived = None
        if arrival is not None:
            arrived = ArrivedMask(round(arrival * MS), mask.shape, zlib.compress(mask.tobytes()))
        record = FrameRecord(Outcome.MASKED if arrived else Outcome.SUPERSEDED, "model")
        frames.append(FrameObservation(i, i, 1000 + i, sent, sent, record, sent, arrived))
    return Run({}, frames, {}, warm_up)


def streaming_scores(run: Run, truth: dict[int, np.ndarray]) -> dict:
    return scores(sum(confusion for _, confusion in streaming_confusions(run, lambda frame: truth.get(frame.frame))))


def test_newest_mask_at_each_instant():
    blank = np.zeros((1, 1), np.uint8)
    #        frame    0     1    2    3    4    5
    arrivals = [100.0, None, 350, 320, None, 560]  # frame 3's mask overtakes that of frame 2
    run = run_of([blank] * 6, arrivals)

    newest = [instant.newest and instant.newest.index for instant in instants(run)]

    # At 0 ms none; at 100 ms the mask that arrives at that very moment; frame 2's late mask replaces nothing.
    assert newest == [None, 0, 0, 0, 3, 3]


def test_warm_up_frames_are_not_scored_but_their_masks_are_there():
    blank = np.zeros((1, 1), np.uint8)
    run = run_of([blank] * 4, [50.0, None, None, None], warm_up=2)

    assert [(i.now.index, i.newest.index) for i in instants(run)] == [(2, 0), (3, 0)]


def test_hand_worked_streaming_miou():
    """Four pixels. The road of frame 0 becomes a vehicle pixel by pixel; masks are perfect and 150 ms late."""
    truth = {
        0: np.array([[FLAT, FLAT, FLAT, FLAT]], np.uint8),
        1: np.array([[FLAT, FLAT, FLAT, VEHICLE]], np.uint8),
        2: np.array([[FLAT, FLAT, VEHICLE, VEHICLE]], np.uint8),
        3: np.array([[FLAT, VEHICLE, VEHICLE, NO_LABEL]], np.uint8),
    }
    run = run_of(list(truth.values()), [150.0, 250.0, 350.0, 450.0])

    found = streaming_scores(run, truth)

    # Frame 0 and frame 1 (100 ms) have no mask yet: 4 and 3 pixels of flat missed, 1 of vehicle.
    # Frame 2 (200 ms) is compared with mask 0: flat 2 hits, the 2 pixels of vehicle are taken for flat.
    # Frame 3 (300 ms) is compared with mask 1, without its open pixel: flat 1 hit, 2 pixels of vehicle taken for it.
    # flat: 3 hits of 4 + 3 + 2 + 1 = 10 in truth and 4 false; vehicle: 0 hits of 5.
    assert found["iou"]["flat"] == pytest.approx(100 * 3 / 14)
    assert found["iou"]["vehicle"] == 0
    assert found["miou_7"] == pytest.approx(100 * 3 / 14 / 2)
    assert found["iou"]["sky"] is None, "what is nowhere is not scored"


def test_no_answer_is_a_miss_and_no_false_positive():
    truth = np.array([FLAT, FLAT, SKY, 0, NO_LABEL], np.uint8)
    prediction = np.array([FLAT, NO_LABEL, NO_LABEL, NO_LABEL, NO_LABEL], np.uint8)

    confusion = confusion_with_misses(truth, prediction)

    assert confusion.shape == (8, 9)
    assert confusion[FLAT].tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert confusion[:, -1].tolist() == [1, 1, 0, 0, 0, 1, 0, 0]
    assert confusion.sum() == 4
    assert scores(confusion)["miou_7"] == pytest.approx((50 + 0) / 2)


def independent_miou_7(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean IoU with sets of pixels, straight from its definition."""
    ious = []
    for category in range(1, len(CATEGORY_NAMES)):
        truth, found = set(), set()
        for i, (t, p) in enumerate(pairs):
            scored = np.flatnonzero((t != NO_LABEL).ravel() & (t != 0).ravel())
            truth |= {(i, pixel) for pixel in scored if t.ravel()[pixel] == category}
            found |= {(i, pixel) for pixel in scored if p.ravel()[pixel] == category}
        if truth | found:
            ious.append(len(truth & found) / len(truth | found))
    return 100 * float(np.mean(ious))


def drive_with_ground_truth(frames: int) -> list[np.ndarray]:
    synthetic = pytest.importorskip("seg_training.datasets.synthetic")
    drive = synthetic.SyntheticDrive(5, (64, 96), 10.0)
    return [drive.frame(i)[1] for i in range(frames)]


def test_a_delay_of_exactly_one_frame_costs_what_the_reference_computes():
    truth = drive_with_ground_truth(8)
    in_time = run_of(truth, [100.0 * i for i in range(8)], warm_up=1)
    late = run_of(truth, [100.0 * (i + 1) for i in range(8)], warm_up=1)
    by_frame = dict(enumerate(truth))

    assert streaming_scores(in_time, by_frame)["miou_7"] == pytest.approx(100.0)
    found = streaming_scores(late, by_frame)["miou_7"]
    assert found == pytest.approx(independent_miou_7([(truth[i], truth[i - 1]) for i in range(1, 8)]))
    assert 20 < found < 99, "the scene moves, so the delay costs something"


def test_a_late_start_is_scored_as_no_answer():
    truth = drive_with_ground_truth(4)
    run = run_of(truth, [250.0, 300.0, 400.0, 500.0])

    found = list(streaming_confusions(run, lambda frame: truth[frame.frame]))

    assert [instant.newest is None for instant, _ in found] == [True, True, True, False]
    unanswered = sum(confusion for instant, confusion in found if instant.newest is None)
    assert unanswered[:, :-1].sum() == 0 and unanswered.sum() == sum((truth[i] != NO_LABEL).sum() for i in range(3))


def test_masks_of_looped_frames_are_told_apart_by_their_order():
    """The drive of two frames is played twice; the newest mask is the one of the later round."""
    masks = [np.full((1, 1), value, np.uint8) for value in (FLAT, SKY, FLAT, SKY)]
    run = run_of(masks, [50.0, 150.0, 250.0, 350.0])
    for i, frame in enumerate(run.frames):
        run.frames[i] = FrameObservation(
            frame.index, i % 2, 1000 + i % 2, frame.due, frame.sent, frame.record, frame.recorded, frame.mask
        )

    assert [instant.newest and instant.newest.index for instant in instants(run)] == [None, 0, 1, 2]


@pytest.fixture(scope="module")
def moving_scene():
    """A textured picture, and the same 3 pixels further to the right; a box of vehicle moves along."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (96, 200, 3)).astype(np.uint8), (5, 5), 1.5)
    before, now = wide[:, 20:180], wide[:, 17:177]
    mask_before = np.full((96, 160), FLAT, np.uint8)
    mask_before[30:60, 40:90] = VEHICLE
    mask_now = np.full((96, 160), FLAT, np.uint8)
    mask_now[30:60, 43:93] = VEHICLE
    return np.ascontiguousarray(before), np.ascontiguousarray(now), mask_before, mask_now


def test_motion_explains_a_mask_that_moves_along(moving_scene):
    before, now, mask_before, mask_now = moving_scene

    found = flicker(before, now, mask_before, mask_now)

    # Two edges of the box move by 3 pixels along 30 rows.
    assert found.changed == pytest.approx(100 * 2 * 3 * 30 / (96 * 160))
    assert found.unexplained < found.changed / 5
    assert found.followed > 80


def test_flicker_remains_after_motion(moving_scene):
    before, now, mask_before, mask_now = moving_scene
    flickering = mask_now.copy()
    flickering[10:20, 100:140] = SKY

    calm, found = flicker(before, now, mask_before, mask_now), flicker(before, now, mask_before, flickering)

    followed = found.followed / 100 * 96 * 160
    assert found.unexplained - calm.unexplained == pytest.approx(100 * 400 / followed, rel=0.02)


def test_a_still_scene_does_not_flicker(moving_scene):
    before, _, mask, _ = moving_scene
    assert flicker(before, before, mask, mask).changed == flicker(before, before, mask, mask).unexplained == 0


def test_disagreement_is_a_share_of_pixels():
    a, b = np.zeros((2, 5), np.uint8), np.zeros((2, 5), np.uint8)
    b[0, :3] = SKY
    assert disagreement([a, b]) == pytest.approx(30.0)
    c = a.copy()
    c[1, :2] = SKY
    assert disagreement([a, b, c]) == pytest.approx(50.0), "pixels on which any two differ"
