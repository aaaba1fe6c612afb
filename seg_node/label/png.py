"""Masks of labelled bags as PNG files."""

import json
from collections import Counter
from pathlib import Path

from seg_node.bags.reader import BagError, BagReader
from seg_node.core.timing import stamp_ns
from seg_node.label.labeller import MANIFEST, mask_topic


def write_pngs(labelled: Path, folder: Path) -> int:
    """Write the masks of a labelled bag into ``folder``, each named by its header stamp in nanoseconds.

    Where several topics were labelled, each has a folder of its own. Of masks of one stamp the second and later ones
    have their number in the name. Files of the same names are replaced.

    Args:
        labelled: bag that ``Labeller.label`` wrote.
        folder: is made where it does not exist.

    Returns:
        The number of files.

    Raises:
        BagError: the bag was not made by label, or a file cannot be written.
    """
    try:
        topics = json.loads((labelled / MANIFEST).read_text())["topics"]
    except (OSError, ValueError, KeyError) as error:
        raise BagError(f"{labelled} was not made by label: {error}") from error
    masks = {mask_topic(topic): topic for topic in topics}
    seen: Counter[tuple[str, int]] = Counter()
    with BagReader(labelled) as bag:
        chosen = [topic for topic in bag.topics if topic.name in masks]
        for topic, _, message in bag.messages(chosen):
            stamp = stamp_ns(message.header)
            number = seen[topic.name, stamp]
            seen[topic.name, stamp] += 1
            inside = masks[topic.name].strip("/").replace("/", "_") if len(topics) > 1 else ""
            file = folder / inside / (f"{stamp}_{number}.png" if number else f"{stamp}.png")
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(bytes(message.data))
            except OSError as error:
                raise BagError(f"{file} cannot be written: {error.strerror}") from error
    return sum(seen.values())
