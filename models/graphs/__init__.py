"""ONNX graphs: each is computed by a process of its own, within limits."""
