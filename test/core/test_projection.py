"""Lenses, depth images, the ground, clouds and grids, without ROS."""

import math

import cv2
import numpy as np
import pytest

from seg_node.core.errors import UserError
from seg_node.core.images import RawPixels
from seg_node.core.projection.autoware import LABELS, OF_CATEGORIES, label_table, run_lengths
from seg_node.core.projection.camera_model import Calibration, CameraModel
from seg_node.core.projection.cloud import POINT, POINT_STEP
from seg_node.core.projection.depth import read_depth
from seg_node.core.projection.errors import Drop, ProjectionError
from seg_node.core.projection.grid import DRIVABLE, OBSTACLE, UNKNOWN, GridSpec, class_table
from seg_node.core.projection.ground import Pose, ground_depth
from seg_node.core.projection.join import MASK, MaskJoin
from seg_node.core.projection.projector import Projector
from seg_node.core.taxonomy import CATEGORY_NAMES, Category

HEIGHT, WIDTH = 120, 200
K = (150.0, 0.0, 101.5, 0.0, 160.0, 55.25, 0.0, 0.0, 1.0)
LENSES = {
    "plumb_bob": (-0.28, 0.07, 0.0008, -0.0012, 0.01),
    "plumb_bob of 4": (-0.28, 0.07, 0.0008, -0.0012),
    "rational_polynomial": (0.4, -0.1, 0.0005, 0.0003, 0.02, 0.8, -0.05, 0.03),
    "rational_polynomial, thin prism": (0.4, -0.1, 0.0005, 0.0003, 0.02, 0.8, -0.05, 0.03, 1e-3, -2e-3, 1e-3, 5e-4),
    "rational_polynomial, tilted": (0.1, -0.1, 0.0, 0.0, 0.02, 0.1, -0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01, -0.02),
    "equidistant": (0.03, -0.01, 0.004, -0.001),
    "fisheye": (0.03, -0.01, 0.004, -0.001),
}
TABLE = class_table(CATEGORY_NAMES, ["flat"], ["void", "sky"])


def calibration(model: str = "plumb_bob", d=(0.0,) * 5, k=K, height: int = HEIGHT, width: int = WIDTH, **more):
    return Calibration(height, width, model, tuple(d), tuple(k), **more)


def opencv_pixels(points: np.ndarray, model: str, d) -> np.ndarray:
    """Where OpenCV projects points, float [N, 3]."""
    project = cv2.fisheye.projectPoints if model in ("equidistant", "fisheye") else cv2.projectPoints
    matrix, still = np.array(K).reshape(3, 3), np.zeros(3)
    return project(points[:, None].astype(float), still, still, matrix, np.array(d))[0].reshape(-1, 2)


@pytest.mark.parametrize("lens", LENSES)
def test_rays_and_pixels_are_those_of_opencv(lens):
    model, d = lens.split(" of ")[0].split(", ")[0], LENSES[lens]
    camera = CameraModel(calibration(model, d), HEIGHT, WIDTH)
    rng = np.random.default_rng(1)
    rows, columns = rng.integers(0, HEIGHT, 300), rng.integers(0, WIDTH, 300)
    rays = camera.rays[:, rows, columns]
    assert np.isfinite(rays).all()
    # A ray is the pixel's own at any distance.
    z = rng.uniform(0.5, 80, 300)
    points = np.column_stack((rays[0] * z, rays[1] * z, z))
    pixels = np.column_stack((columns, rows))
    assert np.abs(opencv_pixels(points, model, d) - pixels).max() < 0.02
    assert np.abs(camera.pixels(points) - pixels).max() < 0.02


def test_what_the_lens_does_not_show_has_no_pixel_and_no_ray():
    # This polynomial turns back: far from the axis it would lead into the image again.
    camera = CameraModel(calibration("plumb_bob", (-0.5, 0, 0, 0, 0)), HEIGHT, WIDTH)
    far = np.array(((3.0, 0.0, 1.0), (0.1, 0.1, -1.0), (0.0, 0.0, 0.0), (0.1, 0.0, 1.0)))
    assert np.isfinite(opencv_pixels(far[:1], "plumb_bob", (-0.5, 0, 0, 0, 0))).all()
    assert np.isnan(camera.pixels(far)).any(1).tolist() == [True, True, True, False]
    strong = CameraModel(calibration("plumb_bob", (-2.5, 0, 0, 0, 0)), HEIGHT, WIDTH)
    assert np.isnan(strong.rays).any() and np.isfinite(strong.rays[:, 55, 101]).all()
    assert (np.isnan(strong.rays[0]) == np.isnan(strong.rays[1])).all()


