"""The simulator's nodes; the only place of the package that needs ROS."""
