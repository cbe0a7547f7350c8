"""From an ONNX actor and samples to a validated RKNN model."""
