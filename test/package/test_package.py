"""What colcon builds and installs, and what the files of the ROS package say."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from helpers.paths import ROOT

import seg_node

NAME = "seg_node"


def colcon(base: Path, *arguments: str) -> str:
    """Run colcon on this package, with everything that it writes under ``base``; returns what it prints."""
    command = [sys.executable, "-m", "colcon", "--log-base", str(base / "log"), *arguments, "--paths", str(ROOT)]
    environment = os.environ | {"AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH") or sys.prefix}
    result = subprocess.run(command, env=environment, cwd=base, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory) -> Path:
    """Where colcon has installed the package."""
    pytest.importorskip("colcon_core", reason="colcon is missing: pip install colcon-common-extensions")
    base = tmp_path_factory.mktemp("colcon")
    colcon(base, "build", "--build-base", str(base / "build"), "--install-base", str(base / "install"))
    return base / "install" / NAME


def test_colcon_recognises_ament_python(prefix, tmp_path):
    assert colcon(tmp_path, "list").split() == [NAME, str(ROOT), "(ros.ament_python)"]


def test_share_folder(prefix):
    share = prefix / "share" / NAME
    shipped = [ROOT / "package.xml", *ROOT.glob("launch/*.py"), *ROOT.glob("config/*.*"), *ROOT.glob("rosbags/*/*")]
    expected = {file.relative_to(ROOT): file for file in shipped}
    models = ROOT / NAME / "models"
    expected |= {Path("models", file.relative_to(models)): file for file in models.glob("*/*")}
    kinds = {file.suffix for file in expected}
    assert kinds >= {".py", ".yaml", ".xml", ".rviz", ".onnx"}
    wrong = [str(name) for name, file in expected.items() if (share / name).read_bytes() != file.read_bytes()]
    assert not wrong


def test_ament_index_knows_the_package(prefix):
    assert (prefix / "share" / "ament_index" / "resource_index" / "packages" / NAME).is_file()


@pytest.mark.parametrize(
    "executable", ["segmentation", "overlay", "projection", "replay", "label", "shadow", "compare", "view"]
)
def test_executables_are_where_ros2_run_looks(prefix, executable):
    assert os.access(prefix / "lib" / NAME / executable, os.X_OK)


def test_python_modules(prefix):
    (modules,) = prefix.glob("lib/python3*/site-packages")
    folders = {path.name for path in modules.iterdir() if path.is_dir() and path.suffix != ".egg-info"}
    assert folders == {NAME, "seg_training"}
    installed = {path.relative_to(modules) for path in modules.glob("seg_*/**/*.py")}
    assert installed == {path.relative_to(ROOT) for package in folders for path in (ROOT / package).rglob("*.py")}
    assert (modules / NAME / "web" / "live" / "page.html").is_file()
    assert not list(modules.rglob("*.onnx")), "bundles belong into the share folder only"


def test_installed_package_finds_its_bundles(prefix, tmp_path):
    (modules,) = prefix.glob("lib/python3*/site-packages")
    program = "from seg_node.core.bundle import shipped_bundles; print(*shipped_bundles().values(), sep='\\n')"
    environment = os.environ | {"PYTHONPATH": str(modules)}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) == {str(path) for path in (prefix / "share" / NAME / "models").iterdir()}


def test_node_runs_from_the_install_space(prefix, ros, node_process):
    """The executable that `ros2 run` starts, in the environment that setup.bash makes."""
    from helpers.camera import Camera
    from helpers.images import encode

    sourced = f". {shlex.quote(str(prefix.parent / 'setup.bash'))} && exec"
    program = [sys.executable, "-c", "import seg_node; print(seg_node.__file__)"]
    command = ["bash", "-c", f'{sourced} "$@"', "bash", *program]
    # Not in the checkout, whose own modules would come first.
    found = subprocess.run(command, cwd=prefix, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()).is_relative_to(prefix)

    executable = shlex.quote(str(prefix / "lib" / NAME / "segmentation"))
    parameters = {"model": "fpn_resnet50", "engine": "onnxruntime", "warm_up_size": [96, 128]}
    node_process(parameters, namespace="/installed", command=["bash", "-c", f'{sourced} {executable} "$@"', "bash"])
    camera = Camera("/installed/segmentation", "/installed/image")
    try:
        record, mask = camera.connect().segment(encode(np.full((96, 128, 3), 90, np.uint8), "bgr8"))
    finally:
        camera.close()
    assert (record.status[0].message, record.status[0].hardware_id) == ("masked", "fpn_resnet50")
    assert (mask.height, mask.width) == (96, 128)


def test_package_xml():
    catkin_package = pytest.importorskip("catkin_pkg.package", reason="catkin_pkg is missing: pip install catkin-pkg")
    warnings: list[str] = []
    package = catkin_package.parse_package(ROOT / "package.xml", warnings=warnings)
    package.validate(warnings=warnings)
    assert not warnings
    assert (package.name, package.package_format, package.get_build_type()) == (NAME, 3, "ament_python")
    assert package.version == seg_node.__version__
    assert package.licenses == ["Apache-2.0"]


OUTSIDE_ROSDEP = {"onnx", "google", "openvino", "simplejpeg"}
"""What pip installs, as docs/howto.md says; google.protobuf comes with onnx."""
OPTIONAL = {
    *("fastapi", "fastapi_offline", "prometheus_client", "pydantic", "starlette", "streamlit", "uvicorn"),
    *("pynvml", "ray", "segmentation_models_pytorch", "timm", "torch", "torchvision", "triton"),
}
"""Extras of setup.py, for single commands and engines."""
KEYS = {
    **{"PIL": "python3-pil", "cv2": "python3-opencv", "mcap": "mcap-ros2-support", "yaml": "python3-yaml"},
    **{"onnxruntime": "python3-onnxruntime-pip", "rosbags": "python3-rosbags-pip", "zstandard": "python3-rosbags-pip"},
    **{name: f"python3-{name}" for name in ("matplotlib", "numpy", "tqdm")},
}
"""Keys of rosdep that bring a module; of other modules it is their name."""


def test_package_xml_declares_what_is_imported():
    used = set()
    for file in [*ROOT.glob("launch/*.py"), *(ROOT / "seg_node").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            used |= {name.split(".")[0] for name in names}
    used -= set(sys.stdlib_module_names) | {NAME, *OPTIONAL, *OUTSIDE_ROSDEP}
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {element.text for element in root.findall("exec_depend")}
    assert {KEYS.get(name, name) for name in used} <= declared
    # What is not imported: libraries of which ctypes calls functions, and programs of the launch files.
    programs = {"rcl", "rcutils", "ros2bag", "ros2launch", "rosbag2_storage_default_plugins", "rviz2"}
    assert declared - {KEYS.get(name, name) for name in used} == programs | {"compressed_image_transport"}
    howto = (ROOT / "docs" / "howto.md").read_text()
    assert all(re.search(rf"pip install .*\b{name}\b", howto) for name in OUTSIDE_ROSDEP - {"google"})


def test_nobody_is_sent_to_a_mailbox_that_does_not_exist():
    texts = {name: (ROOT / name).read_text() for name in ("package.xml", "setup.py", "docs/security.md")}
    addresses = {address for text in texts.values() for address in re.findall(r"[\w.+-]+@[\w-]+\.[\w.]+", text)}
    assert all(address.endswith(".invalid") for address in addresses)
    assert "## Reporting a vulnerability" in texts["docs/security.md"]


def test_aggregator_groups_the_reports_of_both_nodes():
    """By the names that the nodes give their reports."""
    config = yaml.safe_load((ROOT / "config" / "diagnostic_aggregator.yaml").read_text())["analyzers"][
        "ros__parameters"
    ]
    sources = "".join((ROOT / NAME / "ros" / f"{file}.py").read_text() for file in ("reporter", "overlay_node"))
    reports = {
        f"/{kind}: {kind}" for kind in re.findall(r'\{(?:self\.get_fully_qualified_name\(\)|name)\}: (\w+)"', sources)
    }
    assert reports == {"/segmentation: segmentation", "/overlay: overlay"}
    for kind in ("segmentation", "overlay"):
        group = config[kind]
        assert group["type"] == "diagnostic_aggregator/GenericAnalyzer"
        found = {name for name in reports if any(part in name for part in group["contains"])}
        assert found == {f"/{kind}: {kind}"}
        assert set(group.get("expected", [])) <= found


def test_rosbags_folder_does_not_hide_the_library():
    program = "import rosbags; from rosbags import rosbag2; print(rosbag2.__file__)"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not (ROOT / "rosbags" / "__init__.py").exists()
    assert not Path(found.stdout.strip()).is_relative_to(ROOT / "rosbags")


def test_parameter_file_sets_nothing_and_shows_every_default(ros):
    """A repeated default would win over what a launch file sets for all of its nodes, such as use_sim_time."""
    from seg_node.ros.parameters import PARAMETERS

    text = (ROOT / "config" / "segmentation.yaml").read_text()
    assert yaml.safe_load(text) is None
    setting = re.compile(r"^#(/\*\*:| {2}ros__parameters:| {4}\w+:)", re.MULTILINE)
    given = yaml.safe_load(setting.sub(r"\1", text))["/**"]["ros__parameters"]
    constant = {"category_names", "category_colors"}
    expected = {name: spec.default for name, spec in PARAMETERS.items() if name not in constant}
    assert given == expected
    assert {name: type(value) for name, value in given.items()} == {name: type(v) for name, v in expected.items()}


def test_parameter_file_does_not_defeat_what_was_set_before_it(ros, tmp_path):
    """launch_ros puts what is set for all nodes first, and the file of one node after it."""
    program = """if True:
        import sys, rclpy
        rclpy.init(args=["--ros-args", "-p", "use_sim_time:=true", "--params-file", *sys.argv[1:]])
        print(rclpy.create_node("anything").get_parameter("use_sim_time").value)
    """
    command = [sys.executable, "-c", program, str(ROOT / "config" / "segmentation.yaml"), "-r", "__node:=front"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"
