"""Launch files, parameters, start scripts, the doctor, the benchmark and the demo."""
