"""Where a command writes its lines: standard output as they come, or a file that appears once it is whole."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lob.errors import InputError
from lob.name_aside import name_aside


@contextmanager
def open_output(target: str) -> Iterator[BinaryIO]:
    """A stream to write `target` through; "-" is standard output.

    A file is written beside its place and renamed when the block ends; after an exception it is removed, and
    what stood there before is untouched. What is no regular file, /dev/null for example, is written to as it
    is. Raises InputError where the file cannot be made or written.
    """
    if target == "-":
        try:
            yield sys.stdout.buffer
        finally:
            sys.stdout.buffer.flush()
        return
    path = Path(target)
    if path.exists() and not path.is_file():
        try:
            with path.open("wb") as file:
                yield file
        except OSError as error:
            raise _refused(target, error) from error
        return
    beside = name_aside(path)
    try:
        file = beside.open("xb")
    except OSError as error:
        raise _refused(target, error) from error
    try:
        with file:
            yield file
        beside.replace(path)
    except OSError as error:
        raise _refused(target, error) from error
    finally:
        beside.unlink(missing_ok=True)


def _refused(target: str, error: OSError) -> InputError:
    return InputError(f"out: {target!r} cannot be written: {error.strerror or error}")
