"""What the report says of the machine, held against what the system says elsewhere."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numba
import numpy as np
import pytest

from bench import machine

PROCESSOR = """processor\t: 0
model name\t: Some Processor @ 3 GHz
cpu MHz\t\t: 2999.5
flags\t\t: fpu {flag} sse

processor\t: 1
model name\t: Another
"""


def git(folder: Path, *arguments: str) -> str:
    program = shutil.which("git")
    if program is None:
        pytest.skip("no git at hand")
    identity = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    done = subprocess.run(
        [program, "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_machine_is_this_one() -> None:
    found = machine.describe_machine()
    assert found.processor
    assert found.cores == os.cpu_count()
    if sys.platform == "linux":  # others may not tell
        assert found.memory_gib > 0
    assert found.system.split()[0] in {"Linux", "Darwin"}


@pytest.mark.parametrize(("flag", "virtualised"), [("hypervisor", True), ("apic", False)])
def test_processor_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, virtualised: bool
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(PROCESSOR.format(flag=flag))
    monkeypatch.setattr(machine, "PROCESSOR_FILE", path)
    monkeypatch.setattr(machine, "HYPERVISOR_FILE", tmp_path / "none")
    found = machine.describe_machine()
    assert found.processor == "Some Processor @ 3 GHz"
    assert found.frequency_mhz == 2999.5
    assert found.virtualised is virtualised


def test_what_the_system_does_not_tell_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("PROCESSOR_FILE", "FREQUENCY_FOLDER", "HYPERVISOR_FILE"):
        monkeypatch.setattr(machine, place, tmp_path / "none")
    found = machine.describe_machine()
    assert (found.frequency_mhz, found.frequency_max_mhz, found.governor, found.virtualised) == (None,) * 4
    assert found.processor


def test_frequency_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo_max_freq").write_text("3800000\n")
    (tmp_path / "scaling_governor").write_text("performance\n")
    monkeypatch.setattr(machine, "FREQUENCY_FOLDER", tmp_path)
    found = machine.describe_machine()
    assert (found.frequency_max_mhz, found.governor) == (3800.0, "performance")


def test_preemptions_only_grow() -> None:
    pytest.importorskip("resource", reason="this system does not say")
    before, after = machine.preemptions_so_far(), machine.preemptions_so_far()
    assert 0 <= before <= after
    assert 0 <= machine.preemptions_since(after) <= machine.preemptions_so_far() - after


def test_preemptions_that_the_system_does_not_count_are_none() -> None:
    assert machine.preemptions_since(None) is None


def test_versions_are_those_imported() -> None:
    versions = machine.library_versions()
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["numpy"] == np.__version__
    assert versions["numba"] == numba.__version__
    assert versions["mambalob"] == version("mambalob")


def test_commit_of_a_checkout_and_its_changes(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "One")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert re.fullmatch("[0-9a-f]{40}", head)
    assert machine.source_commit(tmp_path) == head
    (tmp_path / "untracked").write_text("not of the commit")
    assert machine.source_commit(tmp_path) == head
    (tmp_path / "file").write_text("two")
    assert machine.source_commit(tmp_path) == f"{head}-dirty"


def test_package_version_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = f"version {version('mambalob')}"
    assert machine.source_commit(tmp_path) == installed
    (tmp_path / ".git").mkdir()  # no repository: git refuses it
    assert machine.source_commit(tmp_path) == installed
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.source_commit() == installed
