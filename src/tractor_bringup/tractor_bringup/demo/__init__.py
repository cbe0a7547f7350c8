"""The main job, whole, on a machine without ROS: `make demo`."""
