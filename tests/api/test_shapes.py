from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from whisper_server.api.shapes import below_v1, error_response, route_path


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_openais_shape(status: int, kind: str) -> None:
    answer = error_response("/v1/a", status, "wrong", code="c", param="p", headers={"x-a": "1"})
    assert (answer.status_code, answer.headers["x-a"]) == (status, "1")
    assert json.loads(bytes(answer.body)) == {"error": {"message": "wrong", "type": kind, "param": "p", "code": "c"}}


def test_a_type_can_be_given() -> None:
    assert json.loads(bytes(error_response("/v1/a", 400, "wrong", type="t").body))["error"]["type"] == "t"


def test_the_reference_projects_shape() -> None:
    answer = error_response("/recognise", 400, "wrong", type="t", code="c", param="p")
    assert json.loads(bytes(answer.body)) == {"error": "wrong"}


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/v1/a"}, "/v1/a"),
        ({"path": "/speech/v1/a", "root_path": "/speech"}, "/v1/a"),
        ({"path": "/speech/v1/a", "root_path": "/speech/v1", "app_root_path": "/speech"}, "/v1/a"),
        ({"path": "/speeches", "root_path": "/speech"}, "/speeches"),
    ],
)
def test_the_path_is_that_of_the_route_table(scope: dict[str, str], path: str) -> None:
    assert route_path(scope) == path


@pytest.mark.parametrize(("path", "below"), [("/v1", True), ("/v1/", True), ("/v10/a", False), ("/", False)])
def test_below_v1(path: str, below: bool) -> None:
    assert below_v1(path) == below


def test_addresses_that_are_not_there_have_their_shape_too(client: TestClient) -> None:
    assert client.get("/v1/nowhere").json()["error"]["type"] == "invalid_request_error"
    assert list(client.get("/nowhere").json()) == ["error"]
