"""The adaptive encoder window compared with the full one: errors, loops and time of each clip, on the same engine.

    python -m benchmarks.transcription.encoder_window CLIPS --model base --beam 1 --every 1 --json window.json

CLIPS is a corpus (benchmarks.speech.corpus) or any folder with audio files and a `texts.json` with their texts. Results
are grouped by voice and language, the first two parts of the file names.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from faster_whisper import decode_audio

from benchmarks.audio_files import SAMPLE_RATE
from benchmarks.report import argument_parser, markdown_table, write_json
from benchmarks.speech.word_error_rate import count_errors, count_loops, language_of
from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings
from whisper_server.inference.models.loaded_model import LoadedModel
from whisper_server.inference.request_context import RequestContext

WINDOWS = ("full", "adaptive")


@dataclass(frozen=True)
class Transcript:
    group: str
    window: str
    language: str
    reference: str
    hypothesis: str
    seconds: float
    audio_seconds: float
    redecoded_windows: int


def transcribe(model: LoadedModel, clip: Path, reference: str, beam: int) -> Iterator[Transcript]:
    """Transcribe the clip in both windows, one after the other."""
    audio = decode_audio(str(clip))
    language = language_of(clip.name)
    group = f"{clip.stem.split('_')[0]} {language}"
    for window in WINDOWS:
        whisper = model.whisper_for(RequestContext(), encoder_window=window)
        started = time.perf_counter()
        segments, _ = whisper.transcribe(audio, language=language, beam_size=beam, best_of=1, temperature=0.0)
        text = "".join(segment.text for segment in segments)
        seconds = time.perf_counter() - started
        redecoded = whisper.model.redecoded_windows
        yield Transcript(group, window, language, reference, text, seconds, len(audio) / SAMPLE_RATE, redecoded)


def summarise(transcripts: list[Transcript]) -> dict[str, float]:
    counts = [count_errors([(each.reference, each.hypothesis)], each.language) for each in transcripts]
    errors, words = (sum(column) for column in zip(*counts, strict=True))
    return {
        "minutes": round(sum(each.audio_seconds for each in transcripts) / 60, 1),
        "wer": round(100 * errors / max(1, words), 2),
        "loops": sum(count_loops(each.hypothesis) for each in transcripts),
        "redecoded": sum(each.redecoded_windows for each in transcripts),
        "seconds": round(sum(each.seconds for each in transcripts), 1),
    }


def report(transcripts: list[Transcript], file: Path | None) -> None:
    groups: dict[tuple[str, str], list[Transcript]] = defaultdict(list)
    for transcript in transcripts:
        for group in (transcript.group, "all"):
            groups[group, transcript.window].append(transcript)
    figures = {key: summarise(members) for key, members in sorted(groups.items())}
    rows = [[*key, *map(str, values.values())] for key, values in figures.items()]
    titles = ["speech", "window", "minutes", "WER %", "loops", "windows decoded again", "seconds"]
    print(markdown_table(titles, rows, text_columns=("speech", "window")))
    write_json(file, {" ".join(key): values for key, values in figures.items()})


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--model", default="base")
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth clip")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    texts = json.loads((arguments.clips / "texts.json").read_text())
    clips = {arguments.clips / name: texts[name] for name in sorted(texts)[:: arguments.every]}
    models = load_models(Settings(model=arguments.model, device="cpu", offline=True))
    with ThreadPoolExecutor(2) as pool:
        pairs = pool.map(lambda clip: list(transcribe(models.current, clip, clips[clip], arguments.beam)), clips)
        transcripts = [transcript for pair in pairs for transcript in pair]
    models.close()
    report(transcripts, arguments.json)


if __name__ == "__main__":
    main()
