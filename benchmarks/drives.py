"""Drives with ground truth that benchmarks play: the shipped one, CamVid val, and made-up ones in other conditions."""

import functools
from collections.abc import Callable
from pathlib import Path

from setting import REPOSITORY, camvid_root

from seg_node.bags.from_images import from_images
from seg_node.core.label_table import load_label_table

CAMVID_HZ = 15.0
"""Rate at which CamVid's labelled frames of 0016E5 were recorded."""


def shipped(folder: Path) -> Path:
    """The shipped drive; nothing is written."""
    return REPOSITORY / "rosbags" / "synthetic_drive"


def camvid(folder: Path) -> Path | None:
    """CamVid val as a drive, as ``seg_node bag from-images`` makes it; None where CamVid is not."""
    root = camvid_root()
    if root is None:
        return None
    out = folder / "camvid_val"
    if not out.exists():
        val = root / "val"
        table = load_label_table(REPOSITORY / "config" / "labels" / "camvid_ids.yaml")
        from_images(val / "images", out, CAMVID_HZ, labels=val / "labels", table=table)
    return out


def made_up(name: str, seed: int, seconds: float, folder: Path, **conditions: str | bool) -> Path:
    """A drive of ``python -m seg_training synthetic-bag``, of a seed that no training and no tuning has seen."""
    from seg_training.synthetic_bag import write_drive

    out = folder / name
    if not out.exists():
        write_drive(out, seed, seconds, (360, 640), progress=True, **conditions)
    return out


def known(seconds: float = 10.0) -> dict[str, Callable[[Path], Path | None]]:
    """What there is, by name.

    Args:
        seconds: length of the made-up drives.

    Returns:
        Functions that make a drive in a folder, unless it is there, and return its path; None where its data is not.
    """
    return {
        "shipped": shipped,
        "camvid": camvid,
        "dusk": functools.partial(made_up, "dusk", 7001, seconds, light="dusk", weather="dry"),
        "rain": functools.partial(made_up, "rain", 7002, seconds, light="overcast", weather="rain"),
        "fog": functools.partial(made_up, "fog", 7003, seconds, light="overcast", weather="fog"),
        "turns": functools.partial(made_up, "turns", 7004, seconds, light="sun", weather="dry", turns=True),
    }
