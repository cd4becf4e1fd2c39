"""`WS /v1/realtime` over scripted sessions: the messages for OpenAI's clients and their order, and every refusal."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from api.routes.test_stream import refusal, remaining_messages
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from recorder import pcm16
from scripted import UTTERANCE, Script, scripted, word
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession

from whisper_server.core.errors import EngineFailed
from whisper_server.live.events import Final, SpeechStarted, SpeechStopped, Update

URL = "/v1/realtime?intent=transcription"
SECOND = b64encode(pcm16(np.zeros(24_000, np.float32))).decode()
BETA = {"openai-beta": "realtime=v1"}
MANUAL = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
GA: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
TRANSCRIPTION = "conversation.item.input_audio_transcription"


def append(websocket: WebSocketTestSession, *audio: str) -> None:
    for base64 in audio:
        websocket.send_json({"type": "input_audio_buffer.append", "audio": base64})


def until(websocket: WebSocketTestSession, kind: str, *, checked: bool = True) -> list[dict[str, Any]]:
    """Return the messages up to the first of that type; each must be valid for OpenAI's SDK if `checked`."""
    messages: list[dict[str, Any]] = []
    while not messages or messages[-1]["type"] != kind:
        messages.append(websocket.receive_json())
        assert messages[-1]["event_id"].startswith("event_")
        if checked:
            GA.validate_python(messages[-1], strict=True)
    return messages


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


def updated(websocket: WebSocketTestSession, session: dict[str, Any], *, checked: bool = True) -> dict[str, Any]:
    websocket.send_json({"type": "session.update", "session": session})
    session_json: dict[str, Any] = until(websocket, "session.updated", checked=checked)[-1]["session"]
    return session_json


def test_the_server_detects_a_turn() -> None:
    with scripted() as (client, _), client.websocket_connect(URL) as websocket:
        append(websocket, SECOND, SECOND)
        messages = until(websocket, f"{TRANSCRIPTION}.completed")
    assert kinds(messages) == [
        "session.created",
        "input_audio_buffer.speech_started",
        f"{TRANSCRIPTION}.delta",
        f"{TRANSCRIPTION}.delta",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        f"{TRANSCRIPTION}.delta",
        f"{TRANSCRIPTION}.completed",
    ]
    item = messages[1]["item_id"]
    assert {message["item_id"] for message in messages if "item_id" in message} == {item}
    assert messages[6]["item"]["id"] == item
    assert (messages[1]["audio_start_ms"], messages[4]["audio_end_ms"]) == (100, 1400)
    deltas = [message["delta"] for message in messages if message["type"].endswith("delta")]
    assert deltas == ["The", " kettle is", " on."]
    completed = messages[-1]
    assert completed["transcript"] == "".join(deltas)
    assert completed["usage"] == {"type": "duration", "seconds": 1.3}
    assert completed["languages"] == [{"code": "en"}]
    assert "logprobs" not in completed


def test_items_name_the_previous_item() -> None:
    second = (
        (2.5, SpeechStarted(2.1)),
        (2.9, SpeechStopped(2.6)),
        (2.9, Final(1, (word(" Yes.", 2.2),), 2.1, 2.6, 2.9, "en", False)),
    )
    with scripted(Script((*UTTERANCE, *second))) as (client, _), client.websocket_connect(URL) as websocket:
        append(websocket, SECOND, SECOND, SECOND)
        committed = [until(websocket, "input_audio_buffer.committed")[-1] for _ in range(2)]
        texts = [until(websocket, f"{TRANSCRIPTION}.completed")[-1]["transcript"]]
    assert committed[0]["previous_item_id"] is None
    assert committed[1]["previous_item_id"] == committed[0]["item_id"] != committed[1]["item_id"]
    assert texts == ["Yes."]


def test_a_session_begins_with_its_defaults() -> None:
    with scripted() as (client, session_factory), client.websocket_connect(URL) as websocket:
        session = websocket.receive_json()["session"]
    assert session.pop("id").startswith("sess_") and session.pop("expires_at") > 1.7e9
    vad = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500}
    assert session == {
        "object": "realtime.transcription_session",
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24_000},
                "noise_reduction": None,
                "transcription": {"model": "tiny.en", "language": None, "prompt": ""},
                "turn_detection": vad,
            }
        },
        "include": None,
    }
    options = session_factory.sessions[0].options
    assert (options.endpoint_ms, options.threshold, options.prefix_ms, options.partials) == (500, 0.5, 300, False)


