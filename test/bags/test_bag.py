"""Bags: what is written is read back, in every format, and every refusal says what is wrong."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.bags import as_ros1
from helpers.paths import DATA, DRIVE
from rosbags import rosbag2
from rosbags.typesys import Stores, get_typestore

from seg_node.__main__ import main
from seg_node.bags.drive import CameraInfo, open_drive, open_drives
from seg_node.bags.reader import BagError, TopicQos, bag_hash, list_topics
from seg_node.bags.writer import BagWriter

HIGHWAY = DATA / "drives" / "highway_solid_white.mp4"
INFO = CameraInfo(48, 64, np.array((50, 0, 32, 0, 51, 24, 0, 0, 1.0)), d=np.array((0.1, -0.2, 0, 0, 0.3)))


def picture(index: int) -> np.ndarray:
    image = np.full((48, 64, 3), (200, 120, 40), np.uint8)
    cv2.circle(image, (10 + 8 * index, 24), 8, (30, 60, 220), -1)
    return image


def truth(index: int) -> np.ndarray:
    return np.roll(np.arange(48 * 64).reshape(48, 64) % 8, index, axis=1).astype(np.uint8)


def stamp(index: int) -> int:
    return 5_000_000_123 + index * 33_333_333


def write(path: Path, storage: str = "mcap", frames: int = 4, raw: bool = False) -> Path:
    with BagWriter(path, frame_id="front", storage=storage) as bag:
        for i in range(frames):
            bag.write_camera_info(stamp(i), INFO)
            if raw:
                bag.write_raw_image(stamp(i), picture(i))
            else:
                bag.write_image(stamp(i), picture(i))
            bag.write_mask(stamp(i), truth(i))
    return path


def test_drive_is_read_back(tmp_path):
    drive = open_drive(write(tmp_path / "drive"))
    assert [f.stamp for f in drive.frames] == [f.log_time for f in drive.frames] == [stamp(i) for i in range(4)]
    assert {f.frame_id for f in drive.frames} == {"front"}
    assert {f.kind for f in drive.frames} == {"compressed"}
    assert "jpeg" in drive.frames[0].image.format
    for i, frame in enumerate(drive.frames):
        decoded = cv2.imdecode(frame.image.data, cv2.IMREAD_COLOR)
        assert np.abs(decoded.astype(int) - picture(i)).mean() < 8
        np.testing.assert_array_equal(drive.masks[frame.stamp], truth(i))
    assert len(drive.masks) == 4
    assert (drive.camera_info.height, drive.camera_info.width) == (48, 64)
    np.testing.assert_array_equal(drive.camera_info.k, INFO.k)
    np.testing.assert_array_equal(drive.camera_info.d, INFO.d)
    np.testing.assert_array_equal(drive.camera_info.p, (50, 0, 32, 0, 0, 51, 24, 0, 0, 0, 1, 0))
    assert drive.rate == pytest.approx(30, abs=0.01)


def test_raw_images_keep_every_byte(tmp_path):
    drive = open_drive(write(tmp_path / "drive", raw=True))
    image = drive.frames[2].image
    assert drive.frames[2].kind == "image"
    assert (image.encoding, image.height, image.width, image.step, image.is_bigendian) == ("bgr8", 48, 64, 192, 0)
    np.testing.assert_array_equal(image.data.reshape(48, 64, 3), picture(2))


def test_storages_and_ros1_give_the_same_drive(tmp_path):
    mcap = write(tmp_path / "mcap")
    drives = [open_drive(p) for p in (mcap, write(tmp_path / "sqlite", "sqlite3"), as_ros1(mcap, tmp_path / "old.bag"))]
    assert next((tmp_path / "sqlite").glob("*.db3"))
    for other in drives[1:]:
        assert len(other.frames) == 4
        for a, b in zip(drives[0].frames, other.frames, strict=True):
            assert (a.log_time, a.stamp, a.frame_id, a.image.format) == (
                b.log_time,
                b.stamp,
                b.frame_id,
                b.image.format,
            )
            np.testing.assert_array_equal(a.image.data, b.image.data)
            np.testing.assert_array_equal(drives[0].masks[a.stamp], other.masks[b.stamp])
        for name in ("k", "d", "r", "p"):
            np.testing.assert_array_equal(getattr(drives[0].camera_info, name), getattr(other.camera_info, name))


def test_single_storage_files_open(tmp_path):
    drives = [
        open_drive(next(write(tmp_path / s, s).glob(f"*.{e}"))) for s, e in (("mcap", "mcap"), ("sqlite3", "db3"))
    ]
    assert [len(drive.frames) for drive in drives] == [4, 4]


def test_missing_path(tmp_path):
    with pytest.raises(BagError, match="nowhere does not exist"):
        open_drive(tmp_path / "nowhere")


def test_what_is_no_bag(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BagError, match="notes.txt: it is no bag"):
        open_drive(tmp_path / "notes.txt")
    with pytest.raises(BagError, match="it holds no .mcap, .db3 or .bag file"):
        open_drive(tmp_path)
    for name in ("text.mcap", "text.db3", "text.bag"):
        (tmp_path / name).write_text("hello " * 100)
        with pytest.raises(BagError, match=f"{name}: it is no bag"):
            open_drive(tmp_path / name)


@pytest.mark.parametrize("kind", ["mcap", "sqlite3", "ros1"])
def test_truncated_bag(tmp_path, kind):
    path = write(tmp_path / "drive", "sqlite3" if kind == "sqlite3" else "mcap", frames=30, raw=kind != "ros1")
    file = (
        as_ros1(path, tmp_path / "old.bag")
        if kind == "ros1"
        else next(p for p in path.iterdir() if p.suffix != ".yaml")
    )
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BagError, match="cut off"):
        open_drive(file if kind == "ros1" else path)


def test_wrong_topics_are_told_what_there_is(tmp_path):
    path = write(tmp_path / "drive")
    with pytest.raises(BagError, match=r"no topic /front; the bag holds .*/camera/image/compressed \(sensor_msgs/msg/"):
        open_drive(path, "/front")
    with pytest.raises(BagError, match="/camera/camera_info is sensor_msgs/msg/CameraInfo, not"):
        open_drive(path, "/camera/camera_info")
    with pytest.raises(BagError, match="no topic /labels"):
        open_drive(path, mask_topic="/labels")


def test_no_image_several_images_and_no_messages(tmp_path):
    with BagWriter(tmp_path / "none") as bag:
        bag.write_camera_info(1, INFO)
    with pytest.raises(BagError, match="no image topic; the bag holds /camera/camera_info"):
        open_drive(tmp_path / "none")

    store = get_typestore(Stores.ROS2_JAZZY)
    with rosbag2.Writer(tmp_path / "two", version=9, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
        for topic in ("/left/image", "/right/image"):
            writer.add_connection(topic, "sensor_msgs/msg/Image", typestore=store)
    with pytest.raises(BagError, match=r"2 image topics \(/left/image, /right/image\), choose one"):
        open_drive(tmp_path / "two")
    with pytest.raises(BagError, match="topic /left/image has no messages"):
        open_drive(tmp_path / "two", "/left/image")


def test_mask_that_is_none(tmp_path):
    with BagWriter(tmp_path / "drive") as bag:
        for i in range(2):
            bag.write_image(stamp(i), picture(i))
        bag.write_mask(stamp(0), np.full((48, 64), 9, np.uint8))
        bag.write_mask(stamp(1), picture(1))
    masks = open_drive(tmp_path / "drive").masks
    with pytest.raises(BagError, match="holds 9; expected 0..7 or 255"):
        masks[stamp(0)]
    with pytest.raises(BagError, match="no 8-bit single-channel image"):
        masks[stamp(1)]


def test_raw_mask_with_padded_rows(tmp_path):
    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](5, 6), "front")
    padded = np.full((48, 80), 99, np.uint8)
    padded[:, :64] = truth(1)
    with rosbag2.Writer(tmp_path / "drive", version=9, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
        for topic in ("/front/image", "/front/mask"):
            connection = writer.add_connection(topic, "sensor_msgs/msg/Image", typestore=store)
            message = types["sensor_msgs/msg/Image"](header, 48, 64, "mono8", 0, 80, padded.ravel())
            writer.write(connection, 7, store.serialize_cdr(message, "sensor_msgs/msg/Image"))
    drive = open_drive(tmp_path / "drive")
    assert (drive.topic, drive.mask_topic) == ("/front/image", "/front/mask")
    assert (drive.frames[0].log_time, drive.frames[0].stamp, drive.frames[0].image.step) == (7, 5_000_000_006, 80)
    np.testing.assert_array_equal(drive.masks[5_000_000_006], truth(1))


def test_failed_writing_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), BagWriter(tmp_path / "drive") as bag:
        bag.write_image(stamp(0), picture(0))
        raise RuntimeError
    assert not (tmp_path / "drive").exists()


def test_existing_bag_is_kept(tmp_path):
    path = write(tmp_path / "drive")
    with pytest.raises(BagError, match="exists already"):
        BagWriter(path)
    assert len(open_drive(path).frames) == 4


def command(*arguments: object) -> int:
    return main(["bag", *map(str, arguments)])


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, (64, 48))
    assert writer.isOpened()
    for i in range(5):
        writer.write(picture(i))
    writer.release()
    return path


def test_video_becomes_a_bag(tmp_path, video, capsys):
    assert command("from-video", video, tmp_path / "out") == 0
    drive = open_drive(tmp_path / "out")
    assert drive.topic == "/camera/image/compressed"
    assert [f.stamp for f in drive.frames] == [10**9 + i * 50_000_000 for i in range(5)]
    decoded = cv2.imdecode(drive.frames[4].image.data, cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(int) - picture(4)).mean() < 8
    assert drive.masks == {}
    assert drive.camera_info is None
    capsys.readouterr()
    assert command("info", tmp_path / "out") == 0
    assert "0.20 s, 20.00 Hz, 64x48" in capsys.readouterr().out


def test_video_options(tmp_path, video):
    assert command("from-video", video, tmp_path / "out", "--raw", "--fps", 10, "--topic", "/front") == 0
    drive = open_drive(tmp_path / "out")
    assert (drive.topic, drive.frames[0].kind, drive.rate) == ("/front", "image", pytest.approx(10))


def test_video_refusals(tmp_path, video, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "kept").mkdir()
    for arguments, message in (
        ((tmp_path / "missing.mp4", tmp_path / "out"), "missing.mp4 is no file"),
        ((tmp_path / "text.mp4", tmp_path / "out"), "text.mp4 cannot be decoded"),
        ((video, tmp_path / "kept"), "kept exists already"),
        ((video, tmp_path / "out", "--fps", 0), "0.0 frames per second is no rate"),
        ((video, tmp_path / "out", "--quality", 101), "1..100, not 101"),
    ):
        assert command("from-video", *arguments) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_info_of_a_drive_with_truth(tmp_path, capsys):
    assert command("info", write(tmp_path / "drive")) == 0
    out = capsys.readouterr().out
    assert "ground truth for 4 of 4 frames in /camera/mask/compressed" in out
    assert command("info", tmp_path / "nowhere") == 2
    assert [t.count for t in list_topics(tmp_path / "drive")] == [4, 4, 4]


@pytest.mark.skipif(not HIGHWAY.is_file(), reason=f"{HIGHWAY} is missing (set SEG_NODE_DATA)")
def test_highway_video(tmp_path):
    assert command("from-video", HIGHWAY, tmp_path / "out") == 0
    drive = open_drive(tmp_path / "out")
    assert len(drive.frames) == 221
    assert drive.rate == pytest.approx(25, abs=0.01)
    assert cv2.imdecode(drive.frames[220].image.data, cv2.IMREAD_COLOR).shape == (540, 960, 3)


def read_back(path: Path, frames: int = 4) -> None:
    drive = open_drive(path)
    assert [f.stamp for f in drive.frames] == [stamp(i) for i in range(frames)]
    np.testing.assert_array_equal(drive.masks[stamp(1)], truth(1))


def copy(source: Path, path: Path, change=lambda message: message, qos=(), **options) -> Path:
    """Write a rosbag2 again, message by message; ``options`` are those of ``rosbag2.Writer``, and ``compress``."""
    store = get_typestore(Stores.ROS2_JAZZY)
    compress = options.pop("compress", None)
    writer = rosbag2.Writer(path, version=9, **options)
    if compress:
        writer.set_compression(rosbag2.CompressionMode[compress], rosbag2.CompressionFormat.ZSTD)
    with rosbag2.Reader(source) as reader, writer:
        added = {
            c.topic: writer.add_connection(c.topic, c.msgtype, typestore=store, offered_qos_profiles=qos)
            for c in reader.connections
        }
        for connection, time, data in reader.messages():
            message = change(store.deserialize_cdr(data, connection.msgtype))
            if message is not None:
                writer.write(added[connection.topic], time, store.serialize_cdr(message, connection.msgtype))
    return path


MCAP, SQLITE3 = rosbag2.StoragePlugin.MCAP, rosbag2.StoragePlugin.SQLITE3


@pytest.mark.parametrize(
    ("storage", "compress"),
    [(MCAP, "FILE"), (MCAP, "MESSAGE"), (MCAP, "STORAGE"), (SQLITE3, "FILE"), (SQLITE3, "MESSAGE")],
)
def test_compressed_bags_open(tmp_path, storage, compress):
    read_back(copy(write(tmp_path / "plain"), tmp_path / "packed", storage_plugin=storage, compress=compress))


def split(tmp_path: Path, storage: str) -> Path:
    """A rosbag2 folder of two files with two frames each, as ``ros2 bag record --max-bag-duration`` leaves it."""
    import yaml

    kind = {"mcap": MCAP, "sqlite3": SQLITE3}[storage]
    plain = write(tmp_path / "plain", storage)
    late = stamp(2)
    halves = [
        copy(plain, tmp_path / name, lambda m, keep=keep: m if keep(time_of(m)) else None, storage_plugin=kind)
        for name, keep in (("one", lambda time: time < late), ("two", lambda time: time >= late))
    ]
    folder = tmp_path / "split"
    folder.mkdir()
    about = yaml.safe_load((plain / "metadata.yaml").read_text())
    files = [next(half.glob("*.mcap" if storage == "mcap" else "*.db3")) for half in halves]
    about["rosbag2_bagfile_information"]["relative_file_paths"] = [file.name for file in files]
    (folder / "metadata.yaml").write_text(yaml.safe_dump(about))
    for file in files:
        file.rename(folder / file.name)
    return folder


def time_of(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_split_bags_open_and_miss_no_file(tmp_path, storage):
    folder = split(tmp_path, storage)
    read_back(folder)
    next(folder.glob("two*")).unlink()
    with pytest.raises(BagError, match=r"files are missing: .*two\.\w+.*it holds .*/camera/image/compressed \(sensor"):
        open_drive(folder)


def test_parts_of_several_bags_are_not_read_as_one(tmp_path):
    folder = split(tmp_path, "mcap")
    (folder / "metadata.yaml").unlink()
    with pytest.raises(BagError, match="no metadata.yaml, and one.mcap, two.mcap are of several bags; choose one"):
        open_drive(folder)


def test_mcap_without_footer_tells_what_it_holds(tmp_path):
    folder = copy(write(tmp_path / "plain", frames=12), tmp_path / "packed", storage_plugin=MCAP, compress="STORAGE")
    file = next(folder.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[:-40])
    wanted = r"no end: .*/camera/image/compressed \(sensor_msgs/msg/CompressedImage, 12 .*`seg_node bag copy --recover "
    with pytest.raises(BagError, match=wanted):
        open_drive(file)


def test_unindexed_ros1_bag_is_told_apart(tmp_path):
    file = as_ros1(write(tmp_path / "plain"), tmp_path / "old.bag")
    data = file.read_bytes()
    # A recorder that is killed leaves the position of the index at 0, and no index.
    at = data.index(b"index_pos=") + len(b"index_pos=")
    index = int.from_bytes(data[at : at + 8], "little")
    file.write_bytes(data[:at] + bytes(8) + data[at + 8 : index])
    with pytest.raises(BagError, match=r"no index: it was cut off, or its recorder .*`rosbag reindex .*old.bag`"):
        open_drive(file)


def test_start_and_duration_are_seconds_of_the_bag(tmp_path):
    path = write(tmp_path / "drive", frames=10)
    kept = open_drive(path, start=0.1, duration=0.1)
    # A nanosecond less than 0.1 s, 0.133 s, ..., a little less than 0.2 s.
    assert [f.stamp for f in kept.frames] == [stamp(i) for i in (4, 5, 6)]
    assert set(kept.masks) == {f.stamp for f in kept.frames}
    assert kept.camera_info is not None
    assert len(open_drive(path, duration=0.05).frames) == 2
    with pytest.raises(BagError, match="no messages from 7 s; the bag holds"):
        open_drive(path, start=7)
    with pytest.raises(BagError, match="duration more than 0 s, not 0 and 0"):
        open_drive(path, duration=0)


def test_stamps_that_repeat_are_kept_and_have_no_ground_truth(tmp_path):
    stamps = iter([1, 1, 3, 2] * 3)

    def restamp(message):
        if hasattr(message, "format"):
            message.header.stamp.sec, message.header.stamp.nanosec = 0, next(stamps)
        return message

    path = tmp_path / "plain"
    with BagWriter(path) as bag:
        for i in range(4):
            bag.write_image(stamp(i), picture(i))
        for i in range(4):
            bag.write_mask(stamp(i + 4), truth(i))
    drive = open_drive(copy(path, tmp_path / "odd", restamp, storage_plugin=MCAP))

    assert [f.stamp for f in drive.frames] == [1, 1, 3, 2]
    assert set(drive.masks) == {2, 3}
    np.testing.assert_array_equal(drive.masks[3], truth(2))


def test_recorded_qos(tmp_path):
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    forever = QosTime(0, 0)
    offered = Qos(
        QosHistory.KEEP_LAST,
        7,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )
    plain = write(tmp_path / "plain")
    for storage, name in ((MCAP, "mcap"), (SQLITE3, "sqlite3")):
        path = copy(plain, tmp_path / name, qos=[offered], storage_plugin=storage)
        for source in (path, next(path.glob("*.mcap" if name == "mcap" else "*.db3"))):
            assert open_drive(source).qos == TopicQos("reliable", "transient_local", 7)
    assert open_drive(plain).qos is None


def test_several_cameras_each_with_the_masks_of_its_namespace(tmp_path):
    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    with rosbag2.Writer(tmp_path / "two", version=9, storage_plugin=MCAP) as writer:
        for value, name in enumerate(("/left/image", "/right/image", "/right/mask"), 1):
            connection = writer.add_connection(name, "sensor_msgs/msg/Image", typestore=store)
            header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](5, 6), "front")
            pixels = np.full(48 * 64, value, np.uint8)
            message = types["sensor_msgs/msg/Image"](header, 48, 64, "mono8", 0, 64, pixels)
            writer.write(connection, 7, store.serialize_cdr(message, "sensor_msgs/msg/Image"))

    left, right = open_drives(tmp_path / "two", ["/left/image", "/right/image"])

    assert [d.frames[0].image.data[0] for d in (left, right)] == [1, 2]
    assert (left.mask_topic, right.mask_topic) == (None, "/right/mask")


def test_hash_is_of_what_the_bag_holds(tmp_path):
    path = write(tmp_path / "drive")
    before = bag_hash(path)
    path = path.rename(tmp_path / "moved")
    file = next(path.glob("*.mcap"))
    assert bag_hash(path) == before != bag_hash(file)
    assert len(before) == 64
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    assert bag_hash(path) != before


def test_masks_are_the_same_from_every_kind_of_bag(tmp_path):
    """What the node makes of a drive does not depend on how the drive is stored."""
    from seg_node.bags.images import decode
    from seg_node.core.bundle import DEFAULT_MODEL, load_bundle
    from seg_node.core.engines import create_engine

    shipped = DRIVE
    drive = open_drive(shipped, duration=0.09)
    plain = tmp_path / "mcap"
    with BagWriter(plain) as bag:
        for frame in drive.frames:
            bag.write_image(frame.stamp, cv2.resize(decode(frame), (160, 90)))
    bags = [plain, copy(plain, tmp_path / "sqlite3", storage_plugin=SQLITE3), as_ros1(plain, tmp_path / "ros1.bag")]
    engine = create_engine(load_bundle(DEFAULT_MODEL), "onnxruntime", 1)

    masks = [[engine.infer(decode(frame), False)[0] for frame in open_drive(bag).frames] for bag in bags]

    assert len(masks[0]) == 3 and len(np.unique(masks[0][0])) > 1
    for other in masks[1:]:
        np.testing.assert_array_equal(masks[0], other)
