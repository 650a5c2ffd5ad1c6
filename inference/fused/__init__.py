"""One jitted call for a whole step of a MambaLOB, its weights read from `step.onnx`."""
