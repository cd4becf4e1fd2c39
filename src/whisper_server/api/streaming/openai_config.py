"""The configuration of an OpenAI Realtime transcription session, in the notations of GA and of the beta."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

from whisper_server.api.requests.options import Field
from whisper_server.api.requests.parsers import LANGUAGE_OR_AUTO
from whisper_server.core.errors import BadOption
from whisper_server.live.pcm_stream import RATES, PCMStreamDecoder
from whisper_server.live.session import SessionOptions

JSON: TypeAlias = Mapping[str, Any]

LOGPROBS = "item.input_audio_transcription.logprobs"
_PCM = "audio/pcm"
_ENCODINGS = {_PCM: "pcm16", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
_BETA_FORMATS = {"pcm16": _PCM, "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_PCM_RATE, _G711_RATE = 24_000, 8_000
_SERVER_VAD: JSON = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500}
# The silence in ms that ends a turn with semantic_vad; the server does not interpret the words.
_EAGERNESS_SILENCE = {"low": 1500, "medium": 800, "auto": 800, "high": 400}
_MIN_SILENCE_MS, _MAX_SILENCE_MS = 100, 10_000
_MAX_PREFIX_MS = 1_000
_MAX_TEXT_LENGTH = 20_000
_MAX_LIST_LENGTH = 100
_DELAYS = ("minimal", "low", "medium", "high", "xhigh")


@dataclass(frozen=True, slots=True)
class RealtimeConfig:
    """`transcription` and `turn_detection` are in OpenAI's notation; without the latter, the client ends the turns."""

    format: str = _PCM
    rate: int = _PCM_RATE
    transcription: JSON = field(default_factory=dict)
    turn_detection: JSON | None = field(default_factory=lambda: _SERVER_VAD)
    include: tuple[str, ...] = ()

    def updated(self, session: Any, *, beta: bool) -> RealtimeConfig:
        """Return the configuration with the changes of a client's session object; raises BadOption."""
        session = _object("session", session)
        if beta:
            return self._with("session.", session, {**_BETA_FIELDS, **_COMMON_FIELDS})
        if session.get("type", "transcription") != "transcription":
            raise BadOption("session.type", session["type"], "transcription: this server does not generate responses")
        audio_input = _object("session.audio.input", _object("session.audio", session.get("audio")).get("input"))
        return self._with("session.audio.input.", audio_input, _GA_FIELDS)._with("session.", session, _COMMON_FIELDS)

    def _with(self, path: str, values: JSON, fields: Mapping[str, _Update]) -> RealtimeConfig:
        config = self
        for name, update in fields.items():
            if name in values:
                config = replace(config, **update(config, path + name, values[name]))
        return config

    def new_decoder(self) -> PCMStreamDecoder:
        return PCMStreamDecoder(self.rate, _ENCODINGS[self.format])  # type: ignore[arg-type]

    @property
    def bytes_per_second(self) -> int:
        return self.rate * (2 if self.format == _PCM else 1)

    @property
    def server_turns(self) -> bool:
        """Whether the server detects the turns."""
        return self.turn_detection is not None

    @property
    def options(self) -> SessionOptions:
        transcription = self.transcription
        keywords = ", ".join(transcription.get("keywords") or ())
        language = transcription.get("language")
        languages = {language} if language else {*(transcription.get("languages") or ())}
        options = SessionOptions(
            language=LANGUAGE_OR_AUTO.parse(languages.pop()) if len(languages) == 1 else None,
            prompt=" ".join(filter(None, [keywords, transcription.get("prompt")])),
            model=transcription.get("model") or "",
            endpoint_ms=None,
            partials=False,
        )
        vad = self.turn_detection
        if vad is None:
            return options
        silence = vad["silence_duration_ms"] if vad["type"] == "server_vad" else _EAGERNESS_SILENCE[vad["eagerness"]]
        return replace(
            options,
            endpoint_ms=int(min(max(silence, _MIN_SILENCE_MS), _MAX_SILENCE_MS)),
            threshold=min(max(vad.get("threshold", 0.5), 0.05), 0.95),
            prefix_ms=int(min(vad.get("prefix_padding_ms", 300), _MAX_PREFIX_MS)),
        )

    def to_json(self, identity: JSON, *, model: str, beta: bool) -> JSON:
        """Return the session object with the fields of `identity`; `model` is the name of the served model."""
        transcription = {"model": model, "language": None, "prompt": "", **self.transcription}
        include = list(self.include) or None
        if beta:
            return {
                **identity,
                "input_audio_format": next(beta for beta, ga in _BETA_FORMATS.items() if ga == self.format),
                "input_audio_transcription": transcription,
                "input_audio_noise_reduction": None,
                "turn_detection": self.turn_detection,
                "include": include,
            }
        audio_input = {
            "format": {"type": self.format, "rate": self.rate} if self.format == _PCM else {"type": self.format},
            "noise_reduction": None,
            "transcription": transcription,
            "turn_detection": self.turn_detection,
        }
        return {**identity, "type": "transcription", "audio": {"input": audio_input}, "include": include}


