"""`/v1/stream` over scripted sessions: the order of messages, and every refusal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from recorder import pcm16, wav, wav_header
from scripted import Script, scripted, word
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from whisper_server.core.errors import EngineFailed
from whisper_server.live.events import Lag, Update
from whisper_server.live.session_limits import SessionLimits

SECOND = pcm16(np.zeros(16_000, np.float32))
URL = "/v1/stream"
MESSAGES: list[dict[str, Any]] = [
    {"type": "ready", "model": "tiny.en", "rate": 16_000},
    {"type": "speech", "t": 0.1},
    {"type": "partial", "utt": 0, "confirmed": "The", "pending": " kettle", "audio": 0.9},
    {"type": "partial", "utt": 0, "confirmed": "The kettle is", "pending": " of", "audio": 1.3},
    {
        "type": "final",
        "utt": 0,
        "text": "The kettle is on.",
        "start": 0.1,
        "end": 1.4,
        "audio": 1.9,
        "language": "en",
        "flushed": False,
    },
]


def remaining_messages(websocket: WebSocketTestSession) -> tuple[list[dict[str, Any]], int, str]:
    """Return all messages until the end, the close code and its reason."""
    messages = []
    while True:
        try:
            messages.append(websocket.receive_json())
        except WebSocketDisconnect as closed:
            return messages, closed.code, closed.reason


def refusal(client: TestClient, url: str) -> tuple[int, dict[str, Any], str | None]:
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect(url):
        pass
    response = caught.value
    return response.status_code, response.json()["error"], response.headers.get("retry-after")


def test_messages_follow_the_audio_in_order() -> None:
    with scripted() as (client, _), client.websocket_connect(URL) as websocket:
        for start in range(0, len(SECOND) * 2, 3_001):
            websocket.send_bytes((SECOND * 2)[start : start + 3_001])
        websocket.send_json({"type": "end"})
        assert remaining_messages(websocket) == ([*MESSAGES, {"type": "end", "audio": 2.0}], 1000, "")


def test_an_empty_frame_ends_the_session() -> None:
    with scripted() as (client, _), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(b"")
        assert remaining_messages(websocket) == ([MESSAGES[0], {"type": "end", "audio": 0.0}], 1000, "")


@pytest.mark.parametrize("sent", [wav(SECOND * 2, size=0), wav_header(size=0xFFFFFFFF) + SECOND * 2])
def test_a_streamed_wav_is_transcribed(sent: bytes) -> None:
    with scripted() as (client, session_factory), client.websocket_connect(URL) as websocket:
        for start in range(0, len(sent), 1000):
            websocket.send_bytes(sent[start : start + 1000])
        websocket.send_bytes(b"")
        assert remaining_messages(websocket)[0] == [*MESSAGES, {"type": "end", "audio": 2.0}]
        assert session_factory.sessions[0].left.is_set()


def test_options_reach_the_session() -> None:
    query = (
        "language=German&prompt=Kettle&model=whisper-1&endpoint_ms=none&threshold=0.4&prefix_ms=0&rate=8000&interim=0"
    )
    with scripted() as (client, session_factory), client.websocket_connect(f"{URL}?{query}") as websocket:
        websocket.send_bytes(SECOND)
        websocket.send_bytes(b"")
        messages = remaining_messages(websocket)[0]
    options = session_factory.sessions[0].options
    assert (options.language, options.prompt, options.model) == ("de", "Kettle", "whisper-1")
    assert (options.endpoint_ms, options.threshold, options.prefix_ms, options.partials) == (None, 0.4, 0, False)
    assert [message["type"] for message in messages] == ["ready", "speech", "final", "end"]
    assert messages[-1]["audio"] == pytest.approx(2, abs=0.001)


def test_words_are_sent_on_request() -> None:
    with scripted() as (client, _), client.websocket_connect(f"{URL}?words=1") as websocket:
        websocket.send_bytes(SECOND * 2)
        websocket.send_bytes(b"")
        messages = remaining_messages(websocket)[0]
    first_word = {"word": " The", "start": 0.2, "end": 0.4, "probability": 0.9}
    assert messages[2]["words"] == [first_word]
    assert messages[4]["words"][0] == first_word and len(messages[4]["words"]) == 4


def test_flush_and_clear_reach_the_session() -> None:
    script = Script(events=(), final=(word(" Yes.", 0.1),))
    with scripted(script) as (client, session_factory), client.websocket_connect(URL) as websocket:
        websocket.receive_json()
        websocket.send_bytes(SECOND)
        websocket.send_json({"type": "flush"})
        final = websocket.receive_json()
        assert (final["type"], final["text"], final["flushed"], final["end"]) == ("final", "Yes.", True, 1.0)
        websocket.send_json({"type": "clear"})
        websocket.send_json({"type": "end"})
        remaining_messages(websocket)
    assert session_factory.sessions[0].commands == ["flush", "clear", "end"]


def test_lag_is_reported() -> None:
    events = ((0.5, Lag(3.25)), (0.5, Update(0, (), (word(" a", 0.1),), 0.5)))
    with scripted(Script(events)) as (client, _), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(SECOND)
        websocket.send_bytes(b"")
        messages = remaining_messages(websocket)[0]
    assert messages[1] == {"type": "lag", "seconds": 3.25}
    assert messages[2] == {"type": "partial", "utt": 0, "confirmed": "", "pending": "a", "audio": 0.5}


@pytest.mark.parametrize(
    ("sent", "code", "close"),
    [
        (b"OggS" + bytes(100), "invalid_audio", 1003),
        (b"RIFF\0\0\0\0AVI " + bytes(100), "invalid_audio", 1003),
        ("flush", "invalid_message", 1008),
        ("[]", "invalid_message", 1008),
        ("{}", "invalid_message", 1008),
        ('{"type": 1}', "invalid_message", 1008),
        ('{"type": "shout"}', "invalid_message", 1008),
        ("[" * 100_000, "invalid_message", 1008),
    ],
    ids=lambda value: str(value)[:20],
)
def test_invalid_input_ends_the_session_with_an_error(sent: bytes | str, code: str, close: int) -> None:
    with scripted() as (client, session_factory), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(sent) if isinstance(sent, bytes) else websocket.send_text(sent)
        messages, closed, reason = remaining_messages(websocket)
    assert [message["type"] for message in messages] == ["ready", "error"]
    assert (messages[1]["code"], closed) == (code, close)
    assert reason and messages[1]["message"].startswith(reason)
    assert session_factory.sessions[0].left.is_set()


def test_words_before_an_invalid_message_are_sent() -> None:
    script = Script(events=(), final=(word(" Yes.", 0.1),))
    with scripted(script) as (client, _), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(SECOND)
        websocket.send_text("oops")
        types = [message["type"] for message in remaining_messages(websocket)[0]]
    assert types == ["ready", "final", "error"]


def test_a_wav_that_ends_within_its_header_is_an_error() -> None:
    with scripted() as (client, _), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(wav_header(size=0)[:20])
        websocket.send_bytes(b"")
        messages, closed, _ = remaining_messages(websocket)
    assert (messages[-1]["code"], closed) == ("invalid_audio", 1003)


def test_an_error_of_the_model_is_reported() -> None:
    script = Script(fails=EngineFailed("a worker of the model has crashed"))
    with scripted(script) as (client, session_factory), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(SECOND)
        messages, closed, _ = remaining_messages(websocket)
    assert (messages[-1]["type"], messages[-1]["message"], closed) == (
        "error",
        "a worker of the model has crashed",
        1011,
    )
    assert session_factory.sessions[0].left.is_set()


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("language=klingon", 400, "language"),
        ("rate=1", 400, "rate"),
        ("rate=x", 400, "rate"),
        ("channels=17", 400, "channels"),
        ("encoding=opus", 400, "encoding"),
        ("interim=maybe", 400, "interim"),
        ("words=2", 400, "words"),
        ("endpoint_ms=5", 400, "endpoint_ms"),
        ("threshold=1", 400, "threshold"),
        ("prefix_ms=-1", 400, "prefix_ms"),
        ("prompt=" + "x" * 2_001, 400, "prompt"),
        ("model=huge", 404, "model"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_invalid_options_are_refused_in_the_handshake(query: str, status: int, param: str) -> None:
    with scripted() as (client, _):
        actual_status, error, _ = refusal(client, f"{URL}?{query}")
        assert (actual_status, error["param"]) == (status, param)
        assert client.post(f"{URL}?{query}", content=SECOND).json()["error"] == error


def test_a_full_server_responds_with_retry_after() -> None:
    with scripted(sessions=SessionLimits(max_sessions=1, idle_timeout=20, max_seconds=60)) as (client, _):
        with client.websocket_connect(URL) as websocket:
            websocket.receive_json()
            actual_status, error, retry_after = refusal(client, URL)
            assert (actual_status, error["code"], retry_after) == (503, "overloaded", "5")
            response = client.post(URL, content=SECOND)
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        with client.websocket_connect(URL) as websocket:
            assert websocket.receive_json()["type"] == "ready"


def test_an_idle_session_is_ended() -> None:
    with scripted(sessions=SessionLimits(max_sessions=1, idle_timeout=0.05, max_seconds=60)) as (
        client,
        session_factory,
    ):
        with client.websocket_connect(URL) as websocket:
            messages, closed, _ = remaining_messages(websocket)
        assert ([message.get("code") for message in messages], closed) == ([None, "session_idle"], 1008)
        assert session_factory.sessions[0].commands == ["end"]


def test_a_session_ends_at_its_time_limit() -> None:
    with scripted(sessions=SessionLimits(max_sessions=1, idle_timeout=60, max_seconds=0.05)) as (client, _):
        with client.websocket_connect(URL) as websocket:
            messages, closed, _ = remaining_messages(websocket)
        assert ([message.get("code") for message in messages], closed) == ([None, "session_too_long"], 1008)


def test_a_disconnect_frees_the_session_at_once() -> None:
    sessions = SessionLimits(max_sessions=1, idle_timeout=20, max_seconds=60)
    with scripted(Script(stuck=True), sessions=sessions) as (client, session_factory):
        with client.websocket_connect(URL) as websocket:
            websocket.receive_json()
        with client.websocket_connect(URL):  # possible only if the first has ended
            pass
        assert session_factory.sessions[0].left.is_set()
        assert sessions.opened["stream"] == 2


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("body", "headers", "query"),
    [
        (wav(SECOND * 2, size=0), {"content-type": "audio/wav"}, ""),
        (SECOND * 2, {"content-type": "audio/l16;rate=16000"}, ""),
        (SECOND * 2, {"content-type": "audio/L16; channels=2; rate=8000"}, ""),
        (SECOND * 2, {}, ""),
        (SECOND * 2, {"content-type": "application/x-www-form-urlencoded"}, "?rate=16000"),
        (b"\xff" * 16_000, {"content-type": "audio/basic"}, ""),
        (b"\xd5" * 32_000, {"content-type": "audio/pcma; rate=16000"}, ""),
    ],
    ids=str,
)
def test_a_post_returns_json_lines(body: bytes, headers: dict[str, str], query: str) -> None:
    with scripted() as (client, _):
        response = client.post(URL + query, content=body, headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-ndjson")
    messages = json_lines(response.text)
    assert messages[1:-1] == MESSAGES[1:]
    assert (messages[0]["type"], messages[0]["model"]) == ("ready", "tiny.en")
    assert messages[-1]["audio"] == pytest.approx(2, abs=0.001)


def test_a_post_returns_server_sent_events_on_request() -> None:
    with scripted() as (client, _):
        response = client.post(URL, content=SECOND * 2, headers={"accept": "text/event-stream"})
    assert response.headers["content-type"] == "text/event-stream"
    assert response.text.startswith('event: ready\ndata: {"type": "ready"')
    assert response.text.count("\n\n") == len(MESSAGES) + 1


def test_an_empty_post_is_an_empty_session() -> None:
    with scripted() as (client, _):
        assert json_lines(client.post(URL).text) == [MESSAGES[0], {"type": "end", "audio": 0.0}]


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"OggS" + bytes(100), {}, "this is Ogg"),
        (bytes(100), {"content-type": "audio/wav"}, "no WAV"),
        (wav_header(size=0)[:20], {}, "ended within its header"),
        (SECOND, {"content-type": "audio/mpeg"}, "audio/wav or audio/l16"),
        (SECOND, {"content-type": "audio/l16;rate=high"}, "rate"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_post_of_other_data_is_a_400(body: bytes, headers: dict[str, str], message: str) -> None:
    with scripted() as (client, _):
        response = client.post(URL, content=body, headers=headers)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_a_late_error_of_a_post_is_its_last_line() -> None:
    with scripted(Script(fails=EngineFailed("crashed"))) as (client, _):
        messages = json_lines(client.post(URL, content=SECOND * 2).text)
    assert messages[0] == MESSAGES[0]
    assert messages[-1] == {"type": "error", "code": "server_error", "message": "crashed"}


def test_open_sessions_are_counted(client: TestClient) -> None:
    def metric_line(name: str) -> str:
        return next(line for line in client.get("/metrics").text.splitlines() if line.startswith(name))

    with client.websocket_connect(URL) as websocket:
        websocket.receive_json()
        assert metric_line('whisper_live_sessions{protocol="stream"}').endswith(" 1.0")
        websocket.send_bytes(b"")
        assert remaining_messages(websocket)[1] == 1000
    assert metric_line('whisper_live_sessions_opened_total{protocol="stream"}').endswith(" 1.0")
