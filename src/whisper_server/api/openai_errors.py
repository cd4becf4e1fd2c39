"""Errors in OpenAI's shape: {"error": {"message", "type", "param", "code"}}, with what its clients want to know."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from whisper_server.errors import (
    AudioTooLong,
    BadAudio,
    BadOption,
    DeadlinePassed,
    ModelIsServed,
    ModelNotFound,
    NoFileProvided,
    NoFileSelected,
    Overloaded,
    UploadTooLarge,
    WhisperServerError,
)

_PREFIX = "/v1"
_RETRY_AFTER = 5
# With any other status a second attempt would end as the first did.
_WORTH_A_RETRY = (408, 429, 503)


def speaks_openai(request: Request) -> bool:
    path = request.url.path
    return path == _PREFIX or path.startswith(_PREFIX + "/")


def error_body(exc: WhisperServerError) -> dict[str, Any]:
    param, code = next((found for kind, found in _PARAM_AND_CODE.items() if isinstance(exc, kind)), (None, None))
    return described(str(exc), exc.status, exc.field if isinstance(exc, BadOption) else param, code)


def described(message: str, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def retry_headers(exc: Exception | None, status: int) -> dict[str, str]:
    """Whether and when to ask again, for clients that otherwise do so by themselves after a 409 or a 5xx."""
    if status not in _WORTH_A_RETRY:
        return {"x-should-retry": "false"}
    return {"retry-after": str(exc.retry_after if isinstance(exc, Overloaded) else _RETRY_AFTER)}


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

_PARAM_AND_CODE: dict[type[WhisperServerError], tuple[str | None, str | None]] = {
    NoFileProvided: ("file", "missing_required_parameter"),
    NoFileSelected: ("file", "missing_required_parameter"),
    BadAudio: ("file", "invalid_audio"),
    UploadTooLarge: ("file", "file_too_large"),
    AudioTooLong: ("file", "audio_too_long"),
    BadOption: (None, "invalid_value"),
    ModelNotFound: ("model", "model_not_found"),
    ModelIsServed: ("model", "model_in_use"),
    DeadlinePassed: ("timeout", "timeout"),
    Overloaded: (None, "overloaded"),
}
