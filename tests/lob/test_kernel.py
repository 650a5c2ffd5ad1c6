"""Compiled code on disk follows every source it was compiled from, and kernels cannot allocate."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.errors import NumbaError

from lob.kernel import allocating_kernel, kernel

REPOSITORY = Path(__file__).resolve().parents[2]
JITTED = os.environ.get("NUMBA_DISABLE_JIT") != "1"


def answer(folder: Path, room_bytes: int | None = None) -> list[str]:
    """What `outer.triple()` says in a fresh process, and how many times it was compiled there.

    No file that the process writes may be longer than `room_bytes`.
    """
    program = "import outer; print(outer.triple(), sum(outer.triple.stats.cache_misses.values()))"
    if room_bytes is not None:
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room_bytes},) * 2)"
        program = f"{limit}; {program}"
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}", "NUMBA_DISABLE_JIT": "0"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.split()


def test_change_of_a_called_file_is_seen(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner.py", tmp_path / "outer.py"
    inner.write_text("from lob.kernel import kernel\n\n@kernel\ndef number():\n    return 2\n")
    outer.write_text(
        "from lob.kernel import kernel\nfrom inner import number\n\n"
        "@kernel\ndef triple():\n    return 3 * number()\n"
    )
    assert answer(tmp_path) == ["6", "1"]
    assert answer(tmp_path) == ["6", "0"]
    inner.write_text(inner.read_text().replace("return 2", "return 5"))
    assert answer(tmp_path) == ["15", "1"]


INDEX_BYTES = 2_000
"""More than the index of a kernel's code on disk has, and less than its code."""


@pytest.mark.skipif(sys.platform == "win32", reason="bounds what a process may write")
@pytest.mark.parametrize("room_bytes", [0, INDEX_BYTES])
def test_a_full_disk_keeps_no_kernel_and_brings_back_no_stale_one(tmp_path: Path, room_bytes: int) -> None:
    """The index is written before the code that it names: code that lay there before must not be taken."""
    number = tmp_path / "outer.py"
    number.write_text("from lob.kernel import kernel\n\n@kernel\ndef triple():\n    return 3 * 2\n")
    assert answer(tmp_path) == ["6", "1"]
    number.write_text(number.read_text().replace("3 * 2", "3 * 5"))
    assert answer(tmp_path, room_bytes) == ["15", "1"]
    assert answer(tmp_path) == ["15", "1"]
    assert answer(tmp_path) == ["15", "0"]


def test_change_of_a_file_of_the_package_around_is_seen(tmp_path: Path) -> None:
    """As a tick calls what lies in `inference` from `inference.fused`."""
    package = tmp_path / "package" / "part"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    inner = package.parent / "inner.py"
    inner.write_text("from lob.kernel import kernel\n\n@kernel\ndef number():\n    return 2\n")
    (package / "outer.py").write_text(
        "from lob.kernel import kernel\nfrom package.inner import number\n\n"
        "@kernel\ndef triple():\n    return 3 * number()\n"
    )
    (tmp_path / "outer.py").write_text("from package.part.outer import triple\n")
    assert answer(tmp_path) == ["6", "1"]
    assert answer(tmp_path) == ["6", "0"]
    inner.write_text(inner.read_text().replace("return 2", "return 5"))
    assert answer(tmp_path) == ["15", "1"]


@pytest.mark.skipif(not JITTED, reason="nothing is compiled with NUMBA_DISABLE_JIT")
def test_kernel_cannot_allocate() -> None:
    def allocate() -> float:
        return float(np.zeros(3).sum())

    def allocate_as_well() -> float:  # another function: this one's code is kept for the next run
        return float(np.zeros(3).sum())

    with pytest.raises(NumbaError):
        kernel(allocate)()
    assert allocating_kernel(allocate_as_well)() == 0.0


def test_kernel_runs_where_nothing_can_be_kept() -> None:
    source = "def double(x):\n    return 2 * x\n"
    namespace: dict[str, Any] = {}
    exec(compile(source, "<no file>", "exec"), namespace)
    double = kernel(namespace["double"])
    assert double(4) == 8
