"""Label recorded drives: a bag again, with the masks of its images as further topics."""

import json
import os
import shutil
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import cv2
import numpy as np

from seg_node.bags.copy import BagCopy
from seg_node.bags.drive import only_image_topic
from seg_node.bags.reader import COMPRESSED_IMAGE, IMAGE, BagError, BagReader, bag_hash, deserialize
from seg_node.core.bundle import GRAPH, Bundle
from seg_node.core.engines import Engine, create_engine
from seg_node.core.errors import UndecodableError
from seg_node.core.images import to_bgr
from seg_node.core.timing import stamp_ns

MANIFEST = "label.json"
SCHEMA = 1

LABELLED, SKIPPED, UNMASKED, FAILED = "labelled", "skipped", "nothing masked", "failed"
"""States of a bag at the end."""

_COUNTS = ("frames", "masked", "undecodable", "balance", "notes")
"""Fields of ``BagResult`` that the manifest keeps."""

_AHEAD = 4
"""Images that are decoded, and masks that are encoded, while the engine is at work."""

# Level 6 makes masks a quarter smaller and confidences a tenth, and takes twice the time.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 3]

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class LabelOptions:
    """What the labels depend on besides bag and bundle; equal options give equal labels on equal machines."""

    engine: str
    """Name of an engine, not ``auto``: it must be the same on every machine."""
    threads: int
    """For one inference, at least 1: an engine's own choice depends on the machine."""
    precision: str = "auto"
    """See ``create_engine``."""
    confidence: bool = False
    """Write the confidence of each mask, too."""
    topics: tuple[str, ...] = ()
    """Image topics; empty for a bag's only one."""


@dataclass
class BagResult:
    """What became of one bag."""

    bag: str
    """Its path as given."""
    state: str = FAILED
    """One of ``LABELLED``, ``SKIPPED``, ``UNMASKED`` and ``FAILED``."""
    frames: int = 0
    """Images of the topics."""
    masked: int = 0
    undecodable: list[str] = field(default_factory=list)
    """Topic, stamp and fault of each image that could not be read."""
    seconds: float = 0.0
    reason: str = ""
    """Why it failed, or why nothing was masked."""
    out: str = ""
    """Path of the labelled copy; empty without one."""
    balance: list[str] = field(default_factory=list)
    """Messages of each topic in and out, for people."""
    notes: list[str] = field(default_factory=list)
    """What was left out of the bag, and what is odd about it, for people."""


class _NothingMaskedError(Exception):
    """No image became a mask; the message says why."""


@dataclass
class _Image:
    """An image on its way through decoder, engine and encoder."""

    topic: str
    log_time: int
    message: Any
    """Message as ``rosbags`` reads it; None where the bytes are no such message."""
    bgr: np.ndarray | None = None
    """uint8 [H, W, 3]; None where the image could not be decoded, and after inference."""
    fault: str = ""
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    """Output of each kind, ``mask`` and ``confidence``: uint8 [H, W], later the PNG's bytes, uint8 [N]."""

    @property
    def time(self) -> str:
        """Header stamp in nanoseconds or, where there is no header, the log time."""
        return f"recorded at {self.log_time}" if self.message is None else str(stamp_ns(self.message.header))


class Labeller:
    """Labels bags with one bundle, one after the other; keeps the engine, which compiles for each image size once.

    Args:
        bundle: what makes the masks.
        options: see ``LabelOptions``.
    """

    def __init__(self, bundle: Bundle, options: LabelOptions):
        self.bundle = bundle
        self.options = options
        self._engine: Engine | None = None

    def label(self, source: Path, out: Path, progress: Callable[[int], None] = lambda frames: None) -> BagResult:
        """Write a labelled copy of a bag as ``out/NAME``, or skip it if that was done before.

        A bag of which no image becomes a mask has no copy. Whatever is wrong with the bag is in the result; no bag ends
        the others.

        Args:
            source: rosbag2 folder, or a .mcap, .db3 or ROS 1 .bag file.
            out: an existing folder.
            progress: called with the number of images done.
        """
        result = BagResult(str(source))
        started = time.monotonic()
        # A name of its own for each process: one that was only thought to be lost cannot write into another's.
        partial = out / f"{_partial(source)}{socket.gethostname()}-{os.getpid()}" / output_name(source)
        try:
            self._label(source, out / output_name(source), partial, result, progress)
            result.out = str(out / output_name(source))
        except _NothingMaskedError as error:
            result.state, result.reason = UNMASKED, str(error)
        except Exception as error:
            # Bags, engines and full disks raise errors of many types.
            result.reason = str(error) if isinstance(error, BagError) else f"{type(error).__name__}: {error}"
            result.state = FAILED
        finally:
            shutil.rmtree(partial.parent, ignore_errors=True)
        result.seconds = time.monotonic() - started
        return result

    def _label(
        self, source: Path, target: Path, partial: Path, result: BagResult, progress: Callable[[int], None]
    ) -> None:
        with BagReader(source) as reader:
            topics = [reader.topic(name).name for name in self.options.topics] or [only_image_topic(reader).name]
            outputs = _output_topics(reader, topics)
            identity = {
                "schema": SCHEMA,
                "bag": bag_hash(source),
                "bundle": self.bundle.name,
                "graph": self.bundle.manifest.files[GRAPH],
                **asdict(self.options),
                "topics": topics,
            }
            if target.exists():
                _resume(target, identity, result)
                return
            shutil.rmtree(partial.parent, ignore_errors=True)
            with BagCopy(reader, partial) as copy, ThreadPoolExecutor(_AHEAD) as pool:
                images = _overlapped(pool, _decode, _images(reader, copy, topics))
                for image in _overlapped(pool, _encode, map(self._infer, images)):
                    result.frames += 1
                    if image.fault:
                        result.undecodable.append(f"{image.topic} {image.time}: {image.fault}")
                    else:
                        result.masked += 1
                        for kind, png in image.outputs.items():
                            _write(copy, f"{outputs[image.topic]}/{kind}/compressed", image, png)
                    progress(result.frames)
            result.notes = reader.notes
            result.balance = [str(entry) for entry in copy.balance]
            if not result.masked:
                raise _NothingMaskedError(_why_nothing(topics, result))
        counts = {name: getattr(result, name) for name in _COUNTS}
        (partial / MANIFEST).write_text(json.dumps(identity | counts, indent=1) + "\n")
        try:
            partial.rename(target)
        except OSError:
            if not target.exists():
                raise
            # Another machine was given the same bag, because this one was thought to be lost, and was faster.
            _resume(target, identity, result)
        result.state = LABELLED

    def _infer(self, image: _Image) -> _Image:
        if image.bgr is not None:
            if self._engine is None:
                o = self.options
                self._engine = create_engine(self.bundle, o.engine, o.threads, o.precision)
            mask, confidence = self._engine.infer(image.bgr, self.options.confidence)
            image.outputs = {"mask": mask} if confidence is None else {"mask": mask, "confidence": confidence}
            image.bgr = None
        return image