# Takes the current configuration, the path of a field and its value; returns the attributes that change.
_Update: TypeAlias = Callable[[RealtimeConfig, str, Any], Mapping[str, Any]]
# Takes the path of a field and its value; returns the value or raises BadOption.
_Check: TypeAlias = Callable[[str, Any], Any]


def _object(path: str, value: Any) -> JSON:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadOption(path, value, "an object")
    return value


def _text(path: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT_LENGTH:
        raise BadOption(path, value, f"a text of at most {_MAX_TEXT_LENGTH} characters")
    return value


def _choice(path: str, value: Any, choices: Collection[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise BadOption(path, value, f"one of {', '.join(choices)}")
    return value


def _language(path: str, value: Any) -> str:
    """An empty text detects the language."""
    if text := _text(path, value):
        Field(path, LANGUAGE_OR_AUTO, "").parse(text)
    return text


def _list(path: str, value: Any, check: _Check) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MAX_LIST_LENGTH:
        raise BadOption(path, value, f"a list of at most {_MAX_LIST_LENGTH} texts")
    return [check(path, item) for item in value]


def _number(path: str, value: Any, low: int, high: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadOption(path, value, f"a number from {low} to {high}")
    return value


def _update_format(config: RealtimeConfig, path: str, value: Any) -> JSON:
    format = _object(path, value)
    type = _choice(f"{path}.type", format.get("type", _PCM), _ENCODINGS)
    default_rate = _PCM_RATE if type == _PCM else _G711_RATE
    rate = _number(f"{path}.rate", format.get("rate") or default_rate, RATES.start, RATES.stop - 1)
    return {"format": type, "rate": int(rate)}


def _update_beta_format(config: RealtimeConfig, path: str, value: Any) -> JSON:
    name = _choice(path, "pcm16" if value is None else value, _BETA_FORMATS)
    return _update_format(config, path, {"type": _BETA_FORMATS[name]})


_TRANSCRIPTION_CHECKS: Mapping[str, _Check] = {
    "model": _text,
    "language": _language,
    "languages": partial(_list, check=_language),
    "prompt": _text,
    "keywords": partial(_list, check=_text),
    "delay": partial(_choice, choices=_DELAYS),
}


def _update_transcription(config: RealtimeConfig, path: str, value: Any) -> JSON:
    """Set the members that are present, reset those that are null, and keep the others."""
    if value is None:
        return {"transcription": {}}
    transcription, updated = _object(path, value), dict(config.transcription)
    for name, check in _TRANSCRIPTION_CHECKS.items():
        if transcription.get(name) is not None:
            updated[name] = check(f"{path}.{name}", transcription[name])
        elif name in transcription:
            updated.pop(name, None)
    return {"transcription": updated}


def _update_turn_detection(config: RealtimeConfig, path: str, value: Any) -> JSON:
    if value is None:
        return {"turn_detection": None}
    values = _object(path, value)
    type = _choice(f"{path}.type", values.get("type", "server_vad"), ("server_vad", "semantic_vad"))
    if type == "semantic_vad":
        eagerness = _choice(f"{path}.eagerness", values.get("eagerness") or "auto", _EAGERNESS_SILENCE)
        return {"turn_detection": {"type": type, "eagerness": eagerness}}
    current = config.turn_detection or {}
    vad = {**_SERVER_VAD, **(current if current.get("type") == type else {})}
    for name, (low, high) in _VAD_BOUNDS.items():
        if values.get(name) is not None:
            vad[name] = _number(f"{path}.{name}", values[name], low, high)
    return {"turn_detection": vad}


_VAD_BOUNDS = {"threshold": (0, 1), "prefix_padding_ms": (0, 60_000), "silence_duration_ms": (0, 60_000)}


def _update_include(config: RealtimeConfig, path: str, value: Any) -> JSON:
    names = _list(path, [] if value is None else value, check=partial(_choice, choices=(LOGPROBS,)))
    return {"include": tuple(dict.fromkeys(names))}


_COMMON_FIELDS: Mapping[str, _Update] = {"include": _update_include}
_GA_FIELDS: Mapping[str, _Update] = {
    "format": _update_format,
    "transcription": _update_transcription,
    "turn_detection": _update_turn_detection,
}
_BETA_FIELDS: Mapping[str, _Update] = {
    "input_audio_format": _update_beta_format,
    "input_audio_transcription": _update_transcription,
    "turn_detection": _update_turn_detection,
}
