"""The time and the memory that each size of Whisper takes for a window of 30 s, with random weights.

    python -m benchmarks.transcription.model_sizes --compute-type int8 --rounds 3

On the CPU, a window is encoded, and TOKENS tokens are generated with a beam of 5, as in typical speech. Times are
medians. Each size runs in a process of its own; its memory is what loading and the windows add to the resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

from benchmarks.report import argument_parser, machine, markdown_table, write_json
from benchmarks.server_process import resident_megabytes

NAMES = ("tiny", "base", "small", "medium", "large-v3", "large-v3-turbo", "distil-large-v3")
BEAM_SIZE = 5
TOKENS = 100
SECONDS = 30


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: CTranslate2's default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(directory: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of a window, those of its encoding, and the megabytes that loading and the windows add."""
    before = resident_megabytes(os.getpid())
    model = ctranslate2.models.Whisper(
        str(directory), compute_type=arguments.compute_type, intra_threads=arguments.threads
    )
    encodings, windows = zip(*[time_windows(model) for _ in range(arguments.rounds + 1)], strict=True)
    return {
        "window": statistics.median(windows[1:]),
        "encoding": statistics.median(encodings[1:]),
        "megabytes": resident_megabytes(os.getpid()) - before,
    }


def time_windows(
    model: ctranslate2.models.Whisper,
    *,
    batch: int = 1,
    beam: int = BEAM_SIZE,
    tokens: int = TOKENS,
    to_cpu: bool = False,
) -> tuple[float, float]:
    """Return the seconds after which a batch of windows is encoded, and after which it is decoded, too."""
    features = ctranslate2.StorageView.from_array(np.zeros((batch, model.n_mels, 2 * 1500), np.float32))
    end_of_text = 50257 if model.is_multilingual else 50256
    started = time.monotonic()
    output = model.encode(features, to_cpu=to_cpu)
    encoded = time.monotonic()
    model.generate(
        output, [[end_of_text + 1]] * batch, beam_size=beam, max_length=tokens, suppress_tokens=[-1, end_of_text]
    )
    return encoded - started, time.monotonic() - started


def measure_in_process(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder, name)
        script = ["scripts/make_random_model.py", name, str(directory), "--quantization", arguments.compute_type]
        subprocess.run([sys.executable, *script], check=True, stdout=subprocess.DEVNULL)
        size = (directory / "model.bin").stat().st_size
        command = [sys.executable, "-m", "benchmarks.transcription.model_sizes", "--measure", str(directory)]
        command += ["--compute-type", arguments.compute_type]
        command += ["--rounds", str(arguments.rounds), "--threads", str(arguments.threads)]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
    return {"name": name, "file": size, **json.loads(result.stdout)}


def table(results: list[dict[str, Any]]) -> str:
    slowest = max(result["window"] for result in results)
    rows = [
        [
            result["name"],
            f"{result['file'] / 1e6:,.0f} MB",
            f"{result['megabytes']:,.0f} MB",
            f"{result['encoding']:.2f}",
            f"{result['window']:.2f}",
            f"{SECONDS / result['window']:.1f}",
            f"{slowest / result['window']:.1f}",
        ]
        for result in results
    ]
    titles = ("model", "file", "memory", "encoding s", "window s", "times real time", "relative speed")
    return markdown_table(titles, rows, text_columns=titles[:1])


def main() -> None:
    arguments = parse_arguments()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure, arguments)))
        return
    results = []
    for name in arguments.names:
        results.append(measure_in_process(name, arguments))
        print(f"{name}: {results[-1]['window']:.2f} s", file=sys.stderr)
    print(f"{machine()}, {arguments.compute_type}, beam {BEAM_SIZE}, {TOKENS} tokens\n")
    print(table(results))
    write_json(arguments.json, results)


if __name__ == "__main__":
    main()
