"""The eight Cityscapes categories: the one place where ids, names and colours are defined.

Ids and colours are those of Cityscapes' ``categoryId`` (Cordts et al., "The Cityscapes Dataset for
Semantic Urban Scene Understanding", CVPR 2016); each category wears the colour of its commonest class.
"""

from enum import IntEnum

import numpy as np


class Category(IntEnum):
    """Value of a mask pixel."""

    VOID = 0
    FLAT = 1
    CONSTRUCTION = 2
    OBJECT = 3
    NATURE = 4
    SKY = 5
    HUMAN = 6
    VEHICLE = 7


NO_LABEL = 255
"""Ground truth that a dataset leaves open: ignored in loss and metric, and not the same as void."""

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
"""Display colour of each category, uint8 [8, 3], RGB."""


def colorize(mask: np.ndarray) -> np.ndarray:
    """Paint a mask for display.

    Args:
        mask: uint8 [H, W], category ids; ids without a category (255) turn white.

    Returns:
        uint8 [H, W, 3], BGR.
    """
    table = np.full((256, 3), 255, np.uint8)
    table[: len(PALETTE_RGB)] = PALETTE_RGB[:, ::-1]
    return table[mask]
