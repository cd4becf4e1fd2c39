from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from schemathesis import GenerationMode, checks
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks as openapi_checks
from servers import LiveServer, live_server
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from whisper_server.api.openapi.document import document
from whisper_server.api.openapi.operations import OPERATIONS
from whisper_server.api.openapi.schemas import SCHEMAS
from whisper_server.api.requests.options import DECODING, EXECUTION, RENDERING, Field
from whisper_server.app import ROUTES

FIELDS = DECODING + RENDERING + EXECUTION
# Pages for people, and methods that the document leaves out.
UNDOCUMENTED = {("GET", "/"), ("GET", "/docs"), ("GET", "/web"), ("GET", "/web/server.json"), ("PUT", "/v1/stream")}
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]


def test_every_method_of_every_route_is_described() -> None:
    """OpenAPI cannot describe WebSockets."""
    described = {(operation.method, operation.path) for operation in OPERATIONS}
    routes = [route for route in ROUTES if isinstance(route, Route | Mount)]
    served = {
        (method, route.path.replace(":path", ""))
        for route in routes
        for method in (getattr(route, "methods", None) or {"GET"}) - {"HEAD"}
    }
    assert described == served - UNDOCUMENTED


def test_every_field_is_described(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]["/recognise"]["post"]["requestBody"]["content"]
    form = described["multipart/form-data"]["schema"]
    assert list(form["properties"]) == ["file", *(field.name for field in FIELDS)]
    assert form["required"] == ["file"]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_field_has_a_valid_schema(field: Field) -> None:
    jsonschema_rs.Draft202012Validator(field.parser.schema)


def test_the_server_url_has_the_root_path_of_the_proxy() -> None:
    assert document((), server="/speech")["servers"] == [{"url": "/speech"}]


def test_only_probes_need_no_key(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    open_paths = {path for path, methods in paths.items() for how in methods.values() if "security" not in how}
    assert open_paths == {"/health", "/ready"}


@pytest.mark.parametrize("data", [{}, {"word_timestamps": "true"}, {"detail": "false"}])
def test_a_transcript_matches_its_schema(client: TestClient, audio: Path, data: dict[str, str]) -> None:
    response = client.post("/recognise", files={"file": (audio / "short.flac").read_bytes()}, data=data)
    whole = {"$ref": "#/components/schemas/Transcription", "components": {"schemas": SCHEMAS}}
    jsonschema_rs.validate(whole, response.json()["transcription"])


def test_a_response_of_deepgrams_api_matches_its_schema(client: TestClient, audio: Path) -> None:
    query = "smart_format=true&utterances=true&language=multi&tag=a&extra=b:c&search=d"
    response = client.post(f"/v1/listen?{query}", content=(audio / "short.flac").read_bytes())
    whole = {"$ref": "#/components/schemas/DeepgramTranscription", "components": {"schemas": SCHEMAS}}
    jsonschema_rs.validate(whole, response.json())


def test_queued_and_finished_jobs_match_their_schema(client: TestClient, audio: Path) -> None:
    clip = {"file": ("short.flac", (audio / "short.flac").read_bytes())}
    job = client.post("/v1/jobs", files=clip).json()
    schema = {**SCHEMAS["Job"], "additionalProperties": False}
    with client.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
        assert "job.succeeded" in "".join(events.iter_text())
    finished = client.get(f"/v1/jobs/{job['id']}?text=true").json()
    for state, described in (("queued", job), ("succeeded", finished)):
        assert described["state"] == state
        jsonschema_rs.validate(schema, described)
    assert finished.keys() == schema["properties"].keys()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that can download nothing, and whose only files of models are those of packages."""
    empty = str(tmp_path_factory.mktemp("empty"))
    with live_server("--models-dir", empty, HF_HUB_CACHE=empty) as running:
        yield running
        assert running.stop() == 0


SCHEMA = schemathesis.openapi.from_dict(document(OPERATIONS, server="/"))
DESCRIBED = {
    operation.label: operation
    for result in SCHEMA.get_all_operations()
    if isinstance(result, Ok) and (operation := result.ok())
}
CASES = [(f"{operation.method} {operation.path}", GenerationMode.POSITIVE) for operation in OPERATIONS]
# A path parameter is any text, so only a query or a body can be invalid.
CASES += [
    (f"{operation.method} {operation.path}", GenerationMode.NEGATIVE)
    for operation in OPERATIONS
    if operation.query or operation.file or operation.body
]
EXAMPLES = [15, pytest.param(400, marks=pytest.mark.slow)]


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize(("label", "mode"), CASES, ids=lambda value: getattr(value, "value", value))
def test_responses_to_generated_requests_match_the_document(
    server: LiveServer, label: str, mode: GenerationMode, examples: int
) -> None:
    """Sends what the document allows, and what it does not allow."""

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(DESCRIBED[label].as_strategy(generation_mode=mode))
    def fuzz(case: schemathesis.Case[Any]) -> None:
        response = case.call(base_url=server.url, headers={"x-request-id": "r1"}, timeout=60)
        case.validate_response(response, checks=CHECKS)
        assert response.headers["x-request-id"] == ["r1"]

    fuzz()
