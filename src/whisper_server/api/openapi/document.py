"""`GET /openapi.json`: the table of operations as OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from whisper_server import __version__
from whisper_server.api.openapi.operations import OPERATIONS, Answer, Operation, guarded
from whisper_server.api.openapi.schemas import SCHEMAS
from whisper_server.api.requests.options import Field
from whisper_server.api.requests.parsers import Schema

_KEY = {"key": {"type": "http", "scheme": "bearer", "description": "Needed if the operator has set keys."}}


async def openapi(request: Request) -> Response:
    root: str = request.scope.get("root_path", "")
    return JSONResponse(document(OPERATIONS, server=root or "/"))


def document(operations: Iterable[Operation], *, server: str) -> dict[str, Any]:
    """Return the OpenAPI document of the operations, which are served below that path."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "whisper-server", "version": __version__},
        "servers": [{"url": server}],
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": _KEY},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    answers = {**operation.answers, **({} if operation.open else guarded(operation.path))}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {str(status): _answer(answers[status]) for status in sorted(answers)},
    }
    if parameters := [*map(_parameter, operation.parameters), *map(_query, operation.query)]:
        described["parameters"] = parameters
    if body := _body(operation):
        described["requestBody"] = body
    if not operation.open:
        described["security"] = [{}, {"key": []}]
    return described


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query(described: Field) -> dict[str, Any]:
    return {"name": described.name, "in": "query", "required": False, "schema": _field(described)}


def _answer(answer: Answer) -> dict[str, Any]:
    content = {media_type: {"schema": schema} for media_type, schema in answer.content.items()}
    return {"description": answer.summary, **({"content": content} if content else {})}


def _body(operation: Operation) -> dict[str, Any] | None:
    if operation.file or operation.fields:
        return {"required": True, "content": {"multipart/form-data": {"schema": _form(operation)}}}
    if operation.audio:
        sound = {"schema": {"type": "string", "format": "binary"}}
        return {"content": {"audio/wav": sound, "application/octet-stream": sound}}
    if operation.body is not None:
        return {"content": {"application/json": {"schema": operation.body}}}
    return None


def _form(operation: Operation) -> Schema:
    one = {"type": "string", "format": "binary", "description": "the audio"}
    file = {"file": {"type": "array", "items": one} if operation.lists_files else one} if operation.file else {}
    return {
        "type": "object",
        "properties": {
            **file,
            **{f.name: _field(f) for f in operation.fields},
            **{f.name: {"type": "array", "items": _field(f)} for f in operation.lists},
        },
        "required": list(file) if not operation.lists_files else [],
    }


def _field(described: Field) -> Schema:
    schema = described.parser.schema()
    allowed = schema.get("description")
    return {**schema, "description": f"{described.summary}; {allowed}" if allowed else described.summary}
