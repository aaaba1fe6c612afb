"""The launch files, run for real with stand-ins for the programs: what they start, and how."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from helpers.paths import ROOT

# Not `launch`: in a checkout the folder of that name can be imported.
pytest.importorskip("launch_ros", reason="launch_ros is missing: it comes with a ROS 2 installation")

LAUNCH = """
import json, sys
from launch import LaunchDescription, LaunchService
from launch.actions import GroupAction, IncludeLaunchDescription
from launch_ros.actions import PushRosNamespace, SetParameter

file, before, *calls = map(json.loads, sys.argv[1:])
actions = [PushRosNamespace(before.get("push", ""))] * ("push" in before)
actions += [SetParameter("use_sim_time", True)] * ("sim_time" in before)
included = [
    GroupAction([*actions, IncludeLaunchDescription(file, launch_arguments=arguments.items())]) for arguments in calls
]
service = LaunchService(argv=[])
service.include_launch_description(LaunchDescription(included))
sys.exit(service.run())
"""

STAND_IN = """#!{python}
import json, os, sys
from pathlib import Path
files = {{word: Path(word).read_text() for word in sys.argv if word.endswith(".rviz") or "launch_params_" in word}}
found = {{"program": Path(sys.argv[0]).name, "words": sys.argv[1:], "files": files}}
found["profile"] = os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE", "")
Path({folder!r}, f"{{found['program']}}_{{os.getpid()}}.json").write_text(json.dumps(found))
if found["program"] == "segmentation":
    print("[INFO] [segmentation]: active on /image", flush=True)
