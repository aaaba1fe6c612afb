"""Clouds and grids scored against the truth of made-up drives."""

import numpy as np
import pytest

from seg_node.bags.drive import open_drive
from seg_node.bags.reader import BagReader
from seg_node.core.images import RawPixels
from seg_node.core.projection.camera_model import Calibration
from seg_node.core.projection.cloud import POINT, POINT_STEP
from seg_node.core.projection.depth import read_depth
from seg_node.core.projection.grid import DRIVABLE, OBSTACLE, UNKNOWN, GridSpec, class_table
from seg_node.core.projection.ground import Pose
from seg_node.core.projection.projector import Projector
from seg_node.core.taxonomy import CATEGORY_NAMES, Category
from seg_training.datasets.synthetic import SyntheticDrive
from seg_training.datasets.synthetic.plan import true_grid
from seg_training.synthetic_bag import GROUND_FRAME, write_drive

SPEC = GridSpec()


def iou(found: np.ndarray, true: np.ndarray) -> float:
    return (found & true).sum() / (found | true).sum()


@pytest.mark.parametrize(("seed", "turns", "index"), [(3, False, 40), (11, True, 90)])
def test_points_and_grid_against_the_truth(seed, turns, index):
    drive = SyntheticDrive(seed, turns=turns)
    image, mask, depth = drive.measured_frame(index)
    plain = drive.frame(index)
    assert np.array_equal(image, plain[0]) and np.array_equal(mask, plain[1])
    fx, fy, cx, cy = drive.camera
    camera = Calibration(*mask.shape, "plumb_bob", (), (fx, 0, cx, 0, fy, cy, 0, 0, 1))
    projector = Projector(SPEC, class_table(CATEGORY_NAMES, ["flat"], ["void", "sky"]))
    pose = Pose.of_mounting(*drive.mounting(index))
    measured = np.where(np.isfinite(depth), depth, np.nan).astype(np.float32)
    true = true_grid(drive, index, SPEC, mask, depth)
    assert set(np.unique(true)) == {UNKNOWN, DRIVABLE, OBSTACLE} and (true == DRIVABLE).mean() > 0.1
    near = (mask == Category.FLAT) & (depth <= 20)
    assert near.sum() > 10_000
    for given in (None, measured):
        points = np.empty(mask.size * POINT_STEP, np.uint8)
        projector.write_points(points, mask, None, camera, pose, given)
        cloud = points.view(POINT).reshape(mask.shape)
        assert (np.abs(cloud["z"] - depth)[near] <= np.maximum(0.05, 0.02 * depth[near])).all()
        # On the plane, to the side and downward as well.
        height = np.stack([cloud[axis] for axis in "xyz"], -1)[near] @ pose.matrix[2] + pose.translation[2]
        assert np.abs(height).max() < 0.05
        grid = projector.grid(mask, camera, pose, given)
        assert iou(grid == DRIVABLE, true == DRIVABLE) >= 0.9, given is None
    assert iou(grid == OBSTACLE, true == OBSTACLE) > 0.5
    # Half a degree of a wrong pitch is seen in the score.
    wrong = Pose.of_mounting(drive.mounting(index)[0], drive.mounting(index)[1] + np.deg2rad(1.5))
    off = projector.grid(mask, camera, wrong)
    assert iou(off == DRIVABLE, true == DRIVABLE) < 0.9


def test_things_are_nearer_than_the_ground_behind_them():
    drive = SyntheticDrive(5)
    _, mask, depth = drive.measured_frame(0)
    height, pitch = drive.mounting(0)
    fx, fy, cx, cy = drive.camera
    slope = (np.arange(mask.shape[0]) - cy) / fy + np.tan(pitch)
    ground = np.where(slope > 0, height / np.cos(pitch) / np.maximum(slope, 1e-9), np.inf)[:, None]
    assert np.isinf(depth[mask == Category.SKY]).mean() > 0.95
    for category in (Category.VEHICLE, Category.OBJECT, Category.CONSTRUCTION, Category.HUMAN):
        pixels = mask == category
        assert pixels.any() and (depth <= ground * 1.02)[pixels].mean() > 0.97, category.name
    assert (depth[mask == Category.VEHICLE] > 0.6).all()


def test_a_bag_with_geometry_holds_depth_pose_and_grid(tmp_path):
    path = tmp_path / "drive"
    assert write_drive(path, 3, 0.07, (90, 160), geometry=True) == 2
    drive = open_drive(path)
    assert drive.topic == "/camera/image/compressed" and len(drive.frames) == 2 and len(drive.masks) == 2
    source = SyntheticDrive(3, (90, 160))
    with BagReader(path) as bag:
        found = {topic.name: message for topic, _, message in bag.messages(bag.topics)}
    depth, grid, pose = found["/camera/depth"], found["/camera/ground_grid"], found["/tf"].transforms[0]
    true = source.measured_frame(1)
    raw = RawPixels(depth.height, depth.width, depth.encoding, depth.is_bigendian, depth.step, depth.data)
    written = read_depth(raw, 90, 160)
    near = true[2] < 65
    assert np.abs(written - true[2])[near].max() < 1e-3 and np.isnan(written[~near & (true[2] > 66)]).all()
    assert (grid.header.frame_id, pose.header.frame_id, pose.child_frame_id) == (GROUND_FRAME, GROUND_FRAME, "camera")
    assert (grid.info.height, grid.info.width, grid.info.origin.position.y) == (*SPEC.shape, SPEC.origin[1])
    assert np.array_equal(np.reshape(grid.data, SPEC.shape), true_grid(source, 1, SPEC, *true[1:]))
    turn, place = pose.transform.rotation, pose.transform.translation
    read = Pose.of_transform((turn.x, turn.y, turn.z, turn.w), (place.x, place.y, place.z))
    expected = Pose.of_mounting(*source.mounting(1))
    assert read.rotation == pytest.approx(expected.rotation) and read.translation == pytest.approx(expected.translation)
