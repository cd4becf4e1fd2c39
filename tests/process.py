"""What the kernel says of a process, by default this one."""

from __future__ import annotations

import os
from pathlib import Path


def memory(field: str, process: int | str = "self") -> int:
    """A size in bytes from /proc/PROCESS/status, such as VmRSS or VmHWM, the peak."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def forget_peak() -> None:
    """Let VmHWM begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def cpu_seconds(process: int | str = "self") -> float:
    """What all its threads have used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
