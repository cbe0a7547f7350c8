"""Checks calibration samples and converts ONNX actors into validated RKNN models."""
