"""The time from the start of the server to its first transcript, with the model's files in the disk cache.

python -m benchmarks.server.startup_time tests/audio/short.flac --model tiny.en --runs 7
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import httpx2

from benchmarks.report import argument_parser, machine
from benchmarks.server_process import ServerProcess


def measure(model: str, clip: bytes) -> tuple[float, float]:
    """Seconds until the port is open, and until the first transcript has arrived."""
    started = time.perf_counter()
    with ServerProcess("--model", model) as server:
        open_seconds = time.perf_counter() - started
        httpx2.post(f"{server.url}/recognise", files={"file": ("clip", clip)}, timeout=600).raise_for_status()
        return open_seconds, time.perf_counter() - started


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    content = arguments.clip.read_bytes()
    measure(arguments.model, content)
    runs = [measure(arguments.model, content) for _ in range(arguments.runs)]
    transcripts = [transcript_seconds for _, transcript_seconds in runs]
    result = {
        "machine": machine(),
        "model": arguments.model,
        "clip": arguments.clip.name,
        "port_open_median_s": round(statistics.median(open_seconds for open_seconds, _ in runs), 2),
        "first_transcript_median_s": round(statistics.median(transcripts), 2),
        "first_transcript_range_s": [round(min(transcripts), 2), round(max(transcripts), 2)],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
