"""The categories of masks: ids, names and colours, those of Cityscapes by default.

Ids and colours of the eight are those of Cityscapes' ``categoryId`` (Cordts et al., "The Cityscapes Dataset for
Semantic Urban Scene Understanding", CVPR 2016); each category wears the colour of its commonest class. A bundle may
have others: its manifest says which, and all that shows or scores its masks takes them from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np

from seg_node.core.errors import UserError


class Category(IntEnum):
    """Value of a mask pixel of the eight."""

    VOID = 0
    FLAT = 1
    CONSTRUCTION = 2
    OBJECT = 3
    NATURE = 4
    SKY = 5
    HUMAN = 6
    VEHICLE = 7


NO_LABEL = 255
"""Ground truth that a dataset leaves open: ignored in loss and metric, not the same as void. In a mask, no answer."""

MOST_CATEGORIES = 254
"""Greatest number of categories. 255 is no label, and 254 is free for marks while a mask is worked on."""

CATEGORY_NAMES: tuple[str, ...] = tuple(category.name.lower() for category in Category)

SCORED_CATEGORIES: tuple[int, ...] = tuple(category for category in Category if category is not Category.VOID)
"""Categories that count in ``miou_7``."""

SCORED_NAMES: tuple[str, ...] = tuple(CATEGORY_NAMES[category] for category in SCORED_CATEGORIES)

PALETTE_RGB = np.array(
    [
        (0, 0, 0),  # void
        (128, 64, 128),  # flat: road
        (70, 70, 70),  # construction: building
        (153, 153, 153),  # object: pole
        (107, 142, 35),  # nature: vegetation
        (70, 130, 180),  # sky
        (220, 20, 60),  # human: person
        (0, 0, 142),  # vehicle: car
    ],
    dtype=np.uint8,
)
"""Display colour of each of the eight, uint8 [8, 3], RGB."""

_LONGEST_NAME = 100


@dataclass(frozen=True)
class Taxonomy:
    """Categories of masks, in the order of their ids.

    Raises:
        UserError: there are none or too many, a name is empty, not printable, too long or there twice, or a colour is
            none; the message names the category.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """Red, green, blue of each, 0 to 255."""

    def __post_init__(self):
        if not 1 <= len(self.names) <= MOST_CATEGORIES:
            raise UserError(f"there are {len(self.names)} categories; expected 1 to {MOST_CATEGORIES}")
        if len(self.palette) != len(self.names):
            raise UserError(f"there are {len(self.names)} categories but {len(self.palette)} colours; one for each")
        for number, (name, colour) in enumerate(zip(self.names, self.palette, strict=True)):
            if problem := _wrong_name(name) or _wrong_colour(colour):
                raise UserError(f"category {number} {problem}")
            if (first := self.names.index(name)) != number:
                raise UserError(f"category {number} is {name!r}, and so is category {first}; names differ")

    @classmethod
    def of_labels(cls, labels: Sequence[dict[str, Any]]) -> "Taxonomy":
        """Categories from what ``labels`` returned."""
        return cls(tuple(label["name"] for label in labels), tuple(tuple(label["rgb"]) for label in labels))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_eight(self) -> bool:
        """Whether these are the eight categories, in whatever colours."""
        return self.names == CATEGORY_NAMES

    @property
    def scored(self) -> tuple[int, ...]:
        """Ids of the categories whose mean IoU is the headline: all, but of the eight all without void."""
        return SCORED_CATEGORIES if self.is_eight else tuple(range(len(self)))

    @property
    def left_out(self) -> int:
        """Id of a truth that counts nowhere but in ``miou_8``: void of the eight; ``NO_LABEL`` where there is none."""
        return Category.VOID if self.is_eight else NO_LABEL

    @property
    def scored_names(self) -> tuple[str, ...]:
        """Names of ``scored``."""
        return tuple(self.names[category] for category in self.scored)

    @property
    def headline(self) -> str:
        """Name of the mean IoU over ``scored``: ``miou_7`` of the eight, ``miou`` of others."""
        return "miou_7" if self.is_eight else "miou"

    @property
    def void(self) -> int | None:
        """Id of what belongs to no category, such as the own vehicle's bonnet; None where there is none."""
        return self.names.index("void") if "void" in self.names else None

    @cached_property
    def colour_table(self) -> np.ndarray:
        """Colour of each mask value, uint8 [256, 3] BGR; values without a category are white."""
        table = np.full((256, 3), 255, np.uint8)
        table[: len(self)] = np.array(self.palette, np.uint8)[:, ::-1]
        table.flags.writeable = False
        return table

    def labels(self) -> list[dict[str, Any]]:
        """``name`` and ``rgb`` of each category, for JSON."""
        return [{"name": name, "rgb": list(rgb)} for name, rgb in zip(self.names, self.palette, strict=True)]

    def rows(self) -> list[dict[str, Any]]:
        """``name`` and ``colour`` of each category, as ``label_table.make_taxonomy`` reads them."""
        return [{"name": name, "colour": list(rgb)} for name, rgb in zip(self.names, self.palette, strict=True)]

    def same_categories(self, other: "Taxonomy") -> bool:
        """Whether masks of both can be compared: the names and their order agree, whatever the colours."""
        return self.names == other.names


def _wrong_name(name: object) -> str:
    if isinstance(name, str) and name.strip() == name and name.isprintable() and 0 < len(name) <= _LONGEST_NAME:
        return ""
    shown = repr(name) if isinstance(name, str) else str(name)
    return (
        f"has the name {shown[:80]}; expected 1 to {_LONGEST_NAME} printable characters, without spaces at either end"
    )


def _wrong_colour(colour: object) -> str:
    if isinstance(colour, tuple) and len(colour) == 3 and all(type(v) is int and 0 <= v <= 255 for v in colour):
        return ""
    shown = list(colour) if isinstance(colour, tuple) else colour
    return f"has the colour {str(shown)[:80]}; expected red, green and blue, each 0 to 255"


EIGHT = Taxonomy(CATEGORY_NAMES, tuple(tuple(row) for row in PALETTE_RGB.tolist()))
"""The eight Cityscapes categories."""


def colorize(mask: np.ndarray, taxonomy: Taxonomy = EIGHT) -> np.ndarray:
    """Paint a mask for display.

    Args:
        mask: uint8 [H, W], category ids; ids without a category (255) turn white.
        taxonomy: of the mask.

    Returns:
        uint8 [H, W, 3], BGR.
    """
    return taxonomy.colour_table[mask]


def in_short(names: Sequence[str], most: int = 6) -> str:
    """Names of categories for a message: the first few, and how many there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} categories)"
