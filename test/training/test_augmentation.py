"""Augmentation: image and mask move together, photometric changes leave masks alone, and each switch does its own."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: install the training extra")

from helpers.paths import ROOT  # noqa: E402

from seg_node.core.taxonomy import NO_LABEL, Category  # noqa: E402
from seg_training.augmentation import PADDING, Augmentation, AugmentationConfig  # noqa: E402
from seg_training.datasets.synthetic import SyntheticDrive  # noqa: E402

SWITCHES = ("flip", "color", "blur", "noise", "rain", "fog", "night", "jpeg")
OFF = dict.fromkeys(SWITCHES, 0.0)
SIZE = (180, 240)


@pytest.fixture(scope="module")
def scene():
    """uint8 BGR image and mask of a street in daylight."""
    return SyntheticDrive(12, SIZE, light="sun", weather="dry").frame(20)


def whole(scene, seed=0, **switches):
    """The uncropped scene as uint8 [H, W, 3] and its mask, with these switches and no other."""
    image, mask = Augmentation(SIZE, (1, 1), AugmentationConfig(**OFF | switches))(*scene, seed)
    return image.permute(1, 2, 0).numpy(), mask.numpy()


def test_image_and_mask_move_together():
    image = np.zeros((60, 80, 3), np.uint8)
    mask = np.ones((60, 80), np.uint8)
    image[:, 40:], mask[:, 40:] = 255, 2
    augment = Augmentation((48, 64), (0.8, 1.2))
    seen = set()
    for seed in range(8):
        out, target = augment(image, mask, seed)
        assert out.shape == (3, 48, 64)
        assert target.shape == (48, 64)
        assert (out.dtype, target.dtype) == (torch.uint8, torch.int64)
        bright = out.float().mean(0) > 100
        inside = (target == 1) | (target == 2)
        agreement = (bright == (target == 2))[inside].float().mean()
        assert agreement > 0.9
        seen.add(target.numpy().tobytes())
    assert len(seen) > 1


@pytest.mark.parametrize("zoom", [0.5, 1.5])
def test_mask_is_resized_as_the_image_is(zoom):
    """The border between two categories stays where the picture has it, to a quarter of a pixel."""
    mask = np.tile(np.arange(64, dtype=np.uint8) % 32 // 16, (64, 1))
    image = np.repeat(mask[..., None], 3, axis=2) * 255
    size = (round(64 * zoom),) * 2
    out, target = Augmentation(size, (zoom, zoom), AugmentationConfig(**OFF))(image, mask, 0)
    assert target.shape == size
    assert (out[0].float() / 255 - target).mean().abs() < 0.25 / 16


def test_all_off_and_scale_one_is_the_sample_itself(scene):
    image, mask = whole(scene)
    np.testing.assert_array_equal(image, scene[0])
    np.testing.assert_array_equal(mask, scene[1])


def test_small_images_are_padded_without_label():
    image, mask = np.full((20, 30, 3), 200, np.uint8), np.full((20, 30), Category.SKY, np.uint8)
    out, target = Augmentation((40, 30), (0.5, 0.5), AugmentationConfig(**OFF))(image, mask, 1)
    inside = target == Category.SKY
    assert inside.sum() == 10 * 15
    assert (target[~inside] == NO_LABEL).all()
    assert (out[:, inside] == 200).all()
    assert (out[:, ~inside] == PADDING).all()


def test_every_place_of_the_source_is_reached():
    ramp = np.tile(np.arange(100, dtype=np.uint8), (100, 1))
    image = np.repeat(ramp[..., None], 3, axis=2)
    augment = Augmentation((20, 20), (1, 1), AugmentationConfig(**OFF))
    corners = [augment(image, ramp, seed)[1][0, 0].item() for seed in range(600)]
    assert (min(corners), max(corners)) == (0, 80)


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_changes_the_picture_and_only_flip_the_mask(scene, switch):
    image, mask = whole(scene, **{switch: 1.0})
    assert np.abs(image.astype(int) - scene[0]).mean() > 0.5
    expected = scene[1][:, ::-1] if switch == "flip" else scene[1]
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_does_not_change_the_random_choices_of_the_others(scene, switch):
    """What a study compares differs by the switch alone: here by one that never acts."""
    others = {name: 0.5 for name in SWITCHES if name != switch}
    for seed in range(3):
        one, _ = whole(scene, seed, **others, **{switch: 0.0})
        other, _ = whole(scene, seed, **others, **{switch: 1e-12})
        np.testing.assert_array_equal(one, other)


def test_probabilities(scene):
    flipped = [not np.array_equal(whole(scene, seed, flip=0.25)[1], scene[1]) for seed in range(200)]
    assert 30 < sum(flipped) < 70  # 50 expected, standard deviation 6


def test_same_seed_gives_the_same_result_in_any_process(scene, tmp_path):
    config = AugmentationConfig(**dict.fromkeys(SWITCHES, 0.6))
    augment = Augmentation((100, 120), (0.7, 1.3), config)
    torch.manual_seed(1)
    here = [augment(*scene, seed) for seed in range(5)]
    np.savez(tmp_path / "scene.npz", image=scene[0], mask=scene[1])
    code = f"""
