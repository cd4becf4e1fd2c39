"""What a request to OpenAI's audio endpoints may ask for: their fields, and those of /recognise as extensions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from whisper_server.api.requests.form_notation import BracketedFields
from whisper_server.api.requests.options import DECODING, HANDLING, RENDERING, Field, SubtitleLayout, parse_options
from whisper_server.api.requests.parsers import Choice, Flag, Integer, Number, Object, Schema, Text
from whisper_server.core.errors import BadOption
from whisper_server.inference.transcription.languages import language_codes

Task = Literal["transcribe", "translate"]

JSON_FORMATS = ("json", "verbose_json")
_FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_STREAMED_FORMATS = ("json", "text")
# /recognise has its own format of that name, and only those of files decide about words.
_FILE_FORMATS = ("srt", "vtt")

_LANGUAGE = Choice(language_codes(), "a language of Whisper by code or English name (en, english, …)")
_KEYWORDS = Text(2_000)
_MILLISECONDS = Integer(0, 3_600_000)


@dataclass(frozen=True, slots=True)
class _Chunking:
    """Return keyword arguments of faster-whisper's `transcribe()`."""

    server_vad: Object = Object(
        {
            "type": Choice({"server_vad": "server_vad"}),
            "threshold": Number(0, 1),
            "prefix_padding_ms": _MILLISECONDS,
            "silence_duration_ms": _MILLISECONDS,
        }
    )

    @property
    def allowed(self) -> str:
        return f"auto, or {self.server_vad.allowed}"

    def schema(self) -> Schema:
        return {"anyOf": [{"const": "auto"}, self.server_vad.schema()]}

    def __call__(self, text: str) -> dict[str, Any]:
        if text.strip().lower() == "auto":
            return {"vad_filter": True}
        asked = self.server_vad(text)
        del asked["type"]  # and fails without one
        return {"vad_filter": True, "vad_parameters": {_VAD_OPTIONS[name]: value for name, value in asked.items()}}


_VAD_OPTIONS = {
    "threshold": "threshold",
    "prefix_padding_ms": "speech_pad_ms",
    "silence_duration_ms": "min_silence_duration_ms",
}

SINGLE = (
    Field("model", Text(300), "the served model's name, another loaded one's, or one of OpenAI's for the served one"),
    Field("prompt", Text(20_000), "text to come before the first window: spelling, names, style"),
    Field(
        "response_format",
        Choice({name: name for name in _FORMATS}, f"one of {', '.join(_FORMATS)}; speakers are not told apart"),
        "the body (json)",
    ),
    Field("stream", Flag(), "json, text: the text in server-sent events as it is decoded (false)"),
    Field("chunking_strategy", _Chunking(), "leave out what Silero VAD takes for silence; absent: no VAD"),
)

LISTS = (
    Field("languages", _LANGUAGE, "the languages that may be spoken; the likeliest of them is found out"),
    Field("keywords", _KEYWORDS, "words to expect in every window"),
    Field(
        "timestamp_granularities",
        Choice({"word": "word", "segment": "segment"}),
        "verbose_json: words, segments or both (segment)",
    ),
    Field("include", Choice({"logprobs": "logprobs"}), "json: the log probability of every token"),
)

# Those of /recognise that are none of the above, as extensions.
EXTENSIONS = tuple(
    field for field in (*DECODING, *RENDERING, *HANDLING) if field.name not in {own.name for own in (*SINGLE, *LISTS)}
)

_REFUSED = ("known_speaker_names", "known_speaker_references")
_OWN = {field.name for field in (*SINGLE, *LISTS)}


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """`decoding` is for faster-whisper's `transcribe()` and `handling` for the engine; the others are of the answer.

    `detail`: a stream has the segments, not only their texts.
    """

    task: str
    decoding: dict[str, Any]
    handling: dict[str, Any]
    response_format: str
    stream: bool
    segments: bool
    detail: bool
    layout: SubtitleLayout

    @property
    def words(self) -> bool:
        return bool(self.decoding.get("word_timestamps"))


def parse_contract(pairs: Iterable[tuple[str, str]], *, task: Task) -> TranscriptionRequest:
    """Parse the fields of either endpoint, in any notation, and ignore those that are unknown; raises BadOption."""
    fields = BracketedFields.gather(pairs)
    single, lists = _single(fields), _lists(fields)
    _check(fields, single, lists)
    response_format = single.get("response_format", "json")
    extensions = {name: texts[-1] for name, texts in fields.texts.items() if name not in _OWN}
    if response_format in _FILE_FORMATS:
        extensions["response_format"] = response_format
    options = parse_options(extensions)
    rendering = {name: value for name, value in options.rendering.items() if name != "response_format"}
    detail = rendering.pop("detail", None)
    granularities = lists["timestamp_granularities"] or ["segment"]
    decoding = {"task": task, **_decoding(single, lists, options.decoding)}
    if task == "translate":
        decoding["task"] = task
    return TranscriptionRequest(
        task=decoding["task"],
        decoding=decoding,
        handling={**options.handling, **_handling(single, lists, decoding)},
        response_format=response_format,
        stream=single.get("stream", False),
        segments=detail is not False and "segment" in granularities,
        detail=bool(detail),
        layout=SubtitleLayout(**rendering),
    )


def _single(fields: BracketedFields) -> dict[str, Any]:
    texts = [(field, fields.one(field.name)) for field in SINGLE]
    return {field.name: field.parse(text) for field, text in texts if text.strip()}


def _lists(fields: BracketedFields) -> dict[str, list[Any]]:
    return {field.name: [field.parse(text) for text in fields.many(field.name)] for field in LISTS}


def _check(fields: BracketedFields, single: dict[str, Any], lists: dict[str, list[Any]]) -> None:
    """What does not go together; silence about it would be a wrong answer."""
    response_format = single.get("response_format", "json")
    for name in _REFUSED:
        if any(fields.texts.get(name, [])):
            raise BadOption(name, fields.texts[name][-1], "nothing: this server does not tell speakers apart")
    if "word" in lists["timestamp_granularities"] and response_format != "verbose_json":
        raise BadOption("timestamp_granularities", "word", "segment, or response_format=verbose_json beside it")
    if lists["include"] and response_format != "json":
        raise BadOption("include", "logprobs", "nothing, or response_format=json beside it")
    if single.get("stream") and response_format not in _STREAMED_FORMATS:
        raise BadOption("stream", True, "false, or response_format=json or text beside it")


def _decoding(single: dict[str, Any], lists: dict[str, list[Any]], extensions: dict[str, Any]) -> dict[str, Any]:
    decoding = {**single.get("chunking_strategy", {}), **extensions}
    if "prompt" in single:
        decoding["initial_prompt"] = single["prompt"]
    if lists["keywords"]:
        keywords = ", ".join([*filter(None, [decoding.get("hotwords")]), *lists["keywords"]])
        decoding["hotwords"] = Field("keywords", _KEYWORDS, "").parse(keywords)
    if "word" in lists["timestamp_granularities"]:
        decoding["word_timestamps"] = True
    if decoding.get("temperature") == [0.0]:
        del decoding["temperature"]  # OpenAI's 0 climbs the ladder while decoding fails, as the default does
    if len(set(lists["languages"])) == 1:
        decoding.setdefault("language", lists["languages"][0])
    return decoding


def _handling(single: dict[str, Any], lists: dict[str, list[Any]], decoding: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": single.get("model", ""),
        "languages": () if "language" in decoding else tuple(dict.fromkeys(lists["languages"])),
        "scores": bool(lists["include"]),
    }
