"""A transcript as events: a chunk for each segment as it is decoded, then the whole text."""

from __future__ import annotations

from wyoming import asr

from whisper_server.api.responses.text_deltas import TextDeltas
from whisper_server.api.wyoming.event_stream import EventStream
from whisper_server.inference.transcription.segments import Segment
from whisper_server.inference.transcription.sequential import Transcript


class TranscriptEvents:
    """Sends transcript-start, transcript-chunk …, transcript, transcript-stop. The chunks concatenate to the text."""

    def __init__(self, stream: EventStream, language: str | None) -> None:
        """Without a language, clients learn it with the transcript."""
        self._stream = stream
        self._start = asr.TranscriptStart(language=language)
        self._deltas = TextDeltas()
        self._started = False

    async def segment(self, segment: Segment) -> None:
        if delta := self._deltas.next(segment.text):
            await self._send(asr.TranscriptChunk(text=delta))

    async def end(self, transcript: Transcript) -> None:
        await self._send(asr.Transcript(text=self._deltas.text, language=transcript.language), asr.TranscriptStop())

    async def _send(self, *messages: asr.TranscriptChunk | asr.Transcript | asr.TranscriptStop) -> None:
        first = [] if self._started else [self._start]
        self._started = True
        await self._stream.send(*first, *messages)
