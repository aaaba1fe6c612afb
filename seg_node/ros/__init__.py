"""The ROS 2 side: messages and nodes."""
