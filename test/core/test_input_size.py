"""The input size is one number of a bundle's graph: another one needs no export."""

import cv2
import numpy as np
import pytest
from helpers.blue_bundle import blue_bundle
from helpers.paths import DRIVE

from seg_node.bags.drive import open_drive
from seg_node.bags.images import decode
from seg_node.core.bundle import load_bundle, shipped_bundles
from seg_node.core.bundle.input_size import InputSizeError, graph_of_size, resized
from seg_node.core.engines import create_engine, present_engines


@pytest.fixture(scope="module")
def frame():
    return decode(open_drive(DRIVE, duration=0.1).frames[0])


@pytest.mark.parametrize("size", [(224, 398), (64, 200)])
def test_engines_agree_with_torch_at_another_size(frame, size):
    """torch takes the size from the manifest, the others from the graph: each is the other's reference."""
    pytest.importorskip("torch", reason="torch is missing: install the training extra")
    bundle = load_bundle("fpn_lite")
    masks = {
        name: create_engine(bundle, name, precision="fp32", input_size=size).infer(frame)[0]
        for name in present_engines()
    }
    own = create_engine(bundle, "onnxruntime", precision="fp32").infer(frame)[0]
    for name, mask in masks.items():
        assert mask.shape == frame.shape[:2]
        assert (mask == masks["torch"]).mean() >= 0.995, name
        # Otherwise the size would have had no influence.
        assert (mask == own).mean() < 0.99, name


@pytest.mark.parametrize("name", [name for name in present_engines() if name != "torch"])
def test_int8_at_another_size_is_that_of_the_same_network(frame, name):
    plain, int8 = (
        create_engine(load_bundle("fpn_lite"), name, precision=precision, input_size=(224, 398)).infer(frame)[0]
        for precision in ("fp32", "int8")
    )
    assert (plain == int8).mean() >= 0.97
    assert len(np.unique(int8)) >= 4


@pytest.mark.parametrize("model", shipped_bundles())
def test_every_shipped_bundle_takes_another_size_and_says_no_old_score(model):
    bundle = load_bundle(model)
    other = resized(bundle, (240, 320))
    assert (other.manifest.input_size, other.manifest.metrics, other.manifest.gflops) == ((240, 320), {}, 0.0)
    assert other.ranges == bundle.ranges
    assert graph_of_size(other.graph, bundle.manifest.input_size) == graph_of_size(
        bundle.graph, bundle.manifest.input_size
    )
    assert resized(bundle, bundle.manifest.input_size) is bundle


@pytest.mark.parametrize("size", [(31, 400), (400, 0), (-400, -400), (16385, 400)])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(InputSizeError, match=f"input size {size[0]}x{size[1]}: each side must have 32 to 16384"):
        resized(load_bundle("fpn_lite"), size)


def test_a_graph_of_one_size_refuses_others_and_takes_its_own(tmp_path):
    bundle = blue_bundle(tmp_path)
    assert create_engine(bundle, "onnxruntime", input_size=(96, 128)).bundle is bundle
    with pytest.raises(InputSizeError, match="blue cannot have the input size 64x64: its graph is made for 96x128"):
        create_engine(bundle, "onnxruntime", input_size=(64, 64))


def test_a_smaller_camera_is_not_enlarged_for_a_larger_size(frame):
    """Beyond 1.5 times the camera's pixels there is nothing more to see, so larger sizes give the same mask."""
    small = cv2.resize(frame, (160, 90))
    first, second = (
        create_engine(load_bundle("fpn_lite"), "onnxruntime", precision="fp32", input_size=size).infer(small)[0]
        for size in ((448, 796), (896, 1592))
    )
    np.testing.assert_array_equal(first, second)
