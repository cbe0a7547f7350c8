"""Launch files, parameters and start scripts of the rover suite."""