def test_binning_and_region_of_interest_move_the_centre():
    full = CameraModel(calibration(), HEIGHT, WIDTH)
    part = CameraModel(calibration(binning=(2, 2), offset=(40, 20), region=(80, 60)), 30, 40)
    # Pixel (5, 7) of the part stands for (50, 34) of the full image.
    assert part.rays[:, 7, 5] == pytest.approx(full.rays[:, 34, 50], abs=1e-6)
    assert CameraModel(calibration(binning=(0, 0)), HEIGHT, WIDTH).matrix == pytest.approx(full.matrix)


def test_rectified_images_have_the_projection_matrix_and_no_distortion():
    p = (140.0, 0, 99.0, -12.0, 0, 141.0, 60.0, 0, 0, 0, 1, 0)
    camera = CameraModel(calibration("plumb_bob", (-0.3, 0.1, 0, 0, 0), p=p), HEIGHT, WIDTH, rectified=True)
    assert camera.rays[:, 60, 99] == pytest.approx([0, 0])
    assert camera.rays[:, 100, 50] == pytest.approx([(50 - 99) / 140, 40 / 141])


@pytest.mark.parametrize(
    ("changes", "drop", "says"),
    [
        ({"k": (0.0,) * 9}, Drop.CAMERA_INFO, "not calibrated"),
        ({"k": (-150.0, *K[1:])}, Drop.CAMERA_INFO, "focal lengths"),
        ({"k": (math.nan, *K[1:])}, Drop.CAMERA_INFO, "k of camera_info"),
        ({"d": (math.inf, 0, 0, 0, 0)}, Drop.CAMERA_INFO, "finite"),
        ({"d": (0.1, 0.1, 0.1)}, Drop.CAMERA_INFO, "3 coefficients"),
        ({"model": "equidistant", "d": (0.1,) * 5}, Drop.CAMERA_INFO, "5 coefficients"),
        ({"model": "kannala", "d": (0.1,) * 5}, Drop.CAMERA_INFO, "'kannala'"),
        ({"model": "", "d": (0.1,) * 5}, Drop.CAMERA_INFO, "distortion_model"),
        ({"height": 60}, Drop.SIZE, "200x120, but camera_info is of images of 200x60"),
        ({"height": 0, "width": 0}, Drop.SIZE, "0x0"),
        ({"binning": (2, 2)}, Drop.SIZE, "100x60"),
    ],
)  # fmt: skip
def test_calibrations_that_cannot_be_used_are_refused(changes, drop, says):
    with pytest.raises(ProjectionError, match=says) as refused:
        CameraModel(calibration(**changes), HEIGHT, WIDTH)
    assert refused.value.drop is drop


def test_a_camera_without_a_model_has_no_distortion():
    for model, d in (("", ()), ("", (0.0,) * 5), ("unknown", (0.0,)), ("plumb_bob", ())):
        camera = CameraModel(calibration(model, d), HEIGHT, WIDTH)
        assert camera.rays[:, 10, 20] == pytest.approx([(20 - 101.5) / 150, (10 - 55.25) / 160], abs=1e-6)
    with pytest.raises(ProjectionError, match="p of camera_info"):
        CameraModel(calibration(), HEIGHT, WIDTH, rectified=True)


@pytest.mark.parametrize("big", [0, 1])
@pytest.mark.parametrize(
    ("encoding", "kind", "unit"), [("32FC1", "f4", 1), ("16UC1", "u2", 1000), ("mono16", "u2", 1000)]
)
@pytest.mark.parametrize("padding", [0, 6])
def test_depth_images_of_either_kind(encoding, kind, unit, big, padding):
    metres = np.array(((1.5, 0.0, 20.25), (3.0, 0.125, 65.0)))
    values = (metres * unit).astype((">" if big else "<") + kind)
    rows = np.zeros((2, 3 * values.itemsize + padding), np.uint8)
    rows[:, : 3 * values.itemsize] = values.view(np.uint8).reshape(2, -1)
    found = read_depth(RawPixels(2, 3, encoding, big, rows.shape[1], rows.tobytes()), 2, 3)
    assert found.dtype == np.float32
    assert found == pytest.approx(np.where(metres > 0, metres, np.nan), nan_ok=True)


