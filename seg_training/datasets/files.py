"""Files of a data set on disk: all of them are found, and each is used or left out for a reason that is told."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seg_node.core.errors import RunError, UserError

MASK_ENDINGS = frozenset(
    [".bmp", ".dib", ".gif", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".ras", ".sr", ".tif", ".tiff"]
)
"""Endings, in small letters, of formats that keep every label value."""

IMAGE_ENDINGS = MASK_ENDINGS | {".avif", ".hdr", ".jp2", ".jpe", ".jpeg", ".jpg", ".pic", ".pxm", ".webp"}
"""Endings of the formats that OpenCV reads as pictures: EXR and PFM hold numbers without a range."""

MASK_NAME = "{name}.png"
"""Name of an image's mask; ``{name}`` stands for the image's own without its ending."""

HIDDEN, LOOP, NO_FILE = "hidden", "links back to a folder above them", "links to nothing, or no regular files"
NO_IMAGE, NO_MASK = "no images by their ending", "no masks by their ending"
WITHOUT_IMAGE, BESIDE = "without an image", "beside a mask of the same name that is used"
"""Reasons to leave files out."""

_SHOWN = 3


@dataclass(frozen=True)
class Balance:
    """Account of a folder: files found = files used + files left out.

    Raises:
        RunError: it does not balance.
    """

    folder: Path
    found: int
    used: int
    left_out: dict[str, list[str]]
    """Names of the files that were left out, by reason."""

    def __post_init__(self):
        left = sum(map(len, self.left_out.values()))
        if self.found != self.used + left:
            raise RunError(
                f"{self.folder}: {self.found} files were found, but {self.used} are used and {left} left out"
            )

    def __str__(self) -> str:
        reasons = [
            f"{len(names)} left out: {reason} ({', '.join(names[:_SHOWN])}{', ...' * (len(names) > _SHOWN)})"
            for reason, names in self.left_out.items()
        ]
        files = "file" if self.found == 1 else "files"
        return f"{self.folder}: {self.found} {files} = " + " + ".join([f"{self.used} used", *reasons])


@dataclass
class Listing:
    """Files of a folder and those below it."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    """What may be used, sorted."""
    left_out: dict[str, list[Path]] = field(default_factory=dict)
    """What is not, by reason."""

    def leave_out(self, reason: Callable[[Path], str | None]) -> None:
        """Leave out the files for which there is a reason."""
        kept = []
        for file in self.files:
            if why := reason(file):
                self.left_out.setdefault(why, []).append(file)
            else:
                kept.append(file)
        self.files = kept

    def name(self, file: Path) -> str:
        """Path of a file within the folder, without its ending."""
        return file.relative_to(self.folder).with_suffix("").as_posix()

    def balance(self, used: int) -> Balance:
        """Account of the folder, of which some files are used."""
        found = len(self.files) + sum(map(len, self.left_out.values()))
        left = {
            reason: [file.relative_to(self.folder).as_posix() for file in files]
            for reason, files in self.left_out.items()
        }
        return Balance(self.folder, found, used, left)


def list_files(folder: Path) -> Listing:
    """All files of a folder and those below it; links are followed, hidden files and folders are left out.

    Raises:
        FileNotFoundError: it is no folder.
        OSError: a folder below it cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    listing = Listing(folder, list(_walk(folder, ())))
    listing.leave_out(lambda file: _oddity(file, folder))
    return listing


def list_images(folder: Path) -> Listing:
    """Images of a folder and those below it.

    Raises:
        FileNotFoundError: it is no folder, or it holds none.
    """
    listing = list_files(folder)
    listing.leave_out(lambda file: None if file.suffix.lower() in IMAGE_ENDINGS else NO_IMAGE)
    if not listing.files:
        raise FileNotFoundError(f"{folder} holds no image, such as .jpg or .png: {listing.balance(0)}")
    return listing


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:
        yield folder
        return
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir():
                yield from _walk(folder / entry.name, (*above, real))
            else:
                yield folder / entry.name


def _oddity(file: Path, folder: Path) -> str | None:
    if any(part.startswith(".") for part in file.relative_to(folder).parts):
        return HIDDEN
    if file.is_dir():
        return LOOP
    return None if file.is_file() else NO_FILE


def pair(
    images: Listing,
    masks: Listing,
    mask_of: Callable[[Path], str],
    what: str,
    other: Callable[[Path], str | None] = lambda file: None,
) -> list[Path]:
    """The mask of each image; what is left of the masks is left out.

    A mask is found in spite of another ending, or one in capital letters, where its format keeps every label value.

    Args:
        images: that are used.
        masks: the folder in which they are.
        mask_of: from an image to the path of its mask in the folder, as it is expected.
        what: the data set, for messages.
        other: reason to leave a file of the masks out that belongs to no image, where it is a special one.

    Raises:
        FileNotFoundError: an image has no mask; the message says what lies there instead.
        UserError: two images have one mask, or one of two masks has to be chosen.
    """
    there: dict[str, list[Path]] = {}
    for file in masks.files:
        there.setdefault(masks.name(file), []).append(file)
    owners: dict[Path, Path] = {}
    missing: list[Path] = []
    for image in images.files:
        expected = masks.folder / mask_of(image)
        mask = _choose(expected, there.get(masks.name(expected), []))
        if mask is None:
            missing.append(image)
        elif mask in owners:
            raise UserError(
                f"{owners[mask]} and {image} share the mask {mask}; give every image a name and a mask of its own"
            )
        else:
            owners[mask] = image
    if missing:
        expected = masks.folder / mask_of(missing[0])
        hint = _instead(expected, missing[0], there.get(masks.name(expected), []), masks.files)
        raise FileNotFoundError(
            f"{len(missing)} of the {len(images.files)} images of {what} have no label, first: {expected}{hint}"
        )
    used = {masks.name(mask) for mask in owners}

    def reason(file: Path) -> str | None:
        if file in owners:
            return None
        if why := other(file):
            return why
        if file.suffix.lower() not in MASK_ENDINGS:
            return NO_MASK
        return BESIDE if masks.name(file) in used else WITHOUT_IMAGE

    masks.leave_out(reason)
    return list(owners)


def _choose(expected: Path, there: Sequence[Path]) -> Path | None:
    """File of the expected name, or else of the expected ending in other letters, or else the only lossless one."""
    lossless = [file for file in there if file.suffix.lower() in MASK_ENDINGS]
    same = [file for file in lossless if file.suffix.lower() == expected.suffix.lower()]
    if expected in same:
        return expected
    found = same or lossless
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise UserError(f"{names} in {expected.parent} may both be the mask {expected.name}; leave one of them there")
    return found[0] if found else None


def _instead(expected: Path, image: Path, same_name: Sequence[Path], masks: Sequence[Path]) -> str:
    """What lies there in place of an expected mask, and what to do about it; empty where nothing does."""
    if same_name:
        return (
            f"; {same_name[0].name} lies there, but masks must be of a lossless format, PNG for instance: JPEG and the"
            " like change label values"
        )
    for file in masks:
        if file.parent == expected.parent and file.stem.startswith(image.stem) and file.suffix.lower() in MASK_ENDINGS:
            pattern = f"{{name}}{file.stem[len(image.stem) :]}{file.suffix}"
            return f"; {file.name} lies there: if that is it, give the data set mask_name: '{pattern}'"
    return f"; the folder has {masks[0].name}, for instance" if masks else "; the folder holds no file"
