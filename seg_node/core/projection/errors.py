"""Why a mask cannot be projected."""

from enum import Enum

from seg_node.core.errors import UserError


class Drop(Enum):
    """Reason for which a mask is not projected; the value stands on ``/diagnostics``."""

    INCOMPLETE = "incomplete"
    """Its confidence or depth image never came."""
    UNREADABLE = "unreadable"
    """The mask or its confidence image is no mono8 image, or their sizes differ."""
    NO_CAMERA_INFO = "no_camera_info"
    """No calibration has come yet."""
    CAMERA_INFO = "camera_info"
    """The calibration cannot be used."""
    SIZE = "size"
    """The mask has another size than the calibrated images."""
    DEPTH = "depth"
    """The depth image cannot be used, or has another size than the mask."""
    GROUND = "ground"
    """There is no pose of the camera, or no pixel sees the ground."""
    FAILED = "failed"
    """Something else went wrong; the log has it."""


class ProjectionError(UserError):
    """A mask that cannot be projected.

    Attributes:
        drop: the reason.
    """

    def __init__(self, drop: Drop, message: str):
        super().__init__(message)
        self.drop = drop
