"""CamVid with the 11 classes of the SegNet tutorial, as the eight categories.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video: A high-definition ground truth database",
Pattern Recognition Letters 30(2), 2009. Expected folders: ``ROOT/{train,val}/images/NAME.jpg`` (or .png) and
``ROOT/{train,val}/labels/NAME.png`` with one uint8 class id per pixel.
"""

from pathlib import Path

import cv2
import numpy as np

from seg_node.core.taxonomy import NO_LABEL, Category

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

_TO_CATEGORY = np.array(list(CLASSES.values()), np.uint8)


class CamVid:
    """Random access to one split.

    Args:
        root: folder that holds ``train`` and ``val``.
        split: ``train`` or ``val``.

    Raises:
        FileNotFoundError: a folder, or the label of an image, is missing.
    """

    def __init__(self, root: str | Path, split: str):
        folder = Path(root) / split
        if not (folder / "images").is_dir():
            raise FileNotFoundError(
                f"{folder / 'images'} is not a folder; expected CamVid as ROOT/{{train,val}}/images"
            )
        self.images = sorted(p for p in (folder / "images").iterdir() if p.suffix in (".jpg", ".png"))
        if not self.images:
            raise FileNotFoundError(f"{folder / 'images'} holds no .jpg or .png image")
        self.labels = [folder / "labels" / f"{image.stem}.png" for image in self.images]
        missing = [label for label in self.labels if not label.is_file()]
        if missing:
            raise FileNotFoundError(f"{len(missing)} of {len(self.images)} images have no label, first: {missing[0]}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Read one sample.

        Returns:
            uint8 [H, W, 3] BGR image and uint8 [H, W] mask of categories, 255 where unlabelled.

        Raises:
            ValueError: a file cannot be decoded, sizes differ, or a class id is not in the table.
        """
        image = cv2.imread(str(self.images[index]), cv2.IMREAD_COLOR)
        label = cv2.imread(str(self.labels[index]), cv2.IMREAD_UNCHANGED)
        if image is None or label is None:
            raise ValueError(f"cannot decode {self.images[index] if image is None else self.labels[index]}")
        if label.shape != image.shape[:2]:
            raise ValueError(f"{self.labels[index]} is {label.shape}, its image is {image.shape[:2]}")
        if label.max() >= len(_TO_CATEGORY):
            raise ValueError(
                f"{self.labels[index]} holds class id {label.max()}; CamVid has 0..{len(_TO_CATEGORY) - 1}"
            )
        return image, _TO_CATEGORY[label]
