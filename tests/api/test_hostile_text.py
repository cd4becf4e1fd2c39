"""Text that no well-meaning client sends, in every field of every operation: never a 5xx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from recorder import pcm16, wav
from scripted import scripted
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from whisper_server.api.openapi.operations import OPERATIONS, Operation
from whisper_server.app import create_app
from whisper_server.core.settings import Settings
from whisper_server.inference.models.manager import ModelManager

SURROGATE = "\ud800"
TEXTS = {
    "NUL": "a\0b",
    "controls": "a\x1b[2J\x9b\x07\r\nb",
    "bidirectional": "\u202eabc\u2066",
    "not a character": "\uffff\U0010ffff",
    "long": "x" * 60_000,
    "JSON surrogate": '["\\ud800", {"a": "\\udfff"}]',
    "JSON NUL": '{"type": "server_vad", "threshold": "\\u0000"}',
    "deep": "[" * 20_000,
    "numbers": "1e999",
    "NaN": "NaN",
}
# The others take minutes.
QUICK = ("JSON surrogate",)
# Any of these may be a member of a JSON body.
VALUES: tuple[Any, ...] = (*TEXTS.values(), SURROGATE, None, True, -1, 1e308, 10**30, [], [[]], {}, {"type": {}}, "")
SESSIONS = ("session", "input_audio_transcription", "turn_detection", "input_audio_format", "expires_after", "include")
FORMS = [operation for operation in OPERATIONS if operation.fields or operation.file]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: ModelManager, settings: Settings) -> Iterator[TestClient]:
    """A server that accepts jobs but does not run them."""
    changed = replace(settings, data_dir=tmp_path_factory.mktemp("data"), job_concurrency=0, allow_url_fetch=True)
    with TestClient(create_app(changed, models)) as client:
        yield client


def silence() -> bytes:
    return wav(pcm16(np.zeros(1_600, np.float32)))


@pytest.mark.parametrize(
    "text",
    [pytest.param(text, id=name, marks=() if name in QUICK else pytest.mark.full) for name, text in TEXTS.items()],
)
@pytest.mark.parametrize("operation", FORMS, ids=lambda operation: operation.path)
def test_in_form_fields(server: TestClient, operation: Operation, text: str) -> None:
    """The file is sound only for a field that the model reads: a prompt and the like."""
    for field in (*operation.fields, *operation.lists):
        content = silence() if field.parser.schema.get("type") == "string" else b"no sound"
        for name in (field.name, f"{field.name}[]", f"{field.name}[{text[:20]}]"):
            file = content if name == field.name else b"no sound"
            response = server.post(operation.path, files={operation.file or "file": ("a.wav", file)}, data={name: text})
            assert response.status_code < 500, name


@pytest.mark.parametrize("operation", FORMS, ids=lambda operation: operation.path)
def test_the_field_is_named(server: TestClient, operation: Operation) -> None:
    """One rule for all fields, also those that the operation does not know: any may be stored."""
    for name in (operation.fields[0].name, "unknown"):
        response = server.post(operation.path, files={"file": ("a.wav", silence())}, data={name: "a\0"})
        (error,) = response.json().values()
        message = error if isinstance(error, str) else error["message"]
        assert response.status_code == 400
        assert message.startswith(f"{name}: ") and "text without NUL characters" in message


@pytest.mark.parametrize("charset", ["unicode_escape", "utf-7", "utf-16", "rot13", "hex", "nosuch", "idna"])
def test_in_the_charset_of_a_form(server: TestClient, charset: str) -> None:
    """Some of Python's codecs decode bytes to lone surrogates."""
    for value in (rb"\ud800", b"+2AA-", b"\xd8\x00", b"\xff" * 9):
        part = b'--b\r\ncontent-disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        body = part % (b"prompt", value) + part % (value, b"x") + b"--b--\r\n"
        headers = {"content-type": f"multipart/form-data; boundary=b; charset={charset}"}
        for operation in FORMS:
            assert server.post(operation.path, content=body, headers=headers).status_code < 500


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.query or "{" in each.path])
@pytest.mark.parametrize("text", [*TEXTS.values(), "%ED%A0%80"], ids=[*TEXTS, "surrogate"])
def test_in_paths_and_queries(server: TestClient, operation: Operation, text: str) -> None:
    value = text if text.startswith("%ED") else quote(text[:8_000], safe="")
    path = operation.path.replace("{id}", value).replace("{model}", value)
    for query in ("", *(f"?{field.name}={value}" for field in operation.query)):
        assert server.request(operation.method, path + query).status_code < 500


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if each.body is not None], ids=lambda each: each.path
)
def test_in_json_bodies(server: TestClient, operation: Operation) -> None:
    members = [*(operation.body or {}).get("properties", {}), *SESSIONS, SURROGATE, "a\0"]
    for value in VALUES:
        for member in members:
            for body in ({member: value}, {"session": {"type": "transcription", member: value}}):
                content = json.dumps(body)
                response = server.request(operation.method, operation.path, content=content)
                assert response.status_code < 500, content[:100]
    for raw in (b'{"a": "\xed\xa0\x80"}', b"\xff\xfe{\0}\0", b'{"model_name": NaN}', b"[" * 9_000):
        assert server.request(operation.method, operation.path, content=raw).status_code == 400


