"""What the kernel says of this process."""

from __future__ import annotations

from pathlib import Path

_PROCESS = Path("/proc/self")


def memory(field: str) -> int:
    """A size in bytes from /proc/self/status, such as VmRSS or VmHWM, the peak."""
    lines = (_PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def forget_peak() -> None:
    """Let VmHWM begin anew."""
    (_PROCESS / "clear_refs").write_text("5")
