"""Images of a folder, read one by one."""

import io
import mimetypes
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from seg_node.bags.reader import BagError
from seg_node.core.errors import UndecodableError
from seg_node.core.exif import orientation, upright
from seg_node.core.image_header import read_header
from seg_node.core.images import EncodedPixels, to_bgr


class ImageFolder(Sequence[np.ndarray]):
    """Upright images, uint8 [H, W, 3] BGR, in the order of their names; each is decoded when it is asked for.

    Numbers in names count as numbers: ``9.jpg`` comes before ``10.jpg``. Hidden files and folders within the folder are
    passed over.

    Args:
        folder: holds the images.

    Raises:
        BagError: it is no folder or holds no image; asking for one raises it where that cannot be decoded.
    """

    def __init__(self, folder: Path):
        found = list(files_of(folder))
        self.files = [path for path in found if is_image(path)]
        """The images."""
        self.others = [path for path in found if path not in set(self.files)]
        """Files that are none."""
        if not self.files:
            inside = ", ".join(path.name for path in sorted(folder.iterdir()) if path.is_dir())
            raise BagError(f"{folder} holds no image" + f"; it holds the folders {inside}, choose one" * bool(inside))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        return read_image(self.files[index])[2]


def files_of(folder: Path) -> Iterator[Path]:
    """Files of a folder that are not hidden, in the order of their names.

    Raises:
        BagError: it is no folder.
    """
    if not folder.is_dir():
        raise BagError(f"{folder} is no folder")
    for path in sorted(folder.iterdir(), key=lambda path: _in_order(path.name)):
        if path.is_file() and not path.name.startswith("."):
            yield path


def _in_order(name: str) -> tuple[list[tuple[str, int]], str]:
    """Key by which numbers in names count as numbers."""
    parts = re.findall(r"([^0-9]*)([0-9]*)", name)
    # Without a number -1: `a` comes before `a0`. The name itself tells `01` from `1`.
    return [(text, int(number) if number else -1) for text, number in parts], name


def is_image(path: Path) -> bool:
    """Whether a file is an image by its ending, or by what it begins with."""
    return (mimetypes.guess_type(path.name)[0] or "").startswith("image/") or cv2.haveImageReader(str(path))


def read_image(path: Path) -> tuple[int, EncodedPixels | None, np.ndarray]:
    """Read an image.

    Returns:
        Orientation by EXIF, the file where it can be a message as it is, and the upright uint8 [H, W, 3] BGR image.

    Raises:
        BagError: it cannot be read or decoded; the message names the file.
    """
    try:
        data = path.read_bytes()
        header = read_header(data)
        turned = orientation(io.BytesIO(data))
        if header:
            kind = header.media_type.removeprefix("image/")
            encoded = EncodedPixels(f"bgr8; {kind} compressed bgr8", np.frombuffer(data, np.uint8))
            bgr = to_bgr(encoded)
            return (turned, encoded, bgr) if turned == 1 else (turned, None, upright(bgr, turned))
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except (OSError, UndecodableError, cv2.error) as error:
        raise BagError(f"{path} cannot be read as an image: {error}") from error
    if bgr is None:
        raise BagError(f"{path} cannot be decoded as an image")
    return turned, None, bgr