import numpy as np, torch
from seg_training.augmentation import Augmentation, AugmentationConfig
scene = np.load({str(tmp_path / "scene.npz")!r})
augment = Augmentation((100, 120), (0.7, 1.3), AugmentationConfig(**dict.fromkeys({SWITCHES!r}, 0.6)))
torch.save([augment(scene["image"], scene["mask"], seed) for seed in range(5)], {str(tmp_path / "there.pt")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    for one, other in zip(here, torch.load(tmp_path / "there.pt", weights_only=True), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert len({image.numpy().tobytes() for image, _ in here}) == 5


def test_night_is_dark_fog_is_pale_and_rain_is_streaked(scene):
    image, mask = scene
    bright = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    sky, far = mask == Category.SKY, slice(80, 100)
    for seed in range(4):
        night, fog, rain = (
            cv2.cvtColor(whole(scene, seed, **{switch: 1.0})[0], cv2.COLOR_BGR2GRAY)
            for switch in ("night", "fog", "rain")
        )
        assert night.mean() < 0.65 * bright.mean()
        assert night[sky].mean() < 0.4 * bright[sky].mean()
        # Contrast is lost with distance: near the horizon more than on the road right before the car.
        lost_far = 1 - fog[far].std() / bright[far].std()
        lost_near = 1 - fog[130:150].std() / bright[130:150].std()
        assert lost_far > lost_near
        assert lost_far > 0.2
        # Streaks fall: the picture changes faster across them than along them, more than it did.
        along, across = (np.abs(np.diff(rain.astype(int) - bright.astype(int), axis=axis)).mean() for axis in (0, 1))
        assert across > along


def test_noise_and_jpeg_in_figures():
    grey = np.full((*SIZE, 3), 100, np.uint8), np.zeros(SIZE, np.uint8)
    noisy = np.stack([whole(grey, seed, noise=1.0)[0] for seed in range(20)]).astype(float)
    deviations = noisy.std(axis=(1, 2, 3))
    assert noisy.mean() == pytest.approx(100, abs=0.5)
    # Read-out noise of 2 to 8 and photon noise whose variance is up to 0.6 of the value.
    assert deviations.min() > 1.9
    assert deviations.max() < np.sqrt(8**2 + 60) + 0.3
    image, _ = whole(grey, jpeg=1.0)
    assert np.abs(image.astype(int) - 100).max() <= 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flip": 1.5}, "augmentation flip is 1.5; expected a probability, 0..1"),
        ({"rain": "often"}, "augmentation rain is 'often'"),
        ({"fog": True}, "augmentation fog is True"),
        ({"fog": float("nan")}, "augmentation fog is nan"),
        ({"snow": 0.1}, "unknown augmentation snow; there are flip, color, blur, noise, rain, fog, night, jpeg"),
    ],
)
def test_configuration_errors(values, message):
    with pytest.raises(ValueError, match=message):
        AugmentationConfig.of(values)


def test_configuration_defaults():
    config = AugmentationConfig.of({"rain": 0.1})
    assert config == AugmentationConfig(
        flip=0.5, color=0.8, blur=0.2, noise=0.2, rain=0.1, fog=0.0, night=0.0, jpeg=0.2
    )
