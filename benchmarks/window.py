"""The adaptive encoder window against the full one: words, loops and time, clip by clip on the same engine.

    python benchmarks/window.py CLIPS_DIR --model base --beam 1 --every 1 --json window.json

CLIPS_DIR is what `benchmarks/corpus.py` makes, or any directory with audio files and a `texts.json` of what is said in
them. Files are grouped by voice and language, which are the first two parts of their names.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from faster_whisper import decode_audio
from wer import language_of, loops, wer

from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings
from whisper_server.inference.models.loaded_model import LoadedModel
from whisper_server.inference.request_context import RequestContext

WINDOWS = ("full", "adaptive")


@dataclass
class Hypothesis:
    group: str
    window: str
    language: str
    said: str
    heard: str
    seconds: float
    audio_seconds: float
    redone: int


def hear(model: LoadedModel, clip: Path, said: str, beam: int) -> Iterator[Hypothesis]:
    """The clip in both windows, one after the other."""
    audio = decode_audio(str(clip))
    language = language_of(clip.name)
    group = clip.stem.split("_")[0] + " " + language
    for window in WINDOWS:
        whisper = model.whisper_for(RequestContext(), encoder_window=window)
        started = time.perf_counter()
        segments, _ = whisper.transcribe(audio, language=language, beam_size=beam, best_of=1, temperature=0.0)
        heard = "".join(segment.text for segment in segments)
        took = time.perf_counter() - started
        yield Hypothesis(
            group, window, language, said, heard, took, len(audio) / 16_000, whisper.model.redecoded_windows
        )


def summary(rows: list[Hypothesis]) -> dict[str, float]:
    scores = [wer([(row.said, row.heard)], row.language) for row in rows]
    errors, words = (sum(counts) for counts in zip(*scores, strict=True))
    return {
        "minutes": round(sum(row.audio_seconds for row in rows) / 60, 1),
        "wer": round(100 * errors / max(1, words), 2),
        "loops": sum(loops(row.heard) for row in rows),
        "redone": sum(row.redone for row in rows),
        "seconds": round(sum(row.seconds for row in rows), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--model", default="base")
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="take every Nth clip")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    texts = json.loads((arguments.clips / "texts.json").read_text())
    names = sorted(texts)[:: arguments.every]
    models = load_models(Settings(model=arguments.model, device="cpu", offline=True))
    with ThreadPoolExecutor(2) as pool:
        heard = pool.map(
            lambda name: list(hear(models.current, arguments.clips / name, texts[name], arguments.beam)), names
        )
        rows = [row for both in heard for row in both]
    models.close()
    report(rows, arguments.json)


def report(rows: list[Hypothesis], file: Path | None) -> None:
    groups: dict[tuple[str, str], list[Hypothesis]] = defaultdict(list)
    for row in rows:
        groups[row.group, row.window].append(row)
        groups["all", row.window].append(row)
    table = {f"{group} {window}": summary(members) for (group, window), members in sorted(groups.items())}
    print("| speech | window | minutes | WER % | loops | windows redone | seconds |\n|---|---|---|---|---|---|---|")
    for (group, window), figures in zip(sorted(groups), table.values(), strict=True):
        print(f"| {group} | {window} | " + " | ".join(str(figure) for figure in figures.values()) + " |")
    if file is not None:
        file.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
