"""The topics of the mask of now: wiring between ROS 2 and ``seg_node.core.propagation``."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import Image

from seg_node.core.propagation.picture import Picture, picture_of_compressed, picture_of_image
from seg_node.core.propagation.propagator import Carried
from seg_node.core.propagation.record import NOW_FAULTS, NowOutcome, NowRecord, NowStage
from seg_node.core.propagation.worker import NowPort, PropagationWorker
from seg_node.ros.cameras.names import CameraName
from seg_node.ros.messages import serialized_diagnostics
from seg_node.ros.outputs import MASK_QOS, TIMING_QOS
from seg_node.ros.parameters import PROPAGATION
from seg_node.ros.qos_watch import QosWatch
from seg_node.ros.transfer.path import publish_serialized
from seg_node.ros.transfer.serialized_image import SerializedImage, header_at, serialized_mono8


class MaskOfNow(NowPort[SerializedImage]):
    """Publishers of ``~/mask_now`` and ``~/timing_now``, and what fills them.

    Args:
        name: of the camera, under which the topics are, and whose parameters hold.
        qos: makes the publishers.
        trouble: why the segmentation gives no masks, empty while it does.
        turn: see ``PropagationWorker``.

    Raises:
        UserError: see ``QosWatch.offer``.
    """

    def __init__(
        self,
        name: CameraName,
        qos: QosWatch,
        trouble: Callable[[], str],
        turn: Callable[[], AbstractContextManager[None]],
    ):
        self._name, self._node, self._qos = name, name.node, qos
        self._trouble = trouble
        self._compressed = False
        self._mask = qos.offer(Image, name.topic("~/mask_now"), MASK_QOS, lifecycle=True)
        # Not a lifecycle publisher: a frame that comes in the instant of deactivation has its record, too.
        self._timing = qos.offer(DiagnosticArray, name.topic("~/timing_now"), TIMING_QOS)
        self._worker = PropagationWorker(self, **name.values(PROPAGATION), turn=turn)

    def destroy(self) -> None:
        """Stop, and take the topics back."""
        self.stop()
        self._qos.withdraw(self._mask, self._timing)

    def start(self, compressed: bool) -> None:
        """Begin to accept frames, of ``CompressedImage`` or of ``Image``."""
        self._compressed = compressed
        self._worker.start()

    def stop(self) -> None:
        """Refuse further frames; returns once the one that waits has its end."""
        self._worker.stop()

    def set(self, values: Mapping[str, Any]) -> None:
        """Take new values of attributes of ``PropagationWorker``."""
        for attribute, value in values.items():
            setattr(self._worker, attribute, value)

    def submit(self, message: SerializedImage) -> None:
        """Offer the newest frame; before the segmentation is, for it tells of that frame by ``begin``."""
        self._worker.submit(message.number, message, message.stamp)

    def begin(self, message: SerializedImage) -> None:
        """Hear that the inference of a frame begins."""
        self._worker.begin(message.number, message, message.stamp)

    def finish(self, message: SerializedImage, mask: np.ndarray, void: int | None) -> None:
        """Hear that the mask of a frame, uint8 [H, W], is there; ``void`` as in ``Propagator.finish``."""
        self._worker.finish(message.number, mask, void)

    def reset(self, reason: str) -> None:
        """Forget all masks, for a reason that the records name."""
        self._worker.reset(reason)

    def status(self) -> dict[str, str]:
        """Values for diagnostics; see ``PropagationWorker.status``."""
        return self._worker.status()

    def wanted(self) -> bool:
        """See ``NowPort``; the masks are what costs, so their subscribers decide."""
        return self._mask.get_subscription_count() > 0

    def picture(self, message: SerializedImage) -> Picture:
        """See ``NowPort``."""
        return picture_of_compressed(message.encoded()) if self._compressed else picture_of_image(message.raw())

    def source_trouble(self) -> str:
        """See ``NowPort``."""
        return self._trouble()

    def publish(self, message: SerializedImage, carried: Carried) -> None:
        """See ``NowPort``; stamped with the time for which the mask holds."""
        if self._mask.is_activated:
            header = header_at(message.header, carried.target)
            publish_serialized(self._mask, serialized_mono8(carried.mask, header))

    def report(self, message: SerializedImage, record: NowRecord) -> None:
        """See ``NowPort``; with the frame's own header."""
        if not self._node.context.ok():
            return
        if self._timing.get_subscription_count() > 0:
            status = now_status(record, self._name.full_name)
            publish_serialized(self._timing, serialized_diagnostics(message.header, *status))
        if record.outcome in NOW_FAULTS:
            reason = f"mask of now {record.outcome.value}: {record.detail}"
            self._node.get_logger().warning(reason, throttle_duration_sec=1.0)


def now_status(record: NowRecord, name: str) -> tuple[int, tuple[str, str, str], dict[str, str]]:
    """Status of a record for ``serialized_diagnostics``.

    Args:
        record: of one frame.
        name: of the node.

    Returns:
        Level; name, message and hardware id; values.
    """
    values = {stage.value: f"{duration:.3f}" for stage, duration in record.stages.items()}
    values["total"] = f"{record.total:.3f}"
    values["again"] = str(record.again).lower()
    # To the nanosecond: the frame's stamp and this give the stamp of the mask.
    values["horizon_ms"] = f"{record.horizon:.6f}"
    if record.keyframe is not None:
        values["keyframe"] = str(record.keyframe)
        values["keyframe_age"] = f"{record.keyframe_age:.3f}"
        values["frames"] = str(record.frames)
        values["residual"] = f"{record.residual:.2f}"
    if record.detail:
        values["detail"] = record.detail
    propagated = record.outcome is NowOutcome.PROPAGATED
    fault = record.outcome in NOW_FAULTS
    level = DiagnosticStatus.OK if propagated else DiagnosticStatus.ERROR if fault else DiagnosticStatus.WARN
    return level[0], (f"{name}: mask of now", record.outcome.value, ""), values


def now_record(status: DiagnosticStatus) -> NowRecord:
    """Read the status of a message of ``~/timing_now``: the inverse of ``now_status``.

    Raises:
        ValueError: it is none.
    """
    values = {item.key: item.value for item in status.values}
    if "again" not in values or "total" not in values:
        raise ValueError(f"a record of a mask of now without total: {status.name[:80]!r}")
    carried = "keyframe" in values
    return NowRecord(
        outcome=NowOutcome(status.message),
        again=values["again"] == "true",
        stages={stage: float(values[stage.value]) for stage in NowStage if stage.value in values},
        total=float(values["total"]),
        keyframe=int(values["keyframe"]) if carried else None,
        keyframe_age=float(values["keyframe_age"]) if carried else None,
        frames=int(values["frames"]) if carried else None,
        horizon=float(values["horizon_ms"]),
        residual=float(values["residual"]) if carried else None,
        detail=values.get("detail", ""),
    )