def output_name(source: Path) -> str:
    """Name of the labelled copy of a bag: that of its folder, or of its file without the suffix."""
    path = source.resolve()
    return path.name if path.is_dir() else path.stem


def remove_partial(out: Path, source: Path) -> None:
    """Remove what a process left that was killed while it labelled a bag."""
    for partial in out.iterdir():
        if partial.name.startswith(_partial(source)):
            shutil.rmtree(partial, ignore_errors=True)


def _partial(source: Path) -> str:
    return f".{output_name(source)}.partial-"


def mask_topic(image_topic: str) -> str:
    """Topic of the masks of an image topic in a labelled bag."""
    return f"{_node_of(image_topic)}/mask/compressed"


def _node_of(topic: str) -> str:
    """Name of a segmentation node in the namespace of a camera."""
    path = PurePosixPath(topic)
    return str((path.parent if path.name == "compressed" else path).parent / "segmentation")


def _output_topics(reader: BagReader, topics: list[str]) -> dict[str, str]:
    """Where the masks of each image topic go: where a segmentation node in the camera's namespace publishes them."""
    found: dict[str, str] = {}
    held = {topic.name for topic in reader.topics}
    for topic in topics:
        output = _node_of(topic)
        if output in found.values():
            raise reader.error(f"{' and '.join(topics)} would both be labelled as {output}/mask; choose one")
        if f"{output}/mask/compressed" in held or f"{output}/confidence/compressed" in held:
            raise reader.error(f"topic {topic} has labels already; label the bag that it was made from")
        found[topic] = output
    return found


def _resume(target: Path, identity: dict[str, Any], result: BagResult) -> None:
    """Take the counts of a bag that was labelled before.

    Raises:
        BagError: what lies there was not made from the same bag with the same bundle and options.
    """
    try:
        manifest = json.loads((target / MANIFEST).read_text())
        differing = [f"{key} {manifest[key]}, not {value}" for key, value in identity.items() if manifest[key] != value]
        counts = {name: manifest[name] for name in _COUNTS}
    except (OSError, ValueError, TypeError, KeyError):
        raise BagError(f"{target} exists and was not made by label; remove it or choose another --out") from None
    if differing:
        raise BagError(f"{target} was labelled with {'; '.join(differing)}: remove it or choose another --out")
    for name, value in counts.items():
        setattr(result, name, value)
    result.state = SKIPPED


def _overlapped(pool: ThreadPoolExecutor, function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """``map`` in order, with up to ``_AHEAD`` calls under way in the pool."""
    pending: deque[Future[B]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > _AHEAD:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _images(reader: BagReader, copy: BagCopy, topics: list[str]) -> Iterator[_Image]:
    """Copy all messages, and give those of the image topics."""
    for connection, log_time, data in reader.raw_messages():
        copy.copy(connection, log_time, data)
        if connection.topic in topics and connection.msgtype in (IMAGE, COMPRESSED_IMAGE):
            try:
                yield _Image(connection.topic, log_time, deserialize(connection, data))
            except BagError as error:
                yield _Image(connection.topic, log_time, None, fault=str(error))


def _why_nothing(topics: list[str], result: BagResult) -> str:
    names = ", ".join(topics)
    if not result.frames:
        return f"{names} has no messages"
    return f"none of the {result.frames} images of {names} can be decoded, the first: {result.undecodable[0]}"


def _decode(image: _Image) -> _Image:
    if image.message is None:
        return image
    # By its fields: bags of ROS 1 and ROS 2 have different classes, alike in all that is read here.
    try:
        image.bgr = to_bgr(image.message)
    except UndecodableError as error:
        image.fault = str(error)
    return image


def _encode(image: _Image) -> _Image:
    image.outputs = {kind: cv2.imencode(".png", pixels, _PNG)[1].ravel() for kind, pixels in image.outputs.items()}
    return image


def _write(copy: BagCopy, topic: str, image: _Image, png: np.ndarray) -> None:
    types, header = copy.store.types, image.message.header
    # Made anew: the header of ROS 1 has a field more.
    time_of = types["builtin_interfaces/msg/Time"](header.stamp.sec, header.stamp.nanosec)
    message = types[COMPRESSED_IMAGE](
        types["std_msgs/msg/Header"](time_of, header.frame_id), "mono8; png compressed mono8", png
    )
    copy.write(topic, COMPRESSED_IMAGE, image.log_time, message)
