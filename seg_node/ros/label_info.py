"""The categories as ``vision_msgs/LabelInfo``, for tools that name the values of a mask."""

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from seg_node.core.taxonomy import CATEGORY_NAMES


def publish_label_info(node: Node) -> Publisher | None:
    """Publish the categories once, latched, on the node's ``~/label_info``.

    Returns:
        The publisher, which has to be kept; None where vision_msgs is not installed.
    """
    try:
        from vision_msgs.msg import LabelInfo, VisionClass
    except ImportError:
        return None
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = node.create_publisher(LabelInfo, "~/label_info", latched)
    classes = [VisionClass(class_id=value, class_name=name) for value, name in enumerate(CATEGORY_NAMES)]
    # The threshold is for masks of probabilities; here each pixel is a class id.
    publisher.publish(LabelInfo(header=Header(stamp=node.get_clock().now().to_msg()), class_map=classes))
    return publisher
