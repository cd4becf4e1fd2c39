"""The bodies of errors: each API has a shape of its own, and the path says which API it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    """`schema` is the name of the body in /openapi.json."""

    schema: str
    body: Callable[[Problem], dict[str, Any]]


def openai_body(problem: Problem) -> dict[str, Any]:
    kind = _OPENAI_TYPES.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    error = {"message": problem.message, "type": kind, "param": problem.param, "code": problem.code}
    return {"error": error}


def error_shape(path: str) -> ErrorShape:
    """Return the shape of the errors of a path (as `route_path` returns it)."""
    return next((shape for prefix, shape in _BY_PATH if path == prefix or path.startswith(f"{prefix}/")), _REFERENCE)


OPENAI = ErrorShape("OpenAIError", openai_body)
# That of the reference project, and of whisper.cpp.
_REFERENCE = ErrorShape("Error", lambda problem: {"error": problem.message})
_DETAIL = ErrorShape("DetailError", lambda problem: {"detail": problem.message})

# The first match counts.
_BY_PATH = (
    ("/asr", _DETAIL),
    ("/detect-language", _DETAIL),
    ("/v1", OPENAI),
)
