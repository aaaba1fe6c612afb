"""A node with a profile: what it takes of it, what wins over it, and what it says of one that does not fit."""

import json
import sys
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from bundles import constant_bundle  # noqa: E402
from helpers.camera import Camera  # noqa: E402
from helpers.images import encode  # noqa: E402
from helpers.profiles import profile_values  # noqa: E402
from rclpy.node import Node  # noqa: E402

from seg_node.core.profile.file import write_profile  # noqa: E402
from seg_node.ros.parameters import PARAMETERS, declare_parameters  # noqa: E402
from seg_node.ros.profile import NodeProfile  # noqa: E402

pytestmark = pytest.mark.ros

GREY = np.full((16, 24, 3), 114, np.uint8)
DEFAULTS = {name: spec.default for name, spec in PARAMETERS.items()}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return constant_bundle(tmp_path_factory.mktemp("bundles"), "one", 1)


@pytest.fixture
def file(tmp_path, bundle):
    write_profile(tmp_path / "profile.yaml", profile_values(bundle))
    return tmp_path / "profile.yaml"


@pytest.fixture
def declared(ros):
    """Declare a node's parameters by a profile, given parameters as on a command line."""
    nodes = []

    def make(**parameters):
        arguments = [part for name, v in parameters.items() for part in ("-p", f"{name}:={json.dumps(v)}")]
        node = Node(f"profile_{time.monotonic_ns()}", cli_args=["--ros-args", *arguments])
        nodes.append(node)
        profile = NodeProfile(node)
        declare_parameters(node, profile.specs)
        return profile, {name: node.get_parameter(name).value for name in PARAMETERS}

    yield make
    for node in nodes:
        node.destroy_node()


def _changed(values):
    """Parameters that are not at their defaults, arrays as lists."""
    plain = {name: list(v) if hasattr(v, "tolist") else v for name, v in values.items()}
    return {name: v for name, v in plain.items() if v != DEFAULTS[name] and name != "profile"}


def test_without_a_profile_nothing_changes(declared):
    profile, values = declared()
    assert _changed(values) == {} and profile.status() == {} and profile.warnings() == []
    assert profile.drifted([{"inference": "9999"}], 0.0) == []


def test_settings_become_defaults(declared, file, bundle):
    profile, values = declared(profile=str(file))
    assert _changed(values) == {
        "model": str(bundle.path),
        "engine": "onnxruntime",
        "precision": "fp32",
        "input_size": list(bundle.manifest.input_size),
        "threads": 1,
        "forecast_ms": 33.333,
    }
    assert profile.warnings() == [] and profile.status() == {"profile": str(file), "profile.state": "used"}


def test_what_is_given_wins(declared, file, bundle):
    profile, values = declared(profile=str(file), threads=2, forecast_ms=0.0, propagate=False)
    assert (values["threads"], values["forecast_ms"], values["propagate"]) == (2, 0.0, False)
    assert (values["model"], values["engine"]) == (str(bundle.path), "onnxruntime")
    assert profile.status()["profile.state"] == "used in part"


@pytest.mark.parametrize("given", [{"model": "fpn_resnet50"}, {"engine": "openvino"}])
def test_of_another_model_or_engine_nothing_was_measured(declared, file, given):
    _, values = declared(profile=str(file), **given)
    left = {name: v for name, v in _changed(values).items() if name not in ("model", *given)}
    assert left == {"forecast_ms": 33.333}
    _, values = declared(profile=str(file), **given, precision="bf16", threads=2)
    assert (values["precision"], values["threads"], list(values["input_size"])) == ("bf16", 2, [0, 0])


@pytest.mark.parametrize("whole", [0, 33])
def test_a_forecast_without_decimals_is_a_number_with_a_point(declared, tmp_path, bundle, whole):
    write_profile(tmp_path / "p.yaml", profile_values(bundle, forecast_ms=whole))
    _, values = declared(profile=str(tmp_path / "p.yaml"))
    assert values["forecast_ms"] == whole and isinstance(values["forecast_ms"], float)


