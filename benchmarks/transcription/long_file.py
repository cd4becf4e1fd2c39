"""One long file: the time that systems take, and how many of the first system's words the others keep.

    python -m benchmarks.transcription.long_file talk.flac --model base --beam 5 --rounds 3 --json long_file.json \\
        --system "faster-whisper|faster-whisper|" \\
        --system "mode=batched|server||mode=batched"

Systems are specified as in benchmarks.transcription.throughput, and the first is the baseline. A word is kept if it is
in the longest common sequence of both normalised texts. All systems get the same bytes and beam.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from benchmarks.audio_files import audio_seconds
from benchmarks.report import argument_parser, machine, markdown_table, write_json
from benchmarks.speech.word_error_rate import error_rate, normalise
from benchmarks.transcription.systems import start_system
from benchmarks.transcription.workload import SharedOptions, key_values

DEFAULT_SYSTEMS = (
    "faster-whisper|faster-whisper|",
    "its batched pipeline|batched-pipeline|batch_size=8",
    "whisper-server|server|",
    "mode=batched|server||mode=batched",
    "mode=batched, adaptive window|server||mode=batched encoder_window=adaptive",
)

# Seconds and text of one run
Run = tuple[float, str]


def count_kept(baseline: Sequence[str], words: Sequence[str]) -> int:
    """How many of the baseline's words are in the others, in the same order."""
    return sum(block.size for block in SequenceMatcher(None, baseline, words, autojunk=False).get_matching_blocks())


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="base", help="a name that the server finds offline, or a directory")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--options", type=key_values, default={}, help="for all systems: 'language=en'")
    parser.add_argument("--reference", type=Path, help="a file with the spoken text, for the word error rate")
    parser.add_argument("--system", action="append", dest="systems", metavar="NAME|KIND|…")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, list[Run]]:
    """The runs of each system, one in each round."""
    shared = SharedOptions(model=arguments.model, beam=arguments.beam, decoding=arguments.options)
    with ExitStack() as stack:
        systems = []
        for spec in arguments.systems or DEFAULT_SYSTEMS:
            systems.append(start_system(spec, shared))
            stack.callback(systems[-1].close)
        runs: dict[str, list[Run]] = {system.name: [] for system in systems}
        for turn in range(arguments.rounds):
            for position in range(len(systems)):
                system = systems[(position + turn) % len(systems)]
                (result,) = system.run([arguments.file], 1).clips
                if result.error:
                    raise RuntimeError(f"{system.name}: {result.error}")
                runs[system.name].append((result.seconds, result.text))
                print(f"{system.name}: {result.seconds:.2f} s", file=sys.stderr, flush=True)
        return runs


def summarise(runs: dict[str, list[Run]], reference: str | None) -> list[dict[str, Any]]:
    """Medians of each system; the ratio is its speed relative to the first system in the same round."""
    baseline = next(iter(runs.values()))
    baseline_words = normalise(baseline[0][1])
    rows = []
    for name, own in runs.items():
        ratios = [other[0] / run[0] for run, other in zip(own, baseline, strict=True)]
        text = own[0][1]
        words = normalise(text)
        rows.append(
            {
                "system": name,
                "seconds": round(statistics.median(run[0] for run in own), 2),
                "ratio": round(statistics.median(ratios), 2),
                "words": len(words),
                "kept": round(100 * count_kept(baseline_words, words) / len(baseline_words), 2),
                "wer": None if reference is None else error_rate(reference, text),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    titles = ["system", "seconds", "ratio", "words", "words kept %", "WER %"]
    cells = [
        [
            row["system"],
            f"{row['seconds']:.1f}",
            f"{row['ratio']:.2f}",
            str(row["words"]),
            f"{row['kept']:.1f}",
            "–" if row["wer"] is None else f"{row['wer']:.2f}",
        ]
        for row in rows
    ]
    return markdown_table(titles, cells, text_columns=("system",))


def main() -> None:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the systems are stopped
    runs = measure(arguments)
    rows = summarise(runs, arguments.reference.read_text(encoding="utf-8") if arguments.reference else None)
    print(table(rows))
    report = {
        "machine": machine(),
        "command": sys.argv[1:],
        "audio_seconds": round(audio_seconds(arguments.file), 1),
        "medians": rows,
        "runs": {name: [seconds for seconds, _ in own] for name, own in runs.items()},
    }
    write_json(arguments.json, report)


if __name__ == "__main__":
    main()
