"""README, configuration and code say the same."""

import re
from pathlib import Path

import pytest
import yaml

from seg_node.core.taxonomy import CATEGORY_NAMES
from seg_node.core.timing import Outcome, Stage

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()


def _table(heading):
    """Cells of the first table below a heading, by first cell."""
    section = README.split(f"{heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return {row[0].strip("` "): row[1:] for row in cells}


@pytest.fixture(scope="module")
def parameters():
    pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")
    from seg_node.ros.parameters import PARAMETERS

    return PARAMETERS


def test_parameter_table(parameters):
    table = _table("### Parameters")
    assert list(table) == list(parameters)
    for name, (default, meaning) in table.items():
        spec = parameters[name]
        assert meaning.rstrip("|").strip() == spec.description
        if not spec.read_only or name == "autostart":
            assert yaml.safe_load(default.strip("`")) == spec.default, name


def test_parameter_file(parameters):
    file = yaml.safe_load((REPOSITORY / "config" / "segmentation.yaml").read_text())
    values = file["/**/segmentation"]["ros__parameters"]
    settable = {name: spec.default for name, spec in parameters.items() if not name.startswith("category_")}
    assert values == settable | {"use_sim_time": False}


def test_topics():
    pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")
    source = (REPOSITORY / "seg_node" / "ros" / "segmentation_node.py").read_text()
    topics = {
        topic for row in _table("### Topics") for topic in re.findall(r"[~/\w]+", row.split(" (")[0]) if topic != "or"
    }
    in_code = set(re.findall(r'"((?:~/|/)\w+|image(?:/compressed)?)"', source))
    assert topics == in_code


def test_words_of_the_accounting():
    section = README.split("### Topics", 1)[1].split("### Parameters", 1)[0]
    for word in [*(outcome.value for outcome in Outcome), *(stage.value for stage in Stage)]:
        assert f"`{word}`" in section
    assert all(f" {name} |" in section for name in CATEGORY_NAMES)


def test_metrics_in_the_readme_are_those_of_the_manifests():
    from seg_node.core.bundle import load_bundle, shipped_bundles

    table = _table("### Quality on CamVid val")
    assert set(table) == set(shipped_bundles())
    for name, cells in table.items():
        manifest = load_bundle(name).manifest
        figures = manifest.metrics["camvid_val"]
        expected = [figures["miou_7"], figures["miou_8"], *(figures["iou"][c] for c in CATEGORY_NAMES[1:])]
        assert [float(cell.rstrip("| ")) for cell in cells[1:]] == [pytest.approx(v, abs=0.051) for v in expected]
        assert cells[0].strip("`") == manifest.backbone
