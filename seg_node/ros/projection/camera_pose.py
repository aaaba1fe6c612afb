"""Where the camera is over the ground: by parameters, or by tf2 where it is installed."""

from typing import Protocol

from rclpy.node import Node
from std_msgs.msg import Header

from seg_node.core.errors import UserError
from seg_node.core.projection.errors import Drop, ProjectionError
from seg_node.core.projection.ground import Pose


class PoseSource(Protocol):
    """Gives the pose of the camera."""

    def pose(self, header: Header) -> Pose | None:
        """The pose of the camera that took a frame; None where nobody has said it.

        Raises:
            ProjectionError: it is not known for this frame.
        """


class MountedCamera:
    """A camera whose place over the ground never changes.

    Args:
        height: of the lens above the ground, metres; 0 for unknown.
        pitch: radians, positive looks down.
        roll: radians, positive lowers the right side.
    """

    def __init__(self, height: float, pitch: float, roll: float):
        self._pose = Pose.of_mounting(height, pitch, roll) if height > 0 else None

    def pose(self, header: Header) -> Pose | None:
        """See ``PoseSource``."""
        return self._pose


class TransformedCamera:
    """A camera whose place over the ground is on tf.

    Args:
        node: that listens.
        base_frame: frame on the ground.

    Raises:
        UserError: tf2_ros is not installed.
    """

    def __init__(self, node: Node, base_frame: str):
        try:
            from tf2_ros import Buffer, TransformException, TransformListener
        except ImportError as error:
            raise UserError(
                "ground is 'tf', and tf2_ros is not installed: it comes with a ROS 2 installation; "
                "set ground to 'mounting' and give camera_height, camera_pitch and camera_roll"
            ) from error
        self._base_frame = base_frame
        self._error = TransformException
        self._buffer = Buffer()
        self._listener = TransformListener(self._buffer, node)

    def pose(self, header: Header) -> Pose:
        """See ``PoseSource``."""
        try:
            found = self._buffer.lookup_transform(self._base_frame, header.frame_id, header.stamp).transform
        except (self._error, ValueError) as error:
            raise ProjectionError(
                Drop.GROUND, f"no transform from {header.frame_id!r} to {self._base_frame!r}: {error}"
            ) from error
        turn, place = found.rotation, found.translation
        return Pose.of_transform((turn.x, turn.y, turn.z, turn.w), (place.x, place.y, place.z))
