"""What one run of the harness saw, frame by frame: what the player, the monitor and every figure agree on."""

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seg_node.core.propagation.record import NowRecord
from seg_node.core.timing import FrameRecord


@dataclass(frozen=True)
class ArrivedMask:
    """A mask as it arrived, compressed."""

    arrived: int
    """``time.monotonic_ns`` of the arrival."""
    shape: tuple[int, int]
    """Height and width."""
    data: bytes
    """zlib-compressed rows without padding."""
    published: int | None = None
    """When the node published it, by the middleware's source timestamp put on the clock of ``time.monotonic_ns``; None
    where the middleware gives none. Of a node on another machine, only as good as the clocks agree."""

    def decode(self) -> np.ndarray:
        """The mask, uint8 [H, W]."""
        return np.frombuffer(zlib.decompress(self.data), np.uint8).reshape(self.shape)


@dataclass(frozen=True)
class FrameObservation:
    """One published frame and what became of it. Times are ``time.monotonic_ns``."""

    index: int
    """Position among the published frames of the run, from 0, warm-up included."""
    frame: int
    """Index in ``Drive.frames``; frames repeat where the drive is looped."""
    stamp: int
    """Header stamp in nanoseconds, as recorded."""
    due: int
    """When it should have been published."""
    sent: int
    """Just before it was published."""
    record: FrameRecord | None
    """The node's timing record; None where the frame never reached the node."""
    recorded: int | None
    """Arrival of that record."""
    mask: ArrivedMask | None
    """None where no mask came."""


@dataclass(frozen=True)
class NowObservation:
    """A record of ``~/timing_now``, and the mask of now that came with it."""

    index: int
    """Position of its frame among the published frames of the run."""
    record: NowRecord
    recorded: int
    """``time.monotonic_ns`` of the record's arrival."""
    mask: ArrivedMask | None
    """None where there is none."""


@dataclass(frozen=True)
class UsageSample:
    """Use of the node's process at one instant."""

    time: int
    """``time.monotonic_ns``."""
    cpu_s: float
    """Processor seconds, user and system, since the process began."""
    rss: int
    """Resident memory in bytes."""
    gpu_percent: float | None = None
    """Use of the GPU by all processes; None without one."""
    gpu_bytes: int | None = None
    """GPU memory that the process holds."""


@dataclass
class Run:
    """One drive played once, or several times in a loop, at one rate into one node."""

    setup: dict[str, Any]
    """Drive, frames, size, rate, transport, model, engine."""
    frames: list[FrameObservation]
    """In the order of publishing."""
    counters: dict[str, int]
    """Growth of the node's own counts on ``/diagnostics`` during the run, and ``pending`` at its end; empty
    where no diagnostics came."""
    warm_up: int = 0
    """Frames at the start that are counted but left out of latencies and accuracy."""
    strangers: int = 0
    """Masks and records whose header stamp was never sent."""
    repeated: int = 0
    """Masks and records that came again for a frame that had one already."""
    usage: list[UsageSample] = field(default_factory=list)
    """During the run; empty where the process is not on this machine."""
    nows: list[NowObservation] | None = None
    """Records and masks of now in the order of arrival; None where nobody listened to them."""
    now_counters: dict[str, int] = field(default_factory=dict)
    """Like ``counters``, of the propagation."""
    now_strangers: int = 0
    """Masks of now and their records that do not belong together, or to any frame."""
    idle: list[UsageSample] = field(default_factory=list)
    """Before the run, with the node active and no camera."""
