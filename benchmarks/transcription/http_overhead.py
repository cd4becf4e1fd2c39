"""What the server adds to faster-whisper: the same bytes through HTTP and directly through faster-whisper, in turn.

    python -m benchmarks.transcription.http_overhead tests/audio/sentences.flac --model tiny.en --runs 20

Both have one worker, the same number of threads and the same compute type, and both are warmed up first. The direct way
is what a script would do: `faster_whisper.decode_audio` and `WhisperModel.transcribe` with openai-whisper's defaults.
Both models stay loaded, and only one of them works at a time.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
from faster_whisper import WhisperModel, decode_audio

from benchmarks.report import argument_parser, machine
from benchmarks.server_process import ServerProcess
from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings


def transcribe_directly(whisper: WhisperModel, content: bytes) -> str:
    segments, _ = whisper.transcribe(decode_audio(io.BytesIO(content)), beam_size=1, best_of=1)
    return "".join(segment.text for segment in segments)


def transcribe_over_http(client: httpx2.Client, content: bytes) -> str:
    response = client.post("/recognise", files={"file": ("clip", content)})
    text: str = response.raise_for_status().json()["transcription"]["text"]
    return text


def measure(direct: Callable[[], str], http: Callable[[], str], runs: int) -> list[tuple[float, float]]:
    """Seconds of each pair of runs, direct first; the order within a pair alternates."""
    assert direct() == http()
    pairs = []
    for run in range(runs):
        if run % 2:
            direct_seconds, http_seconds = _timed(direct), _timed(http)
        else:
            http_seconds, direct_seconds = _timed(http), _timed(direct)
        pairs.append((direct_seconds, http_seconds))
    return pairs


def _timed(transcribe: Callable[[], str]) -> float:
    started = time.perf_counter()
    transcribe()
    return time.perf_counter() - started


def report(arguments: argparse.Namespace, pairs: list[tuple[float, float]]) -> None:
    ratios = [http / direct for direct, http in pairs]
    result = {
        "machine": f"{machine()}, {arguments.threads} threads",
        "clip": arguments.clip.name,
        "model": f"{arguments.model} {arguments.compute_type}",
        "runs": len(pairs),
        "direct_median_s": round(statistics.median(direct for direct, _ in pairs), 4),
        "http_median_s": round(statistics.median(http for _, http in pairs), 4),
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_quartiles": [round(q, 4) for q in statistics.quantiles(ratios, n=4)],
    }
    print(json.dumps(result, indent=1))


def main() -> None:
    parser = argument_parser(__doc__)
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
    flags = ["--device", "cpu", "--model", arguments.model, "--compute-type", arguments.compute_type]
    flags += ["--workers", "1", "--cpu-threads", str(arguments.threads)]
    with ServerProcess(*flags) as server, httpx2.Client(base_url=server.url, timeout=600) as client:
        pairs = measure(
            lambda: transcribe_directly(whisper, content),
            lambda: transcribe_over_http(client, content),
            arguments.runs,
        )
    report(arguments, pairs)


if __name__ == "__main__":
    main()
