from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from whisper_server.api.requests.openai_form import parse_openai_form
from whisper_server.api.responses.openai_sse import TranscriptEvents
from whisper_server.api.sse import sse
from whisper_server.inference.transcription.segments import Segment
from whisper_server.inference.transcription.sequential import Transcript


def segment(text: str) -> Segment:
    return Segment(0, 0.0, 1.0, text, [1, 2], -0.1, 1.0, 0.0, 0.0)


def events_of(texts: list[str], *fields: tuple[str, str]) -> list[dict[str, Any]]:
    frames: list[bytes] = []

    async def write(chunk: bytes) -> None:
        frames.append(chunk)

    async def run() -> None:
        events = TranscriptEvents(parse_openai_form(fields, task="transcribe"), write)
        segments = [segment(text) for text in texts]
        for one in segments:
            await events.segment(one)
        await events.end(Transcript(segments, "en", 1.5, prompt_tokens=3))

    anyio.run(run)
    return [json.loads(written.decode().removeprefix("data: ")) for written in frames]


@pytest.mark.parametrize("texts", [[" One.", " Two."], [" ", " One. ", " ", "Two.\n "], [" a\n\nb", "\n"], ["  "], []])
def test_the_deltas_concatenate_to_the_text(texts: list[str]) -> None:
    *deltas, done = events_of(texts)
    assert {event["type"] for event in deltas} <= {"transcript.text.delta"}
    assert "".join(event["delta"] for event in deltas) == done["text"] == "".join(texts).strip()
    assert all(event["delta"] for event in deltas)


def test_detail_adds_segments_to_the_events() -> None:
    assert not any("segment" in event for event in events_of([" One.", " Two."]))
    details = [event["segment"] for event in events_of([" One.", " ", " Two."], ("detail", "true"))[:-1]]
    assert [(one["id"], one["start"], one["text"]) for one in details] == [(0, 0.0, " One."), (1, 0.0, " Two.")]


def test_the_final_event_counts_tokens() -> None:
    assert events_of([" One.", " Two."])[-1]["usage"] == {
        "type": "tokens",
        "input_tokens": 78,
        "input_token_details": {"audio_tokens": 75, "text_tokens": 3},
        "output_tokens": 4,
        "total_tokens": 82,
    }


def test_a_frame_is_one_line_of_json() -> None:
    assert sse({"delta": "a\nb\r\n\u2028é"}).count(b"\n") == 2
