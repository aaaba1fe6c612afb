"""The HTTP API: the same models, engines and decoding as the node, for those without ROS."""
