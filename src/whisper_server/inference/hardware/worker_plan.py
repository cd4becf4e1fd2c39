"""How many workers run a model, with how many threads and which batch size."""

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
    """`count` workers of `threads` threads share one copy of the weights; each runs up to `max_batch_size` windows.

    If `low_latency_threads` is set, a second copy with one worker of so many threads serves single requests.
    """

    count: int
    threads: int
    max_batch_size: int
    low_latency_threads: int = 0

    def __str__(self) -> str:
        single = f"; a single request gets {self.low_latency_threads} threads" if self.low_latency_threads else ""
        return f"workers {self.count} × {self.threads} thread(s), batches of up to {self.max_batch_size}{single}"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The operator's settings; 0 means automatic. `threads` is the total of all workers."""

    count: int = 0
    threads: int = 0
    max_batch_size: int = 0

    def layouts(self) -> list[tuple[int, int]]:
        """Return the possible pairs (workers, threads per worker), the one that is most often fastest first.

        On a CPU, CTranslate2 scales better with more workers than with more threads per worker (docs/performance.md).
        """
        total = self.threads or available_cpus()
        if self.count:
            count = min(self.count, total)
            return [(count, total // count)]
        counts = [total >> shift for shift in range(total.bit_length())]
        return [(count, total // count) for count in counts]

    def default_plan(self, device: Hardware, weight_bytes: int) -> WorkerPlan:
        """Return the plan to use without a measurement; `weight_bytes` is the size of `model.bin`.

        On a GPU one worker is enough: its batches keep the GPU busy. On a CPU a single request would run on one thread
        while the others idle, so it gets a second copy of the weights, unless they are too large for that.
        """
        batch = self.max_batch_size or BATCH_SIZE
        if device.kind == "cuda":
            return WorkerPlan(self.count or 1, self.threads, batch)
        count, threads = self.layouts()[0]
        return WorkerPlan(count, threads, batch, count * threads if count > 1 and is_small(weight_bytes) else 0)


def is_small(weight_bytes: int) -> bool:
    """Whether the weights are small enough to load a second copy for speed."""
    return weight_bytes <= _LARGEST_COPY


def available_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many CPUs this process may use, by its affinity and its container's quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(_quota(cgroup), cpus)))


def _quota(cgroup: Path) -> float:
    """Return the CPU limit of Linux control groups, version 2 or 1; infinity without one."""
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
