"""What the launch files work out: values of params files as rclpy reads them, names, and RViz's topics as published."""

import itertools
import re

import pytest
import yaml
from helpers.paths import ROOT

from seg_node.core.errors import UserError
from seg_node.ros import bringup

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")

FILES = {
    "any node": "/**: {ros__parameters: {image_transport: compressed}}",
    "any namespace": "/**/left: {ros__parameters: {image_transport: compressed}}",
    "another name": "/**/right: {ros__parameters: {image_transport: compressed}}",
    "full name": "/front/left: {ros__parameters: {image_transport: compressed}}",
    "full name without slash": "front/left: {ros__parameters: {image_transport: compressed}}",
    "nested": "front: {left: {ros__parameters: {image_transport: compressed}}}",
    "name alone": "left: {ros__parameters: {image_transport: compressed}}",
    "one part": "/*: {ros__parameters: {image_transport: compressed}}",
    "one part and name": "/*/left: {ros__parameters: {image_transport: compressed}}",
    "two parts": "/*/*: {ros__parameters: {image_transport: compressed}}",
    "below": "/front/**: {ros__parameters: {image_transport: compressed}}",
    "no word of it": "/**: {ros__parameters: {engine: torch}}",
    "later wins": "/**: {ros__parameters: {image_transport: raw}}\n"
    "/front/left: {ros__parameters: {image_transport: compressed}}",
    "later general one": "/front/left: {ros__parameters: {image_transport: raw}}\n"
    "/**: {ros__parameters: {image_transport: compressed}}",
    "quoted": "/**:\n  ros__parameters:\n    image_transport: 'compressed'\n",
    "only a comment": "# nothing is set",
    "shipped": (ROOT / "config" / "segmentation.yaml").read_text(),
}


@pytest.mark.ros
@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("node", ["/front/left", "/left", "/a/b/left"])
def test_values_of_a_params_file_are_those_that_the_node_takes(ros, tmp_path, case, node):
    from rclpy.context import Context

    file = tmp_path / "params.yaml"
    file.write_text(FILES[case])
    namespace, _, name = node.rpartition("/")
    context = Context()
    ros.init(args=[], context=context)
    try:
        made = ros.create_node(
            name,
            namespace=namespace or "/",
            context=context,
            cli_args=["--ros-args", "--params-file", str(file)],
            start_parameter_services=False,
            automatically_declare_parameters_from_overrides=True,
        )
        expected = made.get_parameter_or("image_transport").value
        made.destroy_node()
    finally:
        context.shutdown()
    assert bringup.parameter_in_file(str(file), node, "image_transport") == expected


def test_cases_are_not_all_alike(tmp_path):
    file = tmp_path / "params.yaml"
    found = set()
    for text in FILES.values():
        file.write_text(text)
        found.add(bringup.parameter_in_file(str(file), "/front/left", "image_transport"))
    assert found == {"compressed", None}
    assert bringup.parameter_in_file("", "/front/left", "image_transport") is None


@pytest.mark.parametrize("text", ["a: b: c", "\xff\xfe", None])
def test_a_params_file_that_cannot_be_read_is_named(tmp_path, text):
    file = tmp_path / "params.yaml"
    if text is not None:
        file.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="params_file is '.*params.yaml', which cannot be read"):
        bringup.parameter_in_file(str(file), "/left", "image_transport")


def test_an_argument_goes_before_the_file_and_that_before_the_default():
    assert bringup.first_given("raw", "compressed", "raw") == "raw"
    assert bringup.first_given("", "compressed", "raw") == "compressed"
    assert bringup.first_given("", None, "raw") == "raw"
    assert bringup.first_given("", False) is False
    assert bringup.first_given("", None) is None
    assert [bringup.is_true(value) for value in (True, "True", "true", False, "False", "false")] == 3 * [True] + 3 * [
        False
    ]


def test_defaults_are_those_of_the_nodes(ros):
    from seg_node.ros.parameters import PARAMETERS

    assert PARAMETERS["image_transport"].default == bringup.DEFAULT_TRANSPORT
    assert f'super().__init__("{bringup.DEFAULT_NAME}")' in (ROOT / "seg_node/ros/segmentation_node.py").read_text()


def test_names():
    assert bringup.camera_info_topic("/front/image_raw") == "/front/camera_info"
    assert bringup.camera_info_topic("image") == "camera_info"
    assert bringup.absolute("image", "/front/") == "/front/image"
    assert bringup.absolute("image", "") == "/image"
    assert bringup.absolute("/image", "front") == "/image"
    assert bringup.absolute("left", "a/b") == "/a/b/left"
    assert bringup.absolute("", "front") == "/front"
    assert bringup.overlay_name("segmentation") == "overlay"
    assert bringup.overlay_name("left") == "left_overlay"


