"""Launch files, parameters, start scripts, the doctor and the demo."""
