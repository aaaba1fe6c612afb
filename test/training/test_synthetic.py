"""Made-up drives: the same seed gives the same frames, the masks are exact, and the shipped drive is whole."""

import hashlib

import cv2
import numpy as np
import pytest
from helpers.paths import DRIVE

from seg_node.bags.drive import open_drive
from seg_node.core.taxonomy import Category
from seg_training import synthetic_bag
from seg_training.__main__ import main
from seg_training.datasets import open_dataset
from seg_training.datasets.synthetic import LIGHTS, WEATHERS, SyntheticDrive, SyntheticScenes
from seg_training.datasets.synthetic.turning import TurningView

SMALL = (180, 320)

PINNED = {
    (3, "sun", "dry"): ("12660f25a06108e2", "06f870dad1869ff1"),
    (3, "dusk", "dry"): ("1fc81865afe233ab", "06f870dad1869ff1"),
    (3, "overcast", "rain"): ("dc4fc3926df1c864", "06f870dad1869ff1"),
    (3, "sun", "fog"): ("3f865b7ebdf13610", "33ebcc1aa2991f0a"),
    (11, "sun", "dry"): ("2ecad66ac300928d", "108e69c66dd08b73"),
    (11, "dusk", "dry"): ("5da0759427a759fa", "108e69c66dd08b73"),
    (11, "overcast", "rain"): ("381fdff4027b1b23", "108e69c66dd08b73"),
    (11, "sun", "fog"): ("84a570594a1a7d20", "946e2fda35647bd8"),
    (27, "sun", "dry"): ("be1a9f44540c4334", "8b3a4e463ab25d04"),
    (27, "dusk", "dry"): ("af3ccfda6aaa5aa7", "8b3a4e463ab25d04"),
    (27, "overcast", "rain"): ("c9f63b927b18bad0", "8b3a4e463ab25d04"),
    (27, "sun", "fog"): ("9a8cb46c1981368f", "f3b3b5fd9195ab74"),
}
"""SHA-256, first 16 digits, of picture and mask of frame 45 by (seed, light, weather).

The shipped models and the shipped bag name seeds, so a seed has to mean the same street for ever.
"""


def test_frame_depends_on_seed_and_index_only():
    drive = SyntheticDrive(5, SMALL)
    image, mask = drive.frame(40)
    drive.frame(900)
    for again in (drive.frame(40), SyntheticDrive(5, SMALL).frame(40)):
        np.testing.assert_array_equal(again[0], image)
        np.testing.assert_array_equal(again[1], mask)
    assert (SyntheticDrive(6, SMALL).frame(40)[1] != mask).mean() > 0.1


