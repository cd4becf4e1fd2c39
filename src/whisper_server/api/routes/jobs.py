"""`/v1/jobs`: transcription in the background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from whisper_server.api.errors import route_path
from whisper_server.api.requests.body import read_form, text_pairs
from whisper_server.api.requests.job_submission import MAX_FILES, JobSubmission, idempotency_key
from whisper_server.api.requests.options import Field, parse_fields
from whisper_server.api.requests.parsers import FLAG, choice, integer, list_of, one_of, text_up_to
from whisper_server.api.requests.text import check_pairs
from whisper_server.api.responses.job_result import render_result
from whisper_server.api.responses.keepalive_response import EVENTS, KeepAliveBody, KeepAliveResponse
from whisper_server.api.sse import sse
from whisper_server.api.state import ServerRequest, key_name
from whisper_server.core.errors import BadOption, JobNotFound
from whisper_server.jobs.job import STATES, Job, JobEvent
from whisper_server.jobs.service import Jobs
from whisper_server.jobs.storage.job_store import JobStore

_KEEPALIVE_SECONDS = 15.0

TEXT = (Field("text", FLAG, "add the text transcribed so far (false)"),)
AFTER = (Field("last_event_id", integer(0, 2**31 - 1), "same as the header Last-Event-ID: only later events"),)
# Their keywords are those of `JobStore.page()`.
PAGE = (
    Field("state", list_of(one_of(*STATES), len(STATES)), "only jobs in these states", "states"),
    Field("model", text_up_to(300), "only jobs with this model"),
    Field("limit", integer(1, 100), "jobs per page (20)"),
    Field("order", choice({"desc": True, "asc": False}), "desc: newest first (desc)", "newest_first"),
    Field("after", text_up_to(100), "the page that follows this job"),
)


def routes(path: str) -> list[Route]:
    """Return the routes of the jobs API under a path."""
    return [
        Route(path, submit_job, methods=["POST"]),
        Route(path, list_jobs),
        Route(f"{path}/{{id}}", show_job),
        Route(f"{path}/{{id}}", delete_job, methods=["DELETE"]),
        Route(f"{path}/{{id}}/result", job_result),
        Route(f"{path}/{{id}}/audio", job_audio),
        Route(f"{path}/{{id}}/events", job_events),
        Route(f"{path}/{{id}}/cancel", cancel_job, methods=["POST"]),
    ]


async def submit_job(request: ServerRequest) -> Response:
    jobs, settings = request.state.jobs, request.state.settings
    owner = key_name(request) or ""
    key = idempotency_key(request)
    if key is None:
        await jobs.query(JobStore.check_room, owner)
    async with read_form(request, max_bytes=settings.max_upload_bytes, max_files=MAX_FILES) as form:
        pairs = text_pairs(request, form)
        submission = JobSubmission.parse(
            form, pairs, models=request.state.models, settings=settings, webhooks=jobs.webhooks
        )
        fingerprint = await run_in_threadpool(submission.fingerprint) if key is not None else ""
        accepted, new = await jobs.submit(
            owner, submission.new_jobs, submission.files, idempotency_key=key, fingerprint=fingerprint
        )
    return await _accepted_response(request, accepted, new=new)


async def list_jobs(request: ServerRequest) -> Response:
    jobs = request.state.jobs
    check_pairs(request.query_params.multi_items())
    filters = parse_fields(PAGE, request.query_params)
    try:
        page, has_more = await jobs.query(JobStore.page, key_name(request), **filters)
    except JobNotFound:
        raise BadOption("after", filters["after"], "the id of a job") from None
    ends = {"first_id": page[0].id if page else None, "last_id": page[-1].id if page else None}
    return JSONResponse({"object": "list", "data": await jobs.to_json(page), **ends, "has_more": has_more})


async def show_job(request: ServerRequest) -> Response:
    jobs, job = await _job(request)
    with_text = parse_fields(TEXT, request.query_params).get("text")
    text = {"text": (await jobs.query(JobStore.text, job)).strip()} if with_text else {}
    return JSONResponse({**await _job_json(jobs, job), **text})


async def job_result(request: ServerRequest) -> Response:
    jobs, job = await _job(request)
    transcript = await jobs.query(JobStore.transcript, job)
    query = request.query_params.multi_items()
    return await run_in_threadpool(render_result, transcript, job, query)


async def job_audio(request: ServerRequest) -> ASGIApp:
    jobs, job = await _job(request)
    # Users upload anything: a browser must not render the file as a page of this server.
    headers = {"x-content-type-options": "nosniff", "content-security-policy": "sandbox"}

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        async with jobs.audio(job) as path:
            file = FileResponse(path, media_type="application/octet-stream", filename=job.file_name, headers=headers)
            await file(scope, receive, send)

    return respond


async def job_events(request: ServerRequest) -> ASGIApp:
    jobs, job = await _job(request)
    after = _last_event_id(request)
    if job.final and after >= job.last_event:
        return Response(status_code=204)

    async def follow(body: KeepAliveBody) -> None:
        await body.write(EVENTS.filler)
        async for events in jobs.follow(job, after=after):
            await body.write(b"".join(_sse(event) for event in events))

    return KeepAliveResponse(follow, EVENTS, interval=_KEEPALIVE_SECONDS)


async def cancel_job(request: ServerRequest) -> Response:
    jobs = request.state.jobs
    return JSONResponse(await _job_json(jobs, await jobs.cancel(request.path_params["id"], key_name(request))))


async def delete_job(request: ServerRequest) -> Response:
    id = request.path_params["id"]
    await request.state.jobs.delete(id, key_name(request))
    return JSONResponse({"id": id, "object": "job", "deleted": True})


async def _accepted_response(request: ServerRequest, accepted: Sequence[Job], *, new: bool) -> Response:
    jobs = request.state.jobs
    root: str = request.scope.get("root_path", "")
    location = root + route_path(request.scope).rstrip("/")
    data = await jobs.to_json(accepted)
    replayed = {} if new else {"idempotent-replayed": "true"}
    if len(data) == 1:
        return JSONResponse(data[0], 202, {"location": f"{location}/{accepted[0].id}", **replayed})
    return JSONResponse({"object": "list", "data": data}, 202, {"location": location, **replayed})


async def _job(request: ServerRequest) -> tuple[Jobs, Job]:
    """Return the service and the job of this request; raises JobNotFound."""
    jobs = request.state.jobs
    return jobs, await jobs.query(JobStore.get, request.path_params["id"], key_name(request))


async def _job_json(jobs: Jobs, job: Job) -> dict[str, Any]:
    (described,) = await jobs.to_json([job])
    return described


def _last_event_id(request: ServerRequest) -> int:
    header = request.headers.get("last-event-id", "").strip()
    texts = {"last_event_id": header} if header else request.query_params
    return int(parse_fields(AFTER, texts).get("last_event_id", 0))


def _sse(event: JobEvent) -> bytes:
    content = {"type": event.kind, "job_id": event.job_id, "at": event.at, **event.facts}
    return sse(content, event=event.kind, id=event.number)
