"""Images on disk with one label image each: what CamVid, Cityscapes and any labelled folder have in common."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from seg_node.core.exif import SWAPPED, orientation, upright
from seg_node.core.image_header import read_header
from seg_node.core.images import EncodedPixels, to_bgr
from seg_node.core.label_table import LabelTable
from seg_node.core.taxonomy import NO_LABEL
from seg_training.datasets.files import Balance, Listing

Size = tuple[int, int]
"""Width and height in pixels."""


class ImagePairs:
    """Random access to pairs of image and mask.

    Args:
        images: files, in a folder of which each file has been used or left out.
        masks: the folder of their masks, of which each file has been used or left out.
        labels: file of each image's labels.
        names: of the samples.
        table: category of each label value.
        description: one line; the number of images is added.
    """

    def __init__(
        self,
        images: Listing,
        masks: Listing,
        labels: Sequence[Path],
        names: Sequence[str],
        table: LabelTable,
        description: str,
    ):
        self.images, self.labels, self.names, self.table = list(images.files), list(labels), list(names), table
        self.description = f"{description} ({len(self.images)} images)"
        self.balances: list[Balance] = [images.balance(len(self.images)), masks.balance(len(set(self.labels)))]
        """Account of the files of both folders."""
        self.unlabelled: int | None = None
        """Number of masks in which no pixel has a label; None before a full check."""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Read one sample.

        A photo that EXIF turns is turned, and its mask with it where that one has the size of the photo in the file.

        Returns:
            uint8 [H, W, 3] BGR image and uint8 [H, W] mask of categories, 255 where no label applies.

        Raises:
            ValueError: a file cannot be decoded, sizes differ, it cannot be told whether the mask has to be turned, or
                a label value is not in the table.
        """
        image, turn = _read_image(self.images[index])
        mask = self.table.read(self.labels[index])
        mask_turn = self._mask_turn(index, image.shape[1::-1], mask.shape[::-1], turn)
        return upright(image, turn), upright(mask, mask_turn)

    def report(self) -> list[str]:
        """What became of the files, and what is odd about them, a line each."""
        lines = [str(balance) for balance in self.balances]
        if self.unlabelled:
            lines.append(
                f"{self.unlabelled} of {len(self)} masks of {self.description} hold no label, only what is ignored"
            )
        return lines

    def check(self, decode: bool = True, progress: bool = True) -> None:
        """Find now what would otherwise stop an epoch: sizes, from the files' headers, and what the files hold.

        Args:
            decode: decode every image and mask and look the label values up; else the sizes are compared only.
            progress: show a progress bar where they are decoded.

        Raises:
            ValueError: the message counts the bad pairs and names the first one and its value.
        """
        _check_all(self._check_size, len(self), f"sizes of {self.description}", progress=False)
        if decode:
            labelled = _check_all(self._has_label, len(self), f"checking {self.description}", progress)
            self.unlabelled = len(self) - sum(labelled)

    def _has_label(self, index: int) -> bool:
        return bool((self[index][1] != NO_LABEL).any())

    def _check_size(self, index: int) -> None:
        size, turn = _size(self.images[index])
        self._mask_turn(index, size, _size(self.labels[index])[0], turn)

    def _mask_turn(self, index: int, size: Size, label_size: Size, turn: int) -> int:
        """Turn of a mask, as an EXIF orientation, from the sizes in the files and the orientation of the image."""
        image, label = self.images[index], self.labels[index]
        (width, height), (label_width, label_height) = size, label_size
        if turn == 1 and label_size == size:
            return 1
        if turn in SWAPPED and width != height and label_size in (size, (height, width)):
            return turn if label_size == size else 1
        asks = f", which EXIF orientation {turn} turns" if turn != 1 else ""
        if label_size == size:
            raise ValueError(
                f"{image} is {width}x{height}{asks}; its mask {label} is as large either way, so that it cannot be told"
                " whether it is turned: write the image upright, without EXIF orientation"
            )
        raise ValueError(f"{label} is {label_width}x{label_height}, its image {image} {width}x{height}{asks}")


def _read_image(path: Path) -> tuple[np.ndarray, int]:
    """Pixels as they are in the file, uint8 [H, W, 3] BGR, and the EXIF orientation."""
    data = path.read_bytes()
    try:
        if read_header(data):
            # The node's decoder: it refuses what is cut off.
            pixels = to_bgr(EncodedPixels("", data))
        else:
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except (ValueError, cv2.error) as error:
        # The decoder's word, without the number of bytes that says nothing of a file.
        raise ValueError(f"cannot decode {path}: {error.__cause__ or error}") from error
    if pixels is None:
        raise ValueError(f"cannot decode {path}: it is damaged, cut off, or no image")
    with path.open("rb") as file:
        return pixels, orientation(file)


def _size(path: Path) -> tuple[Size, int]:
    """Size in the file's header, and the EXIF orientation."""
    try:
        with Image.open(path) as file:
            size = file.size
    except Exception:
        # Pillow's readers raise errors of many types, and do not know some formats that OpenCV reads.
        pixels, turn = _read_image(path)
        return pixels.shape[1::-1], turn
    with path.open("rb") as file:
        return size, orientation(file)


def _check_all(check: Callable[[int], object], count: int, what: str, progress: bool) -> list[object]:
    """Results of a check of each pair."""

    def outcome(index: int) -> tuple[object, str]:
        try:
            return check(index), ""
        except ValueError as error:
            return None, str(error)

    with ThreadPoolExecutor() as pool:
        outcomes = list(tqdm(pool.map(outcome, range(count)), what, count, leave=False, disable=not progress))
    if found := [message for _, message in outcomes if message]:
        raise ValueError(f"{len(found)} of {count} pairs are unusable, first: {found[0]}")
    return [result for result, _ in outcomes]
