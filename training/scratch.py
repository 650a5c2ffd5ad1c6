"""Arrays of a value or more a row, which may be larger than memory: above a bound they lie on the disk."""

import math
import os
import tempfile
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lob.errors import InputError

Scalar = TypeVar("Scalar", bound=np.generic)

IN_MEMORY_BYTES = 32 << 20
PIECE_ROWS = 1 << 16
"""Rows worked on at a time."""


def scratch_array(shape: tuple[int, ...], dtype: type[Scalar]) -> NDArray[Scalar]:
    """An array of zeros, which lies in a file without a name where it has more than IN_MEMORY_BYTES.

    The file stands where the system keeps temporary ones (`TMPDIR` names another place) and goes with the
    array. Raises InputError where there is no room for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY_BYTES:
        return np.zeros(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="mambalob-") as file:
            if hasattr(os, "posix_fallocate"):  # else a disk that fills up ends the process without a word
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype=dtype, mode="r+" if file.seek(0, 2) else "w+", shape=shape)
    except OSError as error:
        raise InputError(
            f"{tempfile.gettempdir()}: {size:,} bytes are needed for a while ({error.strerror}); "
            "TMPDIR names another place"
        ) from error
