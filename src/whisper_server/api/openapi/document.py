"""`GET /openapi.json`: the table of operations as OpenAPI 3.1."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from whisper_server import __version__
from whisper_server.api.error_shapes import error_shape
from whisper_server.api.openapi.operations import GUARDED, OPERATIONS, Operation, Response
from whisper_server.api.openapi.schemas import JSON, SCHEMAS, ref
from whisper_server.api.requests.options import Field
from whisper_server.api.requests.parsers import Schema

_AUDIO = ("audio/wav", "application/octet-stream")
_BINARY: Schema = {"type": "string", "format": "binary"}
_ID: Schema = {"type": "string", "minLength": 1}
_KEY = {"key": {"type": "http", "scheme": "bearer", "description": "Needed if the operator has set keys."}}


async def openapi(request: Request) -> JSONResponse:
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
    errors = {**operation.errors, **({} if operation.public else GUARDED)}
    error_content = {JSON: ref(error_shape(operation.path).schema)}
    responses = {**operation.responses, **{status: Response(errors[status], error_content) for status in errors}}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {str(status): _response(responses[status]) for status in sorted(responses)},
    }
    parameters = [_parameter("path", name, _ID) for name in re.findall(r"{(\w+)}", operation.path)]
    parameters += [_parameter("query", field.name, _field(field)) for field in operation.query]
    if parameters:
        described["parameters"] = parameters
    if body := _body(operation):
        described["requestBody"] = body
    if not operation.public:
        described["security"] = [{}, {"key": []}]
    return described


def _parameter(place: str, name: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _response(response: Response) -> dict[str, Any]:
    content = {media_type: {"schema": schema} for media_type, schema in response.content.items()}
    return {"description": response.summary, **({"content": content} if content else {})}


def _body(operation: Operation) -> dict[str, Any] | None:
    if operation.file or operation.fields:
        form = {"multipart/form-data": {"schema": _form(operation)}}
        whole = {"application/octet-stream": {"schema": _BINARY}} if operation.file else {}
        return {"required": True, "content": {**form, **whole}}
    audio = dict.fromkeys(_AUDIO, _BINARY) if operation.audio else {}
    json = {JSON: operation.body} if operation.body is not None else {}
    content = {media_type: {"schema": schema} for media_type, schema in {**audio, **json}.items()}
    return {"content": content} if content else None


def _form(operation: Operation) -> Schema:
    file = {"type": "string", "format": "binary", "description": "the audio"}
    files = {"type": "array", "items": file} if operation.lists_files else file
    return {
        "type": "object",
        "properties": {
            **({operation.file: files} if operation.file else {}),
            **{f.name: _field(f) for f in operation.fields},
            **{f.name: {"type": "array", "items": _field(f)} for f in operation.lists},
        },
        "required": [*([operation.file] if operation.file and not operation.lists_files else []), *operation.required],
    }


def _field(field: Field) -> Schema:
    schema = field.parser.schema
    allowed = schema.get("description")
    return {**schema, "description": f"{field.summary}; {allowed}" if allowed else field.summary}
