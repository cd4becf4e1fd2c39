from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from whisper_server.api.errors import below_v1, error_response, failure_response, route_path
from whisper_server.core.errors import BadOption, Overloaded


@pytest.mark.parametrize(
    ("status", "kind", "retry_header"),
    [
        (400, "invalid_request_error", ("x-should-retry", "false")),
        (401, "authentication_error", ("x-should-retry", "false")),
        (404, "invalid_request_error", ("x-should-retry", "false")),
        (429, "rate_limit_error", ("retry-after", "5")),
        (500, "server_error", ("x-should-retry", "false")),
        (503, "server_error", ("retry-after", "5")),
    ],
)
def test_errors_below_v1_have_openais_shape(status: int, kind: str, retry_header: tuple[str, str]) -> None:
    response = error_response("/v1/a", status, "wrong", headers={"x-a": "1"})
    assert (response.status_code, response.headers["x-a"]) == (status, "1")
    assert retry_header in response.headers.items()
    error = {"message": "wrong", "type": kind, "param": None, "code": None}
    assert json.loads(bytes(response.body)) == {"error": error}


def test_an_error_below_v1_has_its_code_and_param() -> None:
    exc = BadOption("beam_size", "x", "a number")
    error = json.loads(bytes(failure_response("/v1/a", exc).body))["error"]
    assert (error["param"], error["code"], error["message"]) == ("beam_size", "invalid_value", str(exc))


def test_an_error_keeps_its_own_retry_after() -> None:
    assert failure_response("/v1/a", Overloaded("full", 30)).headers["retry-after"] == "30"
    assert failure_response("/recognise", Overloaded("full", 30)).headers["retry-after"] == "30"


def test_errors_elsewhere_have_the_reference_projects_shape() -> None:
    response = failure_response("/recognise", BadOption("beam_size", "x", "a number"))
    assert list(json.loads(bytes(response.body))) == ["error"]
    assert json.loads(bytes(error_response("/recognise", 400, "wrong").body)) == {"error": "wrong"}


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/v1/a"}, "/v1/a"),
        ({"path": "/speech/v1/a", "root_path": "/speech"}, "/v1/a"),
        ({"path": "/speech/v1/a", "root_path": "/speech/v1", "app_root_path": "/speech"}, "/v1/a"),
        ({"path": "/speeches", "root_path": "/speech"}, "/speeches"),
    ],
)
def test_the_route_path_has_no_root_path(scope: dict[str, str], path: str) -> None:
    assert route_path(scope) == path


@pytest.mark.parametrize(("path", "below"), [("/v1", True), ("/v1/", True), ("/v10/a", False), ("/", False)])
def test_below_v1(path: str, below: bool) -> None:
    assert below_v1(path) == below


def test_unknown_paths_have_errors_of_their_shape(client: TestClient) -> None:
    assert client.get("/v1/nowhere").json()["error"]["type"] == "invalid_request_error"
    assert list(client.get("/nowhere").json()) == ["error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/a", {"error": {"message": "wrong", "type": "invalid_request_error", "param": None, "code": None}}),
        ("/asr", {"detail": "wrong"}),
        ("/asr/x", {"detail": "wrong"}),
        ("/asrx", {"error": "wrong"}),
        ("/detect-language", {"detail": "wrong"}),
        ("/inference", {"error": "wrong"}),
        ("/v1/listen", {"err_code": "Bad Request", "err_msg": "wrong", "request_id": ""}),
        ("/v1/auth/grant", {"err_code": "Bad Request", "err_msg": "wrong", "request_id": ""}),
    ],
)
def test_each_api_has_its_own_shape(path: str, body: dict[str, Any]) -> None:
    assert json.loads(bytes(error_response(path, 400, "wrong").body)) == body


def test_deepgrams_errors_are_also_a_header_of_one_ascii_line() -> None:
    response = error_response("/v1/listen", 404, "a\r\nb: €" + "x" * 1000)
    assert response.headers["dg-error"] == ("a??b: ?" + "x" * 1000)[:300]
    assert "dg-error" not in error_response("/v1/a", 404, "wrong").headers