def test_profile_is_set_for_both_distributions(monkeypatch):
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert bringup.profile_environment("a.xml") == dict.fromkeys(PROFILE_VARIABLES, "a.xml")
    assert bringup.profile_environment("") == {}


@pytest.mark.parametrize("variable", PROFILE_VARIABLES)
def test_profile_of_the_user_is_left_alone(monkeypatch, variable):
    for other in PROFILE_VARIABLES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, "mine.xml")
    assert bringup.profile_environment("a.xml") == {}


def shown(config) -> set[str]:
    """Topics that an RViz file shows."""
    return {display["Topic"]["Value"] for display in config["Visualization Manager"]["Displays"]}


@pytest.mark.ros
@pytest.mark.parametrize(
    ("transport", "namespace", "name"),
    itertools.product(["raw", "compressed"], ["", "/front"], ["segmentation", "left"]),
)
def test_rviz_shows_what_camera_node_and_overlay_publish(ros, transport, namespace, name):
    """The overlay node's names are those after the launch file's remapping."""
    from rclpy.lifecycle import LifecycleNode

    from seg_node.ros.cameras.names import CameraName
    from seg_node.ros.outputs import Outputs
    from seg_node.ros.overlay_node import OverlayNode
    from seg_node.ros.parameters import declare_parameters
    from seg_node.ros.qos_watch import QosWatch

    shipped = yaml.safe_load((ROOT / "config" / "segmentation.rviz").read_text())
    full = bringup.absolute(name, namespace)
    camera = bringup.camera_topic(bringup.absolute("image_raw", namespace), transport)
    config = bringup.rviz_config(shipped, camera, full, "front_camera")
    assert config["Visualization Manager"]["Global Options"]["Fixed Frame"] == "front_camera"
    assert shipped["Visualization Manager"]["Global Options"]["Fixed Frame"] == "camera", (
        "what is shipped stays as it is"
    )

    remaps = [f"{bringup.DEFAULT_NAME}/{topic}:={name}/{topic}" for topic in bringup.FOLLOWED]
    context = ros.context.Context()
    arguments = ["--ros-args", "-r", f"__node:={bringup.overlay_name(name)}", "-r", f"__ns:={namespace or '/'}"]
    ros.init(args=arguments + [word for remap in remaps for word in ("-r", remap)], context=context)
    # Of a context of its own, too: a lifecycle node stays in the graph until its context has gone.
    plain = ros.context.Context()
    ros.init(args=[], context=plain)
    try:
        node = LifecycleNode(name, namespace=namespace or "/", context=plain, start_parameter_services=False)
        declare_parameters(node)
        outputs = Outputs(CameraName(node), QosWatch(node))
        published = {publisher.topic_name for publisher in node.publishers}
        overlay = made_in(context, OverlayNode)
        assert overlay.get_fully_qualified_name() == bringup.absolute(bringup.overlay_name(name), namespace)
        published |= {publisher.topic_name for publisher in overlay.publishers}
        overlay.destroy_node()
        outputs.destroy()
        node.destroy_node()
    finally:
        context.shutdown()
        plain.shutdown()
    assert shown(config) == {camera, f"{full}/overlay", f"{full}/mask"}
    assert shown(config) - {camera} <= published
    assert f"{full}/camera_info" in published


def made_in(context, kind):
    """A node in a context of its own, whose class asks for none."""
    from rclpy import node as of_rclpy

    original, of_rclpy.get_default_context = of_rclpy.get_default_context, lambda: context
    try:
        return kind()
    finally:
        of_rclpy.get_default_context = original


def test_every_topic_that_the_overlay_follows_is_remapped(ros):
    """Those that it names itself, and those of what it hands a node's name to."""
    from seg_node.ros.frame_source import SOURCES, FrameSource

    topics = set(re.findall(r'"segmentation/(\w+)"', (ROOT / "seg_node/ros/overlay_node.py").read_text()))
    for source in SOURCES:
        names = [topic for _, topic, *_ in FrameSource(None, "image", "segmentation", print, source)._topics]
        topics |= {name.removeprefix("segmentation/") for name in names if name.startswith("segmentation/")}
    assert {"mask", "timing", "overlay", "camera_info"} <= topics <= set(bringup.FOLLOWED)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("[]", []),
        ("[front,left]", ["front", "left"]),
        (" [ front , 'left', \"rear\" ] ", ["front", "left", "rear"]),
        ("front", ["front"]),
        ("front,left", ["front", "left"]),
    ],
)
def test_names_of_cameras_are_read_from_an_argument(text, names):
    assert bringup.listed(text) == names


