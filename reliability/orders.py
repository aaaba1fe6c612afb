"""What a camera of these runs can order: the first byte of a frame says what happens in the engine to it."""

from enum import IntEnum


class Order(IntEnum):
    """Values that no other byte of a frame has."""

    NONE = 0
    RAISE = 241
    """An error."""
    MEMORY = 242
    """The memory runs out."""
    SHAPE = 243
    """A mask of another size."""
    DTYPE = 244
    """A mask of 64-bit integers."""
    CATEGORY = 245
    """A mask of a category that there is not."""
    NAN = 246
    """A number that is none, in the computation of the confidence."""
    NAP = 247
    """An inference that takes ``NAP_S``."""
    HANG = 248
    """An inference that never returns."""
    VANISH = 249
    """The device is gone: this and every later inference of the engine fails."""


NAP_S = 2.0
NOISE_BELOW = 200
"""Bound of the bytes of a frame that are no order."""
