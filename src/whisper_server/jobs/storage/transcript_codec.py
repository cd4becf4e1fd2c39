"""Transcripts as bytes and back, with everything that any format is made of."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from typing import Any

from faster_whisper.transcribe import Segment, Word

from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.inference.transcription.token_scores import ScoredSegment, TokenScore


def pack(transcript: Transcript) -> bytes:
    content = {
        "segments": [_written(segment) for segment in transcript.segments],
        "language": transcript.language,
        "duration": transcript.duration,
        "prompt_tokens": transcript.prompt_tokens,
    }
    return zlib.compress(json.dumps(content, ensure_ascii=False).encode())


def unpack(packed: bytes) -> Transcript:
    content = json.loads(zlib.decompress(packed))
    return Transcript(
        [_read(segment) for segment in content["segments"]],
        content["language"],
        content["duration"],
        content["prompt_tokens"],
    )


def _written(segment: Segment) -> dict[str, Any]:
    written = asdict(segment)
    if isinstance(segment, ScoredSegment):
        written["scores"] = [[score.content.hex(), score.log_probability] for score in segment.scores]
    return {name: _plain(value) for name, value in written.items()}


def _plain(value: Any) -> Any:
    """Numbers of NumPy become Python's, of the same value."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _read(written: dict[str, Any]) -> Segment:
    words = written.pop("words")
    written["words"] = None if words is None else [Word(**word) for word in words]
    if "scores" not in written:
        return Segment(**written)
    scores = [TokenScore(bytes.fromhex(content), value) for content, value in written.pop("scores")]
    return ScoredSegment(**written, scores=scores)
