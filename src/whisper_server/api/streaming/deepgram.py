"""Deepgram's protocol for live sessions: the options and messages of /v1/listen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from starlette.datastructures import QueryParams

from whisper_server import __version__
from whisper_server.api.requests.options import Field, parse_fields
from whisper_server.api.requests.parsers import FLAG, LANGUAGE_OR_AUTO, Parser, choice, integer, text_up_to
from whisper_server.api.streaming.common import join_words, parse_json_frame, round_seconds, split_frame
from whisper_server.api.streaming.session_runner import Action, Audio, Command, Message, SendMessage
from whisper_server.core.errors import BadMessage, BadOption, WhisperServerError
from whisper_server.inference.transcription.segments import Word
from whisper_server.live.events import Ended, Event, Final, Lag, SpeechStarted, SpeechStopped, Update
from whisper_server.live.pcm_stream import CHANNELS, RATES, SAMPLE_RATE, PCMStreamDecoder
from whisper_server.live.session import SessionOptions

# Shorter silences occur between the words of a sentence.
_MIN_ENDPOINT_MS = 200
_DEFAULT_ENDPOINT_MS = 500


_MILLISECONDS = integer(0, 10_000)
_ENDPOINTING = Parser(
    lambda text: None if text.strip().lower() == "false" else max(_MIN_ENDPOINT_MS, _MILLISECONDS.parse(text)),
    "milliseconds up to 10000, or false",
    {"anyOf": [{"type": "integer"}, {"const": "false"}]},
)
LISTEN = (
    Field("model", text_up_to(300), "a model of this server; Deepgram's names (nova-…, …) select the served model"),
    Field("language", LANGUAGE_OR_AUTO, "the language spoken; detected in the first utterance if absent"),
    Field("encoding", choice({"linear16": "pcm16", "mulaw": "mulaw", "alaw": "alaw"}), "raw audio; absent: a WAV"),
    Field("sample_rate", integer(RATES.start, RATES.stop - 1), "sample rate of raw audio in Hz (mulaw, alaw: 8000)"),
    Field("channels", integer(CHANNELS.start, CHANNELS.stop - 1), "channels of raw audio, mixed to mono (1)"),
    Field("interim_results", FLAG, "also send words that may still change (false)"),
    Field("endpointing", _ENDPOINTING, "silence that ends an utterance, 200 or more (500); false: no speech_final"),
    Field("utterance_end_ms", integer(500, 60_000), "silence after the last word before UtteranceEnd is sent"),
    Field("vad_events", FLAG, "send SpeechStarted (false)"),
)
_KEYTERMS = ("keyterm", "keywords")
# Refused, because ignoring them would give a wrong result.
_UNSUPPORTED = (
    *("callback", "detect_entities", "diarize", "diarize_model", "multichannel"),
    *("profanity_filter", "redact", "replace", "search"),
)
_DEEPGRAM_MODELS = (
    *("nova", "enhanced", "flux", "general", "phonecall"),
    *("meeting", "voicemail", "finance", "conversationalai"),
)
_CONFIGURE_FAILURE = {
    "type": "ConfigureFailure",
    "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED",
    "description": "the options of a session cannot be changed after it has started",
}


@dataclass(frozen=True, slots=True)
class ListenRequest:
    """`utterance_end` is in seconds; None sends no UtteranceEnd."""

    options: SessionOptions
    decoder: PCMStreamDecoder
    interim: bool = False
    speech_final: bool = True
    speech_started: bool = False
    utterance_end: float | None = None


def parse_listen(query: QueryParams) -> ListenRequest:
    """Parse the query and ignore options without effect here; raises BadOption."""
    for name in _UNSUPPORTED:
        if query.get(name, "false").strip().lower() not in ("", "false"):
            raise BadOption(name, query[name], "false: this server does not support it")
    parsed = parse_fields(LISTEN, query)
    endpointing = parsed.get("endpointing", _DEFAULT_ENDPOINT_MS)
    utterance_end_ms = parsed.get("utterance_end_ms")
    model = parsed.get("model", "")
    options = SessionOptions(
        language=parsed.get("language"),
        model="" if model.lower().startswith(_DEEPGRAM_MODELS) else model,
        prompt=_keyterms(query),
        endpoint_ms=endpointing or _DEFAULT_ENDPOINT_MS,
        partials=parsed.get("interim_results", False),
    )
    return ListenRequest(
        options,
        _decoder(parsed),
        interim=options.partials,
        speech_final=endpointing is not None,
        speech_started=parsed.get("vad_events", False),
        utterance_end=None if utterance_end_ms is None else utterance_end_ms / 1000,
    )


def _keyterms(query: QueryParams) -> str:
    """Return the terms as a prompt, without the weights that Deepgram's `keywords` may have after a colon."""
    terms = [term.partition(":")[0] for name in _KEYTERMS for term in query.getlist(name)]
    return str(Field("keyterm", text_up_to(2_000), "").parse(", ".join(terms)))