MESSAGES: dict[str, tuple[str, ...]] = {
    "/v1/stream": ("end", "flush", "config"),
    "/v1/listen": ("Finalize", "KeepAlive", "CloseStream", "Configure"),
    "/v1/realtime?intent=transcription": (
        "session.update",
        "transcription_session.update",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "conversation.item.delete",
        "conversation.item.create",
    ),
}
MEMBERS = ("type", "event_id", "audio", "session", "item_id", "model", "language", "previous_item_id", SURROGATE)


@pytest.mark.full
@pytest.mark.parametrize("url", MESSAGES)
def test_in_messages_of_websockets(url: str) -> None:
    """A session ends with a message about the error or goes on; it never ends with 1011, an internal error."""
    frames = [
        json.dumps({"type": kind, member: value, **({} if member == "session" else {"session": {member: value}})})
        for kind in MESSAGES[url]
        for member in MEMBERS
        for value in VALUES
    ]
    with scripted() as (client, _):
        for frame in frames:
            with client.websocket_connect(url) as websocket:
                try:
                    websocket.send_text(frame)
                    websocket.send_text("{")
                    while (message := websocket.receive_json())["type"].lower() != "error":
                        json.dumps(message, ensure_ascii=False).encode()
                except WebSocketDisconnect as closed:
                    assert closed.code in (1000, 1003, 1007, 1008), (frame[:100], closed)


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/listen", "/v1/realtime"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_in_queries_of_websockets(path: str, text: str) -> None:
    names = (
        "model",
        "language",
        "rate",
        "encoding",
        "sample_rate",
        "endpointing",
        "keyterm",
        "intent",
        "prompt",
        "tag",
    )
    with scripted() as (client, _):
        for name in names:
            try:
                with client.websocket_connect(f"{path}?{name}={quote(text[:8_000], safe='')}"):
                    pass
            except WebSocketDenialResponse as refused:
                assert refused.status_code < 500, name
            except WebSocketDisconnect as closed:
                assert closed.code != 1011, name


def test_a_filter_of_jobs_is_refused_before_the_database_sees_it(server: TestClient) -> None:
    for name in ("model", "after"):
        response = server.get(f"/v1/jobs?{name}=a%00b")
        assert (response.status_code, response.json()["error"]["param"]) == (400, name)


def test_in_file_names_and_urls_of_jobs(server: TestClient) -> None:
    for text in (*TEXTS.values(), "surrogate%ED%A0%80"):
        response = server.post("/v1/jobs", files={"file": (text[:3_000], b"x")})
        assert response.status_code in (202, 400)
        if response.status_code == 202:
            assert response.json()["file"]["name"].isprintable()
        for name in ("url", "callback_url"):
            assert server.post("/v1/jobs", data={name: f"https://example.org/{text[:1_000]}"}).status_code in (202, 400)
