"""The fields of whisper.cpp's `POST /inference`.

They mean what they mean there. Those that steer its own decoder (`entropy_thold`, `audio_ctx`, …) are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from whisper_server.api.requests.options import DECODING, Field, parse_fields, to_faster_whisper
from whisper_server.api.requests.parsers import FLAG, integer, number, one_of
from whisper_server.core.errors import BadOption

_SUBTITLES = ("srt", "vtt")
_MILLISECONDS = integer(0, 360_000_000)

# The options of /recognise by their names in whisper.cpp.
_NAMES = {
    "language": "language",
    "prompt": "initial_prompt",
    "beam_size": "beam_size",
    "best_of": "best_of",
    "logprob_thold": "logprob_threshold",
    "no_speech_thold": "no_speech_threshold",
    "no_timestamps": "without_timestamps",
    "vad": "vad_filter",
}
_DECODING_BY_NAME = {field.name: field for field in DECODING}
_SAME = tuple(
    replace(_DECODING_BY_NAME[option], name=name, keyword=_DECODING_BY_NAME[option].keyword or option)
    for name, option in _NAMES.items()
)
_OWN = (
    Field(
        "response_format",
        one_of("json", "text", "srt", "verbose_json", "vtt"),
        "the format of the response body (json)",
    ),
    Field("temperature", number(0, 1), "the first temperature (0)"),
    Field("temperature_inc", number(0, 1), "is added while decoding fails (0.2)"),
    Field("translate", FLAG, "translate the speech to English (false)"),
    Field("detect_language", FLAG, "ignore the field language (false)"),
    Field("token_timestamps", FLAG, "verbose_json: include words (true, unless no_timestamps)"),
    Field("offset_t", _MILLISECONDS, "start there, in milliseconds"),
    Field("duration", _MILLISECONDS, "transcribe so much, in milliseconds"),
    Field("max_context", integer(-1, 1_000_000), "0: do not prompt each window with the text before it"),
    Field("max_len", integer(0, 10_000), "srt, vtt: maximum number of characters in a cue"),
)
# Settings of Silero VAD, by their names in faster-whisper.
_VAD = (
    Field("vad_threshold", number(0, 1), "probability of speech above which audio is kept (0.5)", "threshold"),
    Field("vad_min_speech_duration_ms", _MILLISECONDS, "shortest speech", "min_speech_duration_ms"),
    Field("vad_min_silence_duration_ms", _MILLISECONDS, "shortest silence", "min_silence_duration_ms"),
    Field("vad_max_speech_duration_s", number(1, 1e38), "longest speech", "max_speech_duration_s"),
    Field("vad_speech_pad_ms", _MILLISECONDS, "audio to keep around speech", "speech_pad_ms"),
)
INFERENCE = (*_OWN, *_SAME, *_VAD)


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """`decoding` is for faster-whisper's `transcribe()`; `max_len` is in characters, and None is no limit."""

    decoding: dict[str, Any]
    response_format: str
    max_len: int | None


def parse_inference(texts: Mapping[str, str]) -> InferenceRequest:
    """Parse the known fields and ignore all others; raises BadOption."""
    own = parse_fields(_OWN, texts)
    response_format, max_len = own.get("response_format", "json"), own.get("max_len") or None
    decoding = {
        **to_faster_whisper(parse_fields(_SAME, texts)),
        "task": "translate" if own.get("translate") else "transcribe",
        "temperature": _temperatures(own.get("temperature", 0.0), own.get("temperature_inc", 0.2)),
    }
    if own.get("detect_language"):
        decoding.pop("language", None)
    if own.get("max_context") == 0:
        decoding["condition_on_previous_text"] = False
    if own.get("offset_t") or own.get("duration"):
        decoding["clip_timestamps"] = _clip(own.get("offset_t", 0), own.get("duration", 0))
    if vad := parse_fields(_VAD, texts):
        decoding["vad_parameters"] = vad
    with_words = own.get("token_timestamps", not decoding.get("without_timestamps"))
    if (response_format == "verbose_json" and with_words) or (response_format in _SUBTITLES and max_len):
        decoding["word_timestamps"] = True
    return InferenceRequest(decoding, response_format, max_len)


def _temperatures(first: float, increment: float) -> list[float]:
    """Return the temperatures to try in order, up to 1."""
    if not increment:
        return [first]
    if increment < 0.05:
        raise BadOption("temperature_inc", increment, "0, or at least 0.05")
    return [round(first + i * increment, 6) for i in range(int((1 - first) / increment + 1e-6) + 1)]


def _clip(offset: int, duration: int) -> list[float]:
    """Return the start, and the end if there is one, in seconds."""
    return [offset / 1000, (offset + duration) / 1000] if duration else [offset / 1000]
