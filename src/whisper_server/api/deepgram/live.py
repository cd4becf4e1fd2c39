"""Deepgram's protocol for live sessions: the messages of `WS /v1/listen`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from hashlib import sha256

from whisper_server.api.deepgram.finals import settled, with_punctuation
from whisper_server.api.deepgram.live_options import ListenRequest
from whisper_server.api.deepgram.words import alternative, model_info, model_uuid, timestamp
from whisper_server.api.streaming.common import parse_json_frame, round_seconds, split_frame
from whisper_server.api.streaming.session_runner import Action, Audio, Command, Message, SendMessage
from whisper_server.core.errors import BadMessage, WhisperServerError
from whisper_server.inference.transcription.segments import Word
from whisper_server.live.events import Ended, Event, Final, Lag, SpeechStarted, SpeechStopped, Update
from whisper_server.live.pcm_stream import SAMPLE_RATE

_CONFIGURE_FAILURE = {
    "type": "ConfigureFailure",
    "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED",
    "description": "the options of a session cannot be changed after it has started",
}


class DeepgramAdapter:
    """Each confirmed word is in exactly one final result; interim results have the words that may still change."""

    def __init__(self, request: ListenRequest, *, model: str, request_id: str) -> None:
        self._request = request
        self._request_id = request_id
        self._metadata = {
            "request_id": request_id,
            "model_info": model_info(model),
            "model_uuid": model_uuid(model),
        }
        self._created = timestamp(datetime.now(timezone.utc))
        self._digest = sha256()
        self._received_seconds = 0.0
        self._last_final_end = 0.0
        # How many confirmed words of the utterance are in a final result, and those that are not yet.
        self._words_sent = 0
        self._unsent: tuple[Word, ...] = ()
        self._last_word_end: float | None = None

    def on_open(self) -> Iterable[Message]:
        return []

    def on_frame(self, frame: bytes | str) -> Iterator[Action]:
        if isinstance(frame, str):
            yield from self._command(parse_json_frame(frame)["type"])
        elif not frame:
            yield from self.on_end()
        else:
            self._digest.update(frame)
            for samples in map(self._request.decoder.decode, split_frame(frame)):
                self._received_seconds += len(samples) / SAMPLE_RATE
                yield Audio(samples)
                yield from map(SendMessage, self._utterance_end())

    def _command(self, type: str) -> Iterator[Action]:
        match type:
            case "KeepAlive":
                pass
            case "Finalize":
                yield Command.FLUSH
            case "CloseStream":
                yield from self.on_end()
            case "Configure":
                yield SendMessage({**_CONFIGURE_FAILURE, "request_id": self._request_id})
            case _:
                raise BadMessage(f"unknown message type {type[:40]!r}")

    def on_end(self) -> Iterator[Action]:
        yield Audio(self._request.decoder.close())
        yield Command.END

    def on_event(self, event: Event) -> Iterator[Message]:
        match event:
            case SpeechStarted(time):
                if self._request.speech_started:
                    yield {"type": "SpeechStarted", "channel": [0], "timestamp": round_seconds(time)}
            case Update():
                yield from self._update(event)
            case Final():
                yield from self._final(event)
            case Ended(audio):
                yield self._closing_metadata(audio)
            case SpeechStopped() | Lag():
                pass

    def on_error(self, exc: WhisperServerError) -> Iterable[Message]:
        code = exc.code or "server_error"
        return [{"type": "Error", "variant": code, "code": code, "description": str(exc), "message": str(exc)}]

    def _update(self, event: Update) -> Iterator[Message]:
        if event.confirmed:
            self._unsent += event.confirmed
            self._last_word_end = None
            yield from self._settled(event.language)
        if self._request.interim:
            yield self._result((*self._unsent, *event.pending), event.audio, event.language, final=False)

    def _final(self, event: Final) -> Iterator[Message]:
        self._unsent = event.words[self._words_sent :]
        yield from self._settled(event.language)
        words, self._words_sent, self._unsent = self._unsent, 0, ()
        ends_speech, finalized = event.flushed or self._request.speech_final, event.flushed
        yield self._result(
            words, event.end, event.language, final=True, speech_final=ends_speech, from_finalize=finalized
        )
        if event.words:
            self._last_word_end = event.words[-1].end
            yield from self._utterance_end()

    def _settled(self, language: str) -> Iterator[Message]:
        while count := settled(self._unsent):
            words, self._unsent = self._unsent[:count], self._unsent[count:]
            self._words_sent += count
            yield self._result(words, words[-1].end, language, final=True)

    def _result(
        self,
        words: Sequence[Word],
        until: float,
        language: str,
        *,
        final: bool,
        speech_final: bool = False,
        from_finalize: bool = False,
    ) -> Message:
        start, end = self._last_final_end, max(self._last_final_end, until)
        if final:
            self._last_final_end = end
        shown_language = language if self._request.multilingual else ""
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "start": round_seconds(start),
            "duration": round_seconds(end - start),
            "is_final": final,
            "speech_final": speech_final,
            "from_finalize": from_finalize,
            "channel": {"alternatives": [alternative(with_punctuation(words), shown_language)]},
            "metadata": self._metadata,
        }

    def _utterance_end(self) -> Iterator[Message]:
        """Yield UtteranceEnd, once after each final word that is followed by enough audio."""
        if self._last_word_end is None or self._request.utterance_end is None:
            return
        if self._received_seconds - self._last_word_end >= self._request.utterance_end:
            yield {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": round_seconds(self._last_word_end)}
            self._last_word_end = None

    def _closing_metadata(self, audio: float) -> Message:
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": self._digest.hexdigest(),
            "created": self._created,
            "duration": round_seconds(audio),
            "channels": 1,
            "models": [self._metadata["model_uuid"]],
            "model_info": {self._metadata["model_uuid"]: self._metadata["model_info"]},
            **({"warnings": self._request.warnings} if self._request.warnings else {}),
        }
