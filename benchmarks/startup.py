"""From the command to the first answer, with the model's files in the disk cache.

python benchmarks/startup.py tests/audio/short.flac --model tiny.en --runs 7
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx2


def start(model: str, clip: bytes) -> tuple[float, float]:
    """Seconds until the port is open, and until the first transcript has arrived."""
    command = [sys.executable, "-m", "whisper_server", "--port", "0", "--offline", "--model", model]
    started = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            url = next(line for line in process.stderr if " serving " in line).split()[-1]
            serving = time.perf_counter() - started
            httpx2.post(f"{url}/recognise", files={"file": ("clip", clip)}, timeout=600).raise_for_status()
            return serving, time.perf_counter() - started
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    content = arguments.clip.read_bytes()
    start(arguments.model, content)
    runs = [start(arguments.model, content) for _ in range(arguments.runs)]
    result = {
        "machine": platform.processor() or platform.machine(),
        "model": arguments.model,
        "clip": arguments.clip.name,
        "serving_median_s": round(statistics.median(serving for serving, _ in runs), 2),
        "first_answer_median_s": round(statistics.median(answer for _, answer in runs), 2),
        "first_answer_range_s": [round(limit([answer for _, answer in runs]), 2) for limit in (min, max)],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
