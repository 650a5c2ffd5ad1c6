"""Putting a finished directory in the place of another, as nearly in one step as the system allows."""

import ctypes
import os
import shutil
from pathlib import Path

from lob.name_aside import name_aside

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def put_directory(beside: Path, target: Path) -> None:
    """Rename `beside` to `target` on the same file system, removing the directory that stood there before.

    On Linux an existing `target` is exchanged in one system call (renameat2 with RENAME_EXCHANGE), so a
    reader finds the old or the new and never nothing. Elsewhere the old one is renamed aside first and put
    back on failure.
    """
    if not target.exists():
        beside.rename(target)
    elif _exchange(beside, target):
        shutil.rmtree(beside)
    else:
        aside = name_aside(target)
        target.rename(aside)
        try:
            beside.rename(target)
        except OSError:
            aside.rename(target)
            raise
        shutil.rmtree(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically; False where this system or file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux, or a C library without the call
        return False
    result = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return bool(result == 0)
