"""The server's own words for a live session: what /v1/stream takes and says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from whisper_server.api.requests.options import Field, parse_fields
from whisper_server.api.requests.parsers import Choice, Flag, Integer, Number, Optional, Text
from whisper_server.api.streaming.session_runner import Action, Audio, Clear, End, Flush, Message, Say
from whisper_server.core.errors import BadMessage, WhisperServerError
from whisper_server.inference.transcription.languages import language_codes
from whisper_server.inference.transcription.segments import Word
from whisper_server.live.events import Ended, Event, Final, Lag, SpeechStarted, Update
from whisper_server.live.pcm_stream import CHANNELS, ENCODINGS, RATES, SAMPLE_RATE, PCMStreamDecoder
from whisper_server.live.session import SessionOptions

# Audio is decoded in such pieces, so that a long frame keeps nobody waiting.
_PIECE = 64 * 1024

_LANGUAGE = Choice(
    {"auto": None, **language_codes()}, "a language of Whisper by code or English name (en, english, …), or auto"
)

STREAM = (
    Field("language", _LANGUAGE, "the language spoken; found out in the first utterance if absent"),
    Field("model", Text(300), "the served model's name, another loaded one's, or one of OpenAI's for the served one"),
    Field("prompt", Text(2_000), "text to come before the first words: spelling, names, style"),
    Field("encoding", Choice({name: name for name in ENCODINGS}), "auto: a WAV if it begins as one, or else pcm16"),
    Field("rate", Integer(RATES.start, RATES.stop - 1), "samples a second of raw audio (16000)"),
    Field("channels", Integer(CHANNELS.start, CHANNELS.stop - 1), "channels of raw audio, mixed to one (1)"),
    Field("interim", Flag(), "tell what is heard before an utterance has ended (true)"),
    Field("words", Flag(), "add words with start, end and probability (false)"),
    Field("endpoint_ms", Optional(Integer(100, 10_000)), "silence that ends an utterance (500); none: only flush does"),
    Field("threshold", Number(0.05, 0.95), "the probability from which on sound is speech (0.5)"),
    Field("prefix_ms", Integer(0, 1_000), "audio before the first sound of an utterance that belongs to it (300)"),
)
_OF_SESSION = ("language", "model", "prompt", "endpoint_ms", "threshold", "prefix_ms")


@dataclass(frozen=True, slots=True)
class StreamRequest:
    options: SessionOptions
    incoming: PCMStreamDecoder
    rate: int = SAMPLE_RATE
    interim: bool = True
    words: bool = False


def parse_stream(texts: Mapping[str, str]) -> StreamRequest:
    """Parse the query and ignore what is unknown; raises BadOption."""
    parsed = parse_fields(STREAM, texts)
    interim, rate = parsed.get("interim", True), parsed.get("rate", SAMPLE_RATE)
    return StreamRequest(
        SessionOptions(**{name: parsed[name] for name in _OF_SESSION if name in parsed}, partials=interim),
        PCMStreamDecoder(rate, parsed.get("encoding", "auto"), parsed.get("channels", 1)),
        rate,
        interim,
        parsed.get("words", False),
    )


class NativeAdapter:
    """Each message can stand alone: a client may show the last one and forget the others.

    One that does not `greet` says that it is ready once it has understood the first audio.
    """

    def __init__(self, asked: StreamRequest, *, model: str, greet: bool = True) -> None:
        self._asked = asked
        self._ready: Message = {"type": "ready", "model": model, "rate": asked.rate}
        self._greeted = greet
        self._greet = greet
        self._confirmed: list[Word] = []

    def on_open(self) -> Iterable[Message]:
        return [self._ready] if self._greet else []

    def on_frame(self, frame: bytes | str) -> Iterator[Action]:
        if isinstance(frame, str):
            yield _command(frame)
        elif not frame:
            yield from self.on_end()
        else:
            for samples in map(self._asked.incoming.decode, pieces(frame)):
                if len(samples):
                    yield from self._greeting()
                    yield Audio(samples)

    def on_end(self) -> Iterator[Action]:
        samples = self._asked.incoming.close()
        yield from self._greeting()
        yield Audio(samples)
        yield End()

    def _greeting(self) -> Iterator[Action]:
        if not self._greeted:
            self._greeted = True
            yield Say(self._ready)

    def on_event(self, event: Event) -> Iterator[Message]:
        match event:
            case SpeechStarted(time):
                yield {"type": "speech", "t": seconds(time)}
            case Update():
                self._confirmed += event.confirmed
                if self._asked.interim:
                    yield self._partial(event)
            case Final():
                self._confirmed = []
                yield self._final(event)
            case Lag(behind):
                yield {"type": "lag", "seconds": seconds(behind)}
            case Ended(audio):
                yield {"type": "end", "audio": seconds(audio)}

    def on_error(self, exc: WhisperServerError) -> Iterable[Message]:
        return [{"type": "error", "code": exc.code or "server_error", "message": str(exc)}]

    def _partial(self, event: Update) -> Message:
        confirmed = text(self._confirmed)
        pending = text(event.pending, after=confirmed)
        partial = {"type": "partial", "utt": event.utterance, "confirmed": confirmed, "pending": pending}
        return {**partial, "audio": seconds(event.audio), **self._words(self._confirmed)}

    def _final(self, event: Final) -> Message:
        return {
            "type": "final",
            "utt": event.utterance,
            "text": text(event.words),
            "start": seconds(event.start),
            "end": seconds(event.end),
            "audio": seconds(event.audio),
            "language": event.language,
            "flushed": event.flushed,
            **self._words(event.words),
        }

    def _words(self, words: Iterable[Word]) -> Mapping[str, Any]:
        return {"words": [_as_json(word) for word in words]} if self._asked.words else {}


def pieces(frame: bytes) -> Iterator[bytes]:
    return (frame[start : start + _PIECE] for start in range(0, len(frame), _PIECE))


def text(words: Iterable[Word], *, after: str = "") -> str:
    """Return the words joined, without the space that nothing stands before."""
    joined = "".join(word.text for word in words)
    return joined if after else joined.lstrip()


def seconds(time: float) -> float:
    return round(time, 3)


def parse_message(frame: str) -> Mapping[str, Any]:
    """Return a JSON object with a `type`; raises BadMessage."""
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError) as exc:
        raise BadMessage("a text frame has to be a JSON object") from exc
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise BadMessage("a text frame has to be a JSON object with a type")
    return message


def _command(frame: str) -> Action:
    kind = parse_message(frame)["type"]
    if kind not in _COMMANDS:
        raise BadMessage(f"{kind[:40]!r} is no message of this protocol; there are {', '.join(_COMMANDS)}")
    return _COMMANDS[kind]


def _as_json(word: Word) -> Mapping[str, Any]:
    start, end = seconds(word.start), seconds(word.end)
    return {"word": word.text, "start": start, "end": end, "probability": round(word.probability, 4)}


_COMMANDS: dict[str, Action] = {"flush": Flush(), "clear": Clear(), "end": End()}
