"""One process at a time in a folder: a lock that the system takes back with the process, whatever ends it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lob.captures.file_lock import lock_file
from lob.captures.layout import LOCK_FILE
from lob.errors import InputError


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
        if not lock_file(lock):
            raise InputError(f"{directory}: another process like this one is at work there; one at a time")
        yield
