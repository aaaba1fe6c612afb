"""CamVid with the 11 classes of the SegNet tutorial, as the eight categories.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video: A high-definition ground truth database",
Pattern Recognition Letters 30(2), 2009. Expected folders: ``ROOT/{train,val}/images/NAME.jpg`` (or .png ...) and
``ROOT/{train,val}/labels/NAME.png`` with one uint8 class id per pixel.
"""

from collections.abc import Sequence
from pathlib import Path

from seg_node.core.label_table import LabelTable
from seg_node.core.taxonomy import NO_LABEL, Category
from seg_training.datasets.files import list_files, list_images, pair
from seg_training.datasets.pairs import ImagePairs

CLASSES = {
    "sky": Category.SKY,
    "building": Category.CONSTRUCTION,
    "pole": Category.OBJECT,
    "road": Category.FLAT,
    "pavement": Category.FLAT,
    "tree": Category.NATURE,
    "sign_symbol": Category.OBJECT,
    "fence": Category.CONSTRUCTION,
    "car": Category.VEHICLE,
    "pedestrian": Category.HUMAN,
    "bicyclist": Category.HUMAN,
    "unlabelled": NO_LABEL,
}
"""Category of each CamVid class, in the order of the class ids."""

_TABLE = LabelTable("CamVid", dict(enumerate(CLASSES.values())))


class CamVid(ImagePairs):
    """Random access to one split, or to some drives of it.

    Consecutive frames look alike: a set that is to measure has to hold whole drives out of training. A drive is the
    part of a name before the underscore: 0001TP, 0006R0 and 0016E5 in train, 0016E5 in val.

    Args:
        root: folder that holds ``train`` and ``val``.
        split: ``train`` or ``val``.
        drives: take these only; None takes all.
        exclude: leave these out.

    Raises:
        FileNotFoundError: a folder, or the label of an image, is missing.
        ValueError: a drive is not there, or none is left.
    """

    def __init__(self, root: str | Path, split: str, drives: Sequence[str] | None = None, exclude: Sequence[str] = ()):
        folder = Path(root) / split
        if not (folder / "images").is_dir():
            raise FileNotFoundError(
                f"{folder / 'images'} is not a folder; expected CamVid as ROOT/{{train,val}}/images"
            )
        images, labels = list_images(folder / "images"), list_files(folder / "labels")
        there = sorted({_drive(image) for image in images.files})
        for key, names in (("drives", drives), ("exclude", exclude)):
            if names is None:
                continue
            if isinstance(names, str) or not set(names) <= set(there):
                raise ValueError(f"{key} is {names!r}; expected a list of drives of {folder}: {', '.join(there)}")
        chosen = [drive for drive in (there if drives is None else drives) if drive not in exclude]
        if not chosen:
            raise ValueError(f"drives {drives} without {list(exclude)} leaves nothing of {folder}")
        others = set(there) - set(chosen)
        reason = f"of {_listed(sorted(others))}, which the configuration leaves out"
        images.leave_out(lambda file: reason if _drive(file) in others else None)
        description = f"CamVid {split}"
        if drives is not None:
            description += f", {_listed(chosen)} only"
        elif exclude:
            description += f" without {_listed(exclude)}"
        names = [image.stem for image in images.files]
        masks = pair(
            images,
            labels,
            lambda image: f"{image.stem}.png",
            f"CamVid {split}",
            lambda file: reason if _drive(file) in others else None,
        )
        super().__init__(images, labels, masks, names, _TABLE, description)


def _drive(image: Path) -> str:
    return image.stem.partition("_")[0]


def _listed(drives: Sequence[str]) -> str:
    return f"drive{'s' if len(drives) > 1 else ''} {', '.join(drives)}"
