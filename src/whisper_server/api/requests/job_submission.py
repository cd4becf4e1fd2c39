"""The fields of `POST /v1/jobs`: those of OpenAI's transcription endpoint, and those that only jobs have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from whisper_server.api.requests.body import upload_digest
from whisper_server.api.requests.form_notation import FormFields
from whisper_server.api.requests.openai_form import parse_openai_form
from whisper_server.api.requests.options import Field, default_window, parse_fields
from whisper_server.api.requests.parsers import FLAG, text_up_to
from whisper_server.core.errors import BadOption, NoFileProvided, NoFileSelected
from whisper_server.core.logs import escape
from whisper_server.core.settings import Settings
from whisper_server.engine.model_admin import ModelAdmin
from whisper_server.jobs.job import NewJob
from whisper_server.jobs.url_fetcher import file_name_of, parse_url
from whisper_server.jobs.webhooks import Webhooks

MAX_FILES = 100

_URL = text_up_to(2_000)
SINGLE = (
    Field("callback_url", _URL, "called when the job ends; its host must be one of --webhook-host"),
    Field("keep_audio", FLAG, "keep the audio as long as the job (false)"),
)
LISTS = (Field("url", _URL, "http or https: the server downloads the audio; only with --allow-url-fetch"),)

_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)
_MAX_NAME_LENGTH = 255


@dataclass(frozen=True, slots=True)
class JobSubmission:
    """The jobs of one request; `files` has the upload of each, or None for a job with a URL."""

    new_jobs: list[NewJob]
    files: list[BinaryIO | None]
    pairs: list[tuple[str, str]]

    @classmethod
    def parse(
        cls,
        form: FormData,
        pairs: Sequence[tuple[str, str]],
        *,
        models: ModelAdmin,
        settings: Settings,
        webhooks: Webhooks,
    ) -> JobSubmission:
        """Raises BadOption, BadAddress, ModelNotFound, NoFileProvided or NoFileSelected."""
        fields = FormFields.collect(pairs)
        job_options = parse_fields(SINGLE, {field.name: fields.value(field.name) for field in SINGLE})
        if job_options.get("callback_url"):
            webhooks.check(job_options["callback_url"])
        uploads, urls = _uploads(form), list(_urls(fields, settings))
        if not uploads and not urls:
            raise NoFileProvided
        if len(uploads) + len(urls) > MAX_FILES:
            raise BadOption("file", f"{len(uploads) + len(urls)} files", f"at most {MAX_FILES}")
        common = {**_transcription_options(pairs, models, settings), **job_options}
        new_jobs = [NewJob(file_name=_printable(upload.filename or ""), **common) for upload in uploads]
        new_jobs += [NewJob(file_name=_printable(file_name_of(url)), url=url, **common) for url in urls]
        return cls(new_jobs, [*(upload.file for upload in uploads), *(None for _ in urls)], list(pairs))

    def fingerprint(self) -> str:
        """Return a digest of the fields and the files, which only a repetition of this request shares."""
        digest = sha256(repr((self.pairs, [job.file_name for job in self.new_jobs])).encode())
        for file in self.files:
            digest.update(upload_digest(file) if file is not None else b"")
        return digest.hexdigest()


def idempotency_key(request: Request[Any]) -> str | None:
    """Raises BadOption."""
    key = request.headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise BadOption("Idempotency-Key", key, "1 to 255 visible ASCII characters")
    return key


def _transcription_options(pairs: Sequence[tuple[str, str]], models: ModelAdmin, settings: Settings) -> dict[str, Any]:
    request = parse_openai_form(pairs, task="transcribe")
    if request.stream:
        raise BadOption("stream", True, "false: follow the events of the job instead")
    execution = {"encoder_window": default_window(request.execution, settings), **request.execution}
    return {
        "model": models.id_of(execution.pop("model")),
        "task": request.task,
        "response_format": request.response_format,
        "decoding": request.decoding,
        "handling": execution,
        "fields": tuple(pairs),
    }


def _uploads(form: FormData) -> list[UploadFile]:
    parts = [*form.getlist("file"), *form.getlist("file[]")]
    uploads = [upload for upload in parts if isinstance(upload, UploadFile)]
    if not all(upload.filename for upload in uploads):
        raise NoFileSelected
    return uploads


def _urls(fields: FormFields, settings: Settings) -> Iterable[str]:
    for url in (text.strip() for text in fields.texts.get("url", []) if text.strip()):
        if not settings.allow_url_fetch:
            raise BadOption("url", url, "an uploaded file: this server downloads nothing without --allow-url-fetch")
        parse_url(LISTS[0].parse(url))
        yield url


def _printable(file_name: str) -> str:
    """Return the file name for display; it never becomes part of a path."""
    return escape(file_name, lambda _: "�")[-_MAX_NAME_LENGTH:]
