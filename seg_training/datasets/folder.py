"""Any folder of images and masks, with a table that says what the label values mean."""

from collections.abc import Mapping
from pathlib import Path

from seg_node.core.label_table import load_label_table, make_label_table
from seg_training.datasets.pairs import ImagePairs, image_files


class LabelledFolder(ImagePairs):
    """Random access to images with masks of the same names in another folder.

    ``ROOT/[SPLIT/]IMAGES/.../NAME.jpg`` (or .png) goes with ``ROOT/[SPLIT/]MASKS/.../NAME.png``.

    Args:
        root: folder of the whole.
        labels: label table, or the YAML file that holds it, see ``seg_node.core.label_table``; the file relative to
            ``root`` or, where it is not there, to the current folder.
        images: folder of the images.
        masks: folder of the masks.
        split: folder in ``root`` that holds both; empty for none.

    Raises:
        OSError: a folder, the table, or the mask of an image is missing.
        ValueError: the table is wrong.
    """

    def __init__(
        self,
        root: str | Path,
        labels: str | Path | Mapping,
        images: str = "images",
        masks: str = "masks",
        split: str = "",
    ):
        if isinstance(labels, Mapping):
            table = make_label_table("its label table", labels)
        else:
            table = load_label_table(label_file(root, labels))
        folder = Path(root) / split
        files = image_files(folder / images)
        names = [file.relative_to(folder / images).with_suffix("").as_posix() for file in files]
        super().__init__(files, [folder / masks / f"{name}.png" for name in names], names, table, str(folder))


def label_file(root: str | Path, labels: str | Path) -> Path:
    """File of a label table that is named relative to a data set's folder or to the current one."""
    inside = Path(root) / labels
    return inside if inside.is_file() else Path(labels)
