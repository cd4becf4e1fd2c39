"""`/v1/stream` over scripted sessions: what is message when, and every refusal."""

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
HEARD: list[dict[str, Any]] = [
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


def rest(websocket: WebSocketTestSession) -> tuple[list[dict[str, Any]], int, str]:
    """All messages until the end, its code and its reason."""
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


def test_what_is_heard_is_told_in_order() -> None:
    with scripted() as (client, _), client.websocket_connect(URL) as websocket:
        for start in range(0, len(SECOND) * 2, 3_001):
            websocket.send_bytes((SECOND * 2)[start : start + 3_001])
        websocket.send_json({"type": "end"})
        assert rest(websocket) == ([*HEARD, {"type": "end", "audio": 2.0}], 1000, "")


def test_an_empty_frame_is_the_end_too() -> None:
    with scripted() as (client, _), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(b"")
        assert rest(websocket) == ([HEARD[0], {"type": "end", "audio": 0.0}], 1000, "")


@pytest.mark.parametrize("sent", [wav(SECOND * 2, size=0), wav_header(size=0xFFFFFFFF) + SECOND * 2])
def test_a_wav_that_grows(sent: bytes) -> None:
    with scripted() as (client, session_factory), client.websocket_connect(URL) as websocket:
        for start in range(0, len(sent), 1000):
            websocket.send_bytes(sent[start : start + 1000])
        websocket.send_bytes(b"")
        assert rest(websocket)[0] == [*HEARD, {"type": "end", "audio": 2.0}]
        assert session_factory.sessions[0].left.is_set()


def test_options_reach_the_session() -> None:
    query = (
        "language=German&prompt=Kettle&model=whisper-1&endpoint_ms=none&threshold=0.4&prefix_ms=0&rate=8000&interim=0"
    )
    with scripted() as (client, session_factory), client.websocket_connect(f"{URL}?{query}") as websocket:
        websocket.send_bytes(SECOND)
        websocket.send_bytes(b"")
        messages = rest(websocket)[0]
    options = session_factory.sessions[0].options
    assert (options.language, options.prompt, options.model) == ("de", "Kettle", "whisper-1")
    assert (options.endpoint_ms, options.threshold, options.prefix_ms, options.partials) == (None, 0.4, 0, False)
    assert [message["type"] for message in messages] == ["ready", "speech", "final", "end"]
    assert messages[-1]["audio"] == pytest.approx(2, abs=0.001)


def test_words_on_request() -> None:
    with scripted() as (client, _), client.websocket_connect(f"{URL}?words=1") as websocket:
        websocket.send_bytes(SECOND * 2)
        websocket.send_bytes(b"")
        messages = rest(websocket)[0]
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
        rest(websocket)
    assert session_factory.sessions[0].commands == ["flush", "clear", "end"]


def test_lag_is_told() -> None:
    events = ((0.5, Lag(3.25)), (0.5, Update(0, (), (word(" a", 0.1),), 0.5)))
    with scripted(Script(events)) as (client, _), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(SECOND)
        websocket.send_bytes(b"")
        messages = rest(websocket)[0]
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
def test_what_cannot_be_understood_ends_the_session(sent: bytes | str, code: str, close: int) -> None:
    with scripted() as (client, session_factory), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(sent) if isinstance(sent, bytes) else websocket.send_text(sent)
        messages, closed, reason = rest(websocket)
    assert [message["type"] for message in messages] == ["ready", "error"]
    assert (messages[1]["code"], closed) == (code, close)
    assert reason and messages[1]["message"].startswith(reason)
    assert session_factory.sessions[0].left.is_set()


def test_what_was_heard_before_the_mistake_is_told() -> None:
    script = Script(events=(), final=(word(" Yes.", 0.1),))
    with scripted(script) as (client, _), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(SECOND)
        websocket.send_text("oops")
        types = [message["type"] for message in rest(websocket)[0]]
    assert types == ["ready", "final", "error"]


def test_a_wav_that_ended_in_its_header_is_an_error() -> None:
    with scripted() as (client, _), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(wav_header(size=0)[:20])
        websocket.send_bytes(b"")
        messages, closed, _ = rest(websocket)
    assert (messages[-1]["code"], closed) == ("invalid_audio", 1003)


def test_a_failure_of_the_model_is_told() -> None:
    script = Script(fails=EngineFailed("a worker of the model has crashed"))
    with scripted(script) as (client, session_factory), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(SECOND)
        messages, closed, _ = rest(websocket)
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
def test_wrong_options_are_refused_in_the_handshake(query: str, status: int, param: str) -> None:
    with scripted() as (client, _):
        answered, error, _ = refusal(client, f"{URL}?{query}")
        assert (answered, error["param"]) == (status, param)
        assert client.post(f"{URL}?{query}", content=SECOND).json()["error"] == error


def test_a_full_server_says_when_to_come_again() -> None:
    with scripted(sessions=SessionLimits(max_sessions=1, idle_timeout=20, max_seconds=60)) as (client, _):
        with client.websocket_connect(URL) as websocket:
            websocket.receive_json()
            answered, error, retry_after = refusal(client, URL)
            assert (answered, error["code"], retry_after) == (503, "overloaded", "5")
            response = client.post(URL, content=SECOND)
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        with client.websocket_connect(URL) as websocket:
            assert websocket.receive_json()["type"] == "ready"


def test_who_says_nothing_is_asked_to_leave() -> None:
    with scripted(sessions=SessionLimits(max_sessions=1, idle_timeout=0.05, max_seconds=60)) as (
        client,
        session_factory,
    ):
        with client.websocket_connect(URL) as websocket:
            messages, closed, _ = rest(websocket)
        assert ([message.get("code") for message in messages], closed) == ([None, "session_idle"], 1008)
        assert session_factory.sessions[0].commands == ["end"]


def test_no_session_lasts_for_ever() -> None:
    with scripted(sessions=SessionLimits(max_sessions=1, idle_timeout=60, max_seconds=0.05)) as (client, _):
        with client.websocket_connect(URL) as websocket:
            messages, closed, _ = rest(websocket)
        assert ([message.get("code") for message in messages], closed) == ([None, "session_too_long"], 1008)


def test_who_leaves_frees_the_session_at_once() -> None:
    sessions = SessionLimits(max_sessions=1, idle_timeout=20, max_seconds=60)
    with scripted(Script(stuck=True), sessions=sessions) as (client, session_factory):
        with client.websocket_connect(URL) as websocket:
            websocket.receive_json()
        with client.websocket_connect(URL):  # it has the place of the first
            pass
        assert session_factory.sessions[0].left.is_set()
        assert sessions.opened["stream"] == 2


def posted(answer_text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer_text.splitlines()]


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
def test_a_post_is_answered_in_lines(body: bytes, headers: dict[str, str], query: str) -> None:
    with scripted() as (client, _):
        response = client.post(URL + query, content=body, headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-ndjson")
    messages = posted(response.text)
    assert messages[1:-1] == HEARD[1:]
    assert (messages[0]["type"], messages[0]["model"]) == ("ready", "tiny.en")
    assert messages[-1]["audio"] == pytest.approx(2, abs=0.001)


def test_a_post_is_answered_in_events() -> None:
    with scripted() as (client, _):
        response = client.post(URL, content=SECOND * 2, headers={"accept": "text/event-stream"})
    assert response.headers["content-type"] == "text/event-stream"
    assert response.text.startswith('event: ready\ndata: {"type": "ready"')
    assert response.text.count("\n\n") == len(HEARD) + 1


def test_an_empty_post_is_a_short_session() -> None:
    with scripted() as (client, _):
        assert posted(client.post(URL).text) == [HEARD[0], {"type": "end", "audio": 0.0}]


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
def test_a_post_of_something_else_is_a_400(body: bytes, headers: dict[str, str], message: str) -> None:
    with scripted() as (client, _):
        response = client.post(URL, content=body, headers=headers)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_a_post_that_fails_later_says_so_in_its_last_line() -> None:
    with scripted(Script(fails=EngineFailed("crashed"))) as (client, _):
        messages = posted(client.post(URL, content=SECOND * 2).text)
    assert messages[0] == HEARD[0]
    assert messages[-1] == {"type": "error", "code": "server_error", "message": "crashed"}


def test_open_sessions_are_counted(client: TestClient) -> None:
    def counted(name: str) -> str:
        return next(line for line in client.get("/metrics").text.splitlines() if line.startswith(name))

    with client.websocket_connect(URL) as websocket:
        websocket.receive_json()
        assert counted('whisper_live_sessions{protocol="stream"}').endswith(" 1.0")
        websocket.send_bytes(b"")
        assert rest(websocket)[1] == 1000
    assert counted('whisper_live_sessions_opened_total{protocol="stream"}').endswith(" 1.0")
