"""Files and names that are on the disk when the call returns: a rename then never publishes an empty one."""

import os
from pathlib import Path


def write_through(path: Path, content: bytes) -> None:
    """Write a new file and wait until the disk has it; raises FileExistsError where there is one."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Wait until the disk has the names in `directory`, where the system can be asked to."""
    if os.name != "posix":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
