"""The last word before the base, without ROS."""
