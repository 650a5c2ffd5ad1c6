"""How much memory this process has resident, where the system tells."""

from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident_kib() -> int:
    """Resident memory in KiB; 0 where the system has no /proc."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)
