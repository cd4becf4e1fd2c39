"""Throughput and latency under load: clients send clips, and each sends its next one when it has a result.

    python -m benchmarks.transcription.throughput /tmp/corpus --model base --clients 1 4 8 --seconds 30 \\
        --json result.json --options "language=en" \\
        --system "whisper-server|server|--workers 2|encoder_window=adaptive" \\
        --system "faster-whisper|faster-whisper|workers=2 threads=1"

The first system is the baseline. A system is specified as NAME|KIND|…:

    NAME|server|FLAGS|FIELDS                   whisper-server; VARIABLE=value among the flags is its environment
    NAME|faster-whisper|workers=2 threads=1    WhisperModel in a process, called by one thread for each client
    NAME|batched-pipeline|batch_size=8         the same with BatchedInferencePipeline; also takes workers and threads
    NAME|openai-whisper|checkpoint=FILE        one clip at a time, as it is not thread-safe; float32 on a CPU
    NAME|openai-url|http://host/v1|FIELDS      a running server with OpenAI's API

Further words of a library are keyword arguments of its transcribe(). All systems get the same bytes, beam, one sample
above temperature 0, and --options. They load and warm up first, then take turns over the same clips, in an order that
rotates from round to round; only one works at a time. The first system works for about --seconds in each turn: a trial
run determines the number of clips, unless --clips gives it. The word error rate needs a texts.json beside the clips.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.audio_files import audio_seconds
from benchmarks.report import argument_parser, machine, markdown_table, write_json
from benchmarks.speech.word_error_rate import language_of, score
from benchmarks.transcription.systems import System, start_system
from benchmarks.transcription.workload import RunResult, SharedOptions, key_values

PAUSE = 0.5  # until the previous system's threads sleep
TRIAL_CLIPS = 8
DEFAULT_SYSTEMS = ("whisper-server|server", "faster-whisper|faster-whisper")
PERCENTILES = (50, 95, 99)


def find_clips(folder: Path, pattern: str, model: str, seed: int) -> list[Path]:
    """All clips in a random order, or for an English-only model the English ones."""
    clips = [path for path in sorted(folder.glob(pattern)) if path.is_file() and path.suffix != ".json"]
    if model.endswith(".en"):
        clips = [clip for clip in clips if language_of(clip.name) == "en"]
    Random(seed).shuffle(clips)
    return clips


def take_clips(clips: Sequence[Path], seconds: float, least: int) -> list[Path]:
    """The first clips that have at least this much audio and this number; they repeat if there are too few."""
    chosen: list[Path] = []
    total = 0.0
    for clip in cycle(clips):
        if total >= seconds and len(chosen) >= least:
            return chosen
        chosen.append(clip)
        total += audio_seconds(clip)
    return chosen


def choose_clips(arguments: argparse.Namespace, clips: Sequence[Path], baseline: System) -> list[Path]:
    """The clips of each turn, at least two for each client."""
    if arguments.clips:
        return take_clips(clips, 0, arguments.clips)
    trial = take_clips(clips, 0, TRIAL_CLIPS)
    result = baseline.run(trial, min(arguments.clients))
    speed = sum(map(audio_seconds, trial)) / result.seconds
    return take_clips(clips, speed * arguments.seconds, 2 * max(arguments.clients))


def measure(
    systems: Sequence[System], clips: Sequence[Path], clients: Sequence[int], rounds: int, texts: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the figures of one run after the other."""
    lengths = {clip.name: audio_seconds(clip) for clip in set(clips)}
    for turn in range(rounds):
        for count in clients:
            for position in range(len(systems)):
                system = systems[(position + turn) % len(systems)]
                time.sleep(PAUSE)
                run = describe(system.run(clips, count), lengths, texts)
                yield {"system": system.name, "clients": count, "round": turn, **run}


def describe(result: RunResult, lengths: dict[str, float], texts: dict[str, str]) -> dict[str, Any]:
    """Figures of a run; a refused or failed clip does not count towards the throughput."""
    clips = [clip for clip in result.clips if not clip.error]
    failures = [clip.error for clip in result.clips if clip.error]
    audio = sum(lengths[clip.file] for clip in clips)
    latencies = [clip.seconds for clip in clips]
    errors, words, loops = score(texts, [(clip.file, clip.text) for clip in clips])
    return {
        "seconds": round(result.seconds, 3),
        "audio_seconds": round(audio, 3),
        "throughput": round(audio / result.seconds, 4),
        **{f"p{p}": round(float(np.percentile(latencies, p)), 4) if latencies else None for p in PERCENTILES},
        "wer": round(100 * errors / words, 3) if words else None,
        "loops": loops,
        "failures": len(failures),
        "failure": failures[0] if failures else None,
        "batch_size": None if result.batch_size is None else round(result.batch_size, 3),
    }


