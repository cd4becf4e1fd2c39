"""How a model's work is spread: so many workers of so many threads, and how much they take at once."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from whisper_server.inference.devices import Device

_CPU_BATCH_SIZE = 4
_CARD_BATCH_SIZE = 8
_LARGEST_COPY = 600_000_000


@dataclass(frozen=True, slots=True)
class Workers:
    """`count` workers with `threads` each share one set of weights; a worker runs up to `max_batch_size` windows."""

    count: int
    threads: int
    max_batch_size: int

    def __str__(self) -> str:
        return f"workers {self.count} × {self.threads} thread(s), batches of up to {self.max_batch_size}"

    def lone_threads(self, weights: int) -> int:
        """Threads for a second copy of the weights (so many bytes on disk) that serves whoever is alone.

        Two workers of one thread answer a lone caller in 1.3 times the time of one worker of two. Large weights are not
        worth their memory twice.
        """
        return self.count * self.threads if weights <= _LARGEST_COPY else self.threads

    @classmethod
    def choose(cls, device: Device, *, count: int, cpu_threads: int, max_batch_size: int) -> Workers:
        """Return what is wanted, with 0 for what fits the machine.

        On a card one worker is right: its batches fill it. On a CPU CTranslate2 scales far better over workers than
        over the threads of one, so each worker gets one thread (docs/performance.md).
        """
        if device.kind == "cuda":
            return cls(count or 1, cpu_threads, max_batch_size or _CARD_BATCH_SIZE)
        total = cpu_threads or available_cpus()
        count = min(count, total) or total
        return cls(count, total // count, max_batch_size or _CPU_BATCH_SIZE)


def available_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The CPUs that this process may use: its affinity, and the quota of its container."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cpus, math.ceil(min(_quota(cgroup), cpus)))))


def _quota(cgroup: Path) -> float:
    """CPUs by the limits of version 2 or 1 of Linux control groups; infinity without any."""
    limits = (("cpu.max", None), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
    for quota_file, period_file in limits:
        try:
            words = (cgroup / quota_file).read_text().split()
            words += (cgroup / period_file).read_text().split() if period_file else []
            quota, period = words[:2]
            if quota != "max" and int(quota) > 0:
                return int(quota) / int(period)
        except (OSError, ValueError):
            continue
    return math.inf
