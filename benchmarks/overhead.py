"""What the server adds to faster-whisper: the same bytes through HTTP and through faster-whisper itself, in turn.

    python benchmarks/overhead.py tests/audio/sentences.flac --model tiny.en --runs 20

Both sides have one worker, the same number of threads and the same compute type; each side is warmed up first. The
direct side does what a script would do: `faster_whisper.decode_audio` and `WhisperModel.transcribe` with
openai-whisper's defaults. Both models stay loaded, and only one of them works at a time.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx2
from faster_whisper import WhisperModel, decode_audio

from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings


def direct(whisper: WhisperModel, content: bytes) -> str:
    audio = decode_audio(io.BytesIO(content))
    segments, _ = whisper.transcribe(audio, beam_size=1, best_of=1)
    return "".join(segment.text for segment in segments)


def through_http(client: httpx2.Client, content: bytes) -> str:
    answer = client.post("/recognise", files={"file": ("clip", content)})
    text: str = answer.raise_for_status().json()["transcription"]["text"]
    return text


def start_server(arguments: argparse.Namespace) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "whisper_server", "--port", "0", "--offline", "--device", "cpu"]
    command += ["--model", arguments.model, "--workers", "1", "--cpu-threads", str(arguments.threads)]
    command += ["--compute-type", arguments.compute_type]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    banner = next(line for line in process.stderr if " serving " in line)
    return process, banner.split()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    content = arguments.clip.read_bytes()
    settings = Settings(
        model=arguments.model,
        device="cpu",
        compute_type=arguments.compute_type,
        workers=1,
        cpu_threads=arguments.threads,
        offline=True,
    )
    whisper = load_models(settings).current.whisper
    process, url = start_server(arguments)
    with process, httpx2.Client(base_url=url, timeout=600) as client:
        try:
            pairs = measure(whisper, client, content, arguments.runs)
        finally:
            process.terminate()
    report(arguments, pairs)


def measure(whisper: WhisperModel, client: httpx2.Client, content: bytes, runs: int) -> list[tuple[float, float]]:
    """Seconds of each pair, direct first; the order within a pair alternates."""
    assert direct(whisper, content) == through_http(client, content)
    pairs = []
    for run in range(runs):
        first, second = (direct, whisper), (through_http, client)
        times = {}
        for function, subject in (first, second) if run % 2 else (second, first):
            started = time.perf_counter()
            function(subject, content)  # type: ignore[operator]
            times[function] = time.perf_counter() - started
        pairs.append((times[direct], times[through_http]))
    return pairs


def report(arguments: argparse.Namespace, pairs: list[tuple[float, float]]) -> None:
    ratios = [ours / theirs for theirs, ours in pairs]
    result = {
        "machine": f"{platform.processor() or platform.machine()}, {arguments.threads} threads",
        "clip": arguments.clip.name,
        "model": f"{arguments.model} {arguments.compute_type}",
        "runs": len(pairs),
        "direct_median_s": round(statistics.median(theirs for theirs, _ in pairs), 4),
        "http_median_s": round(statistics.median(ours for _, ours in pairs), 4),
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_quartiles": [round(q, 4) for q in statistics.quantiles(ratios, n=4)],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
