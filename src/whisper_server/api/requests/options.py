"""What a request may ask for: one table of fields, parsed from the query and the form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from whisper_server.api.requests.parsers import (
    REFUSALS,
    Checked,
    Choice,
    Flag,
    Integer,
    List,
    Number,
    Object,
    Optional,
    Parser,
    Text,
)
from whisper_server.core.errors import BadOption
from whisper_server.core.settings import Settings
from whisper_server.engine.run_options import EncoderWindow, RunOptions
from whisper_server.inference.transcription.languages import language_codes

RESPONSE_FORMATS = ("json", "text", "srt", "vtt", "tsv")


@dataclass(frozen=True, slots=True)
class Field:
    """A form field. `keyword` is its name in faster-whisper's `transcribe()`, where that is another.

    An empty value counts as absent, as HTML forms and scripts send it, unless `empty` says that it means something.
    """

    name: str
    parser: Parser
    summary: str
    keyword: str = ""
    empty: bool = False

    def parse(self, text: str) -> Any:
        try:
            return self.parser(text)
        except REFUSALS:
            raise BadOption(self.name, text, self.parser.allowed) from None


_MILLISECONDS = Integer(0, 3_600_000)
_VAD = Object(
    {
        "threshold": Number(0, 1),
        "neg_threshold": Number(0, 1),
        "min_speech_duration_ms": _MILLISECONDS,
        "max_speech_duration_s": Number(1, 86_400),
        "min_silence_duration_ms": _MILLISECONDS,
        "speech_pad_ms": _MILLISECONDS,
    }
)
_LANGUAGE = Choice(
    {"auto": None, **language_codes()},
    "a language of Whisper by code or English name (en, english, …), or auto",
)
_CLIPS = Checked(
    List(Number(0, 360_000), 1000),
    lambda clips: clips == sorted(clips) and all(a < b for a, b in zip(clips[::2], clips[1::2], strict=False)),
    "in seconds and ascending order, each end after its start",
)

# In the order of openai-whisper's `transcribe()` and `DecodingOptions`, then what faster-whisper adds.
DECODING = (
    Field("language", _LANGUAGE, "the language spoken; found out in the first 30 s if absent"),
    Field("task", Choice({"transcribe": "transcribe", "translate": "translate"}), "translate is into English"),
    Field("temperature", List(Number(0, 1), 16), "one, or a ladder to climb while decoding fails (0,0.2,…,1)"),
    Field("compression_ratio_threshold", Optional(Number(0, 1000)), "a window above it failed (2.4)"),
    Field("logprob_threshold", Optional(Number(-1000, 0)), "a window below it failed (-1)", "log_prob_threshold"),
    Field("log_prob_threshold", Optional(Number(-1000, 0)), "faster-whisper's name for logprob_threshold"),
    Field("no_speech_threshold", Optional(Number(0, 1)), "above it a failed window counts as silence (0.6)"),
    Field("condition_on_previous_text", Flag(), "give each window the text before it (true)"),
    Field("initial_prompt", Text(20_000), "text to come before the first window: spelling, names, style"),
    Field("word_timestamps", Flag(), "add words with start, end and probability (false)"),
    Field("prepend_punctuations", Text(200), "marks that belong to the next word", empty=True),
    Field("append_punctuations", Text(200), "marks that belong to the word before", empty=True),
    Field("clip_timestamps", _CLIPS, "start,end,start,end,… in seconds: the only parts to transcribe"),
    Field("hallucination_silence_threshold", Optional(Number(0, 3600)), "skip longer silences around odd words"),
    Field("beam_size", Optional(Integer(1, 16)), "beams at temperature 0 (1: greedy)"),
    Field("best_of", Optional(Integer(1, 16)), "samples above temperature 0 (1)"),
    Field("patience", Optional(Number(0.1, 10)), "beam search patience (1)"),
    Field("length_penalty", Optional(Number(0, 2)), "exponent of the length that divides a score (1)"),
    Field("sample_len", Integer(1, 224), "the most tokens in a window", "max_new_tokens"),
    Field("max_new_tokens", Integer(1, 224), "faster-whisper's name for sample_len"),
    Field("prefix", Text(2_000), "text that the first window starts with"),
    Field("suppress_tokens", List(Integer(-1, 100_000), 1000), "token ids; -1: openai-whisper's set (-1)", empty=True),
    Field("suppress_blank", Flag(), "no blank at the start (true)"),
    Field("without_timestamps", Flag(), "text tokens only: a segment is a window (false)"),
    Field("max_initial_timestamp", Number(0, 30), "the latest start of a window's first segment, in seconds (1)"),
    Field("repetition_penalty", Number(0.1, 10), "above 1 punishes repeated tokens (1)"),
    Field("no_repeat_ngram_size", Integer(0, 100), "no sequence of so many tokens comes twice (0: off)"),
    Field("prompt_reset_on_temperature", Number(0, 1), "above it the next window gets no text (0.5)"),
    Field("hotwords", Text(2_000), "words to expect in every window"),
    Field("multilingual", Flag(), "find out the language of every window (false)"),
    Field("language_detection_threshold", Number(0, 1), "how sure the first window must be (0.5)"),
    Field("language_detection_segments", Integer(1, 100), "how many windows may be asked (1)"),
    Field("vad_filter", Flag(), "leave out what Silero VAD takes for silence (false)"),
    Field("vad_parameters", _VAD, "JSON for Silero VAD"),
)  # fmt: skip

RENDERING = (
    Field(
        "response_format",
        Choice({name: name for name in RESPONSE_FORMATS}),
        "json, or a file of another kind",
    ),
    Field("detail", Flag(), "false leaves the segments out of the JSON"),
    Field("max_line_width", Integer(1, 10_000), "srt, vtt: characters in a line; implies word_timestamps"),
    Field("max_line_count", Integer(1, 1_000), "srt, vtt: lines in a cue; implies word_timestamps"),
    Field("max_words_per_line", Integer(1, 1_000), "srt, vtt: words in a cue; implies word_timestamps"),
    Field("highlight_words", Flag(), "srt, vtt: underline each word as it is spoken; implies word_timestamps"),
)

HANDLING = (
    Field("encoder_window", Choice({"full": "full", "adaptive": "adaptive"}), "adaptive is faster for short clips"),
    Field(
        "mode",
        Choice({"sequential": "sequential", "batched": "batched"}),
        "batched is faster for long files, with short windows unless encoder_window is given",
    ),
    Field("timeout", Number(0.1, 10_000_000), "seconds that the server may work on it; then it is a 504"),
    Field("keep_alive", Number(-1, 10_000_000), "seconds that the model stays after it; 0: none, -1: for ever"),
)

# What these ask for cannot be had, and silence about it would be a wrong answer.
_REFUSED = (
    Field(
        "carry_initial_prompt",
        Choice(
            {"false": False, "0": False},
            "false: faster-whisper cannot carry the prompt, but hotwords do the same",
        ),
        "only false",
    ),
)


def run_options(handling: Mapping[str, Any], settings: Settings) -> RunOptions:
    """Return the fields of a request over the server's defaults."""
    window = default_window(handling, settings)
    return RunOptions(**{"encoder_window": window, "timeout": settings.request_timeout, **handling})


