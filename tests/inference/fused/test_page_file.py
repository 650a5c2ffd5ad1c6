"""Pages of a file in memory: mapped in any order, shared, and given back."""

import errno
import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inference.fused.lanes import Words
from inference.fused.packing import PAGE_BYTES
from inference.fused.page_file import PageFile, PageMapping

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files in memory are Linux' own")

PAGE_WORDS = PAGE_BYTES // 4


def numbered(count: int) -> PageFile:
    """A file whose pages hold their number."""
    file = PageFile(count)
    np.frombuffer(file.pool(), np.float32).reshape(count, PAGE_WORDS)[:] = np.arange(count)[:, None]
    return file


def mapped(file: PageFile, order: list[int]) -> Words:
    mapping = PageMapping(file.descriptor, order)
    assert not mapping.map_next(len(order))
    return mapping.words


def mappings_within(first: int, size: int) -> int:
    """Mappings of this process that lie in the `size` bytes from `first`."""
    starts = (int(line.split("-")[0], 16) for line in Path("/proc/self/maps").read_text().splitlines())
    return sum(first <= start < first + size for start in starts)


def allocated_pages(file: PageFile) -> int:
    return os.fstat(file.descriptor).st_blocks * 512 // PAGE_BYTES


def test_pages_come_to_lie_in_the_order_asked_for() -> None:
    words = mapped(numbered(8), [5, 2, 7])
    assert (words.reshape(3, PAGE_WORDS) == [[5], [2], [7]]).all()


def test_some_at_a_time() -> None:
    file = numbered(5)
    mapping = PageMapping(file.descriptor, [4, 3, 2, 1, 0])
    first_words = mapping.words[::PAGE_WORDS]
    assert mapping.map_next(2)
    assert first_words.tolist() == [4, 3, 0, 0, 0]
    assert mapping.map_next(2)
    assert not mapping.map_next(2)
    assert first_words.tolist() == [4, 3, 2, 1, 0]
    assert not mapping.map_next(2)


def test_the_other_pages_give_their_memory_back() -> None:
    file = numbered(8)
    assert allocated_pages(file) == 8
    file.keep_only([5, 2, 7])
    assert allocated_pages(file) == 3
    assert (mapped(file, [5, 2, 7])[::PAGE_WORDS] == [5, 2, 7]).all()


def test_another_process_sees_the_same_memory() -> None:
    file = numbered(3)
    words = mapped(file, [2, 0])
    program = (
        "import sys; from inference.fused.page_file import PageMapping;"
        "mapping = PageMapping(int(sys.argv[1]), [2]); mapping.map_next(1); mapping.words[:] += 40"
    )
    command = (sys.executable, "-c", program, str(file.descriptor))
    subprocess.run(command, check=True, pass_fds=[file.descriptor])  # written above
    assert words[::PAGE_WORDS].tolist() == [42, 0]


def test_memory_and_file_go_back_with_the_last_that_sees_them() -> None:
    file = numbered(64)
    descriptor = file.descriptor
    words = mapped(file, list(range(0, 64, 2)))
    del file
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    first, size = words.ctypes.data, words.nbytes
    part = words[PAGE_WORDS:].reshape(-1, PAGE_WORDS)
    del words
    gc.collect()
    assert mappings_within(first, size) > 0, "an array still sees it"
    assert (part[:, 0] == np.arange(2, 64, 2)).all()
    del part
    gc.collect()
    assert mappings_within(first, size) == 0


@pytest.mark.parametrize(
    ("order", "named"), [([3, 4], "3 to 4"), ([-1, 2], "-1 to 2"), ([-(2**52)], "-4503"), ([], "none")]
)
def test_pages_that_the_file_has_not_are_refused(order: list[int], named: str) -> None:
    file = PageFile(4)
    with pytest.raises(OSError, match=rf"pages {named}.* came, the file has 0 to 3"):
        PageMapping(file.descriptor, order)


def test_a_file_keeps_its_size_and_one_that_might_not_is_refused() -> None:
    file = PageFile(4)
    for size in (0, 5 * PAGE_BYTES):
        with pytest.raises(PermissionError):
            os.ftruncate(file.descriptor, size)
    other = os.memfd_create("other", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(other, PAGE_BYTES)
        with pytest.raises(OSError, match="the file may become shorter"):
            PageMapping(other, [0])
    finally:
        os.close(other)


def test_a_kernel_that_does_not_know_a_flag_makes_the_file_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make, asked = os.memfd_create, list[int]()

    def of_old(name: str, flags: int) -> int:
        asked.append(flags)
        if flags & 8:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return make(name, flags)

    monkeypatch.setattr(os, "memfd_create", of_old)
    assert (mapped(numbered(2), [1])[::PAGE_WORDS] == [1]).all()
    assert len(asked) == 2


def test_a_page_that_cannot_be_mapped_is_an_error() -> None:
    file = PageFile(1)
    reading = os.open(f"/proc/self/fd/{file.descriptor}", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Permission denied"):
            PageMapping(reading, [0]).map_next(1)
    finally:
        os.close(reading)
