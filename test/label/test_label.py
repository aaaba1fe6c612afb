"""Labelled bags: every message as it was, the node's masks, and runs that survive bad bags and lost workers."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

pytest.importorskip("sensor_msgs", reason="the message packages of ROS 2 are missing")

from helpers.bags import as_ros1, compressed, write_mcap  # noqa: E402
from helpers.bags import jpeg as picture_file  # noqa: E402
from helpers.paths import DRIVE

from seg_node.__main__ import main  # noqa: E402
from seg_node.bags.copy import BagCopy  # noqa: E402
from seg_node.bags.drive import open_drive  # noqa: E402
from seg_node.bags.reader import BagReader, bag_hash, list_topics  # noqa: E402
from seg_node.core.bundle import DEFAULT_MODEL, load_bundle  # noqa: E402
from seg_node.core.engines import create_engine  # noqa: E402
from seg_node.core.errors import NoResultError  # noqa: E402

IMAGE, TRUTH, INFO = "/camera/image/compressed", "/camera/mask/compressed", "/camera/camera_info"
MASK, CONFIDENCE = "/camera/segmentation/mask/compressed", "/camera/segmentation/confidence/compressed"
STORE = get_typestore(Stores.ROS2_JAZZY)
JPEG, STRING = "sensor_msgs/msg/CompressedImage", "std_msgs/msg/String"
SMALL = (48, 64)


def messages(path: Path, topics: set[str] | None = None) -> list[tuple[str, str, int, bytes]]:
    """Topic, type, log time and serialised message of each message."""
    with BagReader(path) as bag:
        found = [(c.topic, c.msgtype, log_time, bytes(data)) for c, log_time, data in bag.raw_messages()]
    return [message for message in found if topics is None or message[0] in topics]


def cut(path: Path, first: int, count: int, storage: str = "MCAP") -> Path:
    """Some frames of the shipped drive as a bag of their own."""
    seen: dict[int, int] = {}
    with (
        rosbag2.Reader(DRIVE) as reader,
        rosbag2.Writer(path, version=9, storage_plugin=rosbag2.StoragePlugin[storage]) as writer,
    ):
        connections = {c.id: writer.add_connection(c.topic, c.msgtype, typestore=STORE) for c in reader.connections}
        for connection, log_time, data in reader.messages():
            index = seen[connection.id] = seen.get(connection.id, -1) + 1
            if first <= index < first + count:
                writer.write(connections[connection.id], log_time, data)
    return path


def jpeg(stamp: int, data: bytes | None = None, frame_id: str = "front"):
    """An image message of 64x48 pixels, or one with the data given."""
    picture = np.full((*SMALL, 3), (200, 120, 40), np.uint8)
    cv2.circle(picture, (stamp % 40, 24), 12, (30, 60, 220), -1)
    encoded = cv2.imencode(".jpg", picture)[1].ravel() if data is None else np.frombuffer(data, np.uint8)
    header = STORE.types["std_msgs/msg/Header"](STORE.types["builtin_interfaces/msg/Time"](3, stamp), frame_id)
    return STORE.types[JPEG](header, "jpeg", encoded)


def small_bag(path: Path, broken: tuple[int, ...] = (), topics: tuple[str, ...] = (IMAGE,), frames: int = 3) -> Path:
    """Small images, whose log time is 10 ns behind their stamp, and a topic that is nobody's business here."""
    with rosbag2.Writer(path, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
        notes = writer.add_connection("/notes", STRING, typestore=STORE)
        images = [writer.add_connection(topic, JPEG, typestore=STORE) for topic in topics]
        for i in range(frames):
            text = STORE.serialize_cdr(STORE.types[STRING](f"note {i}"), STRING)
            writer.write(notes, 3_000_000_000 + i, text)
            for connection in images:
                message = jpeg(i, b"no image" if i in broken else None)
                writer.write(connection, 3_000_000_010 + i, STORE.serialize_cdr(message, JPEG))
    return path


def label(*arguments: object) -> int:
    return main(["label", *map(str, arguments), "--threads", "1", "--engine", "onnxruntime"])


def test_masks_are_the_engines_and_the_rest_is_untouched(tmp_path):
    bag = cut(tmp_path / "drive", 100, 3, "SQLITE3")

    assert label(bag, "--out", tmp_path / "out", "--confidence") == 0

    labelled = tmp_path / "out" / "drive"
    assert messages(labelled, {IMAGE, TRUTH, INFO}) == messages(bag)
    engine = create_engine(load_bundle(DEFAULT_MODEL), "onnxruntime", threads=1)
    by_topic = {topic: open_drive(labelled, topic, None).frames for topic in (IMAGE, MASK, CONFIDENCE)}
    assert [len(frames) for frames in by_topic.values()] == [3, 3, 3]
    for image, mask, confidence in zip(*by_topic.values(), strict=True):
        for output in (mask, confidence):
            assert (output.stamp, output.frame_id, output.log_time) == (image.stamp, image.frame_id, image.log_time)
            assert "png" in output.image.format
        expected = engine.infer(cv2.imdecode(image.image.data, cv2.IMREAD_COLOR), confidence=True)
        np.testing.assert_array_equal(cv2.imdecode(mask.image.data, cv2.IMREAD_UNCHANGED), expected[0])
        np.testing.assert_array_equal(cv2.imdecode(confidence.image.data, cv2.IMREAD_UNCHANGED), expected[1])
    assert len(np.unique(expected[0])) > 2, "a mask of one value proves nothing"


def test_frames_without_end_marker_have_the_masks_of_whole_ones(tmp_path):
    """As some cameras write them; with a video behind the picture, as phones do, they are whole, too."""
    trailers = {"whole": b"\xff\xd9", "without": b"", "motion": b"\xff\xd9\0\0\0\x18ftypmp42" + b"\0\xff\xda\0" * 40}
    masks = []
    for name, trailer in trailers.items():
        files = [(i, compressed(i, picture_file(i).removesuffix(b"\xff\xd9") + trailer)) for i in range(2)]
        bag = write_mcap(tmp_path / f"{name}.mcap", {IMAGE: (JPEG, files)})
        assert label(bag, "--out", tmp_path / "out") == 0
        masks.append([data for *_, data in messages(tmp_path / "out" / name, {MASK})])
    assert len(masks[0]) == 2 and masks[1] == masks[2] == masks[0]


@pytest.mark.parametrize(
    ("packet", "codec"), [(b"\0\0\0\1\x67\x64\0\x28", "H.264"), (b"\0\0\0\1\x40\1\x0c\1", "H.265")]
)
def test_packets_of_video_are_named_and_nothing_masked_has_a_status_of_its_own(tmp_path, capsys, packet, codec):
    bag = write_mcap(tmp_path / "video.mcap", {IMAGE: (JPEG, [(i, compressed(i, packet)) for i in range(2)])})
    assert label(bag, "--out", tmp_path / "out") == NoResultError.exit_status == 3
    assert not (tmp_path / "out" / "video").exists()
    said = capsys.readouterr().out
    assert "nothing masked" in said
    assert f"a packet of {codec} video, no picture; decode the video first" in said


def test_labels_are_neither_camera_nor_ground_truth(tmp_path):
    bag = small_bag(tmp_path / "drive")
    assert label(bag, "--out", tmp_path / "out", "--confidence") == 0
    drive = open_drive(tmp_path / "out" / "drive")
    assert (drive.topic, drive.mask_topic) == (IMAGE, None)
    assert len(open_drive(tmp_path / "out" / "drive", mask_topic=MASK).masks) == 3


def test_ros1_and_both_storages_give_the_same_masks(tmp_path):
    bags = [cut(tmp_path / "mcap", 40, 2), cut(tmp_path / "sqlite", 40, 2, "SQLITE3")]
    bags.append(as_ros1(bags[0], tmp_path / "old.bag"))

    assert label(*bags, "--out", tmp_path / "out") == 0

    outputs = [messages(tmp_path / "out" / name) for name in ("mcap", "sqlite", "old")]
    assert [len(output) for output in outputs] == [8, 8, 8]
    # Converted from ROS 1, the other topics are again what they were in ROS 2.
    assert sorted(outputs[0]) == sorted(outputs[1]) == sorted(outputs[2])


def test_types_that_are_known_nowhere_are_copied(tmp_path):
    """With a definition in the bag (of ROS 1 and ROS 2), and without one."""
    types = get_types_from_msg("uint8 gear\nfloat32 speed\n", "vehicle_msgs/msg/State")
    ros1, ros2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_JAZZY)
    for store in (ros1, ros2):
        store.register(types)
    with rosbag1.Writer(tmp_path / "old.bag") as writer:
        connection = writer.add_connection("/state", "vehicle_msgs/msg/State", typestore=ros1)
        message = ros1.types["vehicle_msgs/msg/State"](3, 12.5)
        writer.write(connection, 77, ros1.serialize_ros1(message, "vehicle_msgs/msg/State"))
    cdr = bytes(ros2.serialize_cdr(message, "vehicle_msgs/msg/State"))
    with rosbag2.Writer(tmp_path / "new", version=9) as writer:
        known = writer.add_connection("/state", "vehicle_msgs/msg/State", typestore=ros2)
        unknown = writer.add_connection("/odd", "odd_msgs/msg/Odd", msgdef="", rihs01="RIHS01_x")
        writer.write(known, 77, cdr)
        writer.write(unknown, 78, b"\x00\x01\x00\x00odd!")

    for source, expected in (
        (tmp_path / "old.bag", [("/state", "vehicle_msgs/msg/State", 77, cdr)]),
        (tmp_path / "new", messages(tmp_path / "new")),
    ):
        copied = tmp_path / f"{source.stem}_copy"
        with BagReader(source) as reader, BagCopy(reader, copied) as copy:
            for message in reader.raw_messages():
                copy.copy(*message)
        assert messages(copied) == expected
        with rosbag2.Reader(copied) as reader:
            definitions = {c.topic: c.msgdef.data for c in reader.connections}
            assert "float32 speed" in definitions["/state"]


