"""What stands in for ground truth where a drive has none: the masks of the model that is best without any hurry."""

from collections.abc import Iterator, Mapping

import numpy as np

from seg_node.bags.drive import Drive
from seg_node.compare.offline import OfflineMasks, segment_offline
from seg_node.core.bundle import Bundle
from seg_node.core.statistics import mean_known


class ReferenceMasks(Mapping[int, np.ndarray]):
    """Masks by header stamp, uint8 [H, W], unpacked on access.

    Args:
        drive: whose frames they are of.
        masks: of one model.
    """

    def __init__(self, drive: Drive, masks: OfflineMasks):
        self._masks = masks
        self._frames = {drive.frames[frame].stamp: frame for frame in masks.frames}

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[int]:
        return iter(self._frames)

    def __contains__(self, stamp: object) -> bool:
        return stamp in self._frames

    def __getitem__(self, stamp: int) -> np.ndarray:
        return self._masks.get(0, self._frames[stamp])


def best_offline(bundles: Mapping[str, Bundle]) -> str:
    """Which bundle is best by the scores in its manifest, or else does the most work.

    Only sets that all bundles with scores have count: one set is harder than another.
    """
    scored = [set(bundle.manifest.metrics) for bundle in bundles.values() if bundle.manifest.metrics]
    common = set.intersection(*scored) if scored else set()

    def quality(model: str) -> tuple[float, float]:
        manifest = bundles[model].manifest
        known = mean_known(manifest.metrics[name].get("miou_7") for name in common if name in manifest.metrics)
        return (-1.0 if known is None else known, manifest.gflops)

    return max(bundles, key=quality)


def reference_masks(drive: Drive, bundle: Bundle, seconds: float) -> ReferenceMasks:
    """Mask as many frames of a drive as there is time for, by the fastest engine.

    Raises:
        EngineError: no engine can run the bundle.
    """
    return ReferenceMasks(drive, segment_offline([bundle], drive, seconds))
