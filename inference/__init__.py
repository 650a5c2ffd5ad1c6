"""From feature rows to calibrated predictions with onnxruntime: never torch."""
