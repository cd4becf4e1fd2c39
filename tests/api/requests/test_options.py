from __future__ import annotations

import inspect
import json
from contextlib import suppress
from typing import Any

import pytest
from faster_whisper import WhisperModel
from faster_whisper.vad import VadOptions

from whisper_server.api.requests.options import DECODING, RENDERING, Field, parse_options
from whisper_server.core.errors import BadOption

# The arguments of openai-whisper's `transcribe()` and `DecodingOptions` that are about the result.
OPENAI_WHISPER = {
    "language", "task", "temperature", "compression_ratio_threshold", "logprob_threshold", "no_speech_threshold",
    "condition_on_previous_text", "initial_prompt", "word_timestamps", "prepend_punctuations", "append_punctuations",
    "clip_timestamps", "hallucination_silence_threshold", "sample_len", "best_of", "beam_size", "patience",
    "length_penalty", "prefix", "suppress_tokens", "suppress_blank", "without_timestamps", "max_initial_timestamp",
}  # fmt: skip
FIELDS = [pytest.param(field, id=field.name) for field in DECODING + RENDERING]
WORD_LAYOUTS = {"max_line_width": "40", "max_line_count": "2", "max_words_per_line": "5", "highlight_words": "true"}


def _decoding(**texts: str) -> dict[str, Any]:
    return parse_options(texts).decoding


def _refused(allowed: str, **texts: str) -> None:
    with pytest.raises(BadOption, match=allowed):
        parse_options(texts)


@pytest.mark.parametrize("field", FIELDS)
def test_an_invalid_value_is_refused_with_what_is_allowed(field: Field) -> None:
    if "maxLength" in field.parser.schema:
        assert parse_options({field.name: "§"}).decoding == {field.keyword or field.name: "§"}
        return
    with pytest.raises(BadOption) as caught:
        parse_options({field.name: "§"})
    assert str(caught.value) == f"{field.name}: '§' is not allowed; expected {field.parser.allowed}"
    assert caught.value.status == 400


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("text", ["", " "])
def test_empty_value_counts_as_absent(field: Field, text: str) -> None:
    if not field.allow_empty:
        options = parse_options({field.name: text})
        assert (options.decoding, options.rendering) == ({}, {})


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_has_a_summary(field: Field) -> None:
    assert field.summary


def test_no_two_fields_have_the_same_name() -> None:
    names = [field.name for field in DECODING + RENDERING]
    assert len(names) == len(set(names))


def test_every_keyword_is_a_parameter_of_faster_whisper() -> None:
    parameters = set(inspect.signature(WhisperModel.transcribe).parameters)
    assert {field.keyword or field.name for field in DECODING} <= parameters


def test_every_option_of_openai_whisper_is_a_field() -> None:
    assert {field.name for field in DECODING} >= OPENAI_WHISPER


def test_every_member_of_vad_parameters_is_a_field_of_faster_whisper() -> None:
    parser = next(field.parser for field in DECODING if field.name == "vad_parameters")
    members = parser.schema["contentSchema"]["properties"]
    VadOptions(**parser.parse(json.dumps({name: 1 for name in members})))


def test_vad_parameters_are_a_json_object() -> None:
    expected = '{"threshold": 0.4, "min_silence_duration_ms": 500}'
    assert _decoding(vad_parameters=expected) == {"vad_parameters": {"threshold": 0.4, "min_silence_duration_ms": 500}}
    _refused("a JSON object with threshold: a number from 0 to 1", vad_parameters="threshold=0.4")


def test_no_fields_give_no_options() -> None:
    options = parse_options({})
    assert (options.decoding, options.rendering) == ({}, {})


def test_unknown_fields_are_ignored() -> None:
    options = parse_options({"fp16": "x", "verbose": "x", "audio": "x", "log_progress": "1", "self": "x", "": "x"})
    assert (options.decoding, options.rendering) == ({}, {})


@pytest.mark.parametrize("text", ["de", "DE", "german", "German", "de-DE", "de_AT", "deu", "ger", "de-Latn-DE-1996"])
def test_language_is_a_code_a_tag_or_an_english_name(text: str) -> None:
    assert _decoding(language=text) == {"language": "de"}


def test_language_has_the_other_names_of_openai_whisper() -> None:
    assert [_decoding(language=name)["language"] for name in ("Castilian", "haitian creole", "mandarin")] == [
        "es",
        "ht",
        "zh",
    ]


@pytest.mark.parametrize(
    ("text", "code"), [("zh_Hant_TW", "zh"), ("cmn", "zh"), ("fil", "tl"), ("jv", "jw"), ("nb-NO", "no"), ("iw", "he")]
)
def test_other_codes_mean_those_of_whisper(text: str, code: str) -> None:
    assert _decoding(language=text) == {"language": code}


@pytest.mark.parametrize("text", ["auto", "AUTO", "multi"])
def test_language_auto_sets_no_language(text: str) -> None:
    assert _decoding(language=text) == {}


@pytest.mark.parametrize("text", ["xx", "deutsch", "none", "en,de", "en--US", "en-", "-en", "en\n-US", "en-" + "x" * 9])
def test_other_languages_are_refused(text: str) -> None:
    _refused("a language of Whisper by code, tag or English name", language=text)


@pytest.mark.parametrize("text", ["transcribe", "translate"])
def test_task_is_transcribe_or_translate(text: str) -> None:
    assert _decoding(task=text) == {"task": text}
    _refused("one of transcribe, translate", task=text + "d")


