"""Ground truth of a drive's frames, from its own bag or from a folder of pictures."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from seg_node.bags.drive import Drive, Masks
from seg_node.bags.reader import BagError
from seg_node.core.images import EncodedPixels


class TruthByFrame(Mapping[int, np.ndarray]):
    """Ground truth by index in the drive: uint8 [H, W], categories and 255 (no label), decoded on access.

    Args:
        drive: whose frames they are of.
        masks: by header stamp.
        table: category of each value, uint8 [256]; None where they are the same.
    """

    def __init__(self, drive: Drive, masks: Mapping[int, np.ndarray], table: np.ndarray | None = None):
        self._masks, self._table = masks, table
        self._stamps = {i: frame.stamp for i, frame in enumerate(drive.frames) if frame.stamp in masks}

    def __len__(self) -> int:
        return len(self._stamps)

    def __iter__(self) -> Iterator[int]:
        return iter(self._stamps)

    def __contains__(self, frame: object) -> bool:
        return frame in self._stamps

    def __getitem__(self, frame: int) -> np.ndarray:
        mask = self._masks[self._stamps[frame]]
        return mask if self._table is None else self._table[mask]


def masks_from_folder(folder: Path, drive: Drive) -> Masks:
    """Read a folder of 8-bit single-channel PNGs whose values are category ids or 255.

    Args:
        folder: of files named by the header stamp in nanoseconds, or else by the index of the frame in the drive, from
            0; leading zeros and other files do not matter.
        drive: whose frames they are of.

    Raises:
        BagError: there is no such folder or no PNG in it, or a name is neither stamp nor index of a frame.
    """
    if not folder.is_dir():
        raise BagError(f"{folder} is no folder; expected one with ground truth as PNG")
    files = sorted(folder.glob("*.png"))
    if not files:
        raise BagError(f"{folder} holds no .png; expected ground truth named by frame index or header stamp")
    stamps = {frame.stamp for frame in drive.frames}
    images: dict[int, EncodedPixels] = {}
    for file in files:
        number = int(file.stem) if file.stem.isdecimal() else -1
        if number not in stamps:
            if not 0 <= number < len(drive.frames):
                raise BagError(
                    f"{file} is named neither by the stamp of a frame in nanoseconds nor by an index from 0 to"
                    f" {len(drive.frames) - 1}"
                )
            number = drive.frames[number].stamp
        images[number] = EncodedPixels("png", np.fromfile(file, np.uint8))
    return Masks(images)


def check_sizes(truth: TruthByFrame, size: tuple[int, int], where: str) -> None:
    """Refuse ground truth of another size than the camera's, by its first frame.

    Args:
        truth: may be empty.
        size: height and width of the images.
        where: name of the ground truth for the message.

    Raises:
        BagError: it is of another size.
    """
    for frame in truth:
        height, width = truth[frame].shape
        if (height, width) != size:
            raise BagError(f"{where} is {width}x{height} but the images are {size[1]}x{size[0]}")
        return
