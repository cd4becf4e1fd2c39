"""`mode=batched`: a long file in pieces that are cut at silence and transcribed at once.

Each piece goes through faster-whisper's own `transcribe()`, so temperature fallback, thresholds, timestamps and words
work as ever; the pieces' windows meet in the model's queue. No voice is left out. What is lost is the text before a
piece as its context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.transcribe import Segment
from numpy.typing import NDArray

from whisper_server.core.errors import BadOption
from whisper_server.inference.audio.decoder import SAMPLE_RATE
from whisper_server.inference.audio.vad import WINDOW, VoiceActivity
from whisper_server.inference.request_context import AGEING_SECONDS, RequestContext
from whisper_server.inference.transcription.progress import OnProgress, unwatched
from whisper_server.inference.transcription.sequential import (
    OnSegment,
    Transcript,
    checked_keywords,
    ignore,
    prompt_tokens,
    told,
)
from whisper_server.inference.transcription.token_scores import scored

# A piece ends in the stretch of so many windows, a quarter of a second, with the least voice: shorter than most pauses,
# longer than a stop consonant. Where there is none anywhere, the quietest is taken.
_PAUSE = 8
_WEIGHT_OF_ENERGY = 0.01
_NO_VOICE = 0.15
# Where the voice ends is looked for so far before the end; a segment that ends so much earlier has heard it out.
_END = 5 * SAMPLE_RATE
_TOLERANCE = 0.3

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """Between how many samples a piece is long."""

    shortest: int
    longest: int


# By `encoder_window`. Decoding costs tokens times frames, so short pieces in short windows are fast
# (docs/performance.md); in full windows a piece costs as much as 30 seconds, so that few are wanted.
CHUNK_LIMITS = {
    "adaptive": ChunkLimits(8 * SAMPLE_RATE, 16 * SAMPLE_RATE),
    "full": ChunkLimits(18 * SAMPLE_RATE, 30 * SAMPLE_RATE),
}


@dataclass(frozen=True, slots=True)
class Chunk:
    start: int
    samples: Samples


def transcribe_chunked(
    whisper_for: Callable[[RequestContext], WhisperModel],
    context: RequestContext,
    audio: Samples,
    options: Mapping[str, Any],
    *,
    at_once: int,
    lengths: ChunkLimits,
    scores: bool = False,
    on_segment: OnSegment = ignore,
    on_progress: OnProgress = unwatched,
) -> Transcript:
    """As `transcribe()`, up to `at_once` pieces at a time; `whisper_for` gives each a model of its own."""
    pieces = cut(audio, lengths)
    beginning = next(pieces)
    whisper = whisper_for(context)
    keywords = {**checked_keywords(whisper, options), "condition_on_previous_text": False}
    if "clip_timestamps" in keywords:
        raise BadOption("clip_timestamps", keywords["clip_timestamps"], "mode=sequential, as mode=batched cuts itself")
    found, info = whisper.transcribe(beginning.samples, **keywords)
    keywords = {**keywords, "language": info.language, "prefix": None}

    done = _Done(len(audio), on_progress)

    def decoded(model: WhisperModel, segments: Iterable[Segment], piece: Chunk) -> list[Segment]:
        hypothesis = _while_there_is_voice(segments, piece.samples)
        found = list(scored(model, hypothesis) if scores else hypothesis)
        done.add(len(piece.samples))
        return found

    def rest(number: int, piece: Chunk) -> list[Segment]:
        # Less urgent than the piece before it, so that what comes meanwhile gets in between.
        model = whisper_for(context.child(delay=min(number, at_once) * AGEING_SECONDS))
        segments, _ = model.transcribe(piece.samples, **keywords)
        return _moved(decoded(model, segments, piece), piece.start)

    with ThreadPoolExecutor(at_once, "piece", _work_for, (copy_context(),)) as pool:
        first = pool.submit(decoded, whisper, found, beginning)
        others = [pool.submit(rest, number, piece) for number, piece in enumerate(pieces, 1)]
        parts = (part for piece in (first, *others) for part in piece.result())
        segments = list(told(parts, on_segment))
    return Transcript(segments, info.language, len(audio) / SAMPLE_RATE, prompt_tokens(whisper, options))


class _Done:
    """Adds up what several threads have finished, in samples."""

    def __init__(self, total: int, on_progress: OnProgress) -> None:
        self._total = max(1, total)
        self._on_progress = on_progress
        self._lock = Lock()
        self._samples = 0

    def add(self, samples: int) -> None:
        with self._lock:
            self._samples += samples
            self._on_progress(self._samples / self._total)


def _work_for(request: Context) -> None:
    """What this thread logs belongs to that request."""
    for variable, value in request.items():
        variable.set(value)


def cut(audio: Samples, lengths: ChunkLimits) -> Iterator[Chunk]:
    """Cut into pieces of such lengths where there is least voice; what is left at the end may be shorter."""
    start = 0
    while len(audio) - start > lengths.longest:
        earliest = start + lengths.shortest
        stop = earliest + _quietest(audio[earliest : start + lengths.longest])
        yield Chunk(start, audio[start:stop])
        start = stop
    yield Chunk(start, audio[start:])


def _quietest(samples: Samples) -> int:
    """The middle of the quietest pause; of equally quiet ones the last, for few pieces."""
    voice = np.array(VoiceActivity()(samples))
    voice[voice < _NO_VOICE] = 0.0
    energy = (samples[: len(voice) * WINDOW].reshape(-1, WINDOW) ** 2).sum(axis=1)
    sound = voice + _WEIGHT_OF_ENERGY * energy / max(float(energy.max()), 1e-9)
    pauses = np.convolve(sound, np.ones(_PAUSE), "valid")[::-1]
    return (len(pauses) - 1 - int(pauses.argmin())) * WINDOW + _PAUSE * WINDOW // 2


def _while_there_is_voice(segments: Iterable[Segment], samples: Samples) -> Iterator[Segment]:
    """Without further windows, and what may be imagined in them, for the pause that a piece ends in."""
    end = _end_of_voice(samples) / SAMPLE_RATE
    for segment in segments:
        yield segment
        if segment.end >= end - _TOLERANCE:
            break


def _end_of_voice(samples: Samples) -> int:
    start = max(0, len(samples) - _END)
    voiced = [number for number, voice in enumerate(VoiceActivity()(samples[start:]), 1) if voice >= _NO_VOICE]
    return start + WINDOW * max(voiced, default=0)


def _moved(segments: Any, start: int) -> list[Segment]:
    seconds, frames = start / SAMPLE_RATE, round(start / 160)
    moved = []
    for segment in segments:
        segment.seek += frames
        segment.start, segment.end = round(segment.start + seconds, 3), round(segment.end + seconds, 3)
        for word in segment.words or ():
            word.start, word.end = round(word.start + seconds, 3), round(word.end + seconds, 3)
        moved.append(segment)
    return moved
