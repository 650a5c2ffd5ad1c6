"""Pages of a file in memory, in an order of their own: another process can map the very same ones.

Which lines of a cache an array may take is a matter of its physical pages, and a copy would lie on others. So
weights whose pages were chosen (`inference.fused.page_placement`) lie in a file that stands in no folder;
whoever is given its descriptor and the order of the pages maps them to consecutive addresses. Linux only.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import weakref
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from inference.fused.lanes import Words
from inference.fused.packing import PAGE_BYTES

_NAME = "mambalob-weights"
_MAP_FIXED = 0x10
_MFD_NOEXEC_SEAL = 8
"""No program; some systems allow no others."""
_NO_ADDRESS = ctypes.c_void_p(-1).value


class PageFile:
    """A file of so many zero pages, which takes memory where it is written to; closed when it is dropped.

    Its size is sealed: a process that reads a page behind the end of a file is ended by a signal.
    """

    def __init__(self, count: int) -> None:
        """Raises OSError where the system has no room or does not allow it."""
        self.descriptor = _create_file()
        weakref.finalize(self, os.close, self.descriptor)
        os.ftruncate(self.descriptor, count * PAGE_BYTES)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        self._count = count

    def pool(self) -> mmap.mmap:
        """All pages in the order of the file, none of them a huge one: those could not be told apart."""
        pages = mmap.mmap(self.descriptor, self._count * PAGE_BYTES, flags=mmap.MAP_SHARED)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            pages.madvise(mmap.MADV_NOHUGEPAGE)
        return pages

    def keep_only(self, order: Sequence[int]) -> None:
        """Give the memory of all other pages back; they are zero from here on."""
        pool = self.pool()
        for page in sorted(set(range(self._count)) - set(order)):
            pool.madvise(mmap.MADV_REMOVE, page * PAGE_BYTES, PAGE_BYTES)


class PageMapping:
    """Pages of a file one behind the other in this process, mapped some at a time.

    The memory is given back with the last array that sees it; the descriptor is not needed any more then.
    """

    def __init__(self, descriptor: int, order: Sequence[int]) -> None:
        """Raises OSError where these are no pages of the file, or no addresses are left."""
        pages = os.fstat(descriptor).st_size // PAGE_BYTES
        if not order or min(order) < 0 or max(order) >= pages:
            named = f"{min(order)} to {max(order)}" if order else "none"
            raise OSError(errno.EINVAL, f"pages {named} came, the file has 0 to {pages - 1}")
        if not fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            raise OSError(errno.EINVAL, "the file may become shorter")
        room = mmap.mmap(-1, len(order) * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.words: Words = np.frombuffer(room, np.float32)
        """(pages * 1024,) float32, those that are not mapped yet zero."""
        self._descriptor = descriptor
        self._order = order
        self._mapped = 0

    def map_next(self, count: int) -> bool:
        """Map `count` further pages, or what is left; answers whether some are left. Raises OSError."""
        address = self.words.ctypes.data
        end = min(self._mapped + count, len(self._order))
        for place in range(self._mapped, end):
            _map_page(self._descriptor, self._order[place], address + place * PAGE_BYTES)
        self._mapped = end
        return end < len(self._order)


def _create_file() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(_NAME, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # which a kernel says that does not know the last flag
            raise
        return os.memfd_create(_NAME, flags)


def _map_page(descriptor: int, page: int, address: int) -> None:
    """Have `address`, which this process has reserved, stand for a page of the file."""
    flags = mmap.MAP_SHARED | mmap.MAP_POPULATE | _MAP_FIXED
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    mapped = _system_mmap()(address, PAGE_BYTES, protection, flags, descriptor, page * PAGE_BYTES)
    if mapped == _NO_ADDRESS:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


@cache
def _system_mmap() -> Any:
    """The C library's `mmap`: Python's own does not say where.

    Called with the interpreter's lock kept: whoever gives it away for a microsecond waits for it after that.
    """
    function = ctypes.PyDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
    return function
