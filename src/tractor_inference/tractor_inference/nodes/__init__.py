"""The nodes; the only place of the package that needs ROS."""