def test_what_no_depth_sensor_measures_is_not_a_number():
    values = np.array(((np.nan, np.inf, -np.inf), (-1.0, 0.0, 2.0)), "<f4")
    found = read_depth(RawPixels(2, 3, "32FC1", 0, 12, values.tobytes()), 2, 3)
    assert np.isnan(found).tolist() == [[True] * 3, [True, True, False]]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (RawPixels(2, 3, "bgr8", 0, 9, bytes(18)), "'bgr8'; expected 32FC1"),
        (RawPixels(2, 4, "16UC1", 0, 8, bytes(16)), "4x2, the mask 3x2"),
        (RawPixels(2, 3, "16UC1", 0, 4, bytes(8)), "step 4"),
        (RawPixels(2, 3, "32FC1", 0, 12, bytes(23)), "23 bytes"),
        (RawPixels(2, 3, "16UC1", 0, 0, b""), "0 bytes"),
    ],
)
def test_depth_images_that_cannot_be_used_are_refused(message, says):
    with pytest.raises(ProjectionError, match=says) as refused:
        read_depth(message, 2, 3)
    assert refused.value.drop is Drop.DEPTH


def test_pose_of_a_mounting_and_of_a_transform():
    pose = Pose.of_mounting(1.5, pitch=0.2, roll=0.1)
    again = Pose.of_transform(pose.quaternion, pose.translation)
    assert again.rotation == pytest.approx(pose.rotation)
    rng = np.random.default_rng(0)
    for turn in rng.normal(size=(40, 4)):
        turn /= np.linalg.norm(turn)
        found = np.array(Pose.of_transform(tuple(turn * 3), (0, 0, 1)).quaternion)
        assert min(np.abs(found - turn).max(), np.abs(found + turn).max()) < 1e-9
    # Looking down by 45 degrees from 2 m, the axis meets the ground 2 m ahead; the right side is lower.
    down = Pose.of_mounting(2.0, pitch=math.pi / 4)
    assert down.to_optical([[2, 0, 0]])[0] == pytest.approx([0, 0, math.sqrt(8)], abs=1e-9)
    assert Pose.of_mounting(2.0, roll=0.1).to_optical([[5, -1, 0]])[0, 1] < 2.0
    for bad in ((0, 0, 0, 0), (math.nan, 0, 0, 1)):
        with pytest.raises(ProjectionError, match="transform"):
            Pose.of_transform(bad, (0, 0, 0))


def test_points_of_flat_ground_lie_on_it_and_there_are_none_above_the_horizon():
    pose = Pose.of_mounting(1.4, pitch=0.05, roll=-0.04)
    camera = CameraModel(calibration("plumb_bob", LENSES["plumb_bob"]), HEIGHT, WIDTH)
    depth = ground_depth(camera.rays, pose)
    points = np.stack((camera.rays[0] * depth, camera.rays[1] * depth, depth), -1)
    height = (points @ pose.matrix.T + pose.translation)[..., 2]
    seen = np.isfinite(depth)
    assert 0.3 < seen.mean() < 0.9 and not seen[0].any() and seen[-1].all()
    assert np.abs(height[seen]).max() < 1e-2
    assert np.abs(height[seen & (depth < 30)]).max() < 1e-4


@pytest.mark.parametrize(
    ("pose", "says"),
    [
        (Pose.of_mounting(1.4, pitch=-1.2), "above the horizon"),
        (Pose.of_mounting(-0.5), "above the ground"),
        (Pose.of_mounting(0.0), "above the ground"),
    ],
)
def test_a_camera_that_sees_no_ground_is_refused(pose, says):
    with pytest.raises(ProjectionError, match=says) as refused:
        ground_depth(CameraModel(calibration(), HEIGHT, WIDTH).rays, pose)
    assert refused.value.drop is Drop.GROUND


def project(mask, pose=None, depth=None, confidence=None, spec=None, lens=None):
    """Points as a structured array [H, W], and the grid."""
    projector, camera = Projector(spec or GridSpec(), TABLE), calibration(*(lens or ()))
    points = np.full(mask.size * POINT_STEP, 0xAB, np.uint8)
    projector.write_points(points, mask, confidence, camera, pose, depth)
    return points.view(POINT).reshape(mask.shape), projector.grid(mask, camera, pose or Pose.of_mounting(1.4), depth)


