"""Deepgram's words for a live session: what its clients ask for, send and expect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from starlette.datastructures import QueryParams

from whisper_server import __version__
from whisper_server.api.requests.languages import Language
from whisper_server.api.requests.options import Field, parse_fields
from whisper_server.api.requests.parsers import Choice, Flag, Integer, Text
from whisper_server.api.streaming.native import parse_message, pieces, seconds, text
from whisper_server.api.streaming.session_runner import Action, Audio, End, Flush, Message, Say
from whisper_server.core.errors import BadMessage, BadOption, WhisperServerError
from whisper_server.inference.transcription.segments import Word
from whisper_server.live.events import Ended, Event, Final, Lag, SpeechStarted, SpeechStopped, Update
from whisper_server.live.pcm_stream import CHANNELS, RATES, SAMPLE_RATE, PCMStreamDecoder
from whisper_server.live.session import SessionOptions

# Words run into each other: less silence than this is none.
_SHORTEST_ENDPOINT = 200


@dataclass(frozen=True, slots=True)
class Endpointing:
    allowed: str = "milliseconds up to 10000, or false"

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "integer"}, {"const": "false"}]}

    def __call__(self, text: str) -> int | None:
        return None if text.strip().lower() == "false" else max(_SHORTEST_ENDPOINT, Integer(0, 10_000)(text))


LISTEN = (
    Field("model", Text(300), "a model of this server; those of Deepgram (nova-…, …) mean the served one"),
    Field("language", Language(), "the language spoken; found out in the first utterance if absent"),
    Field("encoding", Choice({"linear16": "pcm16", "mulaw": "mulaw", "alaw": "alaw"}), "raw audio; absent: a WAV"),
    Field("sample_rate", Integer(RATES.start, RATES.stop - 1), "samples a second of raw audio (mulaw, alaw: 8000)"),
    Field("channels", Integer(CHANNELS.start, CHANNELS.stop - 1), "channels of raw audio, mixed to one (1)"),
    Field("interim_results", Flag(), "tell what may still change, too (false)"),
    Field("endpointing", Endpointing(), "silence that ends an utterance, 200 or more (500); false: no speech_final"),
    Field("utterance_end_ms", Integer(500, 60_000), "silence after the last word after which to say UtteranceEnd"),
    Field("vad_events", Flag(), "say SpeechStarted (false)"),
)
KEYTERMS = ("keyterm", "keywords")
# What these ask for cannot be had, and silence about it would be a wrong answer.
_REFUSED = ("callback", "detect_entities", "diarize", "diarize_model", "multichannel", "profanity_filter", "redact")
_REFUSED_TOO = ("replace", "search")
_FOREIGN = ("nova", "enhanced", "flux", "general", "phonecall", "meeting", "voicemail", "finance", "conversationalai")


@dataclass(frozen=True, slots=True)
class ListenRequest:
    options: SessionOptions
    incoming: PCMStreamDecoder
    interim: bool = False
    speech_final: bool = True
    speech_started: bool = False
    utterance_end: float | None = None


def parse_listen(query: QueryParams) -> ListenRequest:
    """Parse the query and ignore what changes nothing here; raises BadOption."""
    for name in (*_REFUSED, *_REFUSED_TOO):
        if query.get(name, "false").strip().lower() not in ("", "false"):
            raise BadOption(name, query[name], "false: this server cannot do that")
    parsed = parse_fields(LISTEN, query)
    endpointing = parsed.get("endpointing", 500)
    gap = parsed.get("utterance_end_ms")
    options = SessionOptions(
        language=parsed.get("language"),
        model=_model(parsed.get("model", "")),
        prompt=_keyterms(query),
        endpoint_ms=endpointing or 500,
        partials=parsed.get("interim_results", False),
    )
    return ListenRequest(
        options,
        _incoming(parsed),
        interim=options.partials,
        speech_final=endpointing is not None,
        speech_started=parsed.get("vad_events", False),
        utterance_end=None if gap is None else gap / 1000,
    )


def _model(name: str) -> str:
    return "" if name.lower().startswith(_FOREIGN) else name


def _keyterms(query: QueryParams) -> str:
    """Deepgram's `keywords` may have a weight after a colon."""
    terms = [term.partition(":")[0] for name in KEYTERMS for term in query.getlist(name)]
    return str(Field("keyterm", Text(2_000), "").parse(", ".join(terms)))


def _incoming(parsed: dict[str, Any]) -> PCMStreamDecoder:
    encoding = parsed.get("encoding", "wav")
    if encoding == "pcm16" and "sample_rate" not in parsed:
        raise BadOption("sample_rate", "", "samples a second, which linear16 does not say by itself")
    rate = parsed.get("sample_rate", SAMPLE_RATE if encoding == "wav" else 8_000)
    return PCMStreamDecoder(rate, encoding, parsed.get("channels", 1))


