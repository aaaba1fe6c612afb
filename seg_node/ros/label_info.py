"""The categories as ``vision_msgs/LabelInfo``, for tools that name the values of a mask."""

import contextlib

from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from seg_node.core.taxonomy import Taxonomy
from seg_node.ros.transfer.rclpy_gaps import set_read_only


class LabelInfo:
    """Tells which categories a node's masks have: on its latched ``~/label_info``, and in its parameters.

    Args:
        node: whose topic and parameters ``category_names`` and ``category_colors`` they are. There is no topic where
            vision_msgs is not installed.
    """

    def __init__(self, node: Node):
        self._node = node
        self._publisher = None
        with contextlib.suppress(ImportError):
            from vision_msgs.msg import LabelInfo as Message

            latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self._publisher = node.create_publisher(Message, "~/label_info", latched)

    def tell(self, taxonomy: Taxonomy) -> None:
        """Publish the categories of a model, in the place of those of the one before."""
        colours = [part for colour in taxonomy.palette for part in colour]
        names = list(taxonomy.names)
        values = {"category_names": names, "category_colors": colours}
        set_read_only(self._node, [Parameter(name, value=value) for name, value in values.items()])
        if self._publisher is not None:
            from vision_msgs.msg import LabelInfo as Message
            from vision_msgs.msg import VisionClass

            classes = [VisionClass(class_id=value, class_name=name) for value, name in enumerate(names)]
            # The threshold is for masks of probabilities; here each pixel is a class id.
            stamp = self._node.get_clock().now().to_msg()
            self._publisher.publish(Message(header=Header(stamp=stamp), class_map=classes))
