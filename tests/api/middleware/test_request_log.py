from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from whisper_server.api.metrics import Metrics
from whisper_server.api.middleware.request_log import RequestLogMiddleware
from whisper_server.core.logs import JSONFormatter

KEY = "a-secret-of-the-tests"


class Lines(logging.Handler):
    """Collects what is logged, as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JSONFormatter())
        self.lines: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@contextmanager
def logged(level: int = logging.INFO) -> Iterator[list[dict[str, object]]]:
    """Yield the lines of the block from this level on, also if `logs.configure()` has made faster-whisper quiet."""
    handler, root = Lines(), logging.getLogger()
    loggers = [root, logging.getLogger("faster_whisper")]
    levels = [logger.level for logger in loggers]
    root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield handler.lines
    finally:
        root.removeHandler(handler)
        for logger, previous in zip(loggers, levels, strict=True):
            logger.setLevel(previous)


async def fails(request: Request) -> Response:
    raise RuntimeError("broken")


async def fails_late(request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("broken")

    return StreamingResponse(body())


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


@pytest.fixture
def broken() -> TestClient:
    routes = [Route("/a", fails), Route("/v1/a", fails), Route("/late", fails_late), WebSocketRoute("/ws", echo)]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(RequestLogMiddleware, metrics=Metrics())]))


@pytest.mark.parametrize("client_id", ["r-1", "A.b_c-9", "x" * 128])
def test_a_valid_request_id_is_kept(client: TestClient, client_id: str) -> None:
    assert client.get("/health", headers={"x-request-id": client_id}).headers["x-request-id"] == client_id


@pytest.mark.parametrize("client_id", ["", "x" * 129, "a b", "ü", "a\tb", '"a"'])
def test_an_invalid_request_id_is_replaced(client: TestClient, client_id: str) -> None:
    returned_id = client.get("/health", headers={b"x-request-id": client_id.encode()}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", returned_id)


@pytest.mark.parametrize("path", ["/", "/web/app/main.js", "/nowhere", "/recognise", "/metrics"])
def test_every_response_has_a_unique_request_id(client: TestClient, path: str) -> None:
    first, second = client.get(path), client.get(path)
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_refusals_have_request_ids(client_with: Callable[..., TestClient]) -> None:
    client = client_with(api_key=(KEY,))
    for headers in ({}, {"host": "evil.example"}, {"origin": "https://evil.example"}):
        assert client.post("/recognise", headers={"x-request-id": "r1", **headers}).headers["x-request-id"] == "r1"


def test_responses_below_v1_report_their_processing_time(client: TestClient) -> None:
    assert int(client.get("/v1/nowhere").headers["openai-processing-ms"]) >= 0
    assert "openai-processing-ms" not in client.get("/health").headers


def test_each_request_is_logged_as_one_line(client_with: Callable[..., TestClient]) -> None:
    client = client_with(api_key=(KEY,))
    headers = {"x-request-id": "r1", "authorization": f"Bearer {KEY}"}
    with logged() as lines:
        client.post(f"/reload?api_key={KEY}", content=b"[1, 2]", headers=headers)
    (line,) = [line for line in lines if str(line["logger"]).endswith("request_log")]
    assert line.pop("time") and line.pop("seconds") is not None and "POST /reload 400 in" in str(line.pop("message"))
    assert line == {
        "level": "info",
        "logger": "whisper_server.api.middleware.request_log",
        "request_id": "r1",
        "method": "POST",
        "path": "/reload",
        "status": 400,
        "bytes_in": 6,
        "key": f"api-key:{sha256(KEY.encode()).hexdigest()[:12]}",
    }
    assert KEY not in str(lines)


@pytest.mark.parametrize(
    ("path", "level"),
    [("/health", "debug"), ("/metrics", "debug"), ("/web/app/main.js", "debug"), ("/web/none", "info"), ("/", "info")],
)
def test_routine_requests_are_logged_at_level_debug(client: TestClient, path: str, level: str) -> None:
    with logged(logging.DEBUG) as lines:
        client.get(path)
    assert [line["level"] for line in lines if str(line["logger"]).endswith("request_log")] == [level]


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_worker_threads_log_the_request_id_and_no_transcript(client: TestClient, audio: Path, mode: str) -> None:
    files = {"file": (audio / "sentences.flac").read_bytes()}
    with logged(logging.DEBUG) as lines:
        text = client.post("/recognise", files=files, data={"mode": mode}, headers={"x-request-id": "r1"}).json()
    ours = [line for line in lines if line["logger"] in ("faster_whisper", "whisper_server.engine.transcriber")]
    assert len(ours) >= 2
    assert {line["request_id"] for line in ours} == {"r1"}
    assert text["transcription"]["segments"][0]["text"].strip() not in str(lines)


def test_an_unexpected_error_is_logged_and_hidden_from_the_client(broken: TestClient) -> None:
    with logged() as lines:
        response = broken.get("/a", headers={"x-request-id": "r1"})
    assert (response.status_code, response.json()) == (500, {"error": "internal server error"})
    assert response.headers["x-request-id"] == "r1"
    failure, access = [line for line in lines if line["logger"] == "whisper_server.api.middleware.request_log"]
    assert failure["level"] == "error" and "RuntimeError: broken" in str(failure["exception"])
    assert (failure["request_id"], access["status"]) == ("r1", 500)
    error = broken.get("/v1/a").json()["error"]
    assert error == {"message": "internal server error", "type": "server_error", "param": None, "code": None}


def test_a_response_that_fails_halfway_is_aborted(broken: TestClient) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        broken.get("/late")


def test_a_websocket_is_logged_as_one_line(broken: TestClient) -> None:
    with logged() as lines:
        with broken.websocket_connect(f"/ws?api_key={KEY}", headers={"x-request-id": "r1"}) as websocket:
            websocket.send_text("hello")
            assert websocket.receive_text() == "hello"
        with pytest.raises(WebSocketDisconnect), broken.websocket_connect("/nowhere"):
            pass
    access = [line for line in lines if str(line["logger"]).endswith("request_log")]
    assert [(line["method"], line["status"], line["bytes_in"]) for line in access] == [
        ("WEBSOCKET", 101, 5),
        ("WEBSOCKET", 403, 0),
    ]
    assert KEY not in str(lines)
