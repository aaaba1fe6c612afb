"""Categories from files, and from the label values of a dataset to categories."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from seg_node.core.errors import UserError
from seg_node.core.taxonomy import EIGHT, MOST_CATEGORIES, NO_LABEL, Taxonomy, in_short

Colour = tuple[int, int, int]
"""Red, green, blue, each 0..255."""

_CATEGORY_ROWS = "a list of {name: .., colour: [red, green, blue]}"

_UNKNOWN = 254
"""Marks values that a table does not have."""


class LabelTable:
    """Category of each label value.

    Args:
        name: of the table, for messages.
        categories: category, or ``NO_LABEL``, of each label id (0..255) or else of each colour.
        taxonomy: that these categories are of.

    Raises:
        ValueError: ids and colours are mixed, or a value is out of range.
    """

    def __init__(self, name: str, categories: Mapping[int, int] | Mapping[Colour, int], taxonomy: Taxonomy = EIGHT):
        self.name, self.taxonomy = name, taxonomy
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


def load_label_table(path: str | Path, taxonomy: Taxonomy | None = None) -> LabelTable:
    """Read a table from YAML, such as those in ``config/labels/``.

    Args:
        path: of the file.
        taxonomy: categories to which it leads; None for those that it lists, or else the eight.

    Raises:
        OSError: the file cannot be read.
        ValueError: the message names the file, the entry and what is wrong with it.
    """
    return make_label_table(str(path), _read(path), taxonomy)


def load_taxonomy(path: str | Path) -> Taxonomy:
    """Read the categories that a table lists, such as ``config/labels/cityscapes_categories.yaml``.

    Raises:
        OSError: the file cannot be read.
        UserError: the message names the file, the entry and what is wrong with it.
    """
    document = _read(path)
    if not isinstance(document, dict) or "categories" not in document:
        raise UserError(f"{path}: lists no categories; expected the key categories with {_CATEGORY_ROWS}")
    return make_taxonomy(f"{path}: category", document["categories"])


def make_taxonomy(name: str, rows: object) -> Taxonomy:
    """Categories from a list of ``{name: road, colour: [128, 64, 128]}``, in the order of their ids.

    Args:
        name: of an entry, for messages; a number follows it.
        rows: what was read.

    Raises:
        UserError: it is no such list, a name is empty or there twice, or a colour is none.
    """
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_CATEGORIES:
        found = f"{len(rows)} entries" if isinstance(rows, list) else type(rows).__name__
        where = name.rpartition(":")[0] or name
        raise UserError(f"{where}: is {found}; expected {_CATEGORY_ROWS}, 1 to {MOST_CATEGORIES} of them")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != {"name", "colour"}:
            raise UserError(f"{name} {number} is {str(row)[:80]!r}; expected name and colour")
    colours = [tuple(row["colour"]) if isinstance(row["colour"], list) else row["colour"] for row in rows]
    try:
        return Taxonomy(tuple(row["name"] for row in rows), tuple(colours))
    except UserError as error:
        raise UserError(f"{name.removesuffix(' category').removesuffix(' class')} {error}") from error


def _read(path: str | Path) -> object:
    try:
        return yaml.safe_load(Path(path).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from error


def make_label_table(name: str, document: object, taxonomy: Taxonomy | None = None) -> LabelTable:
    """Make a table of what such a file holds.

    ``labels`` lists mappings with ``id`` or ``colour`` (red, green, blue), ``category`` (one of the categories, or
    ``ignore``) and, for the reader, ``name``. ``categories``, where there are others than the eight, lists them with
    ``name`` and ``colour``.

    Args:
        name: of the table, for messages.
        document: what the file holds.
        taxonomy: see ``load_label_table``.

    Raises:
        ValueError: the message has the name, the entry and what is wrong with it.
    """
    known = isinstance(document, dict) and {"labels"} <= set(document) <= {"labels", "categories"}
    if not known or not isinstance(document["labels"], list):
        raise ValueError(f"{name}: expected one key, labels, with a list of {{id: .., category: ..}}")
    if "categories" in document:
        own = make_taxonomy(f"{name}: category", document["categories"])
        if taxonomy is not None and not own.same_categories(taxonomy):
            raise ValueError(
                f"{name}: has categories of its own ({in_short(own.names)}), not {in_short(taxonomy.names)};"
                " name this file as taxonomy"
            )
        taxonomy = taxonomy or own
    taxonomy = taxonomy or EIGHT
    categories: dict = {}
    for entry in document["labels"]:
        try:
            value, category = _entry(entry, taxonomy)
        except ValueError as error:
            raise ValueError(f"{name}: entry {entry}: {error}") from error
        if value in categories:
            raise ValueError(f"{name}: {value} is listed twice")
        categories[value] = category
    return LabelTable(name, categories, taxonomy)


def _entry(entry: object, taxonomy: Taxonomy) -> tuple[int | Colour, int]:
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
    if entry["category"] not in taxonomy.names:
        raise ValueError(f"category is {entry['category']!r}; there are {', '.join(taxonomy.names)}, ignore")
    return value, taxonomy.names.index(entry["category"])