def default_window(handling: Mapping[str, Any], settings: Settings) -> EncoderWindow:
    """Return the `encoder_window` of a request that names none: chunks are short and gain most by a short window."""
    return "adaptive" if handling.get("mode") == "batched" else settings.encoder_window


_WORD_LAYOUT = ("max_line_width", "max_line_count", "max_words_per_line", "highlight_words")


@dataclass(frozen=True, slots=True)
class SubtitleLayout:
    """How words fill the cues of subtitles; without any of these, a cue is a segment. Widths are in characters."""

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    highlight_words: bool = False

    @property
    def keeps_segments(self) -> bool:
        return self.max_line_count is None or self.max_line_width is None


@dataclass(frozen=True, slots=True)
class Options:
    """`decoding` are keyword arguments of faster-whisper's `transcribe()`; the others are by the fields' names."""

    decoding: dict[str, Any] = field(default_factory=dict)
    rendering: dict[str, Any] = field(default_factory=dict)
    handling: dict[str, Any] = field(default_factory=dict)


def parse_options(texts: Mapping[str, str]) -> Options:
    """Parse the fields that are known and ignore the rest; raises BadOption."""
    parse_fields(_REFUSED, texts)
    decoding = parse_fields(DECODING, texts)
    rendering = parse_fields(RENDERING, texts)
    if any(rendering.get(name) for name in _WORD_LAYOUT) and rendering.get("response_format") in (
        "srt",
        "vtt",
    ):
        decoding["word_timestamps"] = True
    return Options(_as_faster_whisper_takes_them(decoding), rendering, parse_fields(HANDLING, texts))


def parse_fields(fields: Iterable[Field], texts: Mapping[str, str]) -> dict[str, Any]:
    """Parse those that are given, by keyword or name; raises BadOption."""
    return {
        f.keyword or f.name: f.parse(texts[f.name])
        for f in fields
        if f.name in texts and (texts[f.name].strip() or f.empty)
    }


def _as_faster_whisper_takes_them(decoding: dict[str, Any]) -> dict[str, Any]:
    """openai-whisper's None means its default here, and an empty list of clips is the whole file."""
    for name in ("beam_size", "best_of", "patience", "length_penalty", "language"):
        if name in decoding and decoding[name] is None:
            del decoding[name]
    if decoding.get("beam_size", 1) * decoding.get("patience", 1) < 1:
        raise BadOption("patience", decoding["patience"], "at least 1 / beam_size")
    return decoding
