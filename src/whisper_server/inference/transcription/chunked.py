"""`mode=batched`: a long file, split into chunks at silence, which are transcribed at the same time.

Each chunk goes through faster-whisper's own `transcribe()`, so temperature fallback, thresholds, timestamps and words
work as usual; the chunks' windows meet in the model's queue. No speech is left out. What is lost is the text before a
chunk as its context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Lock
from typing import Any

from faster_whisper import WhisperModel

from whisper_server.core.errors import BadOption
from whisper_server.inference.audio.splitting import MAX_SILENT_PROBABILITY, Chunk, ChunkLimits, split_at_silence
from whisper_server.inference.audio.vad import WINDOW, VoiceActivity
from whisper_server.inference.audio.waveform import SAMPLE_RATE, Samples, Waveform
from whisper_server.inference.request_context import AGEING_SECONDS, RequestContext
from whisper_server.inference.transcription.segments import Segment, from_faster_whisper
from whisper_server.inference.transcription.sequential import (
    OnProgress,
    OnSegment,
    Transcript,
    checked_keywords,
    ignore,
    report_segments,
    transcript_of,
)
from whisper_server.inference.transcription.token_scores import with_scores

# Search the last 5 s for the end of speech; a segment that ends within 0.3 s of it is complete.
_SEARCHED_TAIL = 5 * SAMPLE_RATE
_END_TOLERANCE = 0.3


# By `encoder_window`. Decoding costs tokens times frames, so short chunks are fast with short windows (measured in
# docs/performance.md); with full windows each chunk costs as much as 30 seconds, so there should be few.
CHUNK_LIMITS = {
    "adaptive": ChunkLimits(8 * SAMPLE_RATE, 16 * SAMPLE_RATE),
    "full": ChunkLimits(18 * SAMPLE_RATE, 30 * SAMPLE_RATE),
}


def transcribe_chunked(
    whisper_for: Callable[[RequestContext], WhisperModel],
    context: RequestContext,
    audio: Waveform,
    options: Mapping[str, Any],
    *,
    concurrency: int,
    limits: ChunkLimits,
    scores: bool = False,
    on_segment: OnSegment = ignore,
    on_progress: OnProgress = ignore,
) -> Transcript:
    """As `transcribe()`, with up to `concurrency` chunks at a time, for each of which `whisper_for` returns a model."""
    chunks = split_at_silence(audio, limits)
    beginning, whisper = audio[slice(*next(chunks))], whisper_for(context)
    keywords = _chunk_keywords(whisper, options)
    results, info = whisper.transcribe(beginning, **keywords)
    keywords = {**keywords, "language": info.language, "prefix": None}
    finished_samples, lock = list[int](), Lock()

    def collect(model: WhisperModel, results: Iterable[Any], samples: Samples) -> list[Segment]:
        segments = _until_speech_ends(map(from_faster_whisper, results), samples)
        collected = list(with_scores(model, segments) if scores else segments)
        with lock:
            finished_samples.append(len(samples))
            on_progress(sum(finished_samples) / max(1, len(audio)))
        return collected

    def transcribe_chunk(number: int, chunk: Chunk) -> list[Segment]:
        context.check()
        # Later chunks are less urgent, so that other requests get in between.
        model = whisper_for(context.child(delay=min(number, concurrency) * AGEING_SECONDS))
        samples = audio[slice(*chunk)]
        results, _ = model.transcribe(samples, **keywords)
        return [segment.shifted(chunk[0] / SAMPLE_RATE) for segment in collect(model, results, samples)]

    with ThreadPoolExecutor(concurrency, "chunk") as pool:  # copied contexts carry the request's id to its log lines
        futures = [pool.submit(copy_context().run, collect, whisper, results, beginning)]
        futures += [pool.submit(copy_context().run, transcribe_chunk, i, chunk) for i, chunk in enumerate(chunks, 1)]
        in_order = (segment for future in futures for segment in future.result())
        segments = list(report_segments(in_order, on_segment))
    return transcript_of(whisper, segments, info, audio, options)


def _chunk_keywords(whisper: WhisperModel, options: Mapping[str, Any]) -> dict[str, Any]:
    if "clip_timestamps" in options:
        allowed = "mode=sequential, as mode=batched splits the file itself"
        raise BadOption("clip_timestamps", options["clip_timestamps"], allowed)
    return {**checked_keywords(whisper, options), "condition_on_previous_text": False}


def _until_speech_ends(segments: Iterable[Segment], samples: Samples) -> Iterator[Segment]:
    """Stop before `transcribe()` decodes the silence at the end of a chunk, where it would hallucinate."""
    end = _end_of_speech(samples) / SAMPLE_RATE
    for segment in segments:
        yield segment
        if segment.end >= end - _END_TOLERANCE:
            break


def _end_of_speech(samples: Samples) -> int:
    start = max(0, len(samples) - _SEARCHED_TAIL)
    probabilities = enumerate(VoiceActivity()(samples[start:]), 1)
    voiced = [number for number, voice in probabilities if voice >= MAX_SILENT_PROBABILITY]
    return start + WINDOW * max(voiced, default=0)