def _spoilt(file, what, bundle, tmp_path):
    values = profile_values(bundle)
    if what == "missing":
        file.unlink()
    elif what == "edited":
        file.write_text(file.read_text().replace("threads: 1", "threads: 2"))
    elif what == "old":
        file.write_text(file.read_text().replace("schema: 1", "schema: 0"))
    elif what == "foreign":
        file.write_text("model: fpn_lite\n")
    elif what == "another machine":
        values["machine"]["cpu"] = "Z80"
        write_profile(file, values)
    elif what == "no engine":
        values["settings"]["engine"] = "torch"
        values["machine"]["engines"].pop("torch", None)
        values["machine"]["engines"]["torch"] = "0.4"
        write_profile(file, values)
    else:
        gone = constant_bundle(tmp_path, "gone", 2)
        write_profile(file, profile_values(gone))
        (gone.path / "manifest.yaml").unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "No such file"),
        ("edited", "was edited after it was written"),
        ("old", "schema is 0, this version reads 1"),
        ("foreign", "is no profile"),
        ("another machine", "it was measured on another machine: cpu"),
        ("no engine", "torch"),
        ("no bundle", "its bundle is not there"),
    ],
)
def test_one_that_does_not_fit_costs_nothing_but_a_warning(declared, file, bundle, tmp_path, what, message):
    _spoilt(file, what, bundle, tmp_path)
    profile, values = declared(profile=str(file))
    assert _changed(values) == {}
    (warning,) = profile.warnings()
    assert warning.startswith(f"the profile {file} is not used: ") and message in warning
    assert "the node runs with its defaults" in warning and "`seg_node tune`" in warning
    assert profile.status()["profile.state"] == "refused"
    assert profile.drifted([{"inference": "9999"}], 0.0) == []


def _two(bundle, inference, **changes):
    """The same of two cameras, one of which is slower."""
    return [_report(bundle, inference + apart, **changes) for apart in (-15.0, 15.0)]


def _report(bundle, inference, **changes):
    """What ``Segmenter.status`` says while the profile's settings run."""
    size = "x".join(map(str, bundle.manifest.input_size))
    about = {"model": bundle.name, "engine": "onnxruntime", "precision": "fp32", "input_size": size}
    return about | {"inference": f"{inference:.3f}"} | changes


def test_drift_is_watched_while_the_settings_run(declared, file, bundle):
    profile, _ = declared(profile=str(file))
    told = [bool(profile.drifted(_two(bundle, 90.0), float(at))) for at in range(60)]
    assert told[-1] and not told[0]
    assert str(file) in profile.drifted(_two(bundle, 90.0), 60.0)[0]
    calm = [bool(profile.drifted(_two(bundle, 30.0), 61.0 + at)) for at in range(20)]
    assert calm[0] and not calm[-1]


@pytest.mark.parametrize("change", [{"model": "two"}, {"engine": "openvino"}, {"input_size": "1x1"}])
def test_drift_is_not_told_of_what_was_not_measured(declared, file, bundle, change):
    profile, _ = declared(profile=str(file))
    assert not any(profile.drifted(_two(bundle, 90.0, **change), float(at)) for at in range(120))
    profile, _ = declared(profile=str(file), threads=2)
    assert not any(profile.drifted(_two(bundle, 90.0), float(at)) for at in range(120))


def test_the_real_node_runs_with_a_profile_and_without_one_that_does_not_fit(node_process, file, bundle, tmp_path):
    """The one by the command line's option, the other by a parameter: both mask, and only one of them warns."""
    option = [sys.executable, "-m", "seg_node", "node", "--profile", str(file)]
    size = {"warm_up_size": [16, 24]}
    node_process(size, name="tuned", command=option, state=None)
    spoilt = tmp_path / "spoilt.yaml"
    spoilt.write_text(file.read_text().replace("threads: 1", "threads: 2"))
    wrong = node_process(
        size | {"profile": str(spoilt), "model": str(bundle.path), "engine": "onnxruntime"}, name="wrong", state=None
    )
    reports = {}
    for name in ("/tuned", "/wrong"):
        camera = Camera(name, reliable=True)
        try:
            camera.connect()
            record, mask = camera.segment(encode(GREY, "bgr8"))
            assert set(mask.data) == {1} and record.status[0].message == "masked"
            camera.wait(lambda c=camera: any("inference" in report for report in c.diagnostics), "a report of the mask")
            reports[name] = next(report for report in camera.diagnostics if "inference" in report)
        finally:
            camera.close()
    tuned, plain = reports["/tuned"], reports["/wrong"]
    assert (tuned["profile"], tuned["profile.state"]) == (str(file), "used")
    assert (tuned["engine"], tuned["precision"], tuned["model"]) == ("onnxruntime", "fp32", "one")
    assert "profile" not in tuned[""].message
    assert (plain["profile.state"], plain["precision"]) == ("refused", "auto")
    assert "was edited after it was written" in plain[""].message and plain[""].level >= b"\1"
    assert "was edited after it was written" in wrong.last_output(50)