def test_undecodable_images_are_counted_and_named(tmp_path, capsys):
    bag = small_bag(tmp_path / "drive", broken=(1,))

    assert label(bag, "--out", tmp_path / "out") == 0

    assert [time for _, _, time, _ in messages(tmp_path / "out" / "drive", {MASK})] == [3_000_000_010, 3_000_000_012]
    assert len(messages(tmp_path / "out" / "drive", {IMAGE})) == 3
    manifest = json.loads((tmp_path / "out" / "drive" / "label.json").read_text())
    assert (manifest["frames"], manifest["masked"]) == (3, 2)
    (named,) = manifest["undecodable"]
    assert named.startswith(f"{IMAGE} 3000000001: 8 bytes of format 'jpeg'")
    assert named in capsys.readouterr().out


def test_bad_bag_is_named_and_the_others_are_labelled(tmp_path, capsys):
    broken = cut(tmp_path / "broken", 0, 30)
    file = next(broken.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    bags = [small_bag(tmp_path / "first"), broken, tmp_path / "missing", small_bag(tmp_path / "last")]

    assert label(*bags, "--out", tmp_path / "out") == 1

    assert sorted(os.listdir(tmp_path / "out")) == ["first", "last"]
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.startswith(str(tmp_path))]
    assert [row[5].rstrip(":") for row in rows] == ["labelled", "failed", "failed", "labelled"]
    (cut_off,) = (line for line in out.splitlines() if line.startswith(f"failed: {broken}: "))
    assert "cut off" in cut_off
    assert f"failed: {tmp_path / 'missing'}: {tmp_path / 'missing'} does not exist" in out
    assert [line for line in out.splitlines() if line.startswith("written: ")] == [
        f"written: {tmp_path / 'out' / name}" for name in ("first", "last")
    ]


