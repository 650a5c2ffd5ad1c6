"""One recorder a folder: a lock that the system takes back with the process, whatever ends it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lob.captures.layout import LOCK_FILE
from lob.errors import InputError

try:
    import fcntl
except ImportError:  # no such locks on Windows: there two recorders in one folder are not told apart
    fcntl = None  # type: ignore[assignment]  # the module, or nothing


@contextmanager
def folder_lock(directory: Path, name: str = LOCK_FILE) -> Iterator[None]:
    """Hold the folder until the block ends; raises InputError where another process holds it.

    What is held is the file `name` in it: a recorder's unless another is named.
    """
    try:
        lock = (directory / name).open("ab")
    except OSError as error:
        raise InputError(f"{directory}: cannot be locked ({error.strerror})") from error
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(
                    f"{directory}: another process like this one is at work there; one at a time"
                ) from error
        yield


def is_locked(directory: Path, name: str = LOCK_FILE) -> bool:
    """Whether somebody holds the folder now."""
    if fcntl is None or not (directory / name).exists():
        return False
    with (directory / name).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
