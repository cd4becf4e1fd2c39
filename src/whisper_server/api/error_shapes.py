"""The shapes of errors: each API has one of its own, and the path says which API it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from whisper_server.core.logs import request_id

_NOT_IN_HEADERS = re.compile(r"[^ -~]")
_MAX_HEADER = 300
# Where Deepgram's code is not the phrase of the status.
_DEEPGRAM_CODES = {401: "INVALID_AUTH", 403: "INSUFFICIENT_PERMISSIONS", 429: "TOO_MANY_REQUESTS"}
_OPENAI_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


@dataclass(frozen=True, slots=True)
class Problem:
    """What every shape is made of. `code` names the error, and `param` the field that it is about."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """`schema` is the name of the body in /openapi.json; `headers` are added to the response of an error.

    All responses of the API have the request's id in the headers `id_headers`.
    """

    schema: str
    body: Callable[[Problem], dict[str, Any]]
    headers: Callable[[Problem], Mapping[str, str]] = lambda problem: {}
    id_headers: tuple[str, ...] = ()


def openai_body(problem: Problem) -> dict[str, Any]:
    kind = _OPENAI_TYPES.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    error = {"message": problem.message, "type": kind, "param": problem.param, "code": problem.code}
    return {"error": error}


def _deepgram_body(problem: Problem) -> dict[str, Any]:
    code = _DEEPGRAM_CODES.get(problem.status) or HTTPStatus(problem.status).phrase
    return {"err_code": code, "err_msg": problem.message, "request_id": request_id.get()}


def _deepgram_headers(problem: Problem) -> Mapping[str, str]:
    """Return the message as a header, which clients of WebSockets see although they do not read the body."""
    return {"dg-error": _NOT_IN_HEADERS.sub("?", problem.message)[:_MAX_HEADER]}


def error_shape(path: str) -> ErrorShape:
    """Return the shape of the errors of a path (as `route_path` returns it)."""
    return next((shape for prefix, shape in _BY_PATH if is_below(path, prefix)), _REFERENCE)


def is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


OPENAI = ErrorShape("OpenAIError", openai_body)
# That of the reference project, and of whisper.cpp.
_REFERENCE = ErrorShape("Error", lambda problem: {"error": problem.message})
_DETAIL = ErrorShape("DetailError", lambda problem: {"detail": problem.message})
_DEEPGRAM = ErrorShape("DeepgramError", _deepgram_body, _deepgram_headers, ("dg-request-id",))

# The first match counts.
_BY_PATH = (
    ("/asr", _DETAIL),
    ("/detect-language", _DETAIL),
    ("/v1/auth", _DEEPGRAM),
    ("/v1/listen", _DEEPGRAM),
    ("/v2/listen", _DEEPGRAM),
    ("/v1", OPENAI),
)
