"""Segmentation without ROS: categories, network, bundles, engines, accounting and timing."""