def test_points_have_the_pixel_s_category_and_confidence():
    rng = np.random.default_rng(4)
    mask, confidence = (rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8) for _ in range(2))
    depth = rng.uniform(1, 50, mask.shape).astype(np.float32)
    depth[3, 4] = np.nan
    points, _ = project(mask, None, depth, confidence)
    assert (points["category"] == mask).all() and (points["confidence"] == confidence).all()
    assert np.array_equal(points["z"], depth, equal_nan=True)
    assert points["x"][10, 20] == pytest.approx(depth[10, 20] * (20 - 101.5) / 150, rel=1e-5)
    assert points["y"][10, 20] == pytest.approx(depth[10, 20] * (10 - 55.25) / 160, rel=1e-5)
    assert all(np.isnan(points[axis][3, 4]) for axis in "xyz")
    flat, _ = project(mask, Pose.of_mounting(1.4))
    assert (flat["category"] == mask).all() and not flat["confidence"].any()
    assert np.isnan(flat["z"][:50]).all() and np.isfinite(flat["z"][60:]).all()


def scene(pose: Pose, boxes=(), grass_from: float | None = None):
    """Mask and depth of a road with upright boxes on it: (ahead, left, width, height) of the face that is seen."""
    camera = CameraModel(calibration(), HEIGHT, WIDTH)
    depth = ground_depth(camera.rays, pose)
    mask = np.where(np.isnan(depth), Category.SKY, Category.FLAT).astype(np.uint8)
    if grass_from is not None:
        points = np.stack((camera.rays[0] * depth, camera.rays[1] * depth, depth), -1) @ pose.matrix.T
        mask[points[..., 1] > grass_from] = Category.NATURE
    for ahead, left, width, height in sorted(boxes, reverse=True):
        corners = [(ahead, left + s * width / 2, h) for s, h in ((-1, 0), (1, 0), (1, height), (-1, height))]
        face = camera.pixels(pose.to_optical(corners))
        stencil = np.zeros_like(mask)
        cv2.fillPoly(stencil, [np.rint(face).astype(np.int32)], 1)
        mask[stencil > 0] = Category.VEHICLE
        depth[stencil > 0] = pose.to_optical(corners)[:, 2].mean()
    return mask, depth


