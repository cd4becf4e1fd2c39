"""How accurately the words of a known text are placed, and whether they drift in a long file.

    python -m benchmarks.transcription.alignment AUDIO REFERENCES --model tiny.en --minutes 10 --json alignment.json

AUDIO has the clips, and REFERENCES openai-whisper's JSON of each with word timestamps (CLIP.words.json) of the same
model. Each clip is aligned with its text, then all of them joined in random order with pauses between them. The times
of the reference, moved to the position of their clip, are what is expected; its words before and after a pause reach
into the pause, so the largest differences are errors of the reference.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import anyio
import numpy as np
from faster_whisper import decode_audio
from numpy.typing import NDArray

from benchmarks.audio_files import SAMPLE_RATE, to_pcm16, wav_bytes
from benchmarks.report import argument_parser, machine, markdown_table, write_json
from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings
from whisper_server.engine.admission import Admission
from whisper_server.engine.transcriber import RunOptions, Transcriber
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.models.manager import ModelManager

_PAUSES = (0.3, 2.0)
_MAX_SECONDS = 36_000.0


@dataclass(frozen=True, slots=True)
class Speech:
    """Samples at 16 kHz, and their words with the expected start and end in seconds."""

    samples: NDArray[np.float32]
    words: Sequence[tuple[str, float, float]]

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Measurement:
    """The expected start of each word, and how far its start and end are from those expected; in seconds."""

    seconds: float
    took: float
    starts: list[float]
    errors: list[tuple[float, float]]

    def part(self, first: float, last: float) -> list[float]:
        """Return the errors of the words that are expected to start within a part of the audio."""
        return [e for at, errors in zip(self.starts, self.errors, strict=True) if first <= at <= last for e in errors]


def load_clips(audio: Path, references: Path) -> list[Speech]:
    clips = []
    for reference in sorted(references.glob("*.words.json")):
        path = audio / f"{reference.name.partition('.')[0]}.flac"
        segments = json.loads(reference.read_text(encoding="utf-8"))["segments"]
        words = [(word["word"], word["start"], word["end"]) for segment in segments for word in segment["words"]]
        clips.append(Speech(decode_audio(str(path)), words))
    return clips


def join(clips: Sequence[Speech], seconds: float) -> Speech:
    """Return clips in random order, with pauses, until they have so many seconds."""
    random = Random(1)
    pieces: list[NDArray[np.float32]] = []
    words: list[tuple[str, float, float]] = []
    position = 0.0
    while position < seconds:
        clip = random.choice(clips)
        words += [(text, start + position, end + position) for text, start, end in clip.words]
        pieces += [clip.samples, np.zeros(round(random.uniform(*_PAUSES) * SAMPLE_RATE), np.float32)]
        position = sum(map(len, pieces)) / SAMPLE_RATE
    return Speech(np.concatenate(pieces), words)


def measure(models: ModelManager, speech: Speech, mode: str) -> Measurement:
    transcriber = Transcriber(
        models, AudioDecoder(max_seconds=_MAX_SECONDS), Admission(max_requests=1, max_audio_seconds=_MAX_SECONDS)
    )
    window = "adaptive" if mode == "batched" else "full"
    run = RunOptions(mode=mode, encoder_window=window)  # type: ignore[arg-type]
    file = io.BytesIO(wav_bytes(to_pcm16(speech.samples)))
    started = time.monotonic()
    with transcriber.admission.admit() as context:
        alignment = anyio.run(transcriber.align, context, file, "".join(word[0] for word in speech.words), run)
    took = time.monotonic() - started
    found = [word for segment in alignment.segments for word in segment.words]
    assert [word.text.strip() for word in found] == [word[0].strip() for word in speech.words]
    placed = [
        (start, (abs(word.start - start), abs(word.end - end)))
        for word, (_, start, end) in zip(found, speech.words, strict=True)
        if word.start is not None and word.end is not None
    ]
    return Measurement(speech.seconds, took, [start for start, _ in placed], [errors for _, errors in placed])


def row(name: str, errors: Sequence[float], missing: int = 0) -> dict[str, Any]:
    median, p90, p99 = (round(float(np.quantile(errors, q)) * 1000) for q in (0.5, 0.9, 0.99))
    return {"words of": name, "times": len(errors), "unplaced": missing, "median": median, "p90": p90, "p99": p99}


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("audio", type=Path)
    parser.add_argument("references", type=Path)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--mode", choices=("batched", "sequential"), default="batched")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    settings = Settings(model=arguments.model, device="cpu", compute_type=arguments.compute_type, offline=True)
    models = load_models(settings)
    clips = load_clips(arguments.audio, arguments.references)
    single = [measure(models, clip, arguments.mode) for clip in clips]
    joined = join(clips, arguments.minutes * 60)
    long = measure(models, joined, arguments.mode)
    rows = [
        row(f"{len(clips)} clips", [e for each in single for e in each.part(0, each.seconds)]),
        row(f"{long.seconds / 60:.0f} minutes", long.part(0, long.seconds), len(joined.words) - len(long.starts)),
        row("its first minute", long.part(0, 60)),
        row("its last minute", long.part(long.seconds - 60, long.seconds)),
    ]
    print(markdown_table(list(rows[0]), [[str(cell) for cell in each.values()] for each in rows]))
    print(f"{long.seconds:.0f} s of audio took {long.took:.1f} s")
    write_json(arguments.json, {"machine": machine(), "rows": rows, "seconds": long.seconds, "took": long.took})
    models.close()


if __name__ == "__main__":
    main()
