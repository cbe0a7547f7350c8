"""A folder of calibration samples: what it holds, its grade, which calibrate and which validate."""