def short_hash(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("conditions", PINNED, ids=lambda pin: "-".join(map(str, pin)))
def test_pinned_frames(conditions):
    seed, light, weather = conditions
    image, mask = SyntheticDrive(seed, SMALL, light=light, weather=weather).frame(45)
    picture_hash, mask_hash = PINNED[conditions]
    assert short_hash(mask) == mask_hash
    if "*AVX2" not in cv2.getCPUFeaturesLine() or not cv2.__version__.startswith("5."):
        pytest.skip("the picture's hash holds for OpenCV 5 with AVX2, other builds round a few pixels otherwise")
    assert short_hash(image) == picture_hash


def test_shapes_and_values():
    image, mask = SyntheticDrive(1, (200, 352)).frame(0)
    assert (image.shape, image.dtype) == ((200, 352, 3), np.uint8)
    assert (mask.shape, mask.dtype) == ((200, 352), np.uint8)
    assert mask.max() <= max(Category)


def test_every_category_occurs():
    seen = np.zeros(len(Category), bool)
    for seed in range(3):
        seen |= np.bincount(SyntheticDrive(seed, SMALL).frame(30)[1].ravel(), minlength=len(Category)) > 20
    assert seen.all(), [category.name for category in Category if not seen[category]]


def test_layout_is_that_of_a_road_scene():
    drive = SyntheticDrive(3)
    _, mask = drive.frame(0)
    horizon = round(drive.camera_info["cy"])
    assert (mask[:5] == Category.SKY).any()
    assert not (mask[horizon + 8 :] == Category.SKY).any()
    assert not (mask[: horizon - 8] == Category.FLAT).any()
    assert (mask[horizon + 60 : -60, 220:420] == Category.FLAT).mean() > 0.5
    assert mask[-1, 320] == Category.VOID


def test_camera_moves():
    drive = SyntheticDrive(2, SMALL)
    (first, mask), (second, _), (_, later) = (drive.frame(i) for i in (0, 1, 30))
    assert np.abs(first.astype(int) - second).mean() > 1
    changed = (mask != later).mean()
    assert 0.02 < changed < 0.9
    s0, s1 = drive._pose(0)[0], drive._pose(60)[0]
    assert 9 < (s1 - s0) / 60 < 15


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("weather", WEATHERS)
def test_light_and_weather_change_the_picture_and_not_the_street(light, weather):
    image, mask = SyntheticDrive(4, SMALL, weather=weather, light=light).frame(10)
    reference, same = SyntheticDrive(4, SMALL, weather="dry", light="sun").frame(10)
    # Fog hides the skyline, which is then sky.
    assert (mask != same).mean() < (0.05 if weather == "fog" else 1e-9)
    if (light, weather) != ("sun", "dry"):
        assert np.abs(image.astype(int) - reference).mean() > 3


def test_turns_move_a_rigid_world_before_a_camera_that_yaws():
    """Distances between fixed points stay, whatever the frame, and the structure of the ground lies still."""
    drive = SyntheticDrive(5, SMALL, turns=True)
    views = [
        TurningView(drive._camera, drive._pose(t), t, drive._street, drive._lighting) for t in (0.0, 1.0, 2.0, 3.0)
    ]
    s = np.linspace(views[-1].s + 2, views[-1].s + 90, 30)
    points = [view.camera_points(s, 8 * np.sin(s), 1.0) for view in views]
    apart = [np.linalg.norm(p[:, None] - p[None], axis=2) for p in points]
    for other in apart[1:]:
        np.testing.assert_allclose(other, apart[0], atol=0.01)
    turned = np.degrees(views[3]._world_heading - views[0]._world_heading)
    assert 10 < abs(turned) < 60

    z = np.array([6.0, 20.0, 60.0], np.float32)
    for view, p in zip(views, points, strict=True):
        near = p[:3].astype(np.float32)
        along, across = view.ground(near[:, 2], near[:, 0] / near[:, 2])
        place = np.array((np.diag(along), np.diag(across)))
        if view is views[0]:
            first = place
        np.testing.assert_allclose(place, first, atol=0.02)
    assert view.ground(z, np.zeros(5, np.float32))[0].shape == (3, 5)


def test_turns_leave_the_rest_of_the_seed_as_it_is():
    straight, winding = SyntheticDrive(3, SMALL), SyntheticDrive(3, SMALL, turns=True)
    image, mask = winding.frame(30)
    assert (winding.camera, winding.light, winding.weather) == (straight.camera, straight.light, straight.weather)
    assert 0.05 < (mask != straight.frame(30)[1]).mean() < 0.9
    np.testing.assert_array_equal(SyntheticDrive(3, SMALL, turns=True).frame(30)[0], image)
    scenes = open_dataset({"dataset": "synthetic", "seeds": [3, 4], "size": SMALL, "turns": True})
    assert scenes.description == "made-up drives, seeds 3 to 3, turns (1 images)"
    np.testing.assert_array_equal(scenes[0][1], winding.frame(0)[1])


def test_refusals():
    for arguments, message in (
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0, "light": "night"}, "light is 'night'; expected sun"),
        ({"seed": 0, "weather": "snow"}, "weather is 'snow'"),
        ({"seed": 0, "size": (10, 640)}, "10x640"),
        ({"seed": 0, "fps": 0}, "fps is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            SyntheticDrive(**arguments)
    with pytest.raises(ValueError, match="0 seeds"):
        SyntheticScenes([])


def test_scenes_are_frames_of_their_drives():
    scenes = SyntheticScenes(range(7, 9), frames=2, stride=15, size=SMALL)
    assert len(scenes) == 4
    image, mask = scenes[3]
    expected = SyntheticDrive(8, SMALL).frame(15)
    np.testing.assert_array_equal(image, expected[0])
    np.testing.assert_array_equal(mask, expected[1])
    with pytest.raises(IndexError):
        scenes[4]


def command(*arguments: object) -> int:
    return main(["synthetic-bag", *map(str, arguments)])


def test_drive_is_written_with_truth_and_calibration(tmp_path):
    out = tmp_path / "drive"
    assert command(out, "--seed", 9, "--seconds", 0.1, "--size", "320x180", "--light", "sun", "--weather", "dry") == 0
    drive, made = open_drive(out), SyntheticDrive(9, SMALL, light="sun", weather="dry")
    assert [f.stamp - synthetic_bag.FIRST_STAMP for f in drive.frames] == [0, 33_333_333, 66_666_667]
    image, mask = made.frame(2)
    np.testing.assert_array_equal(drive.masks[drive.frames[2].stamp], mask)
    decoded = cv2.imdecode(drive.frames[2].image.data, cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(int) - image).mean() < 12
    assert (drive.camera_info.width, drive.camera_info.height) == (320, 180)
    np.testing.assert_allclose(drive.camera_info.k[[0, 4, 2, 5]], made.camera)


def test_drive_with_turns_is_written(tmp_path):
    out = tmp_path / "drive"
    assert command(out, "--seed", 9, "--seconds", 0.04, "--size", "320x180", "--turns") == 0
    drive = open_drive(out)
    expected = SyntheticDrive(9, SMALL, turns=True).frame(0)[1]
    np.testing.assert_array_equal(drive.masks[drive.frames[0].stamp], expected)


def test_command_refusals(tmp_path, capsys):
    for arguments, message in (
        ((tmp_path, "--seconds", 1), "exists already"),
        ((tmp_path / "out", "--size", "big"), "expected WIDTHxHEIGHT"),
        ((tmp_path / "out", "--seed", -2), "seed is -2"),
        ((tmp_path / "out", "--seconds", 0), "no frame"),
        ((tmp_path / "out", "--quality", 0), "1..100, not 0"),
    ):
        assert command(*arguments) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_shipped_drive_is_whole_and_small():
    drive = open_drive(DRIVE)
    assert len(drive.frames) == 300
    assert drive.rate == pytest.approx(30, abs=0.01)
    assert {frame.stamp for frame in drive.frames} == set(drive.masks)
    made = SyntheticDrive(3, light="overcast", weather="dry")
    for index in (0, 150, 299):
        frame, (image, mask) = drive.frames[index], made.frame(index)
        np.testing.assert_array_equal(drive.masks[frame.stamp], mask)
        decoded = cv2.imdecode(frame.image.data, cv2.IMREAD_COLOR)
        assert np.abs(decoded.astype(int) - image).mean() < 8
    assert cv2.imdecode(drive.frames[0].image.data, cv2.IMREAD_COLOR).shape == (360, 640, 3)
    seen = np.zeros(len(Category), int)
    for frame in drive.frames[::10]:
        mask = drive.masks[frame.stamp]
        assert mask.shape == (360, 640)
        seen += np.bincount(mask.ravel(), minlength=len(Category))
    assert (seen > 0).all()
    assert drive.camera_info is not None
    assert sum(file.stat().st_size for file in DRIVE.iterdir()) < 10e6
