"""From the label values of a dataset to the eight categories."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from seg_node.core.taxonomy import CATEGORY_NAMES, NO_LABEL, Category

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
        self.values = sorted(categories)
        """Ids or colours that the table has."""
        self.coloured = bool(categories) and all(isinstance(value, tuple) for value in categories)
        ids = [value for value in categories if not isinstance(value, tuple)]
        if not categories or (ids and len(ids) < len(categories)):
            raise ValueError(f"{name}: expected label ids, or else colours, got {list(categories) or 'none'}")
        for value in categories:
            if any(not 0 <= part <= 255 for part in (value if isinstance(value, tuple) else (value,))):
                raise ValueError(f"{name}: label value {value} is out of range; ids and colours have parts in 0..255")
        self._table = np.full(2**24 if self.coloured else 2**8, _UNKNOWN, np.uint8)
        for value, category in categories.items():
            self._table[_code(np.array(value))] = category

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
        codes = _code(label)
        categories = self._table[codes]
        if (categories == _UNKNOWN).any():
            values = np.unique(codes[categories == _UNKNOWN]).tolist()
            shown = [_colour(value) if self.coloured else value for value in values[:8]]
            raise ValueError(
                f"holds {'colour' if self.coloured else 'id'} {', '.join(map(str, shown))}"
                f"{', ...' if len(values) > len(shown) else ''}; {self.name} has {self._summary()}"
            )
        return categories

    def _summary(self) -> str:
        if self.coloured:
            return f"{len(self.values)} other colours"
        runs = np.split(self.values, np.flatnonzero(np.diff(self.values) != 1) + 1)
        return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def _code(label: np.ndarray) -> np.ndarray:
    """One number for each pixel: its id, or its colour as 0xRRGGBB."""
    if not label.shape or label.shape[-1] != 3 or label.ndim == 2:
        return label
    red, green, blue = (label[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _colour(code: int) -> Colour:
    return code >> 16, code >> 8 & 255, code & 255


def load_label_table(path: str | Path) -> LabelTable:
    """Read a table from YAML: ``labels`` lists mappings of ``id`` or ``colour``, ``category`` and, for the reader, ``name``.

    ``config/labels/`` holds examples.

    Raises:
        OSError: the file cannot be read.
        ValueError: the message names the file, the entry and what is wrong with it.
    """
    try:
        document = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(document, dict) or set(document) != {"labels"} or not isinstance(document["labels"], list):
        raise ValueError(f"{path}: expected one key, labels, with a list of {{id: .., category: ..}}")
    categories: dict = {}
    for entry in document["labels"]:
        try:
            value, category = _entry(entry)
        except ValueError as error:
            raise ValueError(f"{path}: entry {entry}: {error}") from error
        if value in categories:
            raise ValueError(f"{path}: {value} is listed twice")
        categories[value] = category
    return LabelTable(str(path), categories)


def _entry(entry: object) -> tuple[int | Colour, int]:
    if not isinstance(entry, dict) or not {"category"} < set(entry) <= {"id", "colour", "category", "name"}:
        raise ValueError("expected the keys id or colour, category and, where wished, name")
    if ("id" in entry) == ("colour" in entry):
        raise ValueError("expected either id or colour")
    value = entry.get("id", entry.get("colour"))
    parts = value if "colour" in entry else [value]
    if not isinstance(parts, list) or not all(type(part) is int for part in parts):
        raise ValueError("id is a number, colour a list of three: red, green, blue")
    if "colour" in entry and len(parts) != 3:
        raise ValueError(f"colour has {len(parts)} parts, not red, green, blue")
    if entry["category"] == "ignore":
        return (tuple(parts) if "colour" in entry else value), NO_LABEL
    if entry["category"] not in CATEGORY_NAMES:
        raise ValueError(f"category is {entry['category']!r}; there are {', '.join(CATEGORY_NAMES)}, ignore")
    return (tuple(parts) if "colour" in entry else value), Category[entry["category"].upper()]
