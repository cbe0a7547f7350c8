"""Checks calibration samples and converts ONNX actors into proven RKNN models."""
