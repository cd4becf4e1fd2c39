from __future__ import annotations

from typing import Any

import pytest

from whisper_server.api.wyoming.transcribe_options import parse_transcribe


@pytest.mark.parametrize(
    ("data", "model", "decoding"),
    [
        ({}, "", {}),
        ({"name": None, "language": None, "context": {"id": 1}, "vad_sensitivity": "default"}, "", {}),
        ({"name": "base", "language": "de"}, "base", {"language": "de"}),
        ({"language": "de-CH"}, "", {"language": "de"}),
        ({"language": "German"}, "", {"language": "de"}),
        ({"language": "auto"}, "", {}),
        ({"language": " "}, "", {}),
        (
            {"transcript_names": ["Anna", "Küche"], "transcript_terms": ["dimmer"]},
            "",
            {"initial_prompt": "dimmer, Anna, Küche"},
        ),
    ],
)
def test_options(data: dict[str, Any], model: str, decoding: dict[str, Any]) -> None:
    options = parse_transcribe(data)
    assert (options.model, options.decoding) == (model, decoding)


def test_of_too_many_words_the_names_are_kept() -> None:
    prompt = parse_transcribe({"transcript_terms": ["term"] * 9_000, "transcript_names": ["Anna"]}).decoding
    assert prompt["initial_prompt"].endswith("term, Anna")
    assert 1_900 < len(prompt["initial_prompt"]) <= 2_000
