"""The link as a node; the only place of the package that needs ROS."""
