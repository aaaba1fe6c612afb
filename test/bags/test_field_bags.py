"""Bags as recorders, converters and people leave them: read whole, or told apart by what is the matter."""

import random
import shutil
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers.bags import (
    JPEG,
    STRING,
    TOPIC,
    as_ros1,
    compressed,
    frames,
    jpeg,
    picture,
    ros1_frames,
    strings,
    write_mcap,
)
from helpers.paths import DATA, DRIVE

st = pytest.importorskip("hypothesis.strategies", reason="hypothesis is missing: pip install -e '.[test]'")
from hypothesis import HealthCheck, given, settings  # noqa: E402

from seg_node.__main__ import main  # noqa: E402
from seg_node.bags.copy import BagCopy, copy_bag  # noqa: E402
from seg_node.bags.drive import Drive, open_drive  # noqa: E402
from seg_node.bags.reader import BagError, BagReader, list_topics  # noqa: E402
from seg_node.bags.writer import BagWriter  # noqa: E402
from seg_node.core.images import to_bgr  # noqa: E402

ANY_CHARACTER = st.characters(blacklist_categories=["Cs"])
FILE_NAME = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=40
).filter(lambda name: name not in (".", ".."))

quickly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def shown(drive: Drive) -> list[int]:
    """Index of the picture of each frame, by what it shows."""
    pictures = np.stack([picture(i) for i in range(12)]).astype(int)
    return [int(abs(pictures - to_bgr(frame.image)).sum((1, 2, 3)).argmin()) for frame in drive.frames]


def small_bag(path, storage="mcap"):
    """A rosbag2 folder with three pictures."""
    with BagWriter(path, image_topic=TOPIC, storage=storage) as bag:
        for i in range(3):
            bag.write_image(i + 1, picture(i))


@quickly
@given(profile=st.one_of(st.sampled_from(["", "ros2", "ros1"]), st.text(ANY_CHARACTER, max_size=40)))
def test_the_profile_of_a_file_does_not_matter(tmp_path, profile):
    file = write_mcap(tmp_path / "drive.mcap", {TOPIC: (JPEG, frames())}, profile=profile)
    assert shown(open_drive(file)) == [0, 1, 2, 3]


def test_ros1_messages_in_an_mcap_file(tmp_path):
    schema = b"std_msgs/Header header\nstring format\nuint8[] data\n"
    foreign = [(TOPIC, "sensor_msgs/CompressedImage", "ros1msg", schema, "ros1", ros1_frames())]
    file = write_mcap(tmp_path / "drive.mcap", {}, profile="ros1", foreign=foreign)
    assert [str(topic) for topic in list_topics(file)] == [f"{TOPIC} ({JPEG}, 4 messages)"]
    assert shown(open_drive(file)) == [0, 1, 2, 3]


@quickly
@given(seed=st.integers(0, 99), chunked=st.booleans(), summary=st.booleans(), chunk=st.sampled_from([1, 700, 2**20]))
def test_order_chunks_and_index_do_not_matter(tmp_path, seed, chunked, summary, chunk):
    file = write_mcap(
        tmp_path / "drive.mcap",
        {TOPIC: (JPEG, frames(6))},
        chunked=chunked,
        summary=summary,
        chunk_size=chunk,
        order=lambda messages: random.Random(seed).sample(messages, len(messages)),
    )
    assert shown(open_drive(file)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("schema", "encoding"), [("jsonschema", "json"), ("protobuf", "protobuf"), ("", "json"), ("made-up", "made-up")]
)
def test_channels_of_other_encodings_are_left_alone_and_named(tmp_path, schema, encoding, capsys):
    foreign = [("/status", "Status", schema, b"{}", encoding, [(5, b"{}"), (6, b"[]")])]
    file = write_mcap(tmp_path / "drive.mcap", {TOPIC: (JPEG, frames())}, foreign=foreign)
    assert shown(open_drive(file)) == [0, 1, 2, 3]
    assert main(["bag", "info", str(file)]) == 0
    assert f"left out: 2 messages of /status, Status: they are {encoding}, not of ROS" in capsys.readouterr().out


@quickly
@given(qos=st.one_of(st.text(st.characters(blacklist_categories=["Cs"]), max_size=60), st.just("- history: [")))
def test_text_of_a_qos_is_no_part_of_a_topic(tmp_path, qos):
    file = write_mcap(tmp_path / "drive.mcap", {TOPIC: (JPEG, frames()), "/note": (STRING, strings("ab"))}, qos=qos)
    assert {topic.name: topic.count for topic in list_topics(file)} == {TOPIC: 4, "/note": 2}


def test_topics_without_a_message_are_no_choice(tmp_path):
    empty = {f"{TOPIC}/{name}": (JPEG, []) for name in ("zstd", "theora")}
    file = write_mcap(tmp_path / "drive.mcap", {TOPIC: (JPEG, frames()), **empty})
    assert open_drive(file).topic == TOPIC


@quickly
@given(topic=st.text(ANY_CHARACTER, min_size=1, max_size=60).map(lambda text: f"/{text}"))
def test_any_character_in_the_name_of_a_topic(tmp_path, topic):
    file = write_mcap(tmp_path / "drive.mcap", {topic: (JPEG, frames()), "/note": (STRING, strings("ab"))})
    assert {found.name: found.count for found in list_topics(file)} == {topic: 4, "/note": 2}
    assert open_drive(file).topic == topic and shown(open_drive(file, topic)) == [0, 1, 2, 3]


