"""The parameters of `WS /v1/listen`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams

from whisper_server.api.deepgram.options import (
    KEYTERMS,
    LANGUAGE,
    MODEL,
    UNSUPPORTED,
    Warnings,
    check_query,
    is_multilingual,
    keyterms,
    own_model,
    warnings,
)
from whisper_server.api.requests.options import Field, parse_fields
from whisper_server.api.requests.parsers import FLAG, Parser, choice, integer
from whisper_server.core.errors import BadOption
from whisper_server.live.pcm_stream import CHANNELS, RATES, SAMPLE_RATE, PCMStreamDecoder
from whisper_server.live.session import SessionOptions

# Shorter silences occur between the words of a sentence.
_MIN_ENDPOINT_MS = 200
_DEFAULT_ENDPOINT_MS = 500

_MILLISECONDS = integer(0, 10_000)
_ENDPOINTS = {"false": None, "true": _DEFAULT_ENDPOINT_MS}


def _parse_endpointing(text: str) -> int | None:
    word = text.strip().lower()
    return _ENDPOINTS[word] if word in _ENDPOINTS else max(_MIN_ENDPOINT_MS, _MILLISECONDS.parse(text))


_ENDPOINTING = Parser(
    _parse_endpointing, "milliseconds up to 10000, true or false", {"anyOf": [{"type": "integer"}, {"type": "boolean"}]}
)
LISTEN = (
    MODEL,
    LANGUAGE,
    Field("encoding", choice({"linear16": "pcm16", "mulaw": "mulaw", "alaw": "alaw"}), "raw audio; absent: a WAV"),
    Field("sample_rate", integer(RATES.start, RATES.stop - 1), "sample rate of raw audio in Hz (mulaw, alaw: 8000)"),
    Field("channels", integer(CHANNELS.start, CHANNELS.stop - 1), "channels of raw audio, mixed to one (1)"),
    Field("interim_results", FLAG, "also send words that may still change (false)"),
    Field("endpointing", _ENDPOINTING, "silence that ends an utterance, 200 or more (500); false: no speech_final"),
    Field("utterance_end_ms", integer(500, 60_000), "silence after the last word before UtteranceEnd is sent"),
    Field("vad_events", FLAG, "send SpeechStarted (false)"),
    *KEYTERMS,
)
_UNSUPPORTED = {**UNSUPPORTED, "multichannel": "all channels are mixed to one"}
# Its results would go to the callback instead of this connection.
_REFUSED = {"callback": "no value: live results are sent over this connection only"}


@dataclass(frozen=True, slots=True)
class ListenRequest:
    """`utterance_end` is in seconds; None sends no UtteranceEnd."""

    options: SessionOptions
    decoder: PCMStreamDecoder
    interim: bool = False
    speech_final: bool = True
    speech_started: bool = False
    utterance_end: float | None = None
    multilingual: bool = False
    warnings: Warnings | None = None


def parse_listen(query: QueryParams) -> ListenRequest:
    """Parse the query and ignore options without effect here; raises BadOption."""
    check_query(query, _REFUSED)
    parsed = parse_fields(LISTEN, query)
    endpointing = parsed.get("endpointing", _DEFAULT_ENDPOINT_MS)
    utterance_end_ms = parsed.get("utterance_end_ms")
    options = SessionOptions(
        language=parsed.get("language"),
        model=own_model(parsed.get("model", "")),
        prompt=keyterms(query),
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
        multilingual=is_multilingual(query),
        warnings=warnings(query, _UNSUPPORTED),
    )


def _decoder(parsed: dict[str, Any]) -> PCMStreamDecoder:
    encoding = parsed.get("encoding", "wav")
    if encoding == "pcm16" and "sample_rate" not in parsed:
        raise BadOption("sample_rate", "", "a sample rate in Hz, which linear16 requires")
    rate = parsed.get("sample_rate", SAMPLE_RATE if encoding == "wav" else 8_000)
    return PCMStreamDecoder(rate, encoding, parsed.get("channels", 1))
