"""A lock on an open file that the system takes back with the process, whatever ends it."""

from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # no such locks on Windows: there two writers of one file are not told apart
    fcntl = None  # type: ignore[assignment]  # the module, or nothing


def lock_file(file: IO[Any]) -> bool:
    """Hold `file` until it is closed; False where somebody else holds it, or the file system has no locks."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def is_locked(path: Path) -> bool:
    """Whether somebody holds the file at `path` now; False for one that cannot be opened."""
    try:
        file = path.open("rb")
    except OSError:
        return False
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
    return False
