"""What the monitor process hands over: its file format, without pickle."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seg_node.core.propagation.record import NowOutcome, NowRecord, NowStage
from seg_node.core.timing import FrameRecord, Outcome, Stage
from seg_node.rig.frames import ArrivedMask, UsageSample


@dataclass
class Observed:
    """Masks, records and usage between a begin and an end."""

    masks: list[tuple[int, ArrivedMask]] = field(default_factory=list)
    """Header stamp and mask, in the order of arrival."""
    records: list[tuple[int, int, FrameRecord]] = field(default_factory=list)
    """Header stamp, ``time.monotonic_ns`` of the arrival, and record, in the order of arrival."""
    usage: list[UsageSample] = field(default_factory=list)
    nows: list[tuple[int, ArrivedMask]] = field(default_factory=list)
    """The same of masks of now."""
    now_records: list[tuple[int, int, NowRecord]] = field(default_factory=list)
    """The same of their records."""

    def save(self, file: Path) -> None:
        """Write an ``.npz``: the masks' bytes one after the other, and everything else as JSON."""
        about = {
            "masks": [[stamp, m.arrived, m.published, *m.shape, len(m.data)] for stamp, m in self.masks + self.nows],
            "inferred": len(self.masks),
            "records": [[stamp, arrived, dataclasses.asdict(record)] for stamp, arrived, record in self.records],
            "now_records": [
                [stamp, arrived, dataclasses.asdict(record)] for stamp, arrived, record in self.now_records
            ],
            "usage": [dataclasses.astuple(sample) for sample in self.usage],
        }
        data = np.frombuffer(b"".join(mask.data for _, mask in self.masks + self.nows), np.uint8)
        np.savez(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), data=data)

    @classmethod
    def load(cls, file: Path) -> "Observed":
        """Read what ``save`` wrote."""
        with np.load(file, allow_pickle=False) as arrays:
            about, data = json.loads(arrays["about"].tobytes()), arrays["data"].tobytes()
        observed = cls(usage=[UsageSample(*values) for values in about["usage"]])
        at = 0
        for index, (stamp, arrived, published, height, width, size) in enumerate(about["masks"]):
            mask = ArrivedMask(arrived, (height, width), data[at : at + size], published)
            (observed.masks if index < about["inferred"] else observed.nows).append((stamp, mask))
            at += size
        for stamp, arrived, values in about["records"]:
            values["outcome"] = Outcome(values["outcome"])
            values["stages"] = {Stage(name): duration for name, duration in values["stages"].items()}
            observed.records.append((stamp, arrived, FrameRecord(**values)))
        for stamp, arrived, values in about["now_records"]:
            values["outcome"] = NowOutcome(values["outcome"])
            values["stages"] = {NowStage(name): duration for name, duration in values["stages"].items()}
            observed.now_records.append((stamp, arrived, NowRecord(**values)))
        return observed
