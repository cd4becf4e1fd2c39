"""A transcript as OpenAI's server-sent events, segment by segment as it is decoded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from whisper_server.api.requests.openai_form import TranscriptionRequest
from whisper_server.api.responses.openai_json import languages, logprobs, token_usage
from whisper_server.api.responses.whisper_json import segment_as_json
from whisper_server.api.sse import sse
from whisper_server.inference.transcription.segments import Segment
from whisper_server.inference.transcription.sequential import Transcript


class TranscriptEvents:
    """Writes a delta for each segment and the end. The deltas make up the final text, without spaces around it."""

    def __init__(self, asked: TranscriptionRequest, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._asked = asked
        self._write = write
        self._text = ""
        self._held = ""
        self._count = 0

    async def segment(self, segment: Segment) -> None:
        delta = self._held + segment.text
        if not self._text:
            delta = delta.lstrip()
        stripped = delta.rstrip()
        self._held = delta[len(stripped) :]  # until something follows it
        if not stripped:
            return
        self._text += stripped
        event = {"type": "transcript.text.delta", "delta": stripped, **self._logprobs([segment])}
        await self._write(sse({**event, **self._detail(segment)}))

    async def end(self, transcript: Transcript) -> None:
        done = {
            "type": "transcript.text.done",
            "text": self._text,
            **self._logprobs(transcript.segments),
            "usage": token_usage(transcript),
            "languages": languages(transcript, self._asked),
        }
        await self._write(sse(done))

    def _detail(self, segment: Segment) -> dict[str, Any]:
        if not self._asked.detail:
            return {}
        self._count += 1
        return {"segment": segment_as_json(self._count - 1, segment)}

    def _logprobs(self, segments: list[Segment]) -> dict[str, Any]:
        return {"logprobs": logprobs(segments)} if self._asked.handling["scores"] else {}
