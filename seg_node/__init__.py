"""seg_node: road-scene segmentation for ROS 2 with every frame accounted for."""

__version__ = "1.0.0"