def summarise(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over the rounds of each system and number of clients; ratios are to the first system in the round."""
    baseline = runs[0]["system"]
    base = {(run["clients"], run["round"]): run["throughput"] for run in runs if run["system"] == baseline}
    rows = []
    for clients in dict.fromkeys(run["clients"] for run in runs):
        for system in dict.fromkeys(run["system"] for run in runs):
            group = [run for run in runs if (run["system"], run["clients"]) == (system, clients)]
            speeds = [run["throughput"] for run in group]
            base_speeds = [base.get((clients, run["round"])) for run in group]
            ratios = [own / other for own, other in zip(speeds, base_speeds, strict=True) if other]
            row = {"system": system, "clients": clients, "rounds": len(group), "ratio": _median(ratios)}
            row["throughput_range"] = [min(speeds, default=None), max(speeds, default=None)]
            for name in ("throughput", "p50", "p95", "p99", "wer", "loops", "batch_size"):
                row[name] = _median([run[name] for run in group if run[name] is not None])
            rows.append({**row, "failures": sum(run["failures"] for run in group)})
    return [row for row in rows if row["rounds"]]


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 4) if values else None


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table without the columns that are empty for all systems."""
    columns: list[tuple[str, str, Callable[[float], str]]] = [
        ("audio s/s", "throughput", "{:.2f}".format),
        ("ratio", "ratio", "{:.2f}".format),
        *((f"p{p} s", f"p{p}", "{:.2f}".format) for p in PERCENTILES),
        ("WER %", "wer", "{:.2f}".format),
        ("loops", "loops", "{:g}".format),
        ("batch", "batch_size", "{:.2f}".format),
        ("failures", "failures", "{:g}".format),
    ]
    columns = [column for column in columns if any(row[column[1]] for row in rows) or column[1] == "loops"]
    cells = [
        [str(row["clients"]), row["system"], *("–" if row[key] is None else form(row[key]) for _, key, form in columns)]
        for row in rows
    ]
    titles = ["clients", "system", *(title for title, *_ in columns)]
    return markdown_table(titles, cells, text_columns=("system",))


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("folder", type=Path, help="clips and texts.json (benchmarks.speech.corpus)")
    parser.add_argument("--only", default="*", metavar="GLOB", help="such as 'joe_en_*'")
    parser.add_argument("--model", default="base", help="a name that the server finds offline, or a directory")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--seconds", type=float, default=30, help="how long the first system works in each turn")
    parser.add_argument("--clips", type=int, default=0, help="the number of clips in each turn, instead of --seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="for the order of the clips")
    parser.add_argument("--options", type=key_values, default={}, help="for all systems: 'language=en temperature=0'")
    parser.add_argument("--server-flags", default="", help="for all systems of kind server")
    parser.add_argument("--fields", type=key_values, default={}, help="for all systems of kind server")
    parser.add_argument("--system", action="append", dest="systems", metavar="NAME|KIND|…")
    parser.add_argument("--json", type=Path, help="a report with all runs, written after each of them")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    clips = find_clips(arguments.folder, arguments.only, arguments.model, arguments.seed)
    if not clips:
        sys.exit(f"no clips for {arguments.model} in {arguments.folder / arguments.only}")
    texts_file = arguments.folder / "texts.json"
    texts = json.loads(texts_file.read_text(encoding="utf-8")) if texts_file.exists() else {}
    shared = SharedOptions(
        model=arguments.model,
        beam=arguments.beam,
        device=arguments.device,
        compute_type=arguments.compute_type,
        decoding=arguments.options,
        server_flags=arguments.server_flags,
        fields=arguments.fields,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the systems are stopped
    with ExitStack() as stack:
        systems: list[System] = []
        for spec in arguments.systems or DEFAULT_SYSTEMS:
            systems.append(start_system(spec, shared))
            stack.callback(systems[-1].close)
            systems[-1].run(take_clips(clips, 0, max(arguments.clients)), max(arguments.clients))
        chosen = choose_clips(arguments, clips, systems[0])
        runs: list[dict[str, Any]] = []
        for run in measure(systems, chosen, arguments.clients, arguments.rounds, texts):
            runs.append(run)
            print(json.dumps(run), file=sys.stderr, flush=True)
            write_report(arguments, chosen, runs)
    print(table(summarise(runs)))


def write_report(arguments: argparse.Namespace, clips: Sequence[Path], runs: Sequence[dict[str, Any]]) -> None:
    report = {
        "machine": machine(),
        "command": sys.argv[1:],
        "model": f"{arguments.model} {arguments.compute_type}, beam {arguments.beam}",
        "clips": len(clips),
        "audio_seconds": round(sum(map(audio_seconds, clips)), 1),
        "medians": summarise(runs),
        "runs": runs,
    }
    write_json(arguments.json, report)


if __name__ == "__main__":
    main()
