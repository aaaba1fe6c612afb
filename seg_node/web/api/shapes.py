"""Regions of a mask as run lengths and as polygons; both decode back to the mask exactly."""

import numpy as np


def run_lengths(region: np.ndarray) -> dict[str, list[int]]:
    """COCO's uncompressed RLE of a region.

    Pixels are read column by column, from top to bottom; ``counts`` are lengths of runs, outside and inside in turn,
    beginning with outside (which may be 0).

    Args:
        region: bool [H, W].

    Returns:
        ``size``: [H, W]; ``counts``.
    """
    pixels = region.ravel(order="F")
    ends = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(np.concatenate([[0], ends, [pixels.size]])).tolist()
    return {"size": list(region.shape), "counts": [0, *counts] if pixels[0] else counts}


def polygons(region: np.ndarray) -> list[list[list[int]]]:
    """Outlines of a region along the borders of its pixels.

    A pixel in column x and row y covers the square from (x, y) to (x + 1, y + 1). A point belongs to the region if it
    lies inside an odd number of the outlines (even-odd rule), so holes are outlines like any other.

    Args:
        region: bool [H, W].

    Returns:
        Closed outlines, each a list of [x, y] corners without repetition of the first.
    """
    padded = np.pad(region, 1).astype(np.uint8)
    quads = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    filled = sum(quads)
    # An outline turns where one or three of the four pixels around a point are inside, and two meet where only two
    # opposite ones are.
    turns = filled % 2 + np.uint8(2) * ((filled == 2) & (quads[0] == quads[3]))
    points = np.argwhere(turns)
    points = np.repeat(points, turns[tuple(points.T)], axis=0)
    # Along every row of points, outlines run from the first to the second, the third to the fourth, and so on; along
    # every column likewise.
    across = _partners(np.arange(len(points)))
    down = _partners(np.lexsort((points[:, 0], points[:, 1])))
    corners = points[:, ::-1].tolist()
    outlines, seen = [], bytearray(len(corners))
    for start in range(len(corners)):
        if seen[start]:
            continue
        outline, current = [], start
        while not seen[current]:
            turn = across[current]
            seen[current] = seen[turn] = 1
            outline += [corners[current], corners[turn]]
            current = down[turn]
        outlines.append(outline)
    return outlines


def _partners(order: np.ndarray) -> list[int]:
    """The other point of each pair, where pairs are neighbours in an order of indices."""
    partners = np.empty_like(order)
    partners[order[::2]], partners[order[1::2]] = order[1::2], order[::2]
    return partners.tolist()
