"""Which versions of which libraries made a result."""

import platform
from importlib.metadata import version

LIBRARIES = ("mambalob", "numba", "numpy", "onnx", "onnxruntime", "scikit-learn", "torch")


def library_versions() -> dict[str, str]:
    """Name to version, Python's own included."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
