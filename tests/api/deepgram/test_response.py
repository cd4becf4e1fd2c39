from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from scripted import word
from starlette.datastructures import QueryParams

from whisper_server.api.deepgram.file_options import parse_file_request
from whisper_server.api.deepgram.response import AboutRequest, transcription
from whisper_server.inference.transcription.segments import Segment, Word
from whisper_server.inference.transcription.sequential import Transcript

ABOUT = AboutRequest("r1", "abc", datetime(2026, 1, 2, 3, 4, 5, 678_900, timezone.utc), "tiny")
FIRST = (word(" So,", 0.1), word(" yes.", 0.5), word(" Well?", 1.05), word(" “No.”", 3.5))


def transcript(*words: Word, language: str = "en", probability: float | None = 0.9) -> Transcript:
    segment = Segment(0, 0.0, 9.0, "", [], -0.2, 1.0, 0.1, 0.0, list(words))
    return Transcript([segment], language, 9.0, language_probability=probability)


def body(query: str, *transcripts: Transcript) -> dict[str, Any]:
    rendering = parse_file_request(QueryParams(query)).rendering
    return transcription(transcripts or (transcript(*FIRST),), rendering, ABOUT)


def test_a_response_has_metadata_and_words() -> None:
    response = body("tag=a&tag=b&extra=k:v:w&extra=n&search=x&diarize=true")
    metadata = response["metadata"]
    (uuid,) = metadata.pop("models")
    assert metadata.pop("model_info")[uuid]["name"] == "tiny"
    warnings = metadata.pop("warnings")
    assert metadata == {
        "transaction_key": "deprecated",
        "request_id": "r1",
        "sha256": "abc",
        "created": "2026-01-02T03:04:05.678Z",
        "duration": 9.0,
        "channels": 1,
        "tags": ["a", "b"],
        "extra": {"k": "v:w", "n": ""},
    }
    assert [(warning["parameter"], warning["type"]) for warning in warnings] == [
        ("diarize", "unsupported_model"),
        ("search", "unsupported_model"),
    ]
    (channel,) = response["results"]["channels"]
    assert (channel["detected_language"], channel["language_confidence"]) == ("en", 0.9)
    (alternative,) = channel["alternatives"]
    assert (alternative["transcript"], alternative["confidence"]) == ("So, yes. Well? “No.”", 0.9)
    assert [w["word"] for w in alternative["words"]] == ["so", "yes", "well", "no"]
    assert [w["punctuated_word"] for w in alternative["words"]] == ["So,", "yes.", "Well?", "“No.”"]
    assert set(response["results"]) == {"channels"} and set(alternative) == {"transcript", "confidence", "words"}


def test_a_language_that_was_given_is_not_a_detected_one() -> None:
    (channel,) = body("language=en-US")["results"]["channels"]
    assert "detected_language" not in channel
    (channel,) = body("language=de&detect_language=true", transcript(probability=None))["results"]["channels"]
    assert channel["detected_language"] == "en" and "language_confidence" not in channel


def test_multilingual_results_name_the_language() -> None:
    results = body("language=multi&utterances=true")["results"]
    for part in (results["channels"][0]["alternatives"][0], *results["utterances"]):
        assert part["languages"] == ["en"]
        assert {w["language"] for w in part["words"]} == {"en"}


def test_paragraphs_end_at_pauses_between_sentences() -> None:
    for query in ("paragraphs=true", "smart_format=true"):
        paragraphs = body(query)["results"]["channels"][0]["alternatives"][0]["paragraphs"]
        assert paragraphs["transcript"] == "\nSo, yes. Well?\n\n“No.”"
        first, second = paragraphs["paragraphs"]
        assert (first["start"], first["end"], first["num_words"], second["num_words"]) == (0.1, 1.25, 3, 1)
        assert first["sentences"] == [
            {"text": "So, yes.", "start": 0.1, "end": 0.7},
            {"text": "Well?", "start": 1.05, "end": 1.25},
        ]


def test_a_paragraph_has_at_most_five_sentences() -> None:
    words = [word(f" {number}.", number / 2) for number in range(12)]
    paragraphs = body("paragraphs=1", transcript(*words))["results"]["channels"][0]["alternatives"][0]["paragraphs"]
    assert [len(paragraph["sentences"]) for paragraph in paragraphs["paragraphs"]] == [5, 5, 2]


def test_utterances_are_split_at_silence_and_sorted_over_the_channels() -> None:
    second = transcript(word(" Hm.", 2.0))
    utterances = body("utterances=true", transcript(*FIRST), second)["results"]["utterances"]
    assert [(u["channel"], u["start"], u["end"], u["transcript"]) for u in utterances] == [
        (0, 0.1, 1.25, "So, yes. Well?"),
        (1, 2.0, 2.2, "Hm."),
        (0, 3.5, 3.7, "“No.”"),
    ]
    assert len({u["id"] for u in utterances}) == 3
    finer = body("utterances=true&utt_split=0.3")["results"]["utterances"]
    assert [u["transcript"] for u in finer] == ["So, yes.", "Well?", "“No.”"]


def test_silence_has_an_empty_transcript() -> None:
    empty = replace(transcript(), segments=[])
    results = body("paragraphs=true&utterances=true&language=multi", empty)["results"]
    (alternative,) = results["channels"][0]["alternatives"]
    assert (alternative["transcript"], alternative["confidence"], alternative["words"]) == ("", 0.0, [])
    assert alternative["paragraphs"] == {"transcript": "\n", "paragraphs": []}
    assert results["utterances"] == []
