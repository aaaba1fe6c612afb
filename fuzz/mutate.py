"""Damage to bytes and numbers, drawn from any ``random.Random``: the same generator makes the same damage."""

from collections.abc import Sequence
from random import Random

EDGES = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
"""Numbers at which lengths and sizes overflow, or nearly do."""


def near(rng: Random, value: int) -> int:
    """A number that is wrong in a way that matters: an edge, or close to the right one."""
    return rng.choice((rng.choice(EDGES), max(0, value + rng.choice((-2, -1, 1, 2))), value * 2, value // 2))


def damaged(rng: Random, data: bytes, others: Sequence[bytes] = (), limit: int = 2**16) -> bytes:
    """Bytes with one to four changes.

    Args:
        rng: draws them.
        data: what to change.
        others: from which pieces may be spliced in.
        limit: bytes of the result.
    """
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        rng.choice(_CHANGES)(rng, changed, rng.choice(others) if others else data)
    return bytes(changed[:limit])


def _at(rng: Random, data: bytearray) -> int:
    # Headers hold what matters most, and they are at the start or the end.
    size = len(data)
    return min(
        size, rng.choice((rng.randint(0, size), rng.randint(0, min(size, 64)), size - rng.randint(0, min(size, 64))))
    )


def _flip(rng: Random, data: bytearray, _: bytes) -> None:
    for _ in range(rng.choice((1, 1, 1, 8))):
        if data:
            data[_at(rng, data) - 1] ^= 1 << rng.randrange(8)


def _overwrite(rng: Random, data: bytearray, _: bytes) -> None:
    size = rng.choice((1, 2, 4, 8))
    at = _at(rng, data)
    data[at : at + size] = (rng.choice(EDGES) % 256**size).to_bytes(size, rng.choice(("little", "big")))


def _cut(rng: Random, data: bytearray, _: bytes) -> None:
    del data[_at(rng, data) :]


def _remove(rng: Random, data: bytearray, _: bytes) -> None:
    at = _at(rng, data)
    del data[at : at + rng.choice((1, 4, 16, 256))]


def _insert(rng: Random, data: bytearray, _: bytes) -> None:
    at = _at(rng, data)
    data[at:at] = rng.randbytes(rng.choice((1, 4, 16, 256)))


def _repeat(rng: Random, data: bytearray, _: bytes) -> None:
    at = _at(rng, data)
    piece = data[at : at + rng.choice((1, 4, 16, 64))]
    data[at:at] = piece * rng.choice((1, 2, 10, 100))


def _splice(rng: Random, data: bytearray, other: bytes) -> None:
    at, source = _at(rng, data), rng.randint(0, len(other))
    data[at:] = other[source:]


_CHANGES = (_flip, _flip, _overwrite, _overwrite, _cut, _remove, _insert, _repeat, _splice)
