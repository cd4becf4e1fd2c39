"""Throughput: some clients send clips, and each sends its next when it has its answer.

    python benchmarks/serve.py /tmp/corpus --model base --beam 5 --clients 1 4 8 --seconds 30 --json result.json \\
        --options "language=en" \\
        --side "ours|server|--workers 2|encoder_window=adaptive" \\
        --side "faster-whisper|faster-whisper|workers=2 threads=1"

A side is NAME|KIND|…, and the first is what the others are compared with:

    NAME|server|FLAGS|FIELDS               python -m whisper_server; VARIABLE=value among the flags is environment
    NAME|faster-whisper|workers=2 threads=1    WhisperModel in a process, called by as many threads as there are clients
    NAME|batched-pipeline|batch_size=8     the same with BatchedInferencePipeline; workers and threads, too
    NAME|openai-whisper|checkpoint=FILE    one after the other, as it is not thread-safe; float32 on a CPU
    NAME|openai-url|http://host/v1|FIELDS  a server that is running, by OpenAI's interface

Further words of a library's side are keywords of its transcribe(). All sides get the same bytes, beam, one sample above
temperature 0 and --options. Sides load and warm up first, then take turns over the same clips, in an order that rotates
from round to round; only one works at a time. --seconds is about how long the first side works in each turn: a trial of
it sets the list of clips, or --clips does. WER and loops (wer.py) need a texts.json among the clips.
"""

from __future__ import annotations

import argparse
import json
import platform
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

import av
import numpy as np
from sides import Side, make_side
from wer import language_of, score
from work import Common, Work, pairs

PAUSE = 0.5  # for the threads of the side before to fall asleep
TRIAL_CLIPS = 8
DEFAULT_SIDES = ("whisper-server|server", "faster-whisper|faster-whisper")
PERCENTILES = (50, 95, 99)


def find_clips(folder: Path, pattern: str, model: str, seed: int) -> list[Path]:
    """All clips in a random order; an English-only model gets the English ones."""
    clips = [path for path in sorted(folder.glob(pattern)) if path.is_file() and path.suffix != ".json"]
    if model.endswith(".en"):
        clips = [clip for clip in clips if language_of(clip.name) == "en"]
    Random(seed).shuffle(clips)
    return clips


def audio_seconds(clip: Path) -> float:
    with av.open(str(clip)) as container:
        return float((container.duration or 0) / av.time_base)


def enough_clips(clips: Sequence[Path], seconds: float, least: int) -> list[Path]:
    """The first clips that make up so many seconds of audio; they start again where there are too few."""
    chosen: list[Path] = []
    total = 0.0
    for clip in cycle(clips):
        if total >= seconds and len(chosen) >= least:
            return chosen
        chosen.append(clip)
        total += audio_seconds(clip)
    return chosen


def choose_work(arguments: argparse.Namespace, clips: Sequence[Path], first: Side) -> list[Path]:
    """What each side gets in each turn: at least two clips for each client."""
    if arguments.clips:
        return enough_clips(clips, 0, arguments.clips)
    trial = enough_clips(clips, 0, TRIAL_CLIPS)
    work = first.run(trial, min(arguments.clients))
    speed = sum(map(audio_seconds, trial)) / work.seconds
    return enough_clips(clips, speed * arguments.seconds, 2 * max(arguments.clients))


