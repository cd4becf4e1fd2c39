"""The server's own protocol for live sessions: the options and messages of /v1/stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from whisper_server.api.requests.options import Field, parse_fields
from whisper_server.api.requests.parsers import FLAG, LANGUAGE_OR_AUTO, integer, number, one_of, or_none, text_up_to
from whisper_server.api.streaming.common import join_words, parse_json_frame, round_seconds, split_frame
from whisper_server.api.streaming.session_runner import Action, Audio, Command, Message, SendMessage
from whisper_server.core.errors import BadMessage, WhisperServerError
from whisper_server.inference.transcription.segments import Word
from whisper_server.live.events import Ended, Event, Final, Lag, SpeechStarted, Update
from whisper_server.live.pcm_stream import CHANNELS, ENCODINGS, RATES, SAMPLE_RATE, PCMStreamDecoder
from whisper_server.live.session import SessionOptions

STREAM = (
    Field("language", LANGUAGE_OR_AUTO, "the language spoken; detected in the first utterance if absent"),
    Field("model", text_up_to(300), "the name of a loaded model, or one of OpenAI's names for the served model"),
    Field("prompt", text_up_to(2_000), "text that precedes the first words: spelling, names, style"),
    Field("encoding", one_of(*ENCODINGS), "auto: a WAV if it begins as one, otherwise pcm16"),
    Field("rate", integer(RATES.start, RATES.stop - 1), "sample rate of raw audio in Hz (16000)"),
    Field("channels", integer(CHANNELS.start, CHANNELS.stop - 1), "channels of raw audio, mixed to mono (1)"),
    Field("interim", FLAG, "send what is recognised before an utterance has ended (true)"),
    Field("words", FLAG, "add words with start, end and probability (false)"),
    Field("endpoint_ms", or_none(integer(100, 10_000)), "silence that ends an utterance (500); none: only flush does"),
    Field("threshold", number(0.05, 0.95), "probability from which audio counts as speech (0.5)"),
    Field("prefix_ms", integer(0, 1_000), "audio before the start of speech that belongs to an utterance (300)"),
)
_SESSION_OPTIONS = ("language", "model", "prompt", "endpoint_ms", "threshold", "prefix_ms")


@dataclass(frozen=True, slots=True)
class StreamRequest:
    options: SessionOptions
    decoder: PCMStreamDecoder
    rate: int = SAMPLE_RATE
    interim: bool = True
    words: bool = False


def parse_stream(texts: Mapping[str, str]) -> StreamRequest:
    """Parse the query and ignore unknown names; raises BadOption."""
    parsed = parse_fields(STREAM, texts)
    interim, rate = parsed.get("interim", True), parsed.get("rate", SAMPLE_RATE)
    return StreamRequest(
        SessionOptions(**{name: parsed[name] for name in _SESSION_OPTIONS if name in parsed}, partials=interim),
        PCMStreamDecoder(rate, parsed.get("encoding", "auto"), parsed.get("channels", 1)),
        rate,
        interim,
        parsed.get("words", False),
    )


class NativeAdapter:
    """Each message stands alone: a client may show the last one and forget the others.

    Without `ready_on_open` the `ready` message waits until the first audio has been decoded.
    """

    def __init__(self, request: StreamRequest, *, model: str, ready_on_open: bool = True) -> None:
        self._request = request
        self._ready: Message = {"type": "ready", "model": model, "rate": request.rate}
        self._ready_pending = not ready_on_open
        self._confirmed: list[Word] = []

    def on_open(self) -> Iterable[Message]:
        return [] if self._ready_pending else [self._ready]

    def on_frame(self, frame: bytes | str) -> Iterator[Action]:
        if isinstance(frame, str):
            yield _command(frame)
        elif not frame:
            yield from self.on_end()
        else:
            for samples in map(self._request.decoder.decode, split_frame(frame)):
                if len(samples):
                    yield from self._pending_ready()
                    yield Audio(samples)

    def on_end(self) -> Iterator[Action]:
        samples = self._request.decoder.close()
        yield from self._pending_ready()
        yield Audio(samples)
        yield Command.END

    def _pending_ready(self) -> Iterator[Action]:
        if self._ready_pending:
            self._ready_pending = False
            yield SendMessage(self._ready)

    def on_event(self, event: Event) -> Iterator[Message]:
        match event:
            case SpeechStarted(time):
                yield {"type": "speech", "t": round_seconds(time)}
            case Update():
                self._confirmed += event.confirmed
                if self._request.interim:
                    yield self._partial(event)
            case Final():
                self._confirmed = []
                yield self._final(event)
            case Lag(lag):
                yield {"type": "lag", "seconds": round_seconds(lag)}
            case Ended(audio):
                yield {"type": "end", "audio": round_seconds(audio)}

    def on_error(self, exc: WhisperServerError) -> Iterable[Message]:
        return [{"type": "error", "code": exc.code or "server_error", "message": str(exc)}]

    def _partial(self, event: Update) -> Message:
        confirmed = join_words(self._confirmed)
        return {
            "type": "partial",
            "utt": event.utterance,
            "confirmed": confirmed,
            "pending": join_words(event.pending, after=confirmed),
            "audio": round_seconds(event.audio),
            **self._words(self._confirmed),
        }

    def _final(self, event: Final) -> Message:
        return {
            "type": "final",
            "utt": event.utterance,
            "text": join_words(event.words),
            "start": round_seconds(event.start),
            "end": round_seconds(event.end),
            "audio": round_seconds(event.audio),
            "language": event.language,
            "flushed": event.flushed,
            **self._words(event.words),
        }

    def _words(self, words: Iterable[Word]) -> Mapping[str, Any]:
        return {"words": [_word_json(word) for word in words]} if self._request.words else {}


def _command(frame: str) -> Action:
    type = parse_json_frame(frame)["type"]
    if type not in _COMMANDS:
        raise BadMessage(f"unknown message type {type[:40]!r}; expected one of {', '.join(_COMMANDS)}")
    return _COMMANDS[type]


def _word_json(word: Word) -> Mapping[str, Any]:
    start, end = round_seconds(word.start), round_seconds(word.end)
    return {"word": word.text, "start": start, "end": end, "probability": round(word.probability, 4)}


_COMMANDS = {"flush": Command.FLUSH, "clear": Command.CLEAR, "end": Command.END}
