"""Any sequence of frames, right or wrong: a session answers each command or ends with an error, never with 1011."""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias

import hypothesis
from hypothesis import strategies as st
from scripted import scripted
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

Frame: TypeAlias = "str | bytes"

# Longer with `HYPOTHESIS_EXAMPLES=2000 python -m pytest tests/api/streaming`.
EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "25"))
CLOSE_CODES = (1000, 1003, 1007, 1008)

seconds = st.sampled_from([0.0, 0.0001, 0.05, 0.2, 1.0, 3.0])
sound = st.builds(lambda length, odd: bytes(2 * int(16_000 * length)) + b"\1" * odd, seconds, st.booleans())
scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
value = st.recursive(scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner))
garbage = st.binary(max_size=9) | st.text(max_size=30) | value.map(json.dumps)


def commands(*types: str) -> st.SearchStrategy[Frame]:
    return st.sampled_from([json.dumps({"type": type}) for type in types])


def sequences(*frames: st.SearchStrategy[Frame], rubbish: st.SearchStrategy[Frame]) -> st.SearchStrategy[list[Frame]]:
    """Half of the sequences have only right frames, as a wrong one ends many sessions."""
    right = st.one_of(*frames)
    return st.lists(right, max_size=25) | st.lists(right | rubbish, max_size=25)


def examples(test: Any) -> Any:
    return hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 25)(test)


def send(websocket: WebSocketTestSession, frames: Iterable[Frame]) -> None:
    for frame in frames:
        if isinstance(frame, str):
            websocket.send_text(frame)
        else:
            websocket.send_bytes(frame)


def received(websocket: WebSocketTestSession) -> tuple[list[dict[str, Any]], int]:
    """Return all messages until the server closes, and the code with which it does."""
    messages: list[dict[str, Any]] = []
    try:
        while True:
            messages.append(websocket.receive_json())
    except WebSocketDisconnect as closed:
        return messages, closed.code


@examples
@hypothesis.given(sequences(sound, commands("flush", "clear"), rubbish=garbage))
def test_the_protocol_of_this_server(frames: list[Frame]) -> None:
    with scripted() as (client, _), client.websocket_connect("/v1/stream?rate=16000") as websocket:
        send(websocket, [*frames, '{"type": "end"}'])
        messages, code = received(websocket)
    types = [message["type"] for message in messages]
    assert code in CLOSE_CODES and types[0] == "ready"
    assert (types[-1], code == 1000) in (("end", True), ("error", False)), (types, code)
    assert types.count("end") + types.count("error") == 1
    if types[-1] == "end" and b"" not in frames:  # an empty frame ends the stream
        flushed = [message for message in messages if message["type"] == "final" and message["flushed"]]
        assert len(flushed) == frames.count('{"type": "flush"}')


@examples
@hypothesis.given(sequences(sound, commands("Finalize", "KeepAlive", "Configure"), rubbish=garbage))
def test_deepgrams_protocol(frames: list[Frame]) -> None:
    url = "/v1/listen?encoding=linear16&sample_rate=16000&interim_results=true&vad_events=true&utterance_end_ms=1000"
    with scripted() as (client, _), client.websocket_connect(url) as websocket:
        send(websocket, [*frames, '{"type": "CloseStream"}'])
        messages, code = received(websocket)
    types = Counter(message["type"] for message in messages)
    assert code in CLOSE_CODES
    assert messages[-1]["type"] == ("Metadata" if code == 1000 else "Error")
    assert types["Metadata"] + types["Error"] == 1
    if b"" not in frames and code == 1000:
        assert types["ConfigureFailure"] == frames.count('{"type": "Configure"}')
        finalized = [message for message in messages if message.get("from_finalize")]
        assert len(finalized) == frames.count('{"type": "Finalize"}')


def append(samples: bytes) -> str:
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(samples).decode()})


EVENTS = ("input_audio_buffer.commit", "input_audio_buffer.clear")
SESSION = {"type": "transcription", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
BY_CLIENT = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
updates = st.sampled_from([json.dumps({"type": "session.update", "session": one}) for one in (SESSION, BY_CLIENT)])
wrong_event = st.fixed_dictionaries(
    {"type": st.sampled_from([*EVENTS, "input_audio_buffer.append", "session.update", "conversation.item.delete", ""])},
    optional={"audio": value, "session": value, "event_id": value},
).map(json.dumps)


@examples
@hypothesis.given(sequences(sound.map(append), commands(*EVENTS), updates, rubbish=garbage | wrong_event))
def test_openais_protocol(frames: list[Frame]) -> None:
    """A wrong event is answered by an error, and the session goes on."""
    with scripted() as (client, _), client.websocket_connect("/v1/realtime?intent=transcription") as websocket:
        send(websocket, [*frames, '{"type": "the last one", "event_id": "last"}'])
        messages: list[dict[str, Any]] = []
        while not messages or messages[-1].get("error", {}).get("event_id") != "last":
            messages.append(websocket.receive_json())
    types = Counter(message["type"] for message in messages)
    assert messages[0]["type"] == "session.created"
    assert len({message["event_id"] for message in messages}) == len(messages)
    clears = frames.count('{"type": "input_audio_buffer.clear"}')
    assert clears <= types["input_audio_buffer.cleared"] <= clears + sum("clear" in str(frame) for frame in frames)
    assert types["session.updated"] + types["error"] >= sum('"session.update"' in str(frame) for frame in frames)