@pytest.mark.parametrize(("text", "values"), [("0", [0.0]), ("0,0.2", [0.0, 0.2]), ("1, 0.5", [1.0, 0.5])])
def test_temperature_is_a_number_or_a_list(text: str, values: list[float]) -> None:
    assert _decoding(temperature=text) == {"temperature": values}


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "inf", "0,", "(0,0.2)", ",".join("0" * 17)])
def test_other_temperatures_are_refused(text: str) -> None:
    _refused("a number from 0 to 1", temperature=text)


@pytest.mark.parametrize("text", ["None", "none"])
@pytest.mark.parametrize(
    "name",
    ["compression_ratio_threshold", "log_prob_threshold", "no_speech_threshold", "hallucination_silence_threshold"],
)
def test_none_disables_a_threshold(name: str, text: str) -> None:
    assert _decoding(**{name: text}) == {name: None}


def test_none_as_language_detection_threshold_does_not_reach_faster_whisper() -> None:
    # Its signature says that None is allowed, and then it compares a probability with it.
    with suppress(BadOption):
        assert _decoding(language_detection_threshold="None").get("language_detection_threshold", 0.5) is not None


@pytest.mark.parametrize("name", ["beam_size", "best_of", "patience", "length_penalty"])
def test_none_is_dropped_where_faster_whisper_does_not_accept_it(name: str) -> None:
    assert _decoding(**{name: "None"}) == {}


def test_names_of_openai_whisper_are_translated_to_those_of_faster_whisper() -> None:
    assert _decoding(logprob_threshold="-1", sample_len="10") == {"log_prob_threshold": -1.0, "max_new_tokens": 10}
    assert _decoding(log_prob_threshold="-1", max_new_tokens="10") == {"log_prob_threshold": -1.0, "max_new_tokens": 10}


def test_empty_suppress_tokens_suppress_nothing() -> None:
    assert _decoding(suppress_tokens="") == {"suppress_tokens": []}
    assert _decoding(suppress_tokens="-1") == {"suppress_tokens": [-1]}
    assert _decoding(suppress_tokens="-1, 50") == {"suppress_tokens": [-1, 50]}


@pytest.mark.parametrize("name", ["prepend_punctuations", "append_punctuations"])
def test_empty_punctuations_are_kept(name: str) -> None:
    assert _decoding(**{name: ""}) == {name: ""}


@pytest.mark.parametrize("text", ["true", "1", "True", "yes", "§"])
def test_carry_initial_prompt_is_refused(text: str) -> None:
    _refused("hotwords", carry_initial_prompt=text)


@pytest.mark.parametrize("text", ["false", "False", "0", ""])
def test_carry_initial_prompt_may_be_false(text: str) -> None:
    assert _decoding(carry_initial_prompt=text) == {}


@pytest.mark.parametrize(
    ("text", "values"), [("0", [0]), ("5,10", [5, 10]), ("5,10,20", [5, 10, 20]), ("0,5,5,10", [0, 5, 5, 10])]
)
def test_clips_are_starts_and_ends_in_order(text: str, values: list[float]) -> None:
    assert _decoding(clip_timestamps=text) == {"clip_timestamps": values}


@pytest.mark.parametrize("text", ["10,5", "5,5", "0,5,10,5", "-1,5", "0,nan", "0,inf", "0;5", ","])
def test_clips_that_end_before_they_start_are_refused(text: str) -> None:
    _refused("in seconds|each end after its start", clip_timestamps=text)


@pytest.mark.parametrize("text", ["10,20,0,5", "10,20,0"])
def test_clips_out_of_order_are_refused(text: str) -> None:
    # faster-whisper answers a later clip that starts at 0 with the text of the clip before it.
    _refused("clip_timestamps", clip_timestamps=text)


@pytest.mark.parametrize(("beam_size", "patience"), [("5", "0.1"), ("1", "0.9"), ("3", "0.33")])
def test_patience_below_one_beam_is_refused(beam_size: str, patience: str) -> None:
    _refused("patience: .* at least 1 / beam_size", beam_size=beam_size, patience=patience)


def test_patience_below_one_is_refused_with_the_default_beam_size() -> None:
    _refused("at least 1 / beam_size", patience="0.5")
    assert _decoding(patience="1") == {"patience": 1.0}


@pytest.mark.parametrize(("beam_size", "patience"), [("5", "0.2"), ("10", "0.1"), ("1", "1"), ("16", "10")])
def test_patience_of_one_beam_or_more_is_accepted(beam_size: str, patience: str) -> None:
    expected = {"beam_size": int(beam_size), "patience": float(patience)}
    assert _decoding(beam_size=beam_size, patience=patience) == expected


@pytest.mark.parametrize("response_format", ["srt", "vtt", "SRT"])
@pytest.mark.parametrize("name", WORD_LAYOUTS)
def test_word_layout_of_subtitles_implies_word_timestamps(name: str, response_format: str) -> None:
    options = parse_options({"response_format": response_format, name: WORD_LAYOUTS[name]})
    assert options.decoding == {"word_timestamps": True}
    assert options.rendering.keys() == {"response_format", name}


@pytest.mark.parametrize("response_format", ["json", "text", "tsv", ""])
@pytest.mark.parametrize("name", WORD_LAYOUTS)
def test_word_layout_of_other_formats_does_not_imply_word_timestamps(name: str, response_format: str) -> None:
    assert _decoding(**{"response_format": response_format, name: WORD_LAYOUTS[name]}) == {}


def test_disabled_highlighting_does_not_imply_word_timestamps() -> None:
    assert _decoding(response_format="srt", highlight_words="false") == {}


@pytest.mark.parametrize("text", ["xml", "txt", "verbose_json", "json,srt"])
def test_an_unknown_response_format_is_refused_with_the_list_of_formats(text: str) -> None:
    _refused("one of json, text, srt, vtt, tsv", response_format=text)
