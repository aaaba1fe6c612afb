"""Images on disk with one label image each: what CamVid, Cityscapes and any labelled folder have in common."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from seg_node.core.label_table import LabelTable


class ImagePairs:
    """Random access to pairs of image and mask.

    Args:
        images: files.
        labels: file of each image's labels.
        names: of the samples.
        table: category of each label value.
        description: one line; the number of images is added.

    Raises:
        FileNotFoundError: there is no image, or one without a label file.
    """

    def __init__(
        self,
        images: Sequence[Path],
        labels: Sequence[Path],
        names: Sequence[str],
        table: LabelTable,
        description: str,
    ):
        self.images, self.labels, self.names, self.table = list(images), list(labels), list(names), table
        self.description = f"{description} ({len(self.images)} images)"
        if not self.images:
            raise FileNotFoundError(f"{description} holds no image")
        missing = [label for label in self.labels if not label.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of the {len(self.images)} images of {description} have no label, first: {missing[0]}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Read one sample.

        Returns:
            uint8 [H, W, 3] BGR image and uint8 [H, W] mask of categories, 255 where no label applies.

        Raises:
            ValueError: a file cannot be decoded, sizes differ, or a label value is not in the table.
        """
        # The label image is not turned by what EXIF says, so the image must not be.
        image = cv2.imread(str(self.images[index]), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            raise ValueError(f"cannot decode {self.images[index]}")
        mask = self.mask(index)
        if mask.shape != image.shape[:2]:
            raise _size_error(self.labels[index], mask.shape[::-1], self.images[index], image.shape[1::-1])
        return image, mask

    def mask(self, index: int) -> np.ndarray:
        """Read the mask alone, uint8 [H, W]; raises what ``__getitem__`` raises."""
        return self.table.read(self.labels[index])

    def check(self, masks: bool = True, progress: bool = True) -> None:
        """Find now what would otherwise stop an epoch: sizes, from the files' headers, and values of all masks.

        Args:
            masks: decode every mask and look its values up; else the sizes are compared only.
            progress: show a progress bar where masks are decoded.

        Raises:
            ValueError: the message counts the bad files and names the first one and its value.
        """
        _check_all(self._check_size, len(self), f"sizes of {self.description}", progress=False)
        if masks:
            _check_all(self.mask, len(self), f"checking {self.description}", progress)

    def _check_size(self, index: int) -> None:
        image, label = self.images[index], self.labels[index]
        image_size, label_size = _size(image), _size(label)
        if image_size != label_size:
            raise _size_error(label, label_size, image, image_size)


def image_files(folder: Path) -> list[Path]:
    """All JPEG and PNG files of a folder and those below it, sorted.

    Raises:
        FileNotFoundError: it is no folder, or it holds none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no .jpg or .png image")
    return files


def _size(path: Path) -> tuple[int, int]:
    """(width, height) that the file's header says, in pixels."""
    try:
        with Image.open(path) as file:
            return file.size
    except OSError as error:
        raise ValueError(f"cannot decode {path}: {error}") from error


def _size_error(label: Path, label_size: Iterable[int], image: Path, image_size: Iterable[int]) -> ValueError:
    (label_width, label_height), (width, height) = label_size, image_size
    return ValueError(f"{label} is {label_width}x{label_height}, its image {image} {width}x{height}")


def _check_all(check: Callable[[int], object], count: int, what: str, progress: bool) -> None:
    def message(index: int) -> str | None:
        try:
            check(index)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        found = [m for m in tqdm(pool.map(message, range(count)), what, count, leave=False, disable=not progress) if m]
    if found:
        raise ValueError(f"{len(found)} of {count} label files are unusable, first: {found[0]}")
