"""Windows with and without a malloc that keeps freed memory, in processes that take turns.

    python -m benchmarks.server.malloc --model base --runs 5

Each process loads the model with one single-threaded worker for each CPU, and encodes and decodes full windows of quiet
noise, all workers at once. Reports milliseconds of wall time a window over all workers, page faults a window, and the
ratio of the times, pair by pair.
"""

from __future__ import annotations

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

from benchmarks.report import argument_parser, markdown_table
from benchmarks.transcription.libraries import find_model
from whisper_server.inference.hardware.malloc import keep_freed_memory
from whisper_server.inference.hardware.worker_plan import available_cpus

WINDOWS = 5
START_TOKEN, END_TOKEN = 50257, 50256
MULTILINGUAL_START_TOKEN, MULTILINGUAL_END_TOKEN = 50258, 50257


def measure(name: str) -> dict[str, float]:
    """Milliseconds and page faults of a window in this process."""
    workers = available_cpus()
    directory = str(find_model(name))
    model = ctranslate2.models.Whisper(directory, compute_type="int8", inter_threads=workers, intra_threads=1)
    noise = np.random.default_rng(0).normal(0, 0.1, (1, model.n_mels, 3000)).astype(np.float32)
    features = StorageView.from_array(noise)
    start, end = (
        (MULTILINGUAL_START_TOKEN, MULTILINGUAL_END_TOKEN) if model.is_multilingual else (START_TOKEN, END_TOKEN)
    )

    def decode(_: int) -> None:
        output = model.encode(features, to_cpu=True)
        model.generate(output, [[start]], beam_size=5, max_length=24, suppress_tokens=[end], suppress_blank=False)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(decode, range(workers)))
        faults, started = _page_faults(), time.perf_counter()
        list(pool.map(decode, range(WINDOWS * workers)))
        seconds = time.perf_counter() - started
    windows = WINDOWS * workers
    return {"milliseconds": 1000 * seconds / windows, "faults": (_page_faults() - faults) / windows}


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--model", default="base")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--in-process", choices=("keep", "default"), help="measure in this process and print JSON")
    arguments = parser.parse_args()
    if arguments.in_process is not None:
        if arguments.in_process == "keep":
            keep_freed_memory()
        print(json.dumps(measure(arguments.model)))
        return
    runs: dict[str, list[dict[str, float]]] = {"default": [], "keep": []}
    for _ in range(arguments.runs):
        for mode, results in runs.items():
            command = [sys.executable, "-m", "benchmarks.server.malloc", "--model", arguments.model]
            process = subprocess.run([*command, "--in-process", mode], check=True, capture_output=True, text=True)
            results.append(json.loads(process.stdout))
    rows = [
        [mode, *(f"{statistics.median(result[key] for result in results):.0f}" for key in ("milliseconds", "faults"))]
        for mode, results in runs.items()
    ]
    print(markdown_table(["malloc", "ms a window, median", "page faults a window"], rows, text_columns=("malloc",)))
    ratios = [a["milliseconds"] / b["milliseconds"] for a, b in zip(runs["default"], runs["keep"], strict=True)]
    print(f"ratio, median of pairs: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
