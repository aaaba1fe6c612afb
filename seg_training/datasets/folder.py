"""Any folder of images and masks, with a table that says what the label values mean."""

from collections.abc import Mapping
from pathlib import Path

from seg_node.core.label_table import load_label_table, make_label_table
from seg_node.core.taxonomy import EIGHT, Taxonomy
from seg_training.datasets.files import MASK_ENDINGS, MASK_NAME, list_files, list_images, pair
from seg_training.datasets.pairs import ImagePairs


class LabelledFolder(ImagePairs):
    """Random access to images with masks of the same names, or of names made from those, in another folder.

    ``ROOT/[SPLIT/]IMAGES/.../NAME.jpg`` (or another format that OpenCV reads) goes with
    ``ROOT/[SPLIT/]MASKS/.../NAME.png``.

    Args:
        root: folder of the whole.
        labels: label table, or the YAML file that holds it, see ``seg_node.core.label_table``; the file relative to
            ``root`` or, where it is not there, to the current folder.
        images: folder of the images.
        masks: folder of the masks.
        split: folder in ``root`` that holds both; empty for none.
        mask_name: name of an image's mask, in which ``{name}`` stands for the image's own without its ending, as in
            ``{name}_L.png``.
        taxonomy: categories to which the table leads.

    Raises:
        OSError: a folder, the table, or the mask of an image is missing.
        ValueError: the table or ``mask_name`` is wrong, or two images have one mask.
    """

    def __init__(
        self,
        root: str | Path,
        labels: str | Path | Mapping,
        images: str = "images",
        masks: str = "masks",
        split: str = "",
        mask_name: str = MASK_NAME,
        taxonomy: Taxonomy = EIGHT,
    ):
        if "{name}" not in str(mask_name) or Path(str(mask_name)).suffix.lower() not in MASK_ENDINGS:
            raise ValueError(
                f"mask_name is {mask_name!r}; expected {{name}} and a lossless format's ending, as in {{name}}_L.png"
            )
        if isinstance(labels, Mapping):
            table = make_label_table("its label table", labels, taxonomy)
        else:
            table = load_label_table(label_file(root, labels), taxonomy)
        folder = Path(root) / split
        found, there = list_images(folder / images), list_files(folder / masks)
        names = [found.name(file) for file in found.files]
        chosen = pair(found, there, lambda file: mask_name.replace("{name}", found.name(file)), str(folder))
        super().__init__(found, there, chosen, names, table, str(folder))


def label_file(root: str | Path, labels: str | Path) -> Path:
    """File of a label table that is named relative to a data set's folder or to the current one."""
    inside = Path(root) / labels
    return inside if inside.is_file() else Path(labels)