def test_finished_bags_are_skipped_and_half_written_ones_done_again(tmp_path, capsys):
    bags = [small_bag(tmp_path / name) for name in ("a", "b")]
    out = tmp_path / "out"
    assert label(bags[0], "--out", out) == 0
    before = (out / "a" / "a.mcap").stat().st_mtime_ns
    (out / ".b.partial-elsewhere-1" / "b").mkdir(parents=True)
    (out / ".b.partial-elsewhere-1" / "b" / "b.mcap").write_text("half")
    capsys.readouterr()

    assert label(*bags, "--out", out) == 0

    states = [line.split()[-1] for line in capsys.readouterr().out.splitlines() if line.startswith(str(tmp_path))]
    assert states == ["skipped", "labelled"]
    assert (out / "a" / "a.mcap").stat().st_mtime_ns == before
    assert sorted(os.listdir(out)) == ["a", "b"]


def test_what_lies_in_the_way_is_kept(tmp_path, capsys):
    bag, out = small_bag(tmp_path / "a"), tmp_path / "out"
    (out / "a").mkdir(parents=True)
    (out / "a" / "notes.txt").write_text("mine")
    assert label(bag, "--out", out) == 1
    assert "a exists and was not made by label" in capsys.readouterr().out
    assert (out / "a" / "notes.txt").read_text() == "mine"

    other = tmp_path / "other"
    assert label(bag, "--out", other) == 0
    manifest = (other / "a" / "label.json").read_text()
    assert label(bag, "--out", other, "--confidence") == 1
    assert "a was labelled with confidence False, not True" in capsys.readouterr().out
    assert label(bag, "--out", other, "--model", "fpn_convnextv2") == 1
    assert f"bundle {DEFAULT_MODEL}, not fpn_convnextv2" in capsys.readouterr().out
    assert (other / "a" / "label.json").read_text() == manifest