def measure(
    sides: Sequence[Side], clips: Sequence[Path], clients: Sequence[int], rounds: int, texts: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """One run after the other."""
    lengths = {clip.name: audio_seconds(clip) for clip in set(clips)}
    for turn in range(rounds):
        for count in clients:
            for place in range(len(sides)):
                side = sides[(place + turn) % len(sides)]
                time.sleep(PAUSE)
                run = describe(side.run(clips, count), lengths, texts)
                yield {"side": side.name, "clients": count, "round": turn, **run}


def describe(work: Work, lengths: dict[str, float], texts: dict[str, str]) -> dict[str, Any]:
    """Only answers count as throughput; a refused or failed clip is a failure."""
    answers = [answer for answer in work.answers if not answer.error]
    failures = [answer.error for answer in work.answers if answer.error]
    audio = sum(lengths[answer.file] for answer in answers)
    latencies = [answer.seconds for answer in answers]
    errors, words, loops = score(texts, [(answer.file, answer.text) for answer in answers])
    return {
        "seconds": round(work.seconds, 3),
        "audio_seconds": round(audio, 3),
        "throughput": round(audio / work.seconds, 4),
        **{f"p{p}": round(float(np.percentile(latencies, p)), 4) if latencies else None for p in PERCENTILES},
        "wer": round(100 * errors / words, 3) if words else None,
        "loops": loops,
        "failures": len(failures),
        "failure": failures[0] if failures else None,
        "batch_size": None if work.batch_size is None else round(work.batch_size, 3),
    }


def summarise(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over the rounds of each side and number of clients; the ratio is to the first side in the same round."""
    first = runs[0]["side"]
    base = {(run["clients"], run["round"]): run["throughput"] for run in runs if run["side"] == first}
    rows = []
    for clients in dict.fromkeys(run["clients"] for run in runs):
        for side in dict.fromkeys(run["side"] for run in runs):
            group = [run for run in runs if (run["side"], run["clients"]) == (side, clients)]
            speeds = [run["throughput"] for run in group]
            first_speeds = [base.get((clients, run["round"])) for run in group]
            ratios = [own / other for own, other in zip(speeds, first_speeds, strict=True) if other]
            row = {"side": side, "clients": clients, "rounds": len(group), "ratio": _median(ratios)}
            row["throughput_range"] = [min(speeds, default=None), max(speeds, default=None)]
            for name in ("throughput", "p50", "p95", "p99", "wer", "loops", "batch_size"):
                row[name] = _median([run[name] for run in group if run[name] is not None])
            rows.append({**row, "failures": sum(run["failures"] for run in group)})
    return [row for row in rows if row["rounds"]]


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 4) if values else None


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown; columns that no side fills are left out."""
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
    lines = ["| clients | side | " + " | ".join(title for title, *_ in columns) + " |"]
    lines.append("|---:|---|" + "---:|" * len(columns))
    for row in rows:
        cells = ["–" if row[key] is None else form(row[key]) for _, key, form in columns]
        lines.append(f"| {row['clients']} | {row['side']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clips and texts.json (corpus.py)")
    parser.add_argument("--only", default="*", metavar="GLOB", help="such as 'joe_en_*'")
    parser.add_argument("--model", default="base", help="a name that the server knows offline, or a directory")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clips", type=int, default=0, help="so many clips in each turn, instead of --seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="of the choice of clips")
    parser.add_argument("--options", type=pairs, default={}, help="for all sides: 'language=en temperature=0'")
    parser.add_argument("--server-flags", default="", help="for all sides of kind server")
    parser.add_argument("--fields", type=pairs, default={}, help="for all sides of kind server")
    parser.add_argument("--side", action="append", dest="sides", metavar="NAME|KIND|…")
    parser.add_argument("--json", type=Path, help="where every run goes, too; written after each")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    clips = find_clips(arguments.folder, arguments.only, arguments.model, arguments.seed)
    if not clips:
        sys.exit(f"no clips for {arguments.model} in {arguments.folder / arguments.only}")
    spoken = arguments.folder / "texts.json"
    texts = json.loads(spoken.read_text(encoding="utf-8")) if spoken.exists() else {}
    common = Common(
        model=arguments.model,
        beam=arguments.beam,
        device=arguments.device,
        compute_type=arguments.compute_type,
        decoding=arguments.options,
        server_flags=arguments.server_flags,
        fields=arguments.fields,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the sides end, too
    with ExitStack() as opened:
        sides: list[Side] = []
        for spec in arguments.sides or DEFAULT_SIDES:
            sides.append(make_side(spec, common))
            opened.callback(sides[-1].close)
            sides[-1].run(enough_clips(clips, 0, max(arguments.clients)), max(arguments.clients))
        chosen = choose_work(arguments, clips, sides[0])
        runs: list[dict[str, Any]] = []
        for run in measure(sides, chosen, arguments.clients, arguments.rounds, texts):
            runs.append(run)
            print(json.dumps(run), file=sys.stderr, flush=True)
            write_report(arguments, chosen, runs)
    print(table(summarise(runs)))


def write_report(arguments: argparse.Namespace, clips: Sequence[Path], runs: Sequence[dict[str, Any]]) -> None:
    if arguments.json is None:
        return
    report = {
        "machine": platform.processor() or platform.machine(),
        "command": sys.argv[1:],
        "model": f"{arguments.model} {arguments.compute_type}, beam {arguments.beam}",
        "clips": len(clips),
        "audio_seconds": round(sum(map(audio_seconds, clips)), 1),
        "medians": summarise(runs),
        "runs": runs,
    }
    arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