@pytest.mark.parametrize("text", ["[front,]", "[front left]", "[,]", "[a/b]", "[[front]]", "{front: left}"])
def test_what_is_no_list_of_names_is_refused(text):
    with pytest.raises(UserError, match="cameras is .*expected a list such as"):
        bringup.listed(text)


def test_topics_of_cameras_are_below_their_names():
    of_one = [("image", "/front/image_raw"), ("image/compressed", "/front/image_raw/compressed")]
    assert bringup.camera_remappings("/front/image_raw", []) == of_one
    assert bringup.camera_remappings("image_raw", ["front", "left"]) == [
        ("front/image", "front/image_raw"),
        ("front/image/compressed", "front/image_raw/compressed"),
        ("left/image", "left/image_raw"),
        ("left/image/compressed", "left/image_raw/compressed"),
    ]
    with pytest.raises(UserError, match="image is '/image', one topic for several cameras"):
        bringup.camera_remappings("/image", ["front"])


def test_topics_of_whoever_follows_one_of_several_cameras():
    assert bringup.below_camera("image", "") == "image"
    assert bringup.below_camera("segmentation/mask", "") == "segmentation/mask"
    assert bringup.below_camera("image/compressed", "front") == "front/image/compressed"
    assert bringup.below_camera("segmentation/mask", "front") == "segmentation/front/mask"
    assert bringup.below_camera("segmentation", "front") == "segmentation/front"


def test_the_overlay_is_remapped_as_the_node_is():
    """What it takes as the camera is what the segmentation node takes."""
    of_one = dict(bringup.viewer_remappings("/front/image_raw", "left", ""))
    assert of_one.items() >= dict(bringup.camera_remappings("/front/image_raw", [])).items()
    assert (of_one["camera_info"], of_one["segmentation/mask"]) == ("/front/camera_info", "left/mask")
    of_front = dict(bringup.viewer_remappings("image_raw", "left", "", "front"))
    assert of_front.items() >= dict(bringup.camera_remappings("image_raw", ["front"])).items()
    assert of_front["front/camera_info"] == "front/camera_info"
    assert of_front["segmentation/front/mask_now"] == "left/front/mask_now"
    assert dict(bringup.viewer_remappings("image", "left", "/info", "front"))["front/camera_info"] == "/info"


CAMERAS = """
/**:
  ros__parameters:
    cameras: [front, left]
    image_transport: raw
    front: {image_transport: compressed, priority: 2}
    left.max_age_ms: 300.0
    rear: {deep.er: {still: 1}}
"""


@pytest.mark.ros
def test_parameters_of_cameras_in_a_params_file_are_those_that_the_node_takes(ros, tmp_path):
    from rclpy.context import Context

    file = tmp_path / "params.yaml"
    file.write_text(CAMERAS)
    context = Context()
    ros.init(args=[], context=context)
    try:
        made = ros.create_node(
            "segmentation",
            context=context,
            cli_args=["--ros-args", "--params-file", str(file)],
            start_parameter_services=False,
            automatically_declare_parameters_from_overrides=True,
        )
        # What rclpy declares for every node is in no file.
        of_all = ("use_sim_time", "start_type_description_service")
        taken = {name: found.value for name, found in made.get_parameters_by_prefix("").items() if name not in of_all}
        made.destroy_node()
    finally:
        context.shutdown()
    assert {"cameras", "front.image_transport", "front.priority", "left.max_age_ms", "rear.deep.er.still"} <= {*taken}
    for name, value in taken.items():
        found = bringup.parameter_in_file(str(file), "/segmentation", name)
        assert (list(found) == list(value)) if name == "cameras" else (found == value), name
    for missing in ("front.max_age_ms", "rear.deep.still", "fron", ".image_transport"):
        assert bringup.parameter_in_file(str(file), "/segmentation", missing) is None


def test_cameras_are_those_of_the_argument_or_of_the_params_file(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(CAMERAS)
    assert bringup.stated_cameras("[rear]", str(file), "/segmentation") == ["rear"]
    assert bringup.stated_cameras("", str(file), "/segmentation") == ["front", "left"]
    assert bringup.stated_cameras("", "", "/segmentation") == []


def test_the_camera_that_is_shown():
    assert [bringup.shown_camera("", []), bringup.shown_camera("", ["front", "left"])] == ["", "front"]
    assert bringup.shown_camera("left", ["front", "left"]) == "left"
    with pytest.raises(UserError, match="camera is 'rear', but the cameras are front, left"):
        bringup.shown_camera("rear", ["front", "left"])
    with pytest.raises(UserError, match="camera is 'rear', but cameras names none"):
        bringup.shown_camera("rear", [])
