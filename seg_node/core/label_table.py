"""From the label values of a dataset to the eight categories."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from seg_node.core.taxonomy import CATEGORY_NAMES, NO_LABEL

Colour = tuple[int, int, int]
"""Red, green, blue, each 0..255."""

_UNKNOWN = 254
"""Marks values that a table does not have."""


class LabelTable:
    """Category of each label value.

    Args:
        name: of the table, for messages.
        categories: category, or ``NO_LABEL``, of each label id (0..255) or else of each colour.

    Raises:
        ValueError: ids and colours are mixed, or a value is out of range.
    """

    def __init__(self, name: str, categories: Mapping[int, int] | Mapping[Colour, int]):
        self.name = name
        self.coloured = any(isinstance(value, tuple) for value in categories)
        """Whether label images hold RGB colours, not ids."""
        if not categories or not all(isinstance(value, tuple) == self.coloured for value in categories):
            raise ValueError(f"{name}: expected label ids, or else colours, got {list(categories) or 'none'}")
        for value in categories:
            if not all(0 <= part <= 255 for part in (value if self.coloured else [value])):
                raise ValueError(f"{name}: label value {value} is out of range; ids and parts of colours are 0..255")
        self.values = sorted(categories)
        """Ids or colours that the table has."""
        self._table = np.full(2**24 if self.coloured else 2**8, _UNKNOWN, np.uint8)
        for value, category in categories.items():
            self._table[_packed(np.array(value)) if self.coloured else value] = category

    def to_categories(self, label: np.ndarray) -> np.ndarray:
        """Translate a label image.

        Args:
            label: uint8, [H, W] ids or [H, W, 3] RGB colours.

        Returns:
            uint8 [H, W], categories, ``NO_LABEL`` where the label is ignored.

        Raises:
            ValueError: the image is of another kind, or holds a value that the table does not have.
        """
        if label.dtype != np.uint8 or label.shape[2:] != ((3,) if self.coloured else ()):
            expected = "RGB colours of 8 bits" if self.coloured else "one channel of 8-bit ids"
            channels = label.shape[2] if label.ndim == 3 else 1
            raise ValueError(f"has {channels} channels of {label.dtype}; {self.name} needs {expected}")
        codes = _packed(label) if self.coloured else label
        categories = self._table[codes]
        if (categories == _UNKNOWN).any():
            values = np.unique(codes[categories == _UNKNOWN]).tolist()
            shown = [_unpacked(value) if self.coloured else value for value in values[:8]]
            raise ValueError(
                f"holds {'colour' if self.coloured else 'id'} {', '.join(map(str, shown))}"
                f"{', ...' if len(values) > len(shown) else ''}; {self.name} has {self._summary()}"
            )
        return categories

    def read(self, path: Path) -> np.ndarray:
        """Read a label image from a file and translate it, see ``to_categories``.

        Raises:
            ValueError: the file cannot be decoded, or ``to_categories`` refuses it; the message names the file.
        """
        try:
            with Image.open(path) as file:
                # A palette is decoration of ids, or else the colours that the table has.
                turned = file.convert("RGB") if self.coloured or file.mode == "RGBA" else file
                label = np.asarray(turned)
        except Exception as error:
            # Pillow's readers raise errors of many types at what is damaged.
            raise ValueError(f"cannot decode {path}: {error}") from error
        try:
            return self.to_categories(label)
        except ValueError as error:
            raise ValueError(f"{path} {error}") from error

    def _summary(self) -> str:
        if self.coloured:
            return f"{len(self.values)} other colours"
        runs = np.split(self.values, np.flatnonzero(np.diff(self.values) != 1) + 1)
        return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def _packed(colours: np.ndarray) -> np.ndarray:
    """0xRRGGBB of [..., 3] RGB."""
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def _unpacked(code: int) -> Colour:
    return code >> 16, code >> 8 & 255, code & 255


def load_label_table(path: str | Path) -> LabelTable:
    """Read a table from YAML, such as those in ``config/labels/``.

    Raises:
        OSError: the file cannot be read.
        ValueError: the message names the file, the entry and what is wrong with it.
    """
    try:
        document = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    return make_label_table(str(path), document)


def make_label_table(name: str, document: object) -> LabelTable:
    """Make a table of what such a file holds.

    ``labels`` lists mappings with ``id`` or ``colour`` (red, green, blue), ``category`` (one of the eight, or
    ``ignore``) and, for the reader, ``name``.

    Args:
        name: of the table, for messages.
        document: what the file holds.

    Raises:
        ValueError: the message has the name, the entry and what is wrong with it.
    """
    if not isinstance(document, dict) or set(document) != {"labels"} or not isinstance(document["labels"], list):
        raise ValueError(f"{name}: expected one key, labels, with a list of {{id: .., category: ..}}")
    categories: dict = {}
    for entry in document["labels"]:
        try:
            value, category = _entry(entry)
        except ValueError as error:
            raise ValueError(f"{name}: entry {entry}: {error}") from error
        if value in categories:
            raise ValueError(f"{name}: {value} is listed twice")
        categories[value] = category
    return LabelTable(name, categories)


def _entry(entry: object) -> tuple[int | Colour, int]:
    """Label value of an entry, and its category or ``NO_LABEL``."""
    if not isinstance(entry, dict) or not {"category"} < set(entry) <= {"id", "colour", "category", "name"}:
        raise ValueError("expected the keys id or colour, category and, where wished, name")
    if ("id" in entry) == ("colour" in entry):
        raise ValueError("expected either id or colour")
    parts = entry["colour"] if "colour" in entry else [entry["id"]]
    if not isinstance(parts, list) or not all(type(part) is int for part in parts):
        raise ValueError("id is a number, colour a list of three: red, green, blue")
    if "colour" in entry and len(parts) != 3:
        raise ValueError(f"colour has {len(parts)} parts, not red, green, blue")
    value = tuple(parts) if "colour" in entry else parts[0]
    if entry["category"] == "ignore":
        return value, NO_LABEL
    if entry["category"] not in CATEGORY_NAMES:
        raise ValueError(f"category is {entry['category']!r}; there are {', '.join(CATEGORY_NAMES)}, ignore")
    return value, CATEGORY_NAMES.index(entry["category"])
