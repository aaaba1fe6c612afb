"""Cityscapes as it is distributed, as the eight categories.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016. Expected folders:
``ROOT/leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png`` and ``ROOT/gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png``, with
``gtCoarse`` in place of ``gtFine`` for the coarse annotations, which are the only ones of ``train_extra``.
"""

from pathlib import Path

from seg_node.core.label_table import LabelTable
from seg_node.core.taxonomy import NO_LABEL, Category
from seg_training.datasets.files import Listing, list_files, list_images, pair
from seg_training.datasets.pairs import ImagePairs

SPLITS = {"train": ("gtFine", "gtCoarse"), "val": ("gtFine", "gtCoarse"), "train_extra": ("gtCoarse",)}
"""Kinds of annotation that each split has, the default first. Those of ``test`` are not public."""

LABELS = {
    0: ("unlabeled", NO_LABEL),  # nobody said what it is; most of a coarse annotation
    1: ("ego vehicle", Category.VOID),
    2: ("rectification border", Category.VOID),
    3: ("out of roi", Category.VOID),
    4: ("static", NO_LABEL),  # what has no class of its own
    5: ("dynamic", NO_LABEL),
    6: ("ground", NO_LABEL),
    7: ("road", Category.FLAT),
    8: ("sidewalk", Category.FLAT),
    9: ("parking", NO_LABEL),
    10: ("rail track", NO_LABEL),
    11: ("building", Category.CONSTRUCTION),
    12: ("wall", Category.CONSTRUCTION),
    13: ("fence", Category.CONSTRUCTION),
    14: ("guard rail", NO_LABEL),
    15: ("bridge", NO_LABEL),
    16: ("tunnel", NO_LABEL),
    17: ("pole", Category.OBJECT),
    18: ("polegroup", NO_LABEL),
    19: ("traffic light", Category.OBJECT),
    20: ("traffic sign", Category.OBJECT),
    21: ("vegetation", Category.NATURE),
    22: ("terrain", Category.NATURE),
    23: ("sky", Category.SKY),
    24: ("person", Category.HUMAN),
    25: ("rider", Category.HUMAN),
    26: ("car", Category.VEHICLE),
    27: ("truck", Category.VEHICLE),
    28: ("bus", Category.VEHICLE),
    29: ("caravan", NO_LABEL),
    30: ("trailer", NO_LABEL),
    31: ("train", Category.VEHICLE),
    32: ("motorcycle", Category.VEHICLE),
    33: ("bicycle", Category.VEHICLE),
    255: ("license plate", NO_LABEL),  # -1 in the official table, which eight bits make 255; rarely drawn at all
}
"""Name and category of each official id (``labels.py`` of cityscapesScripts).

The category is the official ``categoryId``, but ids that the official evaluation ignores (``ignoreInEval``) are ignored
here too. Three of those are void, and learnt: the own car, the border that rectification leaves, and what is outside
the region of interest are the same in every frame of a camera, and a consumer wants to know them.
"""

_TABLE = LabelTable("Cityscapes", {label: category for label, (_, category) in LABELS.items()})


class Cityscapes(ImagePairs):
    """Random access to one split.

    Args:
        root: folder that holds ``leftImg8bit`` and ``gtFine`` or ``gtCoarse``.
        split: one of ``SPLITS``.
        annotation: ``gtFine`` or ``gtCoarse``; None takes the finest that the split has.

    Raises:
        FileNotFoundError: a folder, or the label of an image, is missing.
        ValueError: there is no such split or annotation.
    """

    def __init__(self, root: str | Path, split: str, annotation: str | None = None):
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; those of Cityscapes with public labels are {', '.join(SPLITS)}")
        annotation = annotation or SPLITS[split][0]
        if annotation not in SPLITS[split]:
            raise ValueError(f"annotation is {annotation!r}; {split} of Cityscapes has {', '.join(SPLITS[split])}")
        folder = Path(root) / "leftImg8bit" / split
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is not a folder; expected Cityscapes as ROOT/leftImg8bit and ROOT/{annotation}"
            )
        suffix = "_leftImg8bit"
        images, truth = list_images(folder), Path(root) / annotation / split
        labels = list_files(truth) if truth.is_dir() else Listing(truth)
        images.leave_out(lambda file: None if file.stem.endswith(suffix) else f"without {suffix} in their name")
        what = f"Cityscapes {split} ({annotation})"
        if not images.files:
            raise FileNotFoundError(f"{what} holds no image: {images.balance(0)}")

        def expected(image: Path) -> str:
            return f"{image.parent.name}/{image.stem.removesuffix(suffix)}_{annotation}_labelIds.png"

        kinds = tuple(f"_{annotation}_{kind}" for kind in ("color", "instanceIds", "polygons", "labelTrainIds"))
        other = "other annotations of the same images"
        masks = pair(images, labels, expected, what, lambda file: other if file.stem.endswith(kinds) else None)
        names = [image.stem.removesuffix(suffix) for image in images.files]
        super().__init__(images, labels, masks, names, _TABLE, what)
