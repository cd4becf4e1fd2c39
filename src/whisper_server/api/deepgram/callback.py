"""Requests with a callback: jobs whose webhook has Deepgram's form."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from starlette.datastructures import QueryParams

from whisper_server.api.deepgram.file_options import FileRequest, parse_file_request
from whisper_server.api.deepgram.response import AboutRequest, transcription
from whisper_server.api.requests.options import run_options
from whisper_server.api.state import ServerRequest
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.job import Job, NewJob
from whisper_server.jobs.url_fetcher import file_name_of
from whisper_server.jobs.webhooks import Delivery

# The response format of such jobs.
FORMAT = "deepgram"
# Stored beside the parameters of the query, none of which has this name.
_DIGEST = "sha256 of the file"


def new_job(request: ServerRequest, parsed: FileRequest, *, url: str, sha256: str) -> NewJob:
    """Return the job; raises ModelNotFound. `sha256` is empty for a file that is still to be downloaded."""
    run = run_options(parsed.execution, request.state.settings)
    return NewJob(
        file_name=file_name_of(url) if url else "audio",
        model=request.state.models.id_of(run.model),
        response_format=FORMAT,
        decoding=parsed.decoding,
        handling={"encoder_window": run.encoder_window, "languages": run.languages},
        fields=(*request.query_params.multi_items(), (_DIGEST, sha256)),
        url=url,
        callback_url=parsed.callback,
    )


def request_id_of(job: Job) -> str:
    """Return the job's id in the form of Deepgram's ids, which is that of a UUID."""
    return str(UUID(hex=job.id.removeprefix("job_")))


def delivery(job: Job, transcript: Transcript | None) -> Delivery:
    """Return what the callback gets: the response of a job that has succeeded, otherwise an error."""
    method = parse_file_request(QueryParams(list(job.fields))).callback_method
    content = _error(job) if transcript is None else _response(job, transcript)
    return Delivery(json.dumps(content, ensure_ascii=False).encode(), method)


def _response(job: Job, transcript: Transcript) -> dict[str, Any]:
    fields = QueryParams(list(job.fields))
    created = datetime.fromtimestamp(job.created_at, timezone.utc)
    about = AboutRequest(request_id_of(job), fields[_DIGEST], created, job.model)
    return transcription([transcript], parse_file_request(fields).rendering, about)


def _error(job: Job) -> dict[str, Any]:
    message = (job.error or {}).get("message") or f"the request was {job.state}"
    return {"err_code": "TRANSCRIPTION_FAILED", "err_msg": message, "request_id": request_id_of(job)}
