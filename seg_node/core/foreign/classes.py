"""Which category each class of a foreign network belongs to."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg_node.core.bundle.plain_files import PlainFileError, read_yaml
from seg_node.core.errors import UserError
from seg_node.core.label_table import make_taxonomy
from seg_node.core.taxonomy import CATEGORY_NAMES, EIGHT, NO_LABEL, Category, Taxonomy

_MAX_FILE = 2**18
_MOST = 255


@dataclass(frozen=True)
class Classes:
    """Classes of a network, in the order of its outputs."""

    names: tuple[str, ...]
    categories: tuple[int, ...]
    """Mask value of each class."""
    taxonomy: Taxonomy = EIGHT
    """Categories of the masks."""

    @property
    def unknown(self) -> int:
        """Mask value of what is no class: void of the eight, otherwise no answer."""
        return Category.VOID if self.taxonomy.is_eight else NO_LABEL

    @property
    def table(self) -> np.ndarray:
        """Mask value of each class, uint8 [N]."""
        return np.array(self.categories, np.uint8)


def read_classes(file: Path) -> Classes:
    """Read a table of classes: a YAML list in the order of the network's outputs.

    Each has a name and either its ``category`` of the eight, such as ``{name: road, category: flat}``, or a ``colour``,
    such as ``{name: road, colour: [128, 64, 128]}``: then the classes themselves are the categories of the masks.

    Raises:
        UserError: the file cannot be read, a name is missing or there twice, a category is none, or a colour.
    """
    try:
        rows = read_yaml(file, _MAX_FILE)
    except PlainFileError as error:
        raise UserError(str(error)) from error
    if not isinstance(rows, list) or not 1 <= len(rows) <= _MOST:
        found = f"{len(rows)} entries" if isinstance(rows, list) else type(rows).__name__
        raise UserError(f"{file}: is {found}; expected a list of 1 to {_MOST} classes, each with name and category")
    if any(isinstance(row, dict) and "colour" in row for row in rows):
        taxonomy = make_taxonomy(f"{file}: class", rows)
        return Classes(taxonomy.names, tuple(range(len(taxonomy))), taxonomy)
    names, categories = [], []
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != {"name", "category"}:
            raise UserError(
                f"{file}: class {number} is {str(row)[:80]!r}; expected name and category, or name and colour"
            )
        name, category = row["name"], row["category"]
        if not isinstance(name, str) or not name.strip() or len(name) > 100:
            raise UserError(f"{file}: class {number} has the name {str(name)[:80]!r}; expected 1 to 100 characters")
        if name in names:
            raise UserError(f"{file}: class {number} is {name!r}, and so is class {names.index(name)}; names differ")
        if category not in CATEGORY_NAMES:
            known = ", ".join(CATEGORY_NAMES)
            raise UserError(f"{file}: {name} has the category {str(category)[:80]!r}; expected one of {known}")
        names.append(name)
        categories.append(CATEGORY_NAMES.index(category))
    return Classes(tuple(names), tuple(categories))