def test_an_update_keeps_absent_fields() -> None:
    transcription = {"model": "gpt-4o-transcribe", "language": "de", "prompt": "Tee.", "keywords": ["Kessel"]}
    vad = {"type": "server_vad", "silence_duration_ms": 700, "threshold": 0.4}
    with scripted() as (client, session_factory), client.websocket_connect(URL) as websocket:
        audio_input = {"transcription": transcription, "noise_reduction": {"type": "near_field"}}
        updated(websocket, {"type": "transcription", "audio": {"input": audio_input}})
        updated(websocket, {"audio": {"input": {"turn_detection": vad}}})
        session = updated(websocket, {"audio": {"input": {"transcription": {"language": None}}}})
    options = session_factory.sessions[-1].options
    assert (options.model, options.language, options.prompt) == ("gpt-4o-transcribe", None, "Kessel Tee.")
    assert (options.endpoint_ms, options.threshold, options.prefix_ms) == (700, 0.4, 300)
    assert session["audio"]["input"]["transcription"]["prompt"] == "Tee."
    assert session["audio"]["input"]["turn_detection"]["prefix_padding_ms"] == 300
    previous = session_factory.sessions[:-1]
    assert [session.commands for session in previous] == [["end"]] * len(previous)
    assert all(session.left.is_set() for session in session_factory.sessions)


@pytest.mark.parametrize(("eagerness", "silence"), [("low", 1500), ("auto", 800), (None, 800), ("high", 400)])
def test_the_eagerness_of_semantic_vad_sets_the_silence(eagerness: str | None, silence: int) -> None:
    with scripted() as (client, session_factory), client.websocket_connect(URL) as websocket:
        vad = {"type": "semantic_vad", "eagerness": eagerness}
        updated(websocket, {"type": "transcription", "audio": {"input": {"turn_detection": vad}}})
    assert session_factory.sessions[-1].options.endpoint_ms == silence


def test_the_client_commits_a_turn() -> None:
    script = Script(((0.5, Update(0, (word(" Yes,", 0.1),), (), 0.5)),), final=(word(" Yes,", 0.1), word(" tea.", 0.4)))
    scripts = (Script(()), script)
    with scripted(*scripts) as (client, session_factory), client.websocket_connect(URL) as websocket:
        updated(websocket, MANUAL)
        append(websocket, SECOND)
        websocket.send_json({"type": "input_audio_buffer.commit"})
        messages = until(websocket, f"{TRANSCRIPTION}.completed")
    assert session_factory.sessions[1].options.endpoint_ms is None
    assert sorted(kinds(messages)) == sorted(
        [
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            f"{TRANSCRIPTION}.delta",
            f"{TRANSCRIPTION}.delta",
            f"{TRANSCRIPTION}.completed",
        ]
    )
    assert len({message["item_id"] for message in messages if "item_id" in message}) == 1
    assert [message["delta"] for message in messages if message["type"].endswith("delta")] == ["Yes,", " tea."]
    assert messages[-1]["transcript"] == "Yes, tea."
    assert messages[-1]["usage"]["seconds"] == pytest.approx(1)


def test_a_silent_turn_has_an_empty_transcript() -> None:
    with scripted(Script(())) as (client, _), client.websocket_connect(URL) as websocket:
        updated(websocket, MANUAL)
        for _ in range(2):
            append(websocket, SECOND)
            websocket.send_json({"type": "input_audio_buffer.commit"})
            assert until(websocket, f"{TRANSCRIPTION}.completed")[-1]["transcript"] == ""


def test_the_client_can_commit_while_the_server_detects_turns() -> None:
    with (
        scripted(Script((), final=(word(" Yes.", 0.1),))) as (client, _),
        client.websocket_connect(URL) as websocket,
    ):
        append(websocket, SECOND)
        websocket.send_json({"type": "input_audio_buffer.commit"})
        messages = until(websocket, f"{TRANSCRIPTION}.completed")
    assert kinds(messages)[1:] == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        f"{TRANSCRIPTION}.delta",
        f"{TRANSCRIPTION}.completed",
    ]


