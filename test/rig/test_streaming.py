"""Streaming accuracy, flicker and disagreement against cases worked by hand and references made here."""

import dataclasses
import zlib

import cv2
import numpy as np
import pytest
from helpers.made_up import experiment

from seg_node.compare import tables
from seg_node.compare.consistency import disagreement, flicker
from seg_node.compare.report import sections
from seg_node.compare.text import to_text
from seg_node.core.metrics import scores
from seg_node.core.propagation.record import NowOutcome, NowRecord
from seg_node.core.taxonomy import CATEGORY_NAMES, NO_LABEL, Category
from seg_node.core.timing import FrameRecord, Outcome
from seg_node.rig.frames import ArrivedMask, FrameObservation, NowObservation, Run
from seg_node.rig.now import score_streaming, summarise_now
from seg_node.rig.rates import saturated_rate
from seg_node.rig.scoring import age_of_information, summarise
from seg_node.rig.streaming import ages_at_use, confusion_with_misses, first_round, instants, streaming_confusions

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


def test_ages_at_the_moment_of_use():
    """Stamps of the frames are 100 ms apart, and so are the times at which they are sent."""
    blank = np.zeros((1, 1), np.uint8)
    run = run_of([blank] * 5, [150.0, None, None, 390.0, None])
    run.frames = [dataclasses.replace(frame, stamp=frame.index * 100 * MS) for frame in run.frames]
    assert ages_at_use(run) == {"frame": [0, 1, 2, 3, 4], "mask_ms": [None, None, 200.0, 300.0, 100.0]}

    # Carried from frame 0 to frame 2 and from frame 0 to frame 3, each 10 ms after its frame was sent.
    run.nows = [
        NowObservation(
            index,
            NowRecord(NowOutcome.PROPAGATED, keyframe=0, keyframe_age=100.0 * index),
            0,
            ArrivedMask((100 * index + 10) * MS, (1, 1), zlib.compress(b"\0")),
        )
        for index in (2, 3)
    ]
    assert ages_at_use(run)["mask_now_ms"] == [None, None, None, 300.0, 400.0]


def test_the_first_time_that_a_drive_is_played_ends_where_it_begins_anew():
    blank = np.zeros((1, 1), np.uint8)
    run = looped(run_of([blank] * 6, [50.0, 150.0, 250.0, 350.0, 450.0, 550.0]), 4)
    assert [instant.now.index for instant, _ in first_round(run)] == [0, 1, 2, 3]
    run.warm_up = 1
    assert ages_at_use(run)["frame"] == [1, 2, 3]


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


def test_report_of_a_run_in_which_no_mask_came_in_time():
    run = run_of([None] * 3, [None] * 3)
    run.nows = []
    result = summarise(run)
    result.streaming = score_streaming(run, lambda frame: np.full((2, 2), FLAT, np.uint8))
    result.now = dataclasses.asdict(summarise_now(run))
    assert result.streaming["mask_by_age"] == result.streaming["mask_now_by_age"] == []
    shown = sections(result)
    assert all(section.table[1] for section in shown), "no empty table"
    assert [section.title for section in shown if "use" in section.title] == ["Masks at the moment of use, percent"]


def test_masks_are_scored_by_the_age_of_what_was_inferred():
    """Frames 100 ms apart, masks that come 150 ms late: each is used 200 ms after its frame."""
    run = run_of([np.full((1, 1), FLAT, np.uint8)] * 4, [150.0, 250.0, 350.0, 450.0])
    run.frames = [dataclasses.replace(frame, stamp=frame.sent) for frame in run.frames]
    found = score_streaming(run, lambda frame: np.full((1, 1), FLAT, np.uint8))
    assert [(row["from_ms"], row["to_ms"], row["frames"]) for row in found["mask_by_age"]] == [(200, 250, 2)]
    assert found["mask_by_age"][0]["miou_7"] == 100 and found["mask"]["frames"] == 4


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


def looped(run: Run, frames: int) -> Run:
    """The same run of a drive that has but so many frames and begins anew after them."""
    run.frames = [dataclasses.replace(frame, frame=i % frames) for i, frame in enumerate(run.frames)]
    return run


def test_the_seam_of_a_looped_drive_is_not_scored():
    """Three frames, twice, each mask two periods late: at the beginning of round two the newest mask is of round one.

    The first frame of the drive is all flat, the last all sky. Scored across the seam, masks of the end would be held
    against the beginning: an error of the loop, not of the driving.
    """
    drive = [np.full((2, 2), value, np.uint8) for value in (FLAT, FLAT, SKY)]
    run = looped(run_of(drive * 2, [100.0 * i + 150.0 for i in range(6)]), 3)
    truth = dict(enumerate(drive))

    found = list(instants(run))
    assert [instant.newest and instant.newest.index for instant in found] == [None, None, 0, 1, 2, 3]
    assert [instant.across_seam for instant in found] == [False, False, False, True, True, False]
    scored = [instant.now.index for instant, _ in streaming_confusions(run, lambda frame: truth.get(frame.frame))]
    assert scored == [0, 1, 2, 5]
    # The third instant of each round is sky, and the mask at hand is flat.
    total = sum(confusion for _, confusion in streaming_confusions(run, lambda frame: truth.get(frame.frame)))
    assert total[SKY, FLAT] == 8 and total[FLAT, SKY] == 0