"""


class Started:
    """How a program was started.

    Attributes:
        program: its name.
        name: full name of the node.
        remaps: names to remap, from -> to.
        parameters: by name, those of params files of the user not included.
        shown: topics by display, of RViz.
        frame: fixed frame, of RViz.
        words: the whole command line.
    """

    def __init__(self, found: dict):
        self.program, self.words, self.profile = found["program"], found["words"], found["profile"]
        self.remaps, self.parameters, self.shown, self.frame = {}, {}, {}, ""
        for flag, value in zip(self.words, self.words[1:], strict=False):
            if flag == "-r":
                source, _, target = value.partition(":=")
                self.remaps[source] = target
            elif flag == "-p":
                name, _, text = value.partition(":=")
                self.parameters[name] = yaml.safe_load(text)
            elif flag == "--params-file" and value in found["files"]:
                for section in yaml.full_load(found["files"][value]).values():
                    self.parameters |= section["ros__parameters"]
            elif flag == "-d":
                manager = yaml.full_load(found["files"][value])["Visualization Manager"]
                self.frame = manager["Global Options"]["Fixed Frame"]
                self.shown = {display["Name"]: display["Topic"]["Value"] for display in manager["Displays"]}
        self.name = f"{self.remaps.get('__ns', '').rstrip('/')}/{self.remaps.get('__node', '')}"

    @property
    def log_level(self) -> str:
        return self.words[self.words.index("--log-level") + 1]


@pytest.fixture
def start(tmp_path):
    """Run a launch file to its end: ``start(name, [arguments, ...]) -> {program: [Started, ...]}``."""
    prefix, out = tmp_path / "prefix", tmp_path / "out"
    out.mkdir()
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    programs = {"seg_node": ("segmentation", "overlay", "shadow"), "rviz2": ("rviz2",), "ros2": ("ros2",)}
    for package, names in programs.items():
        (index / package).touch()
        (prefix / "lib" / package).mkdir(parents=True)
        for name in names:
            file = prefix / "lib" / package / name
            file.write_text(STAND_IN.format(python=sys.executable, folder=str(out)))
            file.chmod(0o755)
    (prefix / "share" / "seg_node").mkdir()
    for folder in ("launch", "config", "rosbags"):
        (prefix / "share" / "seg_node" / folder).symlink_to(ROOT / folder)

    def run(name: str, *calls: dict, fails: bool = False, **before) -> dict[str, list[Started]]:
        environment = {key: value for key, value in os.environ.items() if "DEFAULT_PROFILES_FILE" not in key}
        environment["AMENT_PREFIX_PATH"] = os.pathsep.join(
            filter(None, [str(prefix), os.environ.get("AMENT_PREFIX_PATH", "")])
        )
        environment["PATH"] = f"{prefix / 'lib' / 'ros2'}:{os.environ['PATH']}"
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        environment["ROS_LOG_DIR"] = str(tmp_path / "log")
        file = prefix / "share" / "seg_node" / "launch" / f"{name}.launch.py"
        command = [sys.executable, "-c", LAUNCH, *map(json.dumps, (str(file), before, *(calls or ({},))))]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        print(done.stdout, done.stderr)
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        if fails:
            return {"": done.stdout + done.stderr}
        found: dict[str, list[Started]] = {}
        for one in sorted(out.glob("*.json")):
            started = Started(json.loads(one.read_text()))
            found.setdefault(started.program, []).append(started)
        return found

    return run


def one_of_each(found: dict[str, list[Started]]) -> tuple[Started, Started, Started]:
    """Segmentation node, overlay node and RViz."""
    programs = ("segmentation", "overlay", "rviz2")
    assert [len(found[program]) for program in programs] == [1, 1, 1]
    return tuple(found[program][0] for program in programs)


def test_defaults(start):
    node, overlay, rviz = one_of_each(start("view"))
    assert (node.name, overlay.name) == ("/segmentation", "/overlay")
    assert rviz.shown == {
        "Camera": "/image",
        "Overlay": "/segmentation/overlay",
        "Mask": "/segmentation/mask",
        "Overlay in the scene": "/segmentation/overlay",
    }
    assert rviz.frame == "camera"
    assert overlay.parameters == {"alpha": 0.5, "image_transport": "raw", "source": "mask"}
    assert "use_sim_time" not in node.parameters | rviz.parameters
    assert node.profile == overlay.profile == rviz.profile and node.profile.endswith("fastdds_shm.xml")


def test_arguments_reach_all_that_they_concern(start):
    arguments = {
        **{"image": "image_raw", "image_transport": "compressed", "namespace": "front", "name": "left"},
        **{"use_sim_time": "True", "log_level": "debug", "frame": "front_camera", "alpha": "0.7", "rviz": "True"},
        **{"source": "mask_now"},
    }
    node, overlay, rviz = one_of_each(start("view", arguments))
    assert (node.name, overlay.name) == ("/front/left", "/front/left_overlay")
    assert node.parameters == {"image_transport": "compressed", "use_sim_time": True}
    assert overlay.parameters == {
        **{"image_transport": "compressed", "use_sim_time": True, "alpha": 0.7, "source": "mask_now"},
    }
    assert rviz.parameters == {"use_sim_time": True}
    assert {one.log_level for one in (node, overlay, rviz)} == {"debug"}
    assert node.remaps["image/compressed"] == overlay.remaps["image/compressed"] == "image_raw/compressed"
    assert overlay.remaps["segmentation/mask"] == "left/mask"
    assert overlay.remaps["segmentation/overlay"] == "left/overlay"
    assert overlay.remaps["camera_info"] == "camera_info"
    assert rviz.shown["Camera"] == "/front/image_raw/compressed"
    assert {rviz.shown["Mask"], rviz.shown["Overlay"]} == {"/front/left/mask_now", "/front/left/overlay"}
    assert rviz.frame == "front_camera"


@pytest.mark.parametrize("key", ["/**", "/front/segmentation"])
def test_what_the_params_file_says_is_said_to_all(start, tmp_path, key):
    file = tmp_path / "mine.yaml"
    file.write_text(f"{key}: {{ros__parameters: {{image_transport: compressed, use_sim_time: true}}}}")
    given = {"params_file": str(file), "namespace": "/front", "image": "/front/image_raw"}
    node, overlay, rviz = one_of_each(start("view", given))
    assert str(file) in node.words
    assert "image_transport" not in node.parameters, "the file would be overridden without a word"
    assert overlay.parameters["image_transport"] == "compressed"
    assert overlay.parameters["use_sim_time"] is rviz.parameters["use_sim_time"] is True
    assert rviz.shown["Camera"] == "/front/image_raw/compressed"


def test_an_argument_goes_before_the_params_file(start, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("/**: {ros__parameters: {image_transport: compressed, use_sim_time: true}}")
    given = {"params_file": str(file), "image_transport": "raw", "use_sim_time": "false"}
    node, overlay, rviz = one_of_each(start("view", given))
    for one in (node, overlay):
        assert (one.parameters["image_transport"], one.parameters["use_sim_time"]) == ("raw", False)
    assert rviz.shown["Camera"] == "/image"


def test_one_of_several_cameras_is_shown(start):
    arguments = {"cameras": "[front,left]", "image": "image_raw", "image_transport": "compressed", "namespace": "car"}
    node, overlay, rviz = one_of_each(start("view", arguments | {"camera": "left"}))
    assert list(node.parameters["cameras"]) == ["front", "left"] and overlay.parameters["camera"] == "left"
    topic = "left/image_raw/compressed"
    assert node.remaps["left/image/compressed"] == overlay.remaps["left/image/compressed"] == topic
    assert overlay.remaps["segmentation/left/overlay"] == "segmentation/left/overlay"
    assert rviz.shown["Camera"] == "/car/left/image_raw/compressed"
    assert {rviz.shown["Mask"], rviz.shown["Overlay"]} == {
        "/car/segmentation/left/mask",
        "/car/segmentation/left/overlay",
    }


def test_of_several_cameras_of_the_params_file_the_first_is_shown(start, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("/**: {ros__parameters: {cameras: [front, left], front: {image_transport: compressed}}}")
    node, overlay, rviz = one_of_each(start("view", {"params_file": str(file), "image": "image_raw"}))
    assert "cameras" not in node.parameters
    assert (overlay.parameters["camera"], overlay.parameters["image_transport"]) == ("front", "compressed")
    assert node.remaps["left/image"] == "left/image_raw"
    assert rviz.shown["Camera"] == "/front/image_raw/compressed"


def test_a_camera_that_is_none_of_several_is_named(start):
    found = start("view", {"cameras": "[front,left]", "camera": "rear"}, fails=True)
    assert "camera is 'rear', but the cameras are front, left" in found[""]


def test_shadow_of_one_of_several_cameras(start):
    found = start("shadow", {"camera": "front", "image": "/image_raw"})
    _, incumbent = sorted(found["segmentation"], key=lambda one: one.name)
    assert incumbent.remaps["image"] == "/front/image_raw"
    assert "--image /front/image_raw" in " ".join(found["shadow"][0].words)


def test_what_is_set_for_the_whole_launch_holds(start):
    """The clock is nobody's own affair, and a namespace that was pushed is in RViz's topics."""
    node, overlay, rviz = one_of_each(start("view", {"namespace": "left"}, push="/car", sim_time=True))
    assert (node.name, overlay.name) == ("/car/left/segmentation", "/car/left/overlay")
    assert rviz.shown["Mask"] == "/car/left/segmentation/mask"
    assert rviz.shown["Camera"] == "/car/left/image"
    for one in (node, overlay, rviz):
        assert one.parameters["use_sim_time"] is True


def test_two_in_one_namespace_do_not_collide(start):
    arguments = {"namespace": "car", "rviz": "true"}
    left = arguments | {"name": "left", "image": "left/image", "image_transport": "compressed"}
    right = arguments | {"name": "right", "image": "right/image", "frame": "right"}
    found = start("view", left, right)
    names = [one.name for program in ("segmentation", "overlay") for one in found[program]]
    assert sorted(names) == ["/car/left", "/car/left_overlay", "/car/right", "/car/right_overlay"]
    shown = {one.shown["Camera"]: (one.shown["Mask"], one.shown["Overlay"], one.frame) for one in found["rviz2"]}
    assert shown == {
        "/car/left/image/compressed": ("/car/left/mask", "/car/left/overlay", "camera"),
        "/car/right/image": ("/car/right/mask", "/car/right/overlay", "right"),
    }
    followed = {one.name: one.remaps["segmentation/mask"] for one in found["overlay"]}
    assert followed == {"/car/left_overlay": "left/mask", "/car/right_overlay": "right/mask"}


def test_without_rviz(start):
    assert start("view", {"rviz": "False"}).keys() == {"segmentation", "overlay"}


def test_a_params_file_that_is_none_is_named(start):
    found = start("view", {"params_file": "/nowhere/mine.yaml"}, fails=True)
    assert "params_file is '/nowhere/mine.yaml': there is no such file" in found[""]


def test_a_bag_is_shown_as_it_is_played(start):
    found = start("replay", {"rviz": "true", "namespace": "front", "log_level": "error", "frame": "front"})
    node, overlay, rviz = one_of_each(found)
    assert rviz.shown["Camera"] == "/camera/image/compressed"
    assert rviz.shown["Overlay"] == "/front/segmentation/overlay"
    assert rviz.frame == "front"
    for one in (node, overlay):
        assert one.remaps["image/compressed"] == "/camera/image/compressed"
        assert one.parameters["image_transport"] == "compressed"
    assert {one.log_level for one in (node, overlay, rviz)} == {"error"}
    assert {one.parameters["use_sim_time"] for one in (node, overlay, rviz)} == {True}
    (player,) = found["ros2"]
    assert player.words[:2] == ["bag", "play"] and "--clock" in player.words
    assert player.profile == node.profile


def test_a_bag_of_raw_images_on_the_clock_of_the_wall(start, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("/**: {ros__parameters: {image_transport: raw}}")
    given = {"image": "/front/image", "use_sim_time": "false", "rviz": "auto", "params_file": str(file)}
    found = start("replay", given)
    node, overlay, rviz = one_of_each(found)
    assert rviz.shown["Camera"] == "/front/image"
    assert overlay.parameters["image_transport"] == node.parameters["image_transport"] == "raw"
    assert {one.parameters["use_sim_time"] for one in (node, overlay, rviz)} == {False}
    assert "--clock" not in found["ros2"][0].words


def test_a_bag_is_played_without_rviz_unless_asked_for(start):
    assert start("replay", {"name": "mine"}).keys() == {"segmentation", "overlay", "ros2"}


def test_clock_and_log_level_reach_the_shadow_node_too(start):
    found = start("shadow", {"use_sim_time": "true", "log_level": "warn", "namespace": "front", "image": "/a"})
    assert sorted(one.name for one in found["segmentation"]) == [
        "/front/shadow/challenger/segmentation",
        "/front/shadow/incumbent/segmentation",
    ]
    (shadow,) = found["shadow"]
    challenger, incumbent = sorted(found["segmentation"], key=lambda one: one.name)
    assert incumbent.remaps["image"] == "/a" and challenger.remaps["image"] == "/front/shadow/challenger/image"
    assert "patience" not in incumbent.parameters and challenger.parameters["patience"] == 0.0
    qos = "qos_overrides./front/shadow/challenger/image.subscription.reliability"
    assert challenger.parameters[qos] == "reliable"
    given = " ".join(shadow.words)
    assert "--follow /front/shadow/challenger/image --image /a --image-transport raw" in given
    for one in (*found["segmentation"], shadow):
        assert one.parameters["use_sim_time"] is True
        assert one.log_level == "warn"