class DeepgramAdapter:
    """Each confirmed word is in exactly one result that is final; the interim ones have what may still change."""

    def __init__(self, asked: ListenRequest, *, model: str, request_id: str) -> None:
        self._asked = asked
        self._request_id = request_id
        self._metadata = {
            "request_id": request_id,
            "model_info": {"name": model, "version": __version__, "arch": "whisper"},
            "model_uuid": str(uuid5(NAMESPACE_URL, model)),
        }
        self._created = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._digest = sha256()
        self._heard = 0.0
        self._covered = 0.0
        self._sent = 0
        self._held: tuple[Word, ...] = ()
        self._last_word: float | None = None

    def on_open(self) -> Iterable[Message]:
        return []

    def on_frame(self, frame: bytes | str) -> Iterator[Action]:
        if isinstance(frame, str):
            yield from self._command(parse_message(frame)["type"])
        elif not frame:
            yield from self.on_end()
        else:
            self._digest.update(frame)
            for piece in pieces(frame):
                samples = self._asked.incoming.decode(piece)
                self._heard += len(samples) / SAMPLE_RATE
                yield Audio(samples)
                yield from map(Say, self._utterance_end())

    def _command(self, kind: str) -> Iterator[Action]:
        match kind:
            case "KeepAlive":
                pass
            case "Finalize":
                yield Flush()
            case "CloseStream":
                yield from self.on_end()
            case "Configure":
                yield Say(self._cannot_configure())
            case _:
                raise BadMessage(f"{kind[:40]!r} is no message of this protocol")

    def on_end(self) -> Iterator[Action]:
        yield Audio(self._asked.incoming.close())
        yield End()

    def on_event(self, event: Event) -> Iterator[Message]:
        match event:
            case SpeechStarted(time):
                if self._asked.speech_started:
                    yield {"type": "SpeechStarted", "channel": [0], "timestamp": seconds(time)}
            case Update():
                yield from self._update(event)
            case Final():
                yield from self._final(event)
            case Ended(audio):
                yield self._summary(audio)
            case SpeechStopped() | Lag():
                pass

    def on_error(self, exc: WhisperServerError) -> Iterable[Message]:
        code = exc.code or "server_error"
        return [{"type": "Error", "variant": code, "code": code, "description": str(exc), "message": str(exc)}]

    def _update(self, event: Update) -> Iterator[Message]:
        """The last word is held back: clients put a space after each result, and a comma may still come."""
        if event.confirmed:
            *words, last = (*self._held, *event.confirmed)
            self._held = (last,)
            self._last_word = None
            if words:
                self._sent += len(words)
                yield self._result(words, words[-1].end, final=True)
        if self._asked.interim:
            yield self._result((*self._held, *event.pending), event.audio, final=False)

    def _final(self, event: Final) -> Iterator[Message]:
        rest, self._sent, self._held = event.words[self._sent :], 0, ()
        speech_final = event.flushed or self._asked.speech_final
        yield self._result(rest, event.end, final=True, speech_final=speech_final, from_finalize=event.flushed)
        if event.words:
            self._last_word = event.words[-1].end
            yield from self._utterance_end()

    def _result(
        self,
        words: Sequence[Word],
        until: float,
        *,
        final: bool,
        speech_final: bool = False,
        from_finalize: bool = False,
    ) -> Message:
        start, end = self._covered, max(self._covered, until)
        if final:
            self._covered = end
        confidence = sum(word.probability for word in words) / len(words) if words else 0.0
        spoken = {
            "transcript": text(words).strip(),
            "confidence": round(confidence, 4),
            "words": [_as_json(word) for word in words],
        }
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "start": seconds(start),
            "duration": seconds(end - start),
            "is_final": final,
            "speech_final": speech_final,
            "from_finalize": from_finalize,
            "channel": {"alternatives": [spoken]},
            "metadata": self._metadata,
        }

    def _utterance_end(self) -> Iterator[Message]:
        """Once after the last final word, when so much audio has come after it."""
        if self._last_word is None or self._asked.utterance_end is None:
            return
        if self._heard - self._last_word >= self._asked.utterance_end:
            yield {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": seconds(self._last_word)}
            self._last_word = None

    def _summary(self, audio: float) -> Message:
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": self._digest.hexdigest(),
            "created": self._created,
            "duration": seconds(audio),
            "channels": 1,
            "models": [self._metadata["model_uuid"]],
            "model_info": {self._metadata["model_uuid"]: self._metadata["model_info"]},
        }

    def _cannot_configure(self) -> Message:
        return {
            "type": "ConfigureFailure",
            "request_id": self._request_id,
            "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED",
            "description": "the options of a session cannot be changed while it lasts",
        }


def _as_json(word: Word) -> Message:
    punctuated = word.text.strip()
    return {
        "word": punctuated.strip(_MARKS).lower() or punctuated,
        "start": seconds(word.start),
        "end": seconds(word.end),
        "confidence": round(word.probability, 4),
        "punctuated_word": punctuated,
    }


_MARKS = ".,;:!?…\"'“”‘’«»()[]¿¡-–—。，、！？"