def test_seams_are_counted_in_a_comparison(ros):
    from seg_node.compare.measure import _streaming

    drive = [np.full((2, 2), value, np.uint8) for value in (FLAT, FLAT, SKY)]
    run = looped(run_of(drive * 2, [100.0 * i + 150.0 for i in range(6)]), 3)
    scored = _streaming(run, dict(enumerate(drive)), model=0, repetition=0)
    assert (scored.across_seam, scored.unanswered, scored.frame) == (2, 2, [0, 1, 2, 2])


def test_age_of_information_of_a_hand_worked_case():
    """Frames at 0, 100, ... 500 ms; masks of 0, 1 and 3 arrive at 150, 250 and 450 ms.

    From 150 ms on something is known. Its age grows from 150 to 250 ms, falls to 150 as mask 1 comes, grows to 350,
    falls to 150 as mask 3 comes at 450 ms, and is 200 at the last frame: 100 ms at 200 on average, 200 ms at 250, 50 ms
    at 175.
    """
    blank = np.zeros((1, 1), np.uint8)
    run = run_of([blank] * 6, [150.0, 250.0, None, 450.0, None, None])
    mean, peak = age_of_information(run)
    assert mean == pytest.approx((100 * 200 + 200 * 250 + 50 * 175) / 350)
    assert peak == pytest.approx((250 + 350) / 2)
    # A mask that overtook a newer one, or comes after the end, makes nothing younger.
    late = run_of([blank] * 6, [150.0, 250.0, 460.0, 450.0, 700.0, None])
    assert age_of_information(late) == (pytest.approx(mean), pytest.approx(peak))
    assert age_of_information(run_of([blank] * 3, [10.0, None, None])) == (None, None), "no mask after another"
    assert age_of_information(run_of([], [])) == (None, None)


def test_age_of_information_begins_after_the_warm_up():
    blank = np.zeros((1, 1), np.uint8)
    run = run_of([blank] * 4, [50.0, 150.0, 250.0, None], warm_up=1)
    # From 100 ms on: 100 to 150 (mask 0), 50 to 150 (mask 1), 50 to 100 (mask 2).
    mean, peak = age_of_information(run)
    assert mean == pytest.approx((50 * 125 + 100 * 100 + 50 * 75) / 200)
    assert peak == pytest.approx((150 + 150) / 2)


def test_age_stands_beside_the_streaming_score():
    """In the table of each rate and in the sentences of a comparison."""
    comparison = experiment((300.0, 200.0))
    for run in comparison.runs:
        run.age_mean_ms, run.age_peak_ms = 333.0 + run.model, 444.0 + run.model
    header, rows = tables.rates(comparison)
    assert header[-2:] == ["age ms", "peak age ms"] and rows[0][-2:] == ["333", "444"]
    said = to_text(comparison)
    assert "what the newest mask shows is 333 ms old on average, 444 ms just before the next one" in said
    assert "what the newest mask shows is 334 ms old on average, 445 ms just before the next one" in said


def test_the_saturated_rate_is_that_of_the_masks_while_frames_come():
    """Frames at 0, 10, ... 990 ms, a mask every 70 ms from 70 ms on, of which the last come when no frame does."""
    blank = np.zeros((1, 1), np.uint8)
    arrivals: list[float | None] = [None] * 100
    for i in range(16):
        arrivals[6 * i] = 70.0 * (i + 1)
    run = run_of([blank] * 100, arrivals, period=10.0)
    assert saturated_rate(run) == pytest.approx(1000 / 70)
    # Masks of the warm-up, slower, do not count; nor do those after the last frame.
    slow = run_of([blank] * 100, [None if a is None else a + (300 if i == 90 else 0) for i, a in enumerate(arrivals)],
                  period=10.0)  # fmt: skip
    assert saturated_rate(slow) == pytest.approx(1000 / 70)
    first = list(arrivals)
    first[0] = 1.0
    assert saturated_rate(run_of([blank] * 100, first, period=10.0, warm_up=6)) == pytest.approx(1000 / 70)
    assert saturated_rate(run_of([blank] * 100, first, period=10.0)) < 1000 / 71
    assert saturated_rate(run_of([blank] * 3, [5.0, 15.0, None], period=10.0)) is None


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
