"""Width of the FPN's decoder, as configuration, manifest and network name it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

DECODER: Mapping[str, int | str] = MappingProxyType({"pyramid": 256, "segmentation": 128, "merge": "add"})
"""Width of Kirillov et al.'s decoder: channels of the pyramid's maps, channels of the segmentation branches, and how
the branches are merged, by ``add`` or ``cat``."""

_MERGES = ("add", "cat")
_MOST_CHANNELS = 4096


def complete_decoder(options: Mapping[str, Any]) -> dict[str, int | str]:
    """Options of a decoder with those of ``DECODER`` for what is missing.

    Raises:
        ValueError: an option is unknown, or its value is out of range; the message names it.
    """
    if unknown := sorted(set(options) - set(DECODER), key=str):
        raise ValueError(f"decoder has an unknown option {unknown[0]!r}; there are {', '.join(DECODER)}")
    whole = {**DECODER, **options}
    for name in ("pyramid", "segmentation"):
        # smp's decoder normalises by groups of 32 channels.
        if type(whole[name]) is not int or not 32 <= whole[name] <= _MOST_CHANNELS or whole[name] % 32:
            raise ValueError(
                f"decoder's {name} is {whole[name]!r}; expected channels, a multiple of 32 from 32 to {_MOST_CHANNELS}"
            )
    if whole["merge"] not in _MERGES:
        raise ValueError(f"decoder's merge is {whole['merge']!r}; expected {' or '.join(_MERGES)}")
    return whole
