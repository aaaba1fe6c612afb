"""Recorded drives of every format."""

import shutil
from contextlib import suppress
from random import Random

import numpy as np
from cases import Case
from mutate import damaged
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_typestore
from surfaces import ACCEPTED, Surface, expect, refused

from seg_node.bags.drive import open_drive
from seg_node.bags.reader import BagError
from seg_node.bags.writer import BagWriter
from seg_node.core.images import EncodedPixels, RawPixels

_SUFFIXES = {"mcap": ".mcap", "sqlite3": ".db3", "ros1": ".bag"}


class BagSurface(Surface):
    """``open_drive`` and the ground truth of what it returns; refuses with ``BagError``."""

    def __init__(self, folder):
        super().__init__(folder)
        self._seeds = {}
        for storage in ("mcap", "sqlite3"):
            with BagWriter(folder / storage, storage=storage) as bag:
                _write_two_frames(bag)
            (file,) = (folder / storage).glob(f"*{_SUFFIXES[storage]}")
            self._seeds[storage] = file.read_bytes()
        self._metadata = (folder / "mcap" / "metadata.yaml").read_bytes()
        self._in_folder = file_name = next((folder / "mcap").glob("*.mcap")).name
        self._seeds["ros1"] = _as_ros1(folder / "mcap", folder / "seed.bag")
        self._folder_file = folder / "mcap" / file_name

    def draw(self, rng: Random) -> Case:
        kind = rng.choice(("mcap", "mcap", "sqlite3", "ros1", "folder"))
        if kind != "folder":
            return {"kind": kind, "data": damaged(rng, self._seeds[kind], limit=2**18)}
        metadata, data = self._metadata, self._seeds["mcap"]
        if rng.randrange(4):
            metadata = damaged(rng, metadata)
        else:
            data = damaged(rng, data)
        return {"kind": kind, "metadata": metadata, "data": data}

    def feed(self, case: Case) -> str:
        if case["kind"] == "folder":
            path = self._folder_file.parent
            (path / "metadata.yaml").write_bytes(case["metadata"])
            self._folder_file.write_bytes(case["data"])
        else:
            path = self.folder / f"drive{_SUFFIXES[case['kind']]}"
            path.write_bytes(case["data"])
        try:
            drive = open_drive(path)
            masks = [_mask(drive.masks, stamp) for stamp in drive.masks]
        except BagError as error:
            return refused(error)
        expect(drive.frames, "a drive without frames")
        for frame in drive.frames:
            expect(isinstance(frame.image, (RawPixels, EncodedPixels)), f"an image is {type(frame.image).__name__}")
            expect(frame.image.data.dtype == np.uint8, f"an image is {frame.image.data.dtype}")
        expect(drive.rate >= 0 and drive.duration >= 0, f"{drive.rate} Hz in {drive.duration} s")
        expect(all(mask is None or mask.ndim == 2 for mask in masks), "a mask is no plane")
        return ACCEPTED

    def close(self) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.folder / "mcap")


def _mask(masks, stamp):
    try:
        return masks[stamp]
    except BagError as error:
        # One damaged mask leaves the others of use.
        refused(error)
        return None


def _write_two_frames(bag: BagWriter) -> None:
    picture = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    for stamp in (10**9, 2 * 10**9):
        bag.write_image(stamp, picture)
        bag.write_mask(stamp, picture[..., 0] % 8)


def _as_ros1(source, path) -> bytes:
    """The same messages in a bag of ROS 1."""
    ros1, ros2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_JAZZY)
    with rosbag2.Reader(source) as reader, rosbag1.Writer(path) as writer:
        connections = {c.topic: writer.add_connection(c.topic, c.msgtype, typestore=ros1) for c in reader.connections}
        for connection, time, data in reader.messages():
            message = ros2.deserialize_cdr(data, connection.msgtype)
            header = ros1.types["std_msgs/msg/Header"](7, message.header.stamp, message.header.frame_id)
            copy = ros1.types[connection.msgtype](header, message.format, message.data)
            writer.write(connections[connection.topic], time, ros1.serialize_ros1(copy, connection.msgtype))
    return path.read_bytes()