def _decoder(parsed: dict[str, Any]) -> PCMStreamDecoder:
    encoding = parsed.get("encoding", "wav")
    if encoding == "pcm16" and "sample_rate" not in parsed:
        raise BadOption("sample_rate", "", "a sample rate in Hz, which linear16 requires")
    rate = parsed.get("sample_rate", SAMPLE_RATE if encoding == "wav" else 8_000)
    return PCMStreamDecoder(rate, encoding, parsed.get("channels", 1))


class DeepgramAdapter:
    """Each confirmed word is in exactly one final result; interim results have the words that may still change."""

    def __init__(self, request: ListenRequest, *, model: str, request_id: str) -> None:
        self._request = request
        self._request_id = request_id
        self._metadata = {
            "request_id": request_id,
            "model_info": {"name": model, "version": __version__, "arch": "whisper"},
            "model_uuid": str(uuid5(NAMESPACE_URL, model)),
        }
        self._created = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._digest = sha256()
        self._received_seconds = 0.0
        self._last_final_end = 0.0
        # Confirmed words of the utterance that are in a final result, and the one that is not yet.
        self._words_sent = 0
        self._held_back: tuple[Word, ...] = ()
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
        """Hold the last word back: clients join results with spaces, and a comma may follow the word."""
        if event.confirmed:
            *words, last = (*self._held_back, *event.confirmed)
            self._held_back = (last,)
            self._last_word_end = None
            if words:
                self._words_sent += len(words)
                yield self._result(words, words[-1].end, final=True)
        if self._request.interim:
            yield self._result((*self._held_back, *event.pending), event.audio, final=False)

    def _final(self, event: Final) -> Iterator[Message]:
        unsent, self._words_sent, self._held_back = event.words[self._words_sent :], 0, ()
        speech_final = event.flushed or self._request.speech_final
        yield self._result(unsent, event.end, final=True, speech_final=speech_final, from_finalize=event.flushed)
        if event.words:
            self._last_word_end = event.words[-1].end
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
        start, end = self._last_final_end, max(self._last_final_end, until)
        if final:
            self._last_final_end = end
        confidence = sum(word.probability for word in words) / len(words) if words else 0.0
        alternative = {
            "transcript": join_words(words).strip(),
            "confidence": round(confidence, 4),
            "words": [_word_json(word) for word in words],
        }
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "start": round_seconds(start),
            "duration": round_seconds(end - start),
            "is_final": final,
            "speech_final": speech_final,
            "from_finalize": from_finalize,
            "channel": {"alternatives": [alternative]},
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
        }


def _word_json(word: Word) -> Message:
    punctuated = word.text.strip()
    return {
        "word": punctuated.strip(_PUNCTUATION).lower() or punctuated,
        "start": round_seconds(word.start),
        "end": round_seconds(word.end),
        "confidence": round(word.probability, 4),
        "punctuated_word": punctuated,
    }


_PUNCTUATION = ".,;:!?…\"'“”‘’«»()[]¿¡-–—。，、！？"
