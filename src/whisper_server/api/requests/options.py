"""The options of a transcription request: a table of fields, parsed from the query and the form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from whisper_server.api.requests.parsers import (
    FLAG,
    LANGUAGE_OR_AUTO,
    PARSE_ERRORS,
    Parser,
    checked,
    choice,
    integer,
    json_object,
    list_of,
    number,
    one_of,
    or_none,
    text_up_to,
)
from whisper_server.core.errors import BadOption
from whisper_server.core.settings import Settings
from whisper_server.engine.transcriber import EncoderWindow, RunOptions

RESPONSE_FORMATS = ("json", "text", "srt", "vtt", "tsv")


@dataclass(frozen=True, slots=True)
class Field:
    """A form field. `keyword` is the name of the parameter that takes its value, if that differs.

    HTML forms send an empty value for a field that was not filled in, so an empty value counts as absent unless
    `allow_empty` is set.
    """

    name: str
    parser: Parser
    summary: str
    keyword: str = ""
    allow_empty: bool = False

    def parse(self, text: str) -> Any:
        """Raises BadOption."""
        try:
            return self.parser.parse(text)
        except PARSE_ERRORS:
            raise BadOption(self.name, text, self.parser.allowed) from None


_MILLISECONDS = integer(0, 3_600_000)
# The settings of Silero VAD, by faster-whisper's names.
VAD_PARAMETERS = {
    "threshold": number(0, 1),
    "neg_threshold": number(0, 1),
    "min_speech_duration_ms": _MILLISECONDS,
    "max_speech_duration_s": number(1, 86_400),
    "min_silence_duration_ms": _MILLISECONDS,
    "speech_pad_ms": _MILLISECONDS,
}
_CLIPS = checked(
    list_of(number(0, 360_000), 1000),
    lambda clips: clips == sorted(clips) and all(a < b for a, b in zip(clips[::2], clips[1::2], strict=False)),
    "in seconds, in ascending order, each end after its start",
)

# In the order of openai-whisper's `transcribe()` and `DecodingOptions`, then what faster-whisper adds.
DECODING = (
    Field("language", LANGUAGE_OR_AUTO, "the language spoken; detected in the first 30 s if absent"),
    Field("task", one_of("transcribe", "translate"), "translate: translate the speech to English (transcribe)"),
    Field("temperature", list_of(number(0, 1), 16), "one, or a list to try in order while decoding fails (0,0.2,…,1)"),
    Field("compression_ratio_threshold", or_none(number(0, 1000)), "decoding failed above this ratio (2.4)"),
    Field(
        "logprob_threshold",
        or_none(number(-1000, 0)),
        "decoding failed below this average log probability (-1)",
        "log_prob_threshold",
    ),
    Field("log_prob_threshold", or_none(number(-1000, 0)), "faster-whisper's name for logprob_threshold"),
    Field("no_speech_threshold", or_none(number(0, 1)), "above it, a window whose decoding failed is silent (0.6)"),
    Field("condition_on_previous_text", FLAG, "prompt each window with the text before it (true)"),
    Field("initial_prompt", text_up_to(20_000), "prompt for the first window: spelling, names, style"),
    Field("word_timestamps", FLAG, "add words with start, end and probability (false)"),
    Field("prepend_punctuations", text_up_to(200), "punctuation to attach to the next word", allow_empty=True),
    Field("append_punctuations", text_up_to(200), "punctuation to attach to the previous word", allow_empty=True),
    Field("clip_timestamps", _CLIPS, "start,end,start,end,… in seconds: transcribe only these parts"),
    Field(
        "hallucination_silence_threshold",
        or_none(number(0, 3600)),
        "skip silences longer than this, in seconds, around probable hallucinations",
    ),
    Field("beam_size", or_none(integer(1, 16)), "beams at temperature 0 (1, which is greedy)"),
    Field("best_of", or_none(integer(1, 16)), "candidates at temperatures above 0 (1)"),
    Field("patience", or_none(number(0.1, 10)), "beam search patience (1)"),
    Field("length_penalty", or_none(number(0, 2)), "scores are divided by the length to this power (1)"),
    Field("sample_len", integer(1, 224), "maximum number of tokens in a window", "max_new_tokens"),
    Field("max_new_tokens", integer(1, 224), "faster-whisper's name for sample_len"),
    Field("prefix", text_up_to(2_000), "text that the first window begins with"),
    Field(
        "suppress_tokens",
        list_of(integer(-1, 100_000), 1000),
        "token ids to suppress; -1: openai-whisper's set (-1)",
        allow_empty=True,
    ),
    Field("suppress_blank", FLAG, "suppress blanks at the start of a window (true)"),
    Field("without_timestamps", FLAG, "sample only text tokens; each window becomes one segment (false)"),
    Field("max_initial_timestamp", number(0, 30), "latest start of a window's first segment, in seconds (1)"),
    Field("repetition_penalty", number(0.1, 10), "penalty on repeated tokens; 1 is none (1)"),
    Field("no_repeat_ngram_size", integer(0, 100), "no sequence of this many tokens may repeat; 0 is off (0)"),
    Field("prompt_reset_on_temperature", number(0, 1), "above it, the next window is not prompted with the text (0.5)"),
    Field("hotwords", text_up_to(2_000), "words to expect in every window"),
    Field("multilingual", FLAG, "detect the language of each window (false)"),
    Field("language_detection_threshold", number(0, 1), "probability at which detection stops (0.5)"),
    Field("language_detection_segments", integer(1, 100), "maximum number of windows for detection (1)"),
    Field("vad_filter", FLAG, "skip audio in which Silero VAD detects no speech (false)"),
    Field("vad_parameters", json_object(VAD_PARAMETERS), "settings of Silero VAD, as JSON"),
)

RENDERING = (
    Field("response_format", one_of(*RESPONSE_FORMATS), "json, or a plain file (json)"),
    Field("detail", FLAG, "false omits the segments from the JSON"),
    Field("max_line_width", integer(1, 10_000), "srt, vtt: characters per line; implies word_timestamps"),
    Field("max_line_count", integer(1, 1_000), "srt, vtt: lines per cue; implies word_timestamps"),
    Field("max_words_per_line", integer(1, 1_000), "srt, vtt: words per cue; implies word_timestamps"),
    Field("highlight_words", FLAG, "srt, vtt: underline each word as it is spoken; implies word_timestamps"),
)

EXECUTION = (
    Field("encoder_window", one_of("full", "adaptive"), "adaptive is faster for short clips"),
    Field(
        "mode",
        one_of("sequential", "batched"),
        "batched is faster for long files; it implies adaptive windows unless encoder_window is set",
    ),
    Field("timeout", number(0.1, 10_000_000), "maximum processing time in seconds; after it, the response is a 504"),
    Field("keep_alive", number(-1, 10_000_000), "seconds for which the model stays loaded afterwards; -1: forever"),
)

# Options that cannot be honoured. Ignoring them would return a wrong result.
_UNSUPPORTED = (
    Field(
        "carry_initial_prompt",
        choice({"false": False, "0": False}, "false: faster-whisper does not support it; use hotwords instead"),
        "only false is supported",
    ),
)


def run_options(execution: Mapping[str, Any], settings: Settings) -> RunOptions:
    """Return the execution options of a request with the server's defaults for those that are absent."""
    window = default_window(execution, settings)
    return RunOptions(**{"encoder_window": window, "timeout": settings.request_timeout, **execution})


