"""Transcripts as bytes and back, with everything that any response format needs.

The stored names are those of faster-whisper's dataclasses; `id`, which earlier versions stored, is ignored.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

from whisper_server.inference.transcription.segments import Segment, TokenScore, Word
from whisper_server.inference.transcription.sequential import Transcript

_PLAIN_FIELDS = (
    "seek", "start", "end", "text", "tokens", "avg_logprob", "compression_ratio", "no_speech_prob", "temperature",
)  # fmt: skip


def pack(transcript: Transcript) -> bytes:
    content = {
        "segments": [_segment_json(segment) for segment in transcript.segments],
        "language": transcript.language,
        "duration": transcript.duration,
        "prompt_tokens": transcript.prompt_tokens,
        "language_probability": transcript.language_probability,
    }
    return zlib.compress(json.dumps(content, ensure_ascii=False).encode())


def unpack(packed: bytes) -> Transcript:
    content = json.loads(zlib.decompress(packed))
    segments = [_segment(stored) for stored in content["segments"]]
    probability = content.get("language_probability")  # earlier versions did not store it
    return Transcript(segments, content["language"], content["duration"], content["prompt_tokens"], probability)


def _segment_json(segment: Segment) -> dict[str, Any]:
    stored = {name: getattr(segment, name) for name in _PLAIN_FIELDS}
    stored["words"] = (
        None
        if segment.words is None
        else [
            {"start": word.start, "end": word.end, "word": word.text, "probability": word.probability}
            for word in segment.words
        ]
    )
    if segment.scores is not None:
        stored["scores"] = [[score.content.hex(), score.log_probability] for score in segment.scores]
    return stored


def _segment(stored: dict[str, Any]) -> Segment:
    words, scores = stored["words"], stored.get("scores")
    return Segment(
        **{name: stored[name] for name in _PLAIN_FIELDS},
        words=None if words is None else [Word(w["word"], w["start"], w["end"], w["probability"]) for w in words],
        scores=None if scores is None else [TokenScore(bytes.fromhex(content), value) for content, value in scores],
    )
