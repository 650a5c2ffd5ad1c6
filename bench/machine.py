"""Where a measurement was made: processor, memory, system, library versions, commit.

Figures without these cannot be compared with anything. What the system does not tell is None, never guessed.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

PROCESSOR_FILE = Path("/proc/cpuinfo")
FREQUENCY_FOLDER = Path("/sys/devices/system/cpu/cpu0/cpufreq")
HYPERVISOR_FILE = Path("/sys/hypervisor/type")
PACKAGES = ("numpy", "numba", "llvmlite", "msgspec", "onnxruntime", "mambalob")
REPOSITORY = Path(__file__).resolve().parent.parent


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine and what it was doing when a run began."""

    processor: str
    architecture: str
    cores: int | None
    cores_allowed: int | None
    frequency_mhz: float | None
    frequency_max_mhz: float | None
    governor: str | None
    virtualised: bool | None
    memory_gib: float | None
    system: str
    load_average: tuple[float, float, float] | None


def describe_machine() -> Machine:
    """What this system tells about itself, now."""
    fields = _processor_fields(PROCESSOR_FILE)
    return Machine(
        processor=fields.get("model name") or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        cores=os.cpu_count(),
        cores_allowed=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        frequency_mhz=_number(fields.get("cpu MHz")),
        frequency_max_mhz=_frequency_max_mhz(FREQUENCY_FOLDER),
        governor=_text(FREQUENCY_FOLDER / "scaling_governor"),
        virtualised=_virtualised(fields),
        memory_gib=_memory_gib(),
        system=f"{platform.system()} {platform.release()}",
        load_average=load_average(),
    )


def load_average() -> tuple[float, float, float] | None:
    """Processes that wanted a core in the last 1, 5 and 15 minutes; None where the system does not say."""
    return os.getloadavg() if hasattr(os, "getloadavg") else None


def preemptions_so_far() -> int | None:
    """How often the system has taken a core away from this process; None where it does not say."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def preemptions_since(before: int | None) -> int | None:
    """How often it has since `preemptions_so_far` answered `before`; None where the system does not say."""
    now = preemptions_so_far()
    return None if before is None or now is None else now - before


def library_versions(peers: Iterable[str] = ()) -> dict[str, str]:
    """Python's version and that of every library whose code lies in a timed part, `peers` among them."""
    versions = {"python": platform.python_version()}
    for package in (*PACKAGES, *peers):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def source_commit(repository: Path = REPOSITORY) -> str:
    """The commit of the checkout this code runs from, `-dirty` added where tracked files differ from it.

    Outside a checkout (an installed wheel, no git at hand): `version <package version>`.
    """
    installed = f"version {version('mambalob')}"
    git = shutil.which("git")
    if git is None or not (repository / ".git").exists():
        return installed
    try:
        commit = _git(git, repository, "rev-parse", "HEAD")
        changed = _git(git, repository, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return installed
    return f"{commit}-dirty" if changed else commit


def _git(git: str, repository: Path, *arguments: str) -> str:
    # S603: the program is git by its full path and every argument is written in this file.
    done = subprocess.run(  # noqa: S603
        [git, "-C", str(repository), *arguments], check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()


def _processor_fields(path: Path) -> dict[str, str]:
    """The fields of the first processor in a file of /proc/cpuinfo's form; empty where there is none."""
    fields: dict[str, str] = {}
    for line in (_text(path) or "").splitlines():
        if not line.strip():
            break
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    return fields


def _virtualised(fields: dict[str, str]) -> bool | None:
    """Whether a hypervisor shows itself; None where this kind of processor does not say."""
    if _text(HYPERVISOR_FILE) is not None:
        return True
    if "flags" not in fields:
        return None
    return "hypervisor" in fields["flags"].split()


def _frequency_max_mhz(folder: Path) -> float | None:
    kilohertz = _number(_text(folder / "cpuinfo_max_freq"))
    return None if kilohertz is None else kilohertz / 1000


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
