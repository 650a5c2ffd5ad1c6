"""From feature rows to calibrated predictions with onnxruntime: never torch."""

import os

# From 1.29 on onnxruntime's Linux packages write a device identifier, start a thread and report use to their
# maker unless this is set before the first import of onnxruntime. Set it to 0 to allow that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
