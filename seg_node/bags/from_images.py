"""A drive from a folder of images, with ground truth from a folder of their labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seg_node.bags.files import LABEL_NAME
from seg_node.bags.from_video import FIRST_STAMP
from seg_node.bags.image_folder import ImageFolder, files_of, read_image
from seg_node.bags.reader import BagError
from seg_node.bags.writer import IMAGE_TOPIC, BagWriter
from seg_node.core.label_table import LabelTable
from seg_node.core.taxonomy import NO_LABEL, Category

_CATEGORIES = LabelTable("the eight categories", {value: value for value in (*Category, NO_LABEL)})

_SHOWN = 3


@dataclass
class ImageDrive:
    """Outcome of a folder that became a drive."""

    frames: int = 0
    labelled: int = 0
    """Frames that have ground truth."""
    left_out: list[str] = field(default_factory=list)
    """Files that were not used: for each kind their number, the reason and the first names."""


def from_images(
    folder: str | Path,
    out: str | Path,
    rate: float,
    *,
    labels: str | Path | None = None,
    table: LabelTable | None = None,
    label_name: str = LABEL_NAME,
    topic: str | None = None,
    quality: int = 95,
    progress: bool = False,
) -> ImageDrive:
    """Write a folder of images into a new rosbag2 (mcap), in the order of their names.

    Numbers in names count as numbers: ``9.jpg`` comes before ``10.jpg``. JPEG and PNG files are taken byte for byte.
    Other formats that OpenCV reads, and photos that EXIF turns, become upright JPEG images. Hidden files and folders
    within the folder are passed over.

    Args:
        folder: holds the images.
        out: folder to create.
        rate: images per second.
        labels: folder with label images of the names of the images; None writes no ground truth. An image may lack one.
        table: category of each label value; None takes labels whose values are categories, or 255 for no label.
        label_name: name of an image's label, see ``LABEL_NAME``.
        topic: image topic; None takes the default.
        quality: of JPEG images that are made here, 1..100.
        progress: show a progress bar.

    Raises:
        BagError: a folder is missing or holds nothing of use, an image or label cannot be decoded or is of another
            size, a label value is not in the table, two images share a label, a value is out of range, or ``out``
            exists. Nothing is left of ``out`` then.
    """
    folder = Path(folder)
    if not (math.isfinite(rate) and rate > 0):
        raise BagError(f"{rate} images per second is no rate; expected one above 0")
    drive = ImageDrive()
    found = ImageFolder(folder)
    images = found.files
    _leave_out(drive, found.others, folder, "no images")
    truth = {} if labels is None else _labels(images, Path(labels), label_name, drive)
    writer = BagWriter(out, image_topic=topic or IMAGE_TOPIC, quality=quality)
    size: tuple[int, int] | None = None
    with writer:
        for index, path in enumerate(tqdm(images, unit="frame", disable=not progress)):
            stamp = FIRST_STAMP + round(index * 1e9 / rate)
            turned, encoded, bgr = read_image(path)
            size = size or bgr.shape[:2]
            if bgr.shape[:2] != size:
                raise BagError(
                    f"{path} is {_size(bgr)}, {images[0].name} is {size[1]}x{size[0]}; a camera has one size"
                )
            if encoded is None:
                writer.write_image(stamp, bgr)
            else:
                writer.write_encoded(stamp, encoded)
            if path in truth:
                mask = _mask(truth[path], table or _CATEGORIES)
                if mask.shape != size:
                    why = f", after a turn that its EXIF orientation {turned} asks for" if turned > 1 else ""
                    raise BagError(f"{truth[path]} is {_size(mask)}, its image {path.name} {_size(bgr)}{why}")
                writer.write_mask(stamp, mask)
    drive.frames, drive.labelled = len(images), len(truth)
    return drive


def _labels(images: Sequence[Path], folder: Path, label_name: str, drive: ImageDrive) -> dict[Path, Path]:
    """Label of each image that has one; files of the folder that are none are noted in ``drive``."""
    if "{name}" not in label_name or Path(label_name).name != label_name:
        raise BagError(f"the name of a label is {label_name!r}; expected one such as {LABEL_NAME} or {{name}}_L.png")
    if folder.resolve() == images[0].parent.resolve():
        raise BagError(f"labels and images are both in {folder}; expected them in two folders")
    files = {path.name: path for path in files_of(folder)}
    found: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    for image in images:
        label = files.get(label_name.replace("{name}", image.stem))
        if label is None:
            continue
        if label in owners:
            raise BagError(
                f"{owners[label].name} and {image.name} share the label {label}; expected one image for each"
            )
        found[image], owners[label] = label, image
    if not found:
        expected = label_name.replace("{name}", images[0].stem)
        first = next(iter(files), "no file")
        raise BagError(f"{folder} has no label of any image: the first would be {expected}, the folder has {first}")
    _leave_out(drive, [path for path in files.values() if path not in owners], folder, "labels of no image")
    return found


def _leave_out(drive: ImageDrive, files: Sequence[Path], folder: Path, reason: str) -> None:
    if files:
        names = ", ".join(path.name for path in files[:_SHOWN]) + ", ..." * (len(files) > _SHOWN)
        drive.left_out.append(f"{len(files)} files of {folder}: {reason} ({names})")


def _mask(path: Path, table: LabelTable) -> np.ndarray:
    try:
        return table.read(path)
    except ValueError as error:
        raise BagError(str(error)) from error


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
