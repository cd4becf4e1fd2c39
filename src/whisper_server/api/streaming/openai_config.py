"""What a Realtime transcription session is set to, in OpenAI's two notations: GA's, and the flat one of the beta."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from whisper_server.api.requests.languages import Language
from whisper_server.core.errors import BadOption
from whisper_server.live.pcm_stream import RATES, PCMStreamDecoder
from whisper_server.live.session import SessionOptions

JSON: TypeAlias = Mapping[str, Any]

LOGPROBS = "item.input_audio_transcription.logprobs"
_PCM = "audio/pcm"
_ENCODINGS = {_PCM: "pcm16", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
_BETA_FORMATS = {"pcm16": _PCM, "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_PCM_RATE, _G711_RATE = 24_000, 8_000
_SERVER_VAD: JSON = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
}
# How long a turn's silence is, where the client only says how eager an answer is to be.
_EAGERNESS = {"low": 1500, "medium": 800, "auto": 800, "high": 400}
_SHORTEST_SILENCE, _LONGEST_SILENCE = 100, 10_000
_LONGEST_PREFIX = 1_000
_LONGEST_PROMPT = 20_000
_MOST_KEYWORDS = 100
_DELAYS = ("minimal", "low", "medium", "high", "xhigh")


@dataclass(frozen=True, slots=True)
class Setup:
    """`transcription` and `turn_detection` as clients see them; a `turn_detection` of None leaves turns to them."""

    format: str = _PCM
    rate: int = _PCM_RATE
    transcription: JSON = field(default_factory=dict)
    turn_detection: JSON | None = field(default_factory=lambda: _SERVER_VAD)
    include: tuple[str, ...] = ()

    def changed(self, session: Any) -> Setup:
        """Return it with what a GA session object changes; raises BadOption."""
        asked = _object("session", session)
        if asked.get("type", "transcription") != "transcription":
            raise BadOption("session.type", asked["type"], "transcription: this server does not answer")
        given = _object("session.audio.input", _object("session.audio", asked.get("audio")).get("input"))
        return self._with("session.audio.input.", given, _GA)._with("session.", asked, _COMMON)

    def changed_by_beta(self, session: Any) -> Setup:
        """The same for a session object of the beta."""
        asked = _object("session", session)
        return self._with("session.", asked, _BETA)._with("session.", asked, _COMMON)

    def _with(self, path: str, given: JSON, fields: Mapping[str, _Change]) -> Setup:
        changed = self
        for name, change in fields.items():
            if name in given:
                changed = replace(changed, **change(changed, path + name, given[name]))
        return changed

    def incoming(self) -> PCMStreamDecoder:
        return PCMStreamDecoder(self.rate, _ENCODINGS[self.format])  # type: ignore[arg-type]

    @property
    def bytes_per_second(self) -> int:
        return self.rate * (2 if self.format == _PCM else 1)

    @property
    def options(self) -> SessionOptions:
        asked = self.transcription
        keywords = ", ".join(asked.get("keywords") or ())
        languages = {asked["language"]} if asked.get("language") else {*(asked.get("languages") or ())}
        options = SessionOptions(
            language=Language()(languages.pop()) if len(languages) == 1 else None,
            prompt=" ".join(filter(None, [keywords, asked.get("prompt")])),
            model=asked.get("model") or "",
            endpoint_ms=None,
            partials=False,
        )
        vad = self.turn_detection
        if vad is None:
            return options
        silence = vad["silence_duration_ms"] if vad["type"] == "server_vad" else _EAGERNESS[vad["eagerness"]]
        return replace(
            options,
            endpoint_ms=int(min(max(silence, _SHORTEST_SILENCE), _LONGEST_SILENCE)),
            threshold=min(max(vad.get("threshold", 0.5), 0.05), 0.95),
            prefix_ms=int(min(vad.get("prefix_padding_ms", 300), _LONGEST_PREFIX)),
        )

    def as_ga(self, identity: JSON, *, model: str) -> JSON:
        format = {"type": self.format, "rate": self.rate} if self.format == _PCM else {"type": self.format}
        given = {
            "format": format,
            "noise_reduction": None,
            "transcription": self._transcription(model),
            "turn_detection": self.turn_detection,
        }
        return {**identity, "type": "transcription", "audio": {"input": given}, "include": list(self.include) or None}

    def as_beta(self, identity: JSON, *, model: str) -> JSON:
        return {
            **identity,
            "input_audio_format": next(beta for beta, ga in _BETA_FORMATS.items() if ga == self.format),
            "input_audio_transcription": self._transcription(model),
            "input_audio_noise_reduction": None,
            "turn_detection": self.turn_detection,
            "include": list(self.include) or None,
        }

    def _transcription(self, model: str) -> JSON:
        return {"model": model, "language": None, "prompt": "", **self.transcription}


_Change: TypeAlias = Callable[[Setup, str, Any], Mapping[str, Any]]


def _object(path: str, value: Any) -> JSON:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadOption(path, value, "an object")
    return value


def _choice(path: str, value: Any, allowed: Collection[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise BadOption(path, value, f"one of {', '.join(allowed)}")
    return value


def _format(setup: Setup, path: str, value: Any) -> JSON:
    asked = _object(path, value)
    kind = _choice(f"{path}.type", asked.get("type", _PCM), _ENCODINGS)
    usual = _PCM_RATE if kind == _PCM else _G711_RATE
    rate = _number(f"{path}.rate", asked.get("rate") or usual, RATES.start, RATES.stop - 1)
    return {"format": kind, "rate": int(rate)}


def _beta_format(setup: Setup, path: str, value: Any) -> JSON:
    name = _choice(path, "pcm16" if value is None else value, _BETA_FORMATS)
    return _format(setup, path, {"type": _BETA_FORMATS[name]})


def _transcription(setup: Setup, path: str, value: Any) -> JSON:
    if value is None:
        return {"transcription": {}}
    asked = _object(path, value)
    known = {name: asked[name] for name in _TRANSCRIPTION if asked.get(name) is not None}
    for name, given in known.items():
        _TRANSCRIPTION[name](f"{path}.{name}", given)
    cleared = {name for name in _TRANSCRIPTION if name in asked} - known.keys()
    kept = {name: given for name, given in setup.transcription.items() if name not in cleared}
    return {"transcription": {**kept, **known}}


def _text(path: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > _LONGEST_PROMPT:
        raise BadOption(path, value, f"a text of at most {_LONGEST_PROMPT} characters")


def _language(path: str, value: Any) -> None:
    try:
        Language()(value)
    except (KeyError, AttributeError):
        raise BadOption(path, value, Language().allowed) from None


def _languages(path: str, value: Any) -> None:
    for language in _list(path, value):
        _language(path, language)


def _keywords(path: str, value: Any) -> None:
    for keyword in _list(path, value):
        _text(path, keyword)


def _list(path: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MOST_KEYWORDS:
        raise BadOption(path, value, f"a list of at most {_MOST_KEYWORDS} texts")
    return value


def _delay(path: str, value: Any) -> None:
    _choice(path, value, _DELAYS)


_TRANSCRIPTION: Mapping[str, Callable[[str, Any], None]] = {
    "model": _text,
    "language": _language,
    "languages": _languages,
    "prompt": _text,
    "keywords": _keywords,
    "delay": _delay,
}


def _turn_detection(setup: Setup, path: str, value: Any) -> JSON:
    if value is None:
        return {"turn_detection": None}
    asked = _object(path, value)
    kind = _choice(f"{path}.type", asked.get("type", "server_vad"), ("server_vad", "semantic_vad"))
    if kind == "semantic_vad":
        eagerness = _choice(f"{path}.eagerness", asked.get("eagerness") or "auto", _EAGERNESS)
        return {"turn_detection": {"type": kind, "eagerness": eagerness}}
    before = setup.turn_detection or {}
    vad = {**_SERVER_VAD, **(before if before.get("type") == kind else {})}
    for name, (low, high) in _VAD_BOUNDS.items():
        if asked.get(name) is not None:
            vad[name] = _number(f"{path}.{name}", asked[name], low, high)
    return {"turn_detection": vad}


_VAD_BOUNDS = {
    "threshold": (0, 1),
    "prefix_padding_ms": (0, 60_000),
    "silence_duration_ms": (0, 60_000),
}


def _number(path: str, value: Any, low: int, high: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadOption(path, value, f"a number from {low} to {high}")
    return value


def _include(setup: Setup, path: str, value: Any) -> JSON:
    asked = _list(path, [] if value is None else value)
    for name in asked:
        if name != LOGPROBS:
            raise BadOption(path, name, LOGPROBS)
    return {"include": tuple(dict.fromkeys(asked))}


_COMMON: Mapping[str, _Change] = {"include": _include}
_GA: Mapping[str, _Change] = {
    "format": _format,
    "transcription": _transcription,
    "turn_detection": _turn_detection,
}
_BETA: Mapping[str, _Change] = {
    "input_audio_format": _beta_format,
    "input_audio_transcription": _transcription,
    "turn_detection": _turn_detection,
}
