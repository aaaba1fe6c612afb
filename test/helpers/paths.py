"""Places in the repository and beside it."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""

DRIVE = ROOT / "rosbags" / "synthetic_drive"
"""The shipped bag."""

DATA = Path(os.environ.get("SEG_NODE_DATA", ROOT.parent / "shared" / "data"))
"""Data that the repository does not hold: the folder of the variable SEG_NODE_DATA, or ``shared/data`` beside it."""

FAKE_NODE = Path(__file__).with_name("fake_node.py")
"""A node with the segmentation node's topics, for tests of the harness."""
