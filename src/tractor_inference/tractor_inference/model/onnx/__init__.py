"""An ONNX actor: what it must be, what exporters write, how onnxruntime runs it."""