def test_clear_is_confirmed_and_discards_the_audio() -> None:
    with scripted(Script(())) as (client, session_factory), client.websocket_connect(URL) as websocket:
        updated(websocket, MANUAL)
        append(websocket, SECOND)
        websocket.send_json({"type": "input_audio_buffer.clear"})
        until(websocket, "input_audio_buffer.cleared")
        websocket.send_json({"type": "input_audio_buffer.commit", "event_id": "mine"})
        error = until(websocket, "error")[-1]["error"]
    assert session_factory.sessions[-1].commands == ["clear"]
    assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "mine")


@pytest.mark.parametrize(
    ("format", "audio", "duration"),
    [
        ({"type": "audio/pcmu"}, b"\xff" * 8_000, 1),
        ({"type": "audio/pcma"}, b"\xd5" * 8_000, 1),
        ({"type": "audio/pcm", "rate": 24_000}, bytes(48_000), 1),
        ({"type": "audio/pcm", "rate": 16_000}, bytes(48_000), 1.5),
    ],
)
def test_every_audio_format_is_decoded(format: dict[str, Any], audio: bytes, duration: float) -> None:
    with scripted(Script(())) as (client, session_factory), client.websocket_connect(URL) as websocket:
        audio_input = {"format": format, "turn_detection": None}
        session = updated(websocket, {"audio": {"input": audio_input}}, checked=format.get("rate") != 16_000)
        assert session["audio"]["input"]["format"] == format
        append(websocket, b64encode(audio).decode())
        websocket.send_json({"type": "input_audio_buffer.commit"})
        usage = until(websocket, f"{TRANSCRIPTION}.completed")[-1]["usage"]
    assert usage["seconds"] == pytest.approx(duration)


def test_logprobs_are_sent_on_request() -> None:
    with scripted() as (client, _), client.websocket_connect(URL) as websocket:
        updated(websocket, {"type": "transcription", "include": ["item.input_audio_transcription.logprobs"]})
        append(websocket, SECOND, SECOND)
        messages = until(websocket, f"{TRANSCRIPTION}.completed")
    first = {"token": " The", "logprob": -0.1054, "bytes": list(b" The")}
    assert messages[1]["logprobs"] == [first]
    assert len(messages[-1]["logprobs"]) == 4


def test_times_continue_after_a_change_of_options() -> None:
    with scripted(Script(()), Script()) as (client, _), client.websocket_connect(URL) as websocket:
        append(websocket, SECOND)
        updated(websocket, {"audio": {"input": {"transcription": {"prompt": "Tea"}}}})
        append(websocket, SECOND)
        started = until(websocket, "input_audio_buffer.speech_started")[-1]
    assert started["audio_start_ms"] == pytest.approx(1100, abs=2)


def test_the_beta_api_has_its_own_message_shapes() -> None:
    flat = {
        "input_audio_format": "pcm16",
        "input_audio_transcription": {"model": "whisper-1", "language": "en"},
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 400},
        "modalities": ["text"],
        "client_secret": None,
    }
    with scripted() as (client, session_factory), client.websocket_connect(URL, headers=BETA) as websocket:
        created = websocket.receive_json()
        assert (created["type"], created["session"]["input_audio_format"]) == ("transcription_session.created", "pcm16")
        websocket.send_json({"type": "transcription_session.update", "session": flat})
        session = until(websocket, "transcription_session.updated", checked=False)[-1]["session"]
        append(websocket, SECOND, SECOND)
        messages = until(websocket, f"{TRANSCRIPTION}.completed", checked=False)
    assert session["input_audio_transcription"] == {"model": "whisper-1", "language": "en", "prompt": ""}
    assert session["turn_detection"]["silence_duration_ms"] == 400
    assert "conversation.item.created" in kinds(messages) and "conversation.item.added" not in kinds(messages)
    assert session_factory.sessions[-1].options.endpoint_ms == 400


@pytest.mark.parametrize("beta_format", ["g711_ulaw", "g711_alaw"])
def test_the_beta_api_accepts_its_audio_formats(beta_format: str) -> None:
    with scripted(Script(())) as (client, session_factory), client.websocket_connect(URL, headers=BETA) as websocket:
        session = {"input_audio_format": beta_format}
        websocket.send_json({"type": "transcription_session.update", "session": session})
        assert (
            until(websocket, "transcription_session.updated", checked=False)[-1]["session"]["input_audio_format"]
            == beta_format
        )
        append(websocket, b64encode(b"\xd5" * 800).decode())
        websocket.send_json({"type": "input_audio_buffer.commit"})
        until(websocket, f"{TRANSCRIPTION}.completed", checked=False)
    assert session_factory.sessions[-1].seconds == pytest.approx(0.1, abs=0.01)


