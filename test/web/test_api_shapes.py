"""Run lengths and polygons decode to the region exactly; headers of images."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")
httpx = pytest.importorskip("httpx", reason="httpx is missing: pip install -e '.[test]'")

from helpers.paths import ROOT  # noqa: E402
from helpers.serving import (  # noqa: E402
    GIF,
    decoded_runs,
    filled,
    jpeg_header,
)

from seg_node.core.errors import UndecodableError  # noqa: E402
from seg_node.web.api.probe import read_header  # noqa: E402
from seg_node.web.api.shapes import polygons, run_lengths  # noqa: E402


def test_shapes_by_hand():
    ring = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0]], bool)
    # Columns: 111, 101, 111, 000.
    assert run_lengths(ring) == {"size": [3, 4], "counts": [0, 4, 1, 4, 3]}
    outlines = sorted(sorted(map(tuple, outline)) for outline in polygons(ring))
    assert outlines == [[(0, 0), (0, 3), (3, 0), (3, 3)], [(1, 1), (1, 2), (2, 1), (2, 2)]]
    diagonal = np.array([[0, 1], [1, 0]], bool)
    assert run_lengths(diagonal) == {"size": [2, 2], "counts": [1, 2, 1]}
    assert np.array_equal(filled(polygons(diagonal), (2, 2)), diagonal)
    assert polygons(np.zeros((2, 3), bool)) == []
    assert run_lengths(np.zeros((2, 3), bool)) == {"size": [2, 3], "counts": [6]}


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (7, 8), (40, 61)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_shapes_are_exact(size, share):
    for seed in range(5):
        region = np.random.default_rng(seed).random(size) < share
        assert np.array_equal(decoded_runs(run_lengths(region)), region)
        assert np.array_equal(filled(polygons(region), size), region)


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]])
def test_headers_of_jpeg(options):
    data = cv2.imencode(".jpg", np.zeros((34, 56, 3), np.uint8), options)[1].tobytes()
    header = read_header(data)
    assert (header.media_type, header.height, header.width) == ("image/jpeg", 34, 56)
    # The frame header within a comment is none.
    fake = jpeg_header(9, 9)[12:]
    comment = b"\xff\xfe" + (len(fake) + 2).to_bytes(2, "big") + fake
    assert read_header(data[:2] + comment + data[2:]) == header


def test_headers_of_png_and_others():
    header = read_header(cv2.imencode(".png", np.zeros((34, 56), np.uint8))[1].tobytes())
    assert (header.media_type, header.height, header.width) == ("image/png", 34, 56)
    assert read_header(GIF) is None
    for data in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8" + b"\xff\xfe\x00\x02" * 2000, b"\xff\xd8\xff\xc0\x00"):
        with pytest.raises(UndecodableError):
            read_header(data)


def test_core_images_need_no_ros():
    program = "import sys, seg_node.core.images; sys.exit('sensor_msgs' in sys.modules)"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment).returncode == 0
