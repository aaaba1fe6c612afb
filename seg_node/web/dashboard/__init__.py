"""The dashboard: masks beside the truth, training runs, studies and comparisons, in a browser and without ROS."""