INVALID_MESSAGES: list[tuple[Any, str | None]] = [
    ({"type": "session.update", "session": {"type": "realtime"}}, "session.type"),
    ({"type": "session.update", "session": []}, "session"),
    ({"type": "session.update", "session": {"audio": {"input": 1}}}, "session.audio.input"),
    ({"type": "session.update", "session": {"include": ["x"]}}, "session.include"),
    ({"type": "response.create"}, "type"),
    ({"type": "input_audio_buffer.append", "audio": "not base64"}, "audio"),
    ({"type": "input_audio_buffer.append", "audio": 1}, "audio"),
    ({"type": "input_audio_buffer.append"}, "audio"),
    ({"type": "input_audio_buffer.commit"}, None),
    ([], None),
    ({}, None),
    ({"type": ["a"]}, None),
    *(
        ({"type": "session.update", "session": {"audio": {"input": {name: value}}}}, f"session.audio.input.{param}")
        for name, value, param in [
            ("format", {"type": "audio/opus"}, "format.type"),
            ("format", {"type": []}, "format.type"),
            ("format", {"rate": 1}, "format.rate"),
            ("transcription", 1, "transcription"),
            ("transcription", {"language": "xx"}, "transcription.language"),
            ("transcription", {"language": 1}, "transcription.language"),
            ("transcription", {"languages": "en"}, "transcription.languages"),
            ("transcription", {"prompt": "x" * 20_001}, "transcription.prompt"),
            ("transcription", {"keywords": [1]}, "transcription.keywords"),
            ("transcription", {"delay": "some"}, "transcription.delay"),
            ("turn_detection", {"type": "ears"}, "turn_detection.type"),
            ("turn_detection", {"type": "semantic_vad", "eagerness": "very"}, "turn_detection.eagerness"),
            ("turn_detection", {"threshold": 2}, "turn_detection.threshold"),
            ("turn_detection", {"silence_duration_ms": True}, "turn_detection.silence_duration_ms"),
            ("turn_detection", {"prefix_padding_ms": "1"}, "turn_detection.prefix_padding_ms"),
        ]
    ),
]