def default_window(execution: Mapping[str, Any], settings: Settings) -> EncoderWindow:
    """Return the `encoder_window` of a request that sets none. In batched mode, chunks are short."""
    return "adaptive" if execution.get("mode") == "batched" else settings.encoder_window


_WORD_LAYOUT = ("max_line_width", "max_line_count", "max_words_per_line", "highlight_words")


@dataclass(frozen=True, slots=True)
class SubtitleLayout:
    """How words fill subtitle cues; if nothing is set, each segment is a cue. Widths are in characters."""

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    highlight_words: bool = False

    @property
    def keeps_segments(self) -> bool:
        return self.max_line_count is None or self.max_line_width is None


@dataclass(frozen=True, slots=True)
class Options:
    """The options that were set: `decoding` for faster-whisper's `transcribe()`, `execution` for `RunOptions`."""

    decoding: dict[str, Any] = field(default_factory=dict)
    rendering: dict[str, Any] = field(default_factory=dict)
    execution: dict[str, Any] = field(default_factory=dict)


def parse_options(texts: Mapping[str, str]) -> Options:
    """Parse the known fields and ignore all others; raises BadOption."""
    parse_fields(_UNSUPPORTED, texts)
    decoding = parse_fields(DECODING, texts)
    rendering = parse_fields(RENDERING, texts)
    if rendering.get("response_format") in ("srt", "vtt") and any(rendering.get(name) for name in _WORD_LAYOUT):
        decoding["word_timestamps"] = True
    return Options(to_faster_whisper(decoding), rendering, parse_fields(EXECUTION, texts))


def parse_fields(fields: Iterable[Field], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of the fields that are present, by keyword or name; raises BadOption."""
    return {
        f.keyword or f.name: f.parse(texts[f.name])
        for f in fields
        if f.name in texts and (texts[f.name].strip() or f.allow_empty)
    }


def to_faster_whisper(decoding: dict[str, Any]) -> dict[str, Any]:
    """Drop options that are None, openai-whisper's notation for the default, if faster-whisper does not accept it."""
    for name in ("beam_size", "best_of", "patience", "length_penalty", "language"):
        if name in decoding and decoding[name] is None:
            del decoding[name]
    if decoding.get("beam_size", 1) * decoding.get("patience", 1) < 1:
        raise BadOption("patience", decoding["patience"], "at least 1 / beam_size")
    return decoding
