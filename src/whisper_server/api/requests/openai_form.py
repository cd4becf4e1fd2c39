"""The form fields of OpenAI's audio endpoints, with the options of /recognise as extensions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from whisper_server.api.requests.form_notation import FormFields
from whisper_server.api.requests.options import DECODING, EXECUTION, RENDERING, Field, SubtitleLayout, parse_options
from whisper_server.api.requests.parsers import (
    FLAG,
    LANGUAGE,
    Parser,
    choice,
    integer,
    json_object,
    number,
    one_of,
    text_up_to,
)
from whisper_server.core.errors import BadOption

Task = Literal["transcribe", "translate"]

JSON_FORMATS = ("json", "verbose_json")
_FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_STREAMED_FORMATS = ("json", "text")
# In these formats, the layout options imply word timestamps, as in /recognise.
_SUBTITLE_FORMATS = ("srt", "vtt")

_KEYWORDS = text_up_to(2_000)
_MILLISECONDS = integer(0, 3_600_000)
_SERVER_VAD = json_object(
    {
        "type": one_of("server_vad"),
        "threshold": number(0, 1),
        "prefix_padding_ms": _MILLISECONDS,
        "silence_duration_ms": _MILLISECONDS,
    }
)
_VAD_OPTIONS = {
    "threshold": "threshold",
    "prefix_padding_ms": "speech_pad_ms",
    "silence_duration_ms": "min_silence_duration_ms",
}


def _parse_chunking_strategy(text: str) -> dict[str, Any]:
    """Return keyword arguments of faster-whisper's `transcribe()`."""
    if text.strip().lower() == "auto":
        return {"vad_filter": True}
    options = _SERVER_VAD.parse(text)
    del options["type"]  # raises KeyError if it is missing
    return {"vad_filter": True, "vad_parameters": {_VAD_OPTIONS[name]: value for name, value in options.items()}}


_CHUNKING_STRATEGY = Parser(
    _parse_chunking_strategy,
    f"auto, or {_SERVER_VAD.allowed}",
    {"anyOf": [{"const": "auto"}, _SERVER_VAD.schema]},
)

SINGLE = (
    Field("model", text_up_to(300), "the name of a loaded model, or one of OpenAI's names for the served model"),
    Field("prompt", text_up_to(20_000), "prompt for the first window: spelling, names, style"),
    Field(
        "response_format",
        choice({name: name for name in _FORMATS}, f"one of {', '.join(_FORMATS)}; speakers are not identified"),
        "the format of the response body (json)",
    ),
    Field("stream", FLAG, "json, text: send the text in server-sent events as it is decoded (false)"),
    Field("chunking_strategy", _CHUNKING_STRATEGY, "skip audio in which Silero VAD detects no speech; absent: no VAD"),
)

LISTS = (
    Field("languages", LANGUAGE, "candidate languages; the most probable one is detected"),
    Field("keywords", _KEYWORDS, "words to expect in every window"),
    Field(
        "timestamp_granularities",
        one_of("word", "segment"),
        "verbose_json: include words, segments or both (segment)",
    ),
    Field("include", one_of("logprobs"), "json: add the log probability of every token"),
)

_OPENAI_NAMES = {field.name for field in (*SINGLE, *LISTS)}
# The fields of /recognise that OpenAI's endpoints do not have.
EXTENSIONS = tuple(field for field in (*DECODING, *RENDERING, *EXECUTION) if field.name not in _OPENAI_NAMES)

_UNSUPPORTED = ("known_speaker_names", "known_speaker_references")


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """`decoding` is for faster-whisper's `transcribe()` and `execution` for `RunOptions`; the rest is for the response.

    `segments` adds the segments to `verbose_json`, and `detail` adds them to the events of a stream.
    """

    task: str
    decoding: dict[str, Any]
    execution: dict[str, Any]
    response_format: str
    stream: bool
    segments: bool
    detail: bool
    layout: SubtitleLayout

    @property
    def logprobs(self) -> bool:
        return bool(self.execution["scores"])

    @property
    def words(self) -> bool:
        return bool(self.decoding.get("word_timestamps"))


def parse_openai_form(pairs: Iterable[tuple[str, str]], *, task: Task) -> TranscriptionRequest:
    """Parse the fields of an endpoint in any notation and ignore unknown ones; raises BadOption."""
    fields = FormFields.collect(pairs)
    single = {field.name: field.parse(text) for field in SINGLE if (text := fields.value(field.name)).strip()}
    lists = {field.name: [field.parse(text) for text in fields.items(field.name)] for field in LISTS}
    _check_combinations(fields, single, lists)
    response_format = single.get("response_format", "json")
    extensions = {name: texts[-1] for name, texts in fields.texts.items() if name not in _OPENAI_NAMES}
    if response_format in _SUBTITLE_FORMATS:
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
        execution={
            **options.execution,
            "model": single.get("model", ""),
            "languages": () if "language" in decoding else tuple(dict.fromkeys(lists["languages"])),
            "scores": bool(lists["include"]),
        },
        response_format=response_format,
        stream=single.get("stream", False),
        segments=detail is not False and "segment" in granularities,
        detail=bool(detail),
        layout=SubtitleLayout(**rendering),
    )


def _check_combinations(fields: FormFields, single: dict[str, Any], lists: dict[str, list[Any]]) -> None:
    """Refuse contradictory fields, because ignoring one would return a wrong result."""
    response_format = single.get("response_format", "json")
    for name in _UNSUPPORTED:
        if any(fields.texts.get(name, [])):
            raise BadOption(name, fields.texts[name][-1], "no value: this server does not identify speakers")
    if "word" in lists["timestamp_granularities"] and response_format != "verbose_json":
        raise BadOption("timestamp_granularities", "word", "segment, unless response_format is verbose_json")
    if lists["include"] and response_format != "json":
        raise BadOption("include", "logprobs", "no value, unless response_format is json")
    if single.get("stream") and response_format not in _STREAMED_FORMATS:
        raise BadOption("stream", True, "false, unless response_format is json or text")


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
        del decoding["temperature"]  # OpenAI's 0 means temperature fallback, which is the default here
    if len(set(lists["languages"])) == 1:
        decoding.setdefault("language", lists["languages"][0])
    return decoding