@pytest.mark.parametrize(("message", "param"), INVALID_MESSAGES, ids=str)
def test_an_invalid_message_is_answered_by_an_error_and_the_session_continues(message: Any, param: str | None) -> None:
    with scripted() as (client, _), client.websocket_connect(URL) as websocket:
        websocket.send_text(json.dumps(message))
        error = until(websocket, "error")[-1]["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
        append(websocket, SECOND, SECOND)
        assert until(websocket, f"{TRANSCRIPTION}.completed")[-1]["transcript"] == "The kettle is on."


def test_an_unknown_model_leaves_the_session_as_it_was() -> None:
    with scripted() as (client, session_factory), client.websocket_connect(URL) as websocket:
        audio_input = {"transcription": {"model": "huge"}}
        websocket.send_json({"type": "session.update", "session": {"audio": {"input": audio_input}}})
        error = until(websocket, "error")[-1]["error"]
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        append(websocket, SECOND, SECOND)
        until(websocket, f"{TRANSCRIPTION}.completed")
    assert len(session_factory.sessions) == 1


def test_a_binary_frame_is_an_error() -> None:
    with scripted() as (client, _), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(bytes(100))
        assert "base64" in until(websocket, "error")[-1]["error"]["message"]


def test_a_failure_of_the_model_ends_the_session() -> None:
    with scripted(Script(fails=EngineFailed("crashed"))) as (client, _), client.websocket_connect(URL) as websocket:
        append(websocket, SECOND)
        messages, code, _ = remaining_messages(websocket)
    assert (messages[-1]["error"]["message"], messages[-1]["error"]["type"], code) == ("crashed", "server_error", 1011)


def test_the_query_selects_the_model() -> None:
    with scripted() as (client, session_factory):
        for model in ("gpt-realtime", "gpt-4o-realtime-preview", "tiny.en"):
            with client.websocket_connect(f"/v1/realtime?model={model}") as websocket:
                assert websocket.receive_json()["type"] == "session.created"
        assert [session.options.model for session in session_factory.sessions] == [
            "gpt-realtime",
            "gpt-4o-realtime-preview",
            "tiny.en",
        ]
        assert refusal(client, "/v1/realtime?model=huge")[0] == 404


def test_the_realtime_subprotocol_is_accepted() -> None:
    with (
        scripted() as (client, _),
        client.websocket_connect(URL, subprotocols=["realtime", "openai-insecure-api-key.x"]) as websocket,
    ):
        assert websocket.accepted_subprotocol == "realtime"


def guarded(client_with: Callable[..., TestClient]) -> TestClient:
    return client_with(api_key=("a-secret-of-the-tests",))


def test_a_client_secret_opens_a_session_with_its_configuration(client_with: Callable[..., TestClient]) -> None:
    client = guarded(client_with)
    bearer = {"authorization": "Bearer a-secret-of-the-tests"}
    session = {"type": "transcription", "audio": {"input": {"transcription": {"prompt": "Tea"}}}}
    body = {"session": session, "expires_after": {"anchor": "created_at", "seconds": 60}}
    response = client.post("/v1/realtime/client_secrets", json=body, headers=bearer).json()
    assert response["session"]["audio"]["input"]["transcription"]["prompt"] == "Tea"
    subprotocols = ["realtime", f"openai-insecure-api-key.{response['value']}"]
    with client.websocket_connect("/v1/realtime", subprotocols=subprotocols) as websocket:
        created = websocket.receive_json()["session"]
    assert created["audio"]["input"]["transcription"]["prompt"] == "Tea"
    for wrong in ("ek_x", response["value"][:-1], response["value"] + "x", "ek_" + "\udcff"):
        headers = {"authorization": f"Bearer {wrong}".encode(errors="surrogateescape")}
        with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/v1/realtime", headers=headers):
            pass
    value = {"authorization": f"Bearer {response['value']}"}
    assert client.post("/v1/realtime/client_secrets", headers=value).status_code == 401


def test_a_client_secret_of_the_beta_api_opens_a_session(client_with: Callable[..., TestClient]) -> None:
    client = guarded(client_with)
    body = {"input_audio_format": "g711_ulaw", "client_secret": {"expires_at": {"anchor": "created_at", "seconds": 60}}}
    headers = {"authorization": "Bearer a-secret-of-the-tests"}
    response = client.post("/v1/realtime/transcription_sessions", json=body, headers=headers).json()
    assert response["input_audio_format"] == "g711_ulaw"
    secret = {"authorization": f"Bearer {response['client_secret']['value']}"}
    with client.websocket_connect("/v1/realtime", headers={**secret, **BETA}) as websocket:
        assert websocket.receive_json()["session"]["input_audio_format"] == "g711_ulaw"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 400),
        (b"{", 400),
        (b'{"session": {"type": "realtime"}}', 400),
        (b'{"session": {"audio": {"input": {"transcription": {"model": "huge"}}}}}', 404),
        (b'{"expires_after": {"seconds": 5}}', 400),
        (b'{"expires_after": {"seconds": "60"}}', 400),
        (b" " * 20_000, 413),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_invalid_session_gets_no_client_secret(body: bytes, status: int) -> None:
    with scripted() as (client, _):
        assert client.post("/v1/realtime/client_secrets", content=body).status_code == status


def test_a_page_of_another_origin_cannot_open_a_websocket(client_with: Callable[..., TestClient]) -> None:
    client = client_with()
    for path in ("/v1/realtime", "/v1/stream", "/v1/listen"):
        with pytest.raises(WebSocketDenialResponse) as caught:
            client.websocket_connect(path, headers={"origin": "https://evil.example"}).__enter__()
        assert caught.value.status_code == 403
    allowed = client_with(allow_origin=("https://good.example",), max_sessions=0)
    with pytest.raises(WebSocketDenialResponse) as caught:
        allowed.websocket_connect("/v1/stream", headers={"origin": "https://good.example"}).__enter__()
    assert caught.value.status_code == 503


def test_an_untrusted_host_name_cannot_open_a_websocket(client_with: Callable[..., TestClient]) -> None:
    with pytest.raises(WebSocketDenialResponse) as caught:
        client_with().websocket_connect("/v1/stream", headers={"host": "evil.example"}).__enter__()
    assert caught.value.status_code == 421
