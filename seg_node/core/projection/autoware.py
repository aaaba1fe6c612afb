"""Masks as Autoware's fusion of masks and point clouds reads them: run lengths of Autoware's labels.

Facts of autoware_universe: ``segmentation_pointcloud_fusion`` has the labels in this order, and decodes the data of its
mask, whatever its encoding says, as pairs of a label (one byte) and the number of pixels that have it (an ``int``), row
by row.
"""

from collections.abc import Sequence

import numpy as np

from seg_node.core.errors import UserError
from seg_node.core.taxonomy import CATEGORY_NAMES

LABELS = (
    "UNKNOWN", "BUILDING", "WALL", "OBSTACLE", "TRAFFIC_LIGHT", "TRAFFIC_SIGN", "PERSON", "VEHICLE", "BIKE", "ROAD",
    "SIDEWALK", "ROAD_PAINT", "CURBSTONE", "CROSSWALK", "VEGETATION", "SKY",
)  # fmt: skip
"""Autoware's names, by their value."""

OF_CATEGORIES = dict(
    zip(
        CATEGORY_NAMES,
        ("UNKNOWN", "ROAD", "BUILDING", "OBSTACLE", "VEGETATION", "SKY", "PERSON", "VEHICLE"),
        strict=True,
    )
)
"""Autoware's name of each of the eight categories."""

_RUN = np.dtype([("label", "u1"), ("length", "<i4")])


def label_table(labels: Sequence[str]) -> np.ndarray:
    """Autoware's label of each mask value.

    Args:
        labels: Autoware's name of each category, in the order of the mask's values.

    Returns:
        uint8 [256]; what is no category, and has no answer, is ``UNKNOWN``.

    Raises:
        UserError: a name is none of Autoware's.
    """
    table = np.zeros(256, np.uint8)
    for value, label in enumerate(labels):
        if label not in LABELS:
            raise UserError(f"{label!r} is no label of Autoware; expected {', '.join(LABELS)}")
        table[value] = LABELS.index(label)
    return table


def run_lengths(mask: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Encode a mask.

    Args:
        mask: uint8 [H, W].
        table: see ``label_table``.

    Returns:
        uint8 [5 * runs].
    """
    labels = table[mask].ravel()
    starts = np.concatenate(((0,), np.flatnonzero(labels[1:] != labels[:-1]) + 1))
    runs = np.empty(len(starts), _RUN)
    runs["label"], runs["length"] = labels[starts], np.diff(starts, append=labels.size)
    return runs.view(np.uint8)