def cell(spec: GridSpec, ahead: float, left: float) -> tuple[int, int]:
    x0, y0 = spec.origin
    return int((left - y0) // spec.resolution), int((ahead - x0) // spec.resolution)


@pytest.mark.parametrize("with_depth", [False, True])
def test_a_box_on_the_road_hides_what_is_behind_it(with_depth):
    pose, spec = Pose.of_mounting(1.4, pitch=0.05), GridSpec()
    mask, depth = scene(pose, [(8.0, 1.0, 2.0, 1.3)])
    _, grid = project(mask, pose, depth if with_depth else None)
    assert grid.shape == spec.shape == (200, 200) and grid.dtype == np.int8
    assert set(np.unique(grid)) == {UNKNOWN, DRIVABLE, OBSTACLE}
    assert grid[cell(spec, 6.0, 1.0)] == DRIVABLE
    assert grid[cell(spec, 12.0, -2.0)] == DRIVABLE
    face = grid[cell(spec, 8.0, 0.5)[0] : cell(spec, 8.0, 1.6)[0], cell(spec, 7.8, 0)[1] : cell(spec, 8.4, 0)[1]]
    assert (face == OBSTACLE).any(1).all()
    assert grid[cell(spec, 14.0, 1.7)] == UNKNOWN
    # What the camera does not see: below it, and beside its view.
    assert grid[cell(spec, 0.2, 0.0)] == UNKNOWN and grid[cell(spec, 1.0, 9.0)] == UNKNOWN


def test_two_boxes_and_the_road_between_them():
    pose, spec = Pose.of_mounting(1.4, pitch=0.05), GridSpec()
    mask, _ = scene(pose, [(6.0, 2.0, 1.0, 1.0), (6.0, -2.0, 1.0, 1.0)])
    _, grid = project(mask, pose)
    assert grid[cell(spec, 12.0, 0.0)] == DRIVABLE
    assert [grid[cell(spec, 12.0, side)] for side in (4.0, -4.0)] == [UNKNOWN] * 2


@pytest.mark.parametrize("with_depth", [False, True])
def test_grass_beside_the_road_is_no_place_to_drive(with_depth):
    pose, spec = Pose.of_mounting(1.4, pitch=0.05), GridSpec()
    mask, depth = scene(pose, grass_from=2.0)
    _, grid = project(mask, pose, depth if with_depth else None)
    assert grid[cell(spec, 8.0, 1.7)] == DRIVABLE
    assert grid[cell(spec, 8.0, 2.15)] == OBSTACLE
    assert (grid[cell(spec, 0, 2.2)[0] :] != DRIVABLE).all()


def test_a_road_that_climbs_is_found_by_its_depth_and_a_bridge_is_not_in_the_way():
    pose, spec = Pose.of_mounting(1.4), GridSpec(width=10.0)
    camera = CameraModel(calibration(), HEIGHT, WIDTH)
    # Ten percent up from the camera on: 1.2 m at 12 m.
    slope = camera.rays[1] + 0.1
    depth = np.where(slope > 1.4 / 40, 1.4 / slope, np.nan).astype(np.float32)
    mask = np.where(np.isnan(depth), Category.SKY, Category.FLAT).astype(np.uint8)
    bridge = camera.rays[1] < -3.0 / 11
    mask[bridge], depth[bridge] = Category.CONSTRUCTION, 11.0
    _, grid = project(mask, pose, depth, spec=spec)
    ahead = grid[cell(spec, 0, 0.0)[0], cell(spec, 4.0, 0)[1] : cell(spec, 13.0, 0)[1]]
    # As far as one row of pixels is from the next, and beyond what the tolerance would let a plane have.
    assert (ahead == DRIVABLE).mean() > 0.35 and (ahead[-15:] == DRIVABLE).any() and (grid != OBSTACLE).all()


def test_a_camera_that_looks_aside_has_its_grid_aside():
    # Turned to the left by a right angle, and 2 m ahead of the frame's origin.
    mounted = Pose.of_mounting(1.4, pitch=0.05).matrix
    turned = np.array(((0, -1, 0), (1, 0, 0), (0, 0, 1))) @ mounted
    pose, spec = Pose(tuple(turned.ravel()), (2.0, 0.0, 1.4)), GridSpec()
    mask, depth = scene(Pose.of_mounting(1.4, pitch=0.05), [(6.0, 0.0, 1.0, 1.0)])
    for given in (None, depth):
        _, grid = project(mask, pose, given)
        assert grid[cell(spec, 2.0, 5.0)] == DRIVABLE
        assert OBSTACLE in grid[cell(spec, 2.0, 6.0)[0] - 2 : cell(spec, 2.0, 6.0)[0] + 4, cell(spec, 2.0, 0)[1]]
        assert grid[cell(spec, 5.0, -3.0)] == UNKNOWN


@pytest.mark.parametrize("lens", ["plumb_bob", "equidistant"])
def test_the_grid_of_a_distorting_lens_is_that_of_a_straight_one(lens):
    pose, spec = Pose.of_mounting(1.4, pitch=0.1), GridSpec(length=10.0, width=8.0)
    camera = CameraModel(calibration(lens, LENSES[lens]), HEIGHT, WIDTH)
    depth = ground_depth(camera.rays, pose)
    places = np.stack((camera.rays[0] * depth, camera.rays[1] * depth, depth), -1) @ pose.matrix.T
    # A road of 4 m with grass on both sides, seen through the lens.
    mask = np.where(np.isnan(depth), Category.SKY, np.where(np.abs(places[..., 1]) < 2, Category.FLAT, Category.NATURE))
    _, grid = project(mask.astype(np.uint8), pose, spec=spec, lens=(lens, LENSES[lens]))
    drivable = grid[:, cell(spec, 6.0, 0)[1]] == DRIVABLE
    _, left = spec.centres()
    assert left[drivable].min() == pytest.approx(-2, abs=0.21) and left[drivable].max() == pytest.approx(2, abs=0.21)


@pytest.mark.parametrize(
    ("names", "drivable", "ignored", "says"),
    [
        (CATEGORY_NAMES, ["road"], [], "'road' is no category"),
        (CATEGORY_NAMES, ["flat"], ["cloud"], "'cloud' is no category"),
        (CATEGORY_NAMES, ["flat"], ["flat"], "drivable and ignored"),
    ],
)
def test_names_that_are_no_categories_are_refused(names, drivable, ignored, says):
    with pytest.raises(UserError, match=says):
        class_table(names, drivable, ignored)


@pytest.mark.parametrize(
    "values", [{"resolution": 0}, {"length": -1}, {"width": math.nan}, {"resolution": 0.001}, {"resolution": 90.0}]
)
def test_grids_that_cannot_be_are_refused(values):
    with pytest.raises(UserError, match="expected"):
        GridSpec(**values)


def test_the_ground_has_to_be_known():
    with pytest.raises(ProjectionError, match="camera_height") as refused:
        project(np.ones((HEIGHT, WIDTH), np.uint8))
    assert refused.value.drop is Drop.GROUND


def decoded(runs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """As the consumer reads it: a byte and a 32-bit integer, again and again."""
    data, pixels = runs.tobytes(), []
    for at in range(0, len(data), 5):
        pixels += [data[at]] * int.from_bytes(data[at + 1 : at + 5], "little")
    return np.array(pixels, np.uint8).reshape(shape)


def test_run_lengths_for_autoware():
    table = label_table(list(OF_CATEGORIES.values()))
    mask = np.random.default_rng(2).integers(0, 9, (7, 11), dtype=np.uint8).repeat(3, 1)
    mask[mask == 8] = 255
    found = decoded(run_lengths(mask, table), mask.shape)
    for value, name in enumerate(CATEGORY_NAMES):
        assert (found[mask == value] == LABELS.index(OF_CATEGORIES[name])).all()
    assert (found[mask == 255] == 0).all()
    assert len(run_lengths(np.ones((40, 50), np.uint8), table)) == 5
    with pytest.raises(UserError, match="'TREE' is no label of Autoware"):
        label_table(["TREE"])


def test_the_books_balance_in_whatever_order_the_parts_come():
    rng = np.random.default_rng(0)
    for capacity in (2, 8, 32):
        join: MaskJoin[int] = MaskJoin(["confidence", "depth"], capacity)
        for _ in range(2000):
            part = (MASK, "confidence", "depth")[rng.integers(3)]
            frame = join.add(part, int(rng.integers(40)), 1)
            if frame is not None:
                assert frame.keys() == {MASK, "confidence", "depth"}
                join.projected += 1
            assert join.received == join.projected + join.dropped.total() + join.waiting
        assert join.projected and join.dropped[Drop.INCOMPLETE]
        join.clear()
        assert join.waiting == 0 and join.received == join.projected + join.dropped.total()


def test_a_mask_alone_is_complete_where_nothing_else_is_asked_for():
    join: MaskJoin[str] = MaskJoin([])
    assert join.add(MASK, 3, "mask") == {MASK: "mask"}
    assert (join.received, join.waiting, join.dropped.total()) == (1, 0, 0)


def outcomes(projector, points, mask, camera, pose, depth) -> set:
    """What becomes of a mask: ``done``, or why it is refused."""
    found = set()
    for run in (
        lambda: projector.write_points(points, mask, mask, camera, pose, depth),
        lambda: projector.grid(mask, camera, pose, depth),
    ):
        try:
            run()
            found.add("done")
        except ProjectionError as error:
            found.add(error.drop)
    return found


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_is_projected_or_refused(seed):
    rng = np.random.default_rng(seed)
    odd = (0.0, -0.0, 1e-300, 1e300, -1e9, -1.0, math.nan, math.inf, -math.inf, 5e-324)
    seen = set()

    def number(usual: float) -> float:
        return float(rng.choice(odd)) if rng.random() < 0.08 else usual * rng.uniform(0.2, 3)

    for _ in range(60):
        lens = rng.choice(["plumb_bob", "rational_polynomial", "equidistant", "", "odd"])
        d = [number(0.05) for _ in range(rng.choice([0, 4, 5, 8, 12, 14]))]
        k = (number(50), 0, number(20), 0, number(50), number(15), 0, 0, 1)
        offset = int(rng.choice([0, 7, 2**31])), 0
        camera = Calibration(30, 40, str(lens), tuple(d), k, tuple(number(9) for _ in range(12)), (1, 1), offset)
        depth = None
        if rng.random() < 0.5:
            depth = read_depth(RawPixels(30, 40, "32FC1", 0, 160, rng.bytes(4800)), 30, 40)
        pose = Pose.of_mounting(rng.choice([-1.0, 0.0, 1e-6, 1.3, 500.0]), *rng.uniform(-4, 4, 2))
        projector = Projector(GridSpec(0.5, 10.0, 10.0), TABLE, rectified=rng.random() < 0.2)
        mask, points = rng.integers(0, 256, (30, 40), dtype=np.uint8), np.empty(30 * 40 * POINT_STEP, np.uint8)
        seen |= outcomes(projector, points, mask, camera, pose, depth)
    assert seen == {"done", Drop.CAMERA_INFO, Drop.GROUND}
