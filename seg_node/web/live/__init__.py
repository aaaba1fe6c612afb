"""The live page: what a segmentation node does, in a browser, without ROS tools."""
