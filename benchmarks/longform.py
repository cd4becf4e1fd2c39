"""One long file: how long it takes, and how many of the words of the first side the others keep.

    python benchmarks/longform.py talk.flac --model base --beam 5 --rounds 3 --json longform.json \\
        --side "faster-whisper|faster-whisper|" \\
        --side "mode=batched|server||mode=batched"

Sides are those of serve.py, and the first is what the others are compared with. A word is kept if it is in the longest
common sequence of both normalised texts (wer.py). All sides get the same bytes and beam.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from serve import audio_seconds
from sides import make_side
from wer import normalise, wer
from work import Common, pairs

DEFAULT_SIDES = (
    "faster-whisper|faster-whisper|",
    "its batched pipeline|batched-pipeline|batch_size=8",
    "whisper-server|server|",
    "mode=batched|server||mode=batched",
    "mode=batched, adaptive window|server||mode=batched encoder_window=adaptive",
)


def kept(said: Sequence[str], heard: Sequence[str]) -> int:
    """How many words of the one are in the other, in the same order."""
    return sum(block.size for block in SequenceMatcher(None, said, heard, autojunk=False).get_matching_blocks())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="base", help="a name that the server knows offline, or a directory")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--options", type=pairs, default={}, help="for all sides: 'language=en'")
    parser.add_argument("--said", type=Path, help="a file with what is said, for the word error rate")
    parser.add_argument("--side", action="append", dest="sides", metavar="NAME|KIND|…")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, list[tuple[float, str]]]:
    """Seconds and text of each side in each round."""
    common = Common(model=arguments.model, beam=arguments.beam, decoding=arguments.options)
    with ExitStack() as opened:
        sides = []
        for spec in arguments.sides or DEFAULT_SIDES:
            sides.append(make_side(spec, common))
            opened.callback(sides[-1].close)
        found: dict[str, list[tuple[float, str]]] = {side.name: [] for side in sides}
        for turn in range(arguments.rounds):
            for place in range(len(sides)):
                side = sides[(place + turn) % len(sides)]
                (answer,) = side.run([arguments.file], 1).answers
                if answer.error:
                    raise RuntimeError(f"{side.name}: {answer.error}")
                found[side.name].append((answer.seconds, answer.text))
                print(f"{side.name}: {answer.seconds:.2f} s", file=sys.stderr, flush=True)
        return found


def summarise(found: dict[str, list[tuple[float, str]]], said: str | None) -> list[dict[str, Any]]:
    """Medians; a ratio is how many times faster than the first side in the same round."""
    first = next(iter(found.values()))
    words = normalise(first[0][1])
    rows = []
    for name, runs in found.items():
        ratios = [other[0] / own[0] for own, other in zip(runs, first, strict=True)]
        heard = normalise(runs[0][1])
        errors, spoken = wer([(said, runs[0][1])]) if said else (0, 0)
        rows.append(
            {
                "side": name,
                "seconds": round(statistics.median(run[0] for run in runs), 2),
                "ratio": round(statistics.median(ratios), 2),
                "words": len(heard),
                "kept": round(100 * kept(words, heard) / len(words), 2),
                "wer": round(100 * errors / spoken, 2) if spoken else None,
            }
        )
    return rows


def main() -> None:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the sides end, too
    found = measure(arguments)
    rows = summarise(found, arguments.said.read_text(encoding="utf-8") if arguments.said else None)
    print("| side | seconds | ratio | words | words kept % | WER % |\n|---|---:|---:|---:|---:|---:|")
    for row in rows:
        cells = [f"{row['seconds']:.1f}", f"{row['ratio']:.2f}", str(row["words"]), f"{row['kept']:.1f}"]
        cells.append("–" if row["wer"] is None else f"{row['wer']:.2f}")
        print(f"| {row['side']} | {' | '.join(cells)} |")
    if arguments.json:
        report = {
            "machine": platform.processor() or platform.machine(),
            "command": sys.argv[1:],
            "audio_seconds": round(audio_seconds(arguments.file), 1),
            "medians": rows,
            "runs": {name: [seconds for seconds, _ in runs] for name, runs in found.items()},
        }
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
