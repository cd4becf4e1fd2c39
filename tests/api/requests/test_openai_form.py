from __future__ import annotations

from typing import Any

import pytest

from whisper_server.api.requests.openai_form import LISTS, SINGLE, TranscriptionRequest, parse_openai_form
from whisper_server.api.requests.options import DECODING, EXECUTION, Field
from whisper_server.core.errors import BadOption


def parse(*pairs: tuple[str, str], **texts: str) -> TranscriptionRequest:
    return parse_openai_form([*pairs, *texts.items()], task="transcribe")


def decoding(*pairs: tuple[str, str], **texts: str) -> dict[str, Any]:
    return {name: value for name, value in parse(*pairs, **texts).decoding.items() if name != "task"}


def test_an_empty_form_has_the_defaults_of_recognise() -> None:
    request = parse()
    assert request.decoding == {"task": "transcribe"}
    assert request.execution == {"model": "", "languages": (), "scores": False}
    assert (request.response_format, request.stream, request.segments, request.words) == ("json", False, True, False)


@pytest.mark.parametrize("field", [*SINGLE, *LISTS], ids=lambda field: field.name)
def test_an_empty_value_counts_as_absent(field: Field) -> None:
    assert parse((field.name, "")) == parse((field.name, " ")) == parse((f"{field.name}[]", "")) == parse()


@pytest.mark.parametrize(
    ("texts", "keywords"),
    [
        ({"prompt": "Names"}, {"initial_prompt": "Names"}),
        ({"language": "de"}, {"language": "de"}),
        ({"languages": "de"}, {"language": "de"}),
        ({"languages": "de,german"}, {"language": "de"}),
        ({"languages": "de", "language": "en"}, {"language": "en"}),
        ({"keywords": "tea,stove"}, {"hotwords": "tea, stove"}),
        ({"keywords": "tea", "hotwords": "kettle"}, {"hotwords": "kettle, tea"}),
        ({"temperature": "0"}, {}),
        ({"temperature": "0.4"}, {"temperature": [0.4]}),
        ({"timestamp_granularities": "word", "response_format": "verbose_json"}, {"word_timestamps": True}),
        ({"chunking_strategy": "auto"}, {"vad_filter": True}),
        ({"chunking_strategy": '{"type": "server_vad"}'}, {"vad_filter": True, "vad_parameters": {}}),
        ({"max_words_per_line": "3", "response_format": "srt"}, {"word_timestamps": True}),
        ({"max_words_per_line": "3", "response_format": "json"}, {}),
        ({"beam_size": "5", "vad_filter": "true"}, {"beam_size": 5, "vad_filter": True}),
        ({"sample_len": "9"}, {"max_new_tokens": 9}),
        ({"unknown": "x", "unknown[]": "y"}, {}),
    ],
)
def test_fields_become_keywords_of_faster_whisper(texts: dict[str, str], keywords: dict[str, Any]) -> None:
    assert decoding(**texts) == keywords


def test_an_object_in_brackets_is_parsed_as_json() -> None:
    members = {"type": "server_vad", "threshold": "0.4", "prefix_padding_ms": "200", "silence_duration_ms": "700"}
    request = decoding(*((f"chunking_strategy[{name}]", text) for name, text in members.items()))
    json = '{"type": "server_vad", "threshold": 0.4, "prefix_padding_ms": 200, "silence_duration_ms": 700}'
    assert request == decoding(chunking_strategy=json)
    parameters = {"threshold": 0.4, "speech_pad_ms": 200, "min_silence_duration_ms": 700}
    assert request == {"vad_filter": True, "vad_parameters": parameters}


def test_several_languages_are_candidates() -> None:
    request = parse(("languages[]", "de"), ("languages[]", "english"), ("languages[]", "de"))
    assert request.execution["languages"] == ("de", "en")
    assert "language" not in request.decoding


@pytest.mark.parametrize(
    "field", [f for f in (*DECODING, *EXECUTION) if f.name not in ("task", "language", "temperature")]
)
def test_every_option_of_recognise_is_an_extension(field: Field) -> None:
    with pytest.raises(BadOption, match=field.name):
        parse((field.name, "§" * 30_000))


@pytest.mark.parametrize(
    ("texts", "field", "allowed"),
    [
        ({"response_format": "diarized_json"}, "response_format", "speakers"),
        ({"response_format": "tsv"}, "response_format", "one of json, text, srt, verbose_json, vtt"),
        ({"known_speaker_names": "A"}, "known_speaker_names", "speakers"),
        ({"known_speaker_references[]": "data:audio/wav;base64,"}, "known_speaker_references", "speakers"),
        ({"timestamp_granularities": "word"}, "timestamp_granularities", "response_format is verbose_json"),
        ({"timestamp_granularities": "letter"}, "timestamp_granularities", "one of word, segment"),
        ({"include": "logprobs", "response_format": "text"}, "include", "response_format is json"),
        ({"include": "speakers"}, "include", "one of logprobs"),
        ({"stream": "true", "response_format": "srt"}, "stream", "response_format is json or text"),
        ({"stream": "maybe"}, "stream", "true or false"),
        ({"temperature": "1.1"}, "temperature", "from 0 to 1"),
        ({"language": "xx"}, "language", "a language of Whisper"),
        ({"languages": "en,xx"}, "languages", "a language of Whisper"),
        ({"chunking_strategy": "manual"}, "chunking_strategy", "auto, or a JSON object"),
        ({"chunking_strategy": "{}"}, "chunking_strategy", "auto"),
        ({"chunking_strategy": '{"type": "semantic_vad"}'}, "chunking_strategy", "one of server_vad"),
        ({"chunking_strategy": '{"type": "server_vad", "threshold": 2}'}, "chunking_strategy", "from 0 to 1"),
        ({"chunking_strategy[threshold]": "0.5"}, "chunking_strategy", "auto"),
        ({"keywords": "tea," * 1000}, "keywords", "at most 2000 characters"),
        ({"model": "m" * 301}, "model", "at most 300 characters"),
    ],
)
def test_a_refusal_names_the_field(texts: dict[str, str], field: str, allowed: str) -> None:
    with pytest.raises(BadOption, match=allowed) as caught:
        parse(**texts)
    assert caught.value.param == field


@pytest.mark.parametrize(
    ("granularities", "segments", "words"),
    [([], True, False), (["segment"], True, False), (["word"], False, True), (["word", "segment"], True, True)],
)
def test_granularities_select_segments_and_words(granularities: list[str], segments: bool, words: bool) -> None:
    pairs = [("timestamp_granularities[]", text) for text in granularities]
    request = parse(("response_format", "verbose_json"), *pairs)
    assert (request.segments, request.words) == (segments, words)


def test_translations_ignore_the_field_task() -> None:
    request = parse_openai_form([("task", "transcribe")], task="translate")
    assert (request.task, request.decoding["task"]) == ("translate", "translate")
    assert parse(task="translate").task == "translate"