@quickly
@given(name=st.one_of(st.sampled_from(["run #3", "a?b", "50%25", "ü ☂", "x;y&z", "'quoted'"]), FILE_NAME))
@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_any_character_in_a_path_of_a_bag(tmp_path, storage, name):
    with tempfile.TemporaryDirectory(dir=tmp_path) as scratch:
        small_bag(Path(scratch, "plain"), storage)
        folder = Path(scratch, "plain").rename(Path(scratch, name))
        (file,) = (path for path in folder.iterdir() if path.suffix in (".db3", ".mcap"))
        single = Path(scratch, f"{name}{file.suffix}")
        shutil.copy(file, single)
        assert shown(open_drive(folder)) == shown(open_drive(single)) == [0, 1, 2]


def test_messages_that_are_still_in_the_write_ahead_log_are_read(tmp_path):
    small_bag(tmp_path / "bag", "sqlite3")
    (file,) = (tmp_path / "bag").glob("*.db3")
    database = sqlite3.connect(file)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma wal_autocheckpoint=0")
    (topic,) = database.execute("select id from topics").fetchone()
    rows = [(topic, 10 + i, compressed(10 + i, jpeg(3 + i))) for i in range(2)]
    database.executemany("insert into messages(topic_id, timestamp, data) values (?, ?, ?)", rows)
    database.commit()
    killed = tmp_path / "killed"
    killed.mkdir()
    for part in (file, file.with_name(file.name + "-wal")):
        shutil.copy(part, killed)
    database.close()
    before = {part.name: part.read_bytes() for part in killed.iterdir()}
    assert shown(open_drive(killed / file.name)) == [0, 1, 2, 3, 4]
    assert {part.name: part.read_bytes() for part in killed.iterdir()} == before, "reading changes nothing"


@pytest.mark.parametrize("identifier", ["", "''", "unheard_of"])
def test_metadata_is_a_hint_and_the_files_are_the_truth(tmp_path, identifier):
    small_bag(tmp_path / "bag", "mcap")
    metadata = tmp_path / "bag" / "metadata.yaml"
    text = metadata.read_text()
    assert "storage_identifier: mcap" in text
    metadata.write_text(text.replace("storage_identifier: mcap", f"storage_identifier: {identifier}"))
    assert shown(open_drive(tmp_path / "bag")) == [0, 1, 2]


def test_a_count_that_differs_from_the_files_is_said(tmp_path, capsys):
    small_bag(tmp_path / "bag")
    metadata = tmp_path / "bag" / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 3", "message_count: 7"))
    assert main(["bag", "info", str(tmp_path / "bag")]) == 0
    assert f"metadata.yaml says 7 messages of {TOPIC}" in capsys.readouterr().out


@quickly
@given(cut=st.integers(1, 4000))
def test_a_cut_off_file_is_called_so_and_what_is_whole_can_be_had(tmp_path, cut):
    whole = write_mcap(tmp_path / "whole.mcap", {TOPIC: (JPEG, frames())}, chunked=False)
    data = whole.read_bytes()
    file = tmp_path / "cut.mcap"
    file.write_bytes(data[: -min(cut, len(data) - 60)])
    with BagReader(file, recover=True) as bag:
        assert sum(topic.count for topic in bag.topics) <= 4
        assert [log_time for _, log_time, _ in bag.raw_messages()] == [time for time, _ in frames()][
            : sum(topic.count for topic in bag.topics)
        ]
    try:
        open_drive(file)
    except BagError as error:
        assert "recover" in str(error) or "no image topic" in str(error) or "no messages" in str(error)


@pytest.mark.parametrize("kind", ["foxglove_msgs/msg/CompressedVideo", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"])
def test_packets_of_a_video_are_called_so(tmp_path, kind):
    foreign = [("/camera/video", kind, "ros2msg", b"uint8[] data\n", "cdr", [(1, b"\0\1\0\0\0\0\0\0")])]
    file = write_mcap(tmp_path / "drive.mcap", {}, foreign=foreign)
    with pytest.raises(BagError, match="packets of a video"):
        open_drive(file, "/camera/video")


def test_a_copy_holds_every_message_of_every_kind_of_bag(tmp_path):
    content = {TOPIC: (JPEG, frames()), "/note": (STRING, strings("abc"))}
    for source in (write_mcap(tmp_path / "a.mcap", content, qos="x: ["), as_ros1(DRIVE, tmp_path / "b.bag")):
        out = tmp_path / f"copy_{source.stem}"
        balance, _ = copy_bag(source, out)
        held = {(topic.name, topic.type): topic.count for topic in list_topics(source)}
        assert {(topic.name, topic.type): topic.count for topic in list_topics(out)} == held
        assert len(balance) == len(held)


def test_a_copy_that_loses_a_message_is_refused_by_name(tmp_path):
    source = write_mcap(tmp_path / "a.mcap", {TOPIC: (JPEG, frames()), "/note": (STRING, strings("abc"))})
    with (
        pytest.raises(BagError, match="/note"),
        BagReader(source) as reader,
        BagCopy(reader, tmp_path / "copy") as copy,
    ):
        messages = [m for m in reader.raw_messages()]
        lost = next(m for m in messages if m[0].topic == "/note")
        for message in messages:
            if message is not lost:
                copy.copy(*message)


_OTHERS = {
    "mcap/talker": 20, "mcap/convert_a": 150, "mcap/convert_b": 75,
    "sqlite3/talker": 20, "sqlite3/convert_a": 150, "sqlite3/convert_b": 75,
    "no-messages.bag": 0, "empty.mcap": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", _OTHERS)
def test_bags_of_others_are_read_whole(name):
    path = DATA / "bags" / name
    if not path.exists():
        pytest.skip(f"{path} is missing (set SEG_NODE_DATA)")
    with BagReader(path) as bag:
        assert sum(topic.count for topic in bag.topics) == _OTHERS[name]
        assert sum(1 for _ in bag.raw_messages()) == _OTHERS[name]
