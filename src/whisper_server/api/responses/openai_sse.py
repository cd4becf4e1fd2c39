"""Transcripts as OpenAI's server-sent events, one for each segment as it is decoded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from whisper_server.api.requests.openai_form import TranscriptionRequest
from whisper_server.api.responses.openai_json import languages, logprobs, token_usage
from whisper_server.api.responses.text_deltas import TextDeltas
from whisper_server.api.responses.whisper_json import segment_to_json
from whisper_server.api.sse import sse
from whisper_server.inference.transcription.segments import Segment
from whisper_server.inference.transcription.sequential import Transcript


class TranscriptEvents:
    """Writes a delta for each segment, and the final event. The deltas concatenate to the final, stripped text."""

    def __init__(self, request: TranscriptionRequest, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._request = request
        self._write = write
        self._deltas = TextDeltas()
        self._segment_count = 0

    async def segment(self, segment: Segment) -> None:
        delta = self._deltas.next(segment.text)
        if not delta:
            return
        event = {"type": "transcript.text.delta", "delta": delta, **self._logprobs([segment])}
        await self._write(sse({**event, **self._segment_detail(segment)}))

    async def end(self, transcript: Transcript) -> None:
        done = {
            "type": "transcript.text.done",
            "text": self._deltas.text,
            **self._logprobs(transcript.segments),
            "usage": token_usage(transcript),
            "languages": languages(transcript, self._request),
        }
        await self._write(sse(done))

    def _segment_detail(self, segment: Segment) -> dict[str, Any]:
        if not self._request.detail:
            return {}
        self._segment_count += 1
        return {"segment": segment_to_json(self._segment_count - 1, segment)}

    def _logprobs(self, segments: Sequence[Segment]) -> dict[str, Any]:
        return {"logprobs": logprobs(segments)} if self._request.logprobs else {}
