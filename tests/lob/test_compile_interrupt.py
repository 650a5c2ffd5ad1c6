"""Ctrl-C in the middle of a compilation, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import signal
import numpy as np
from numba.core.codegen import CPUCodeLibrary
from lob.kernel import kernel

# A program that a shell began in the background has SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
compiled = CPUCodeLibrary._object_compiled_hook.__func__

def interrupted(library_class, *arguments):
    signal.raise_signal(signal.SIGINT)  # Ctrl-C while LLVM calls back
    compiled(library_class, *arguments)

CPUCodeLibrary._object_compiled_hook = classmethod(interrupted)

@kernel
def doubled(values):
    for i in range(len(values)):
        values[i] *= 2

try:
    doubled(np.ones(3))
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "Python's own handler is back"
    print("interrupted")
"""


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled")
def test_an_interrupt_inside_llvm_ends_the_program(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    ended = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "NUMBA_CACHE_DIR": str(tmp_path)},
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "interrupted\n", "")
