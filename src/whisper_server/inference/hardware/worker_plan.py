"""How a model's work is spread: so many workers of so many threads, and how much they take at once."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from whisper_server.inference.hardware.device import Hardware

BATCH_SIZE = 8
_LARGEST_COPY = 600_000_000


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """`count` workers with `threads` each share one set of weights; a worker takes up to `max_batch_size` windows.

    With `lone_threads` a second copy of the weights, with so many threads in one worker, serves whoever is alone.
    """

    count: int
    threads: int
    max_batch_size: int
    low_latency_threads: int = 0

    def __str__(self) -> str:
        single = f"; a single caller gets {self.low_latency_threads} threads" if self.low_latency_threads else ""
        return f"workers {self.count} × {self.threads} thread(s), batches of up to {self.max_batch_size}{single}"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What the operator asks for; 0 is whatever fits the machine. `threads` is the total of all workers."""

    count: int = 0
    threads: int = 0
    max_batch_size: int = 0

    def layouts(self) -> list[tuple[int, int]]:
        """Return workers and threads of each, as there are CPUs, the likeliest to be fast first.

        On a CPU CTranslate2 scales better over workers than over the threads of one (docs/performance.md).
        """
        total = self.threads or available_cpus()
        if self.count:
            count = min(self.count, total)
            return [(count, total // count)]
        counts = [total >> shift for shift in range(total.bit_length())]
        return [(count, total // count) for count in counts]

    def default_plan(self, device: Hardware, weights: int) -> WorkerPlan:
        """Return what fits without a measurement, for so many bytes of weights on the disk.

        On a card one worker is right: its batches fill it. On a CPU a lone caller would wait for one thread while the
        others idle, so they get a copy of the weights, where these are not too large to have them twice.
        """
        batch = self.max_batch_size or BATCH_SIZE
        if device.kind == "cuda":
            return WorkerPlan(self.count or 1, self.threads, batch)
        count, threads = self.layouts()[0]
        return WorkerPlan(count, threads, batch, count * threads if count > 1 and is_small(weights) else 0)


def is_small(weights: int) -> bool:
    """Whether so many bytes of weights may be loaded once more for speed."""
    return weights <= _LARGEST_COPY


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