def test_labelled_bag_is_not_labelled_again(tmp_path, capsys):
    assert label(small_bag(tmp_path / "a"), "--out", tmp_path / "out") == 0
    assert label(tmp_path / "out" / "a", "--out", tmp_path / "again") == 1
    assert f"topic {IMAGE} has labels already" in capsys.readouterr().out


def test_several_cameras(tmp_path, capsys):
    bag = small_bag(tmp_path / "a", topics=("/left/image/compressed", "/right/image/compressed"))
    assert label(bag, "--out", tmp_path / "out") == 1
    assert "2 image topics" in capsys.readouterr().out
    both = ("--topic", "/left/image/compressed", "--topic", "/right/image/compressed")
    assert label(bag, "--out", tmp_path / "out", *both) == 0
    counts = {topic.name: topic.count for topic in list_topics(tmp_path / "out" / "a")}
    assert counts["/left/segmentation/mask/compressed"] == counts["/right/segmentation/mask/compressed"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "nowhere"), "no bundle 'nowhere'"),
        (("--threads", "0"), "--threads must be at least 1, not 0"),
        (("--workers", "2"), "--workers must be at least 1, and goes with --ray"),
        (("--gpus", "1"), "--gpus must not be negative, and goes with --ray"),
        (("--out", "{bag}/.."), "is the folder that"),
    ],
)
def test_wrong_input(tmp_path, capsys, arguments, message):
    bag = small_bag(tmp_path / "a")
    arguments = [argument.format(bag=bag) for argument in arguments]
    assert main(["label", str(bag), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_bags_of_one_name_are_refused(tmp_path, capsys):
    bags = [small_bag(tmp_path / folder / "drive") for folder in ("monday", "tuesday")]
    assert label(*bags, "--out", tmp_path / "out") == 2
    assert "would both become" in capsys.readouterr().err


def test_ray_that_is_missing_or_took_a_bag_is_named(tmp_path, capsys, monkeypatch):
    bag = small_bag(tmp_path / "a")
    if importlib.util.find_spec("ray"):
        assert label(tmp_path / "b", "--out", tmp_path / "out", "--ray", bag) == 2
        assert "put --ray behind the bags" in capsys.readouterr().err
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name != "ray" and found(name))
    assert label(bag, "--out", tmp_path / "out", "--ray") == 2
    assert "pip install ray" in capsys.readouterr().err


def test_machines_that_a_cluster_does_not_have_are_named(tmp_path, capsys):
    pytest.importorskip("ray", reason="ray is missing: pip install ray")
    assert label(small_bag(tmp_path / "a"), "--out", tmp_path / "out", "--workers", 1, "--gpus", 99, "--ray") == 2
    assert "no machine has 99 GPUs for one bag" in capsys.readouterr().err


def test_bag_hash_is_that_of_the_content(tmp_path):
    first, same = small_bag(tmp_path / "x" / "a"), small_bag(tmp_path / "y" / "a")
    assert bag_hash(first) == bag_hash(same) != bag_hash(small_bag(tmp_path / "z" / "a", frames=2))


def test_ray_gives_the_masks_of_the_serial_run_though_a_worker_is_killed(tmp_path):
    pytest.importorskip("ray", reason="ray is missing: pip install ray")
    bags = [cut(tmp_path / "bags" / f"drive{i}", 30 * i, 2) for i in range(6)]
    serial, distributed = tmp_path / "serial", tmp_path / "ray"
    assert label(*bags, "--out", serial) == 0

    command = [sys.executable, "-m", "seg_node", "label", *map(str, bags), "--out", str(distributed)]
    options = ["--threads", "1", "--engine", "onnxruntime", "--workers", "2", "--ray"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    killed = None
    try:
        while killed is None and process.poll() is None:
            # Midway: a bag is finished, and another one has begun.
            finished = [path for path in distributed.glob("drive*")]
            begun = [path for path in distributed.glob(".drive*.partial-*/drive*/*.mcap")]
            if finished and begun:
                pid = int(begun[0].parents[1].name.rpartition("-")[2])
                os.kill(pid, signal.SIGSTOP)
                if begun[0].exists():
                    killed = begun[0].parent.name
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()

    assert process.returncode == 0, output
    assert killed, "no worker was killed midway"
    assert sorted(os.listdir(distributed)) == [bag.name for bag in bags]
    for bag in bags:
        files = sorted(path.name for path in (serial / bag.name).iterdir())
        assert files == [f"{bag.name}.mcap", "label.json", "metadata.yaml"]
        assert len(messages(serial / bag.name, {MASK})) == 2
        for name in files:
            assert (serial / bag.name / name).read_bytes() == (distributed / bag.name / name).read_bytes(), name
