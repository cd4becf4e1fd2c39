from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import SkipTest

import hypothesis
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks as openapi_checks
from servers import LiveServer, live_server
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient

from whisper_server.api.openapi.document import document
from whisper_server.api.openapi.operations import OPERATIONS
from whisper_server.api.openapi.schemas import SCHEMAS
from whisper_server.api.requests.options import DECODING, EXECUTION, RENDERING, Field
from whisper_server.app import ROUTES

FIELDS = DECODING + RENDERING + EXECUTION
# What is for people.
PAGES = {"/", "/docs", "/web", "/web/server.json"}
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]


def test_every_route_is_described() -> None:
    """OpenAPI has no words for WebSockets."""
    described = {operation.path for operation in OPERATIONS}
    paths = {route.path.replace(":path", "") for route in ROUTES if not isinstance(route, WebSocketRoute)}  # type: ignore[attr-defined]
    assert described == paths - PAGES


def test_every_field_is_described(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]["/recognise"]["post"]["requestBody"]["content"]
    form = described["multipart/form-data"]["schema"]
    assert list(form["properties"]) == ["file", *(field.name for field in FIELDS)]
    assert form["required"] == ["file"]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_schema_is_a_schema(field: Field) -> None:
    jsonschema_rs.Draft202012Validator(field.parser.schema())


def test_the_servers_address_is_that_of_the_proxy() -> None:
    assert document((), server="/speech")["servers"] == [{"url": "/speech"}]


def test_only_probes_need_no_key(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    open_paths = {path for path, methods in paths.items() for how in methods.values() if "security" not in how}
    assert open_paths == {"/health", "/ready"}


@pytest.mark.parametrize("data", [{}, {"word_timestamps": "true"}, {"detail": "false"}])
def test_a_transcript_is_as_described(client: TestClient, audio: Path, data: dict[str, str]) -> None:
    response = client.post("/recognise", files={"file": (audio / "short.flac").read_bytes()}, data=data)
    whole = {"$ref": "#/components/schemas/Transcription", "components": {"schemas": SCHEMAS}}
    jsonschema_rs.validate(whole, response.json()["transcription"])


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running
        assert running.stop() == 0


LABELS = [f"{operation.method} {operation.path}" for operation in OPERATIONS]
EXAMPLES = [15, pytest.param(400, marks=pytest.mark.slow)]


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", LABELS)
def test_whatever_is_sent_the_response_is_as_described(
    server: LiveServer, label: str, mode: GenerationMode, examples: int
) -> None:
    """What the description allows and what it does not."""
    schema = schemathesis.openapi.from_dict(document(OPERATIONS, server="/"))
    (operation,) = [
        operation
        for result in schema.get_all_operations()
        if isinstance(result, Ok) and (operation := result.ok()).label == label
    ]

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def attack(case: schemathesis.Case[Any]) -> None:
        response = case.call(base_url=server.url, headers={"x-request-id": "r1"}, timeout=60)
        case.validate_response(response, checks=CHECKS)
        assert response.headers["x-request-id"] == ["r1"]

    with suppress(Unsatisfiable, SkipTest):  # an operation without parameters has no wrong ones
        attack()
