"""What a heap that keeps freed memory is worth: windows in processes with and without it, in turn.

    python benchmarks/heap.py --model base --runs 5

Each process loads the model with a worker of one thread for each CPU, and encodes and decodes silence with some noise
in full windows, all workers at once. Printed are milliseconds a window (of wall time, over all workers), page faults a
window, and the ratio of the times, pair by pair.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import ctranslate2
import numpy as np
from ctranslate2 import StorageView

from whisper_server.core.settings import cache_dir
from whisper_server.inference.hardware.malloc import keep_freed_memory
from whisper_server.inference.hardware.worker_plan import available_cpus
from whisper_server.inference.models.catalogue import PACKAGES
from whisper_server.inference.models.packages import PackagedModels

WINDOWS = 5


def measure(name: str, keep: bool) -> dict[str, float]:
    """Milliseconds and page faults of a window in this process."""
    if keep:
        keep_freed_memory()
    directory = PackagedModels(PACKAGES, cache_dir=cache_dir() / "packages").find(name)
    workers = available_cpus()
    model = ctranslate2.models.Whisper(str(directory), compute_type="int8", inter_threads=workers, intra_threads=1)
    noise = np.random.default_rng(0).normal(0, 0.1, (1, model.n_mels, 3000)).astype(np.float32)
    features = StorageView.from_array(noise)
    start, end = (50258, 50257) if model.is_multilingual else (50257, 50256)

    def window(_: int) -> None:
        output = model.encode(features, to_cpu=True)
        model.generate(output, [[start]], beam_size=5, max_length=24, suppress_tokens=[end], suppress_blank=False)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(window, range(workers)))
        faults, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        list(pool.map(window, range(WINDOWS * workers)))
        seconds = time.perf_counter() - started
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return {"milliseconds": 1000 * seconds / (WINDOWS * workers), "faults": faults / (WINDOWS * workers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--inside", choices=("keep", "plain"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(json.dumps(measure(arguments.model, arguments.inside == "keep")))
        return
    found: dict[str, list[dict[str, float]]] = {"plain": [], "keep": []}
    for _ in range(arguments.runs):
        for side, runs in found.items():
            command = [sys.executable, __file__, "--model", arguments.model, "--inside", side]
            runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    print("| heap | ms a window, median | page faults a window |\n|---|---:|---:|")
    for side, runs in found.items():
        milliseconds, faults = (statistics.median(run[key] for run in runs) for key in ("milliseconds", "faults"))
        print(f"| {side} | {milliseconds:.0f} | {faults:.0f} |")
    ratios = [a["milliseconds"] / b["milliseconds"] for a, b in zip(found["plain"], found["keep"], strict=True)]
    print(f"ratio, median of pairs: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
