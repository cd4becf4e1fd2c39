from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from faster_whisper import decode_audio

from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.request_context import RequestContext
from whisper_server.inference.transcription.segments import Segment, TokenScore
from whisper_server.inference.transcription.sequential import Transcript, transcribe
from whisper_server.inference.transcription.token_scores import count_tokens


def scored(models: ModelManager, audio: Path, clip: str, **options: object) -> list[Segment]:
    samples = decode_audio(str(audio / f"{clip}.flac"))
    transcript: Transcript = transcribe(models.current.whisper_for(RequestContext()), samples, options, scores=True)
    assert transcript.segments
    return transcript.segments


@pytest.mark.parametrize(
    ("clip", "options"),
    [
        pytest.param("long", {}, marks=pytest.mark.full),
        ("sentences", {"beam_size": 3}),
        ("short", {"prefix": "The kettle"}),
        ("short", {"temperature": [0.8]}),
        ("sentences", {"log_prob_threshold": 0.0, "temperature": [0.0, 0.2, 0.4]}),
        ("sentences", {"vad_filter": True, "without_timestamps": True}),
    ],
)
def test_the_bytes_of_the_tokens_are_the_text(
    models: ModelManager, audio: Path, clip: str, options: dict[str, object]
) -> None:
    for segment in scored(models, audio, clip, **options):
        assert b"".join(score.content for score in segment.scores or ()) == segment.text.encode()
        assert all(-88 < score.log_probability <= 0 for score in segment.scores or ())


def test_a_word_is_as_likely_as_its_tokens(models: ModelManager, audio: Path) -> None:
    for segment in scored(models, audio, "sentences", word_timestamps=True, append_punctuations=""):
        left = list(segment.scores or ())
        for word in segment.words or ():
            tokens = [left.pop(0)]
            while b"".join(token.content for token in tokens) != word.text.encode():
                tokens.append(left.pop(0))
            mean = np.mean([math.exp(token.log_probability) for token in tokens])
            assert mean == pytest.approx(word.probability, rel=0.02)


def test_a_part_of_a_character_has_its_bytes() -> None:
    assert TokenScore(b"\xc3", -1.0).text == "\ufffd"


def test_tokens_are_counted_as_prompts_are_encoded(models: ModelManager) -> None:
    whisper = models.current.whisper
    assert [count_tokens(whisper, text) for text in ("", " ", "kettle", "a kettle")] == [0, 0, 1, 2]
