"""The decorator of every jitted function here: Numba without memory management, kept on disk.

Three things differ from `numba.njit(cache=True)`.

- A kernel works on the arrays it is given and allocates nothing: Numba's reference counting is left out,
  and code that needs it does not compile. Counting cost more than the work: an atomic operation for every
  array at every call, most of the time of a book update.
- Numba keeps compiled code on disk until the file of that one function changes; the functions it calls and
  the numbers it takes from other files are compiled in and may be stale. Here it is kept until any Python
  file of this folder, of the function's own, or of a package that one lies in, changes.
- Where the disk has no room, Numba fails, and after an index that names code which was not written any more:
  what lay there before would be run from then on. Here the code is run and not kept.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

from lob.compile_interrupt import hold_interrupts

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """`function` compiled on its first call, to allocate nothing; itself where `NUMBA_DISABLE_JIT` is set."""
    return _compiled(function, allocates=False)


def allocating_kernel(function: Function) -> Function:
    """As `kernel`, for the rare path that needs arrays of its own."""
    return _compiled(function, allocates=True)


def _compiled(function: Function, *, allocates: bool) -> Function:
    hold_interrupts()
    try:
        dispatcher: Function = njit(cache=True, _nrt=allocates)(function)
    except RuntimeError:  # no folder can be written to: compile anew in every process
        dispatcher = njit(_nrt=allocates)(function)
    cache: Any = getattr(dispatcher, "_cache", None)
    files = getattr(cache, "_cache_file", None)
    if files is not None:
        folders = (Path(__file__).parent, *_packages(Path(function.__code__.co_filename).parent))
        files._source_stamp = tuple(_fingerprint(folder) for folder in folders)
        cache.save_overload = _where_there_is_room(cache.save_overload, files)
    return dispatcher


def _where_there_is_room(save: Callable[..., None], files: Any) -> Callable[..., None]:
    """`save`, which writes the index of `files` and then the code, without failing on a full disk.

    Code of older sources goes first: an index may come to stand without the code it names, where the disk is
    full or the process is killed in between, and then has to find none.
    """

    def save_overload(signature: object, code: object) -> None:
        with suppress(OSError):
            if not files._load_index():  # there is none, or it is one of older sources
                name = files._data_name_pattern.partition("{")[0]
                for path in Path(files._cache_path).glob(f"{escape(name)}*"):
                    path.unlink(missing_ok=True)
            save(signature, code)

    return save_overload


def _packages(folder: Path) -> list[Path]:
    """A folder and the packages it lies in, as far up as there are any."""
    packages = [folder]
    while (packages[-1] / "__init__.py").exists() and (packages[-1].parent / "__init__.py").exists():
        packages.append(packages[-1].parent)
    return packages


@lru_cache
def _fingerprint(folder: Path) -> str:
    """sha256 of all Python files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
