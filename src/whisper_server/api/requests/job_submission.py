"""What `POST /v1/jobs` asks for: the fields of OpenAI's transcription endpoint, and a job's own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from whisper_server.api.requests.form_notation import BracketedFields
from whisper_server.api.requests.openai_form import parse_contract
from whisper_server.api.requests.options import Field, default_window
from whisper_server.api.requests.parsers import Flag, Text
from whisper_server.core.errors import BadOption, NoFileProvided, NoFileSelected
from whisper_server.core.settings import Settings
from whisper_server.engine.model_admin import ModelAdmin
from whisper_server.jobs.job import NewJob
from whisper_server.jobs.url_fetcher import file_name_of, parse_url
from whisper_server.jobs.webhooks import Webhooks

MOST_FILES = 100

_ADDRESS = Text(2_000)
SINGLE = (
    Field("callback_url", _ADDRESS, "told when the job ends; its host must be one of --webhook-host"),
    Field("keep_audio", Flag(), "keep the file as long as the job (false)"),
)
LISTS = (Field("url", _ADDRESS, "http or https: fetched by the server; only with --allow-url-fetch"),)

_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)
_BLOCK = 1 << 20
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class Submission:
    """Jobs that are to be, each with its file or none if it has an address."""

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
    ) -> Submission:
        """Return what is asked for; raises BadOption, BadAddress, ModelNotFound, NoFileProvided or NoFileSelected."""
        fields = BracketedFields.gather(pairs)
        own = {field.name: field.parse(fields.one(field.name)) for field in SINGLE if fields.one(field.name).strip()}
        if own.get("callback_url"):
            webhooks.check(own["callback_url"])
        uploads, urls = _uploads(form), list(_addresses(fields, settings))
        if not uploads and not urls:
            raise NoFileProvided
        if len(uploads) + len(urls) > MOST_FILES:
            raise BadOption("file", f"{len(uploads) + len(urls)} files", f"up to {MOST_FILES}")
        common = {**_asked(pairs, models, settings), **own}
        new_jobs = [NewJob(file_name=_name(upload.filename or ""), **common) for upload in uploads]
        new_jobs += [NewJob(file_name=_name(file_name_of(url)), url=url, **common) for url in urls]
        return cls(new_jobs, [*(upload.file for upload in uploads), *(None for _ in urls)], list(pairs))

    def fingerprint(self) -> str:
        """Return what is the same for a request and its repetitions only; reads the files."""
        digest = hashlib.sha256(repr((self.pairs, [draft.file_name for draft in self.new_jobs])).encode())
        for file in self.files:
            digest.update(_digest(file) if file is not None else b"")
        return digest.hexdigest()


def idempotency_key(request: Request[Any]) -> str | None:
    """Raises BadOption."""
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise BadOption("Idempotency-Key", key, "1 to 255 visible characters")
    return key


def _asked(pairs: Sequence[tuple[str, str]], models: ModelAdmin, settings: Settings) -> dict[str, Any]:
    asked = parse_contract(pairs, task="transcribe")
    if asked.stream:
        raise BadOption("stream", True, "false: a job's events follow it")
    handling = {"encoder_window": default_window(asked.handling, settings), **asked.handling}
    return {
        "model": models.id_of(handling.pop("model")),
        "task": asked.task,
        "response_format": asked.response_format,
        "decoding": asked.decoding,
        "handling": handling,
        "fields": tuple(pairs),
    }


def _uploads(form: FormData) -> list[UploadFile]:
    given = [*form.getlist("file"), *form.getlist("file[]")]
    uploads = [upload for upload in given if isinstance(upload, UploadFile)]
    if not all(upload.filename for upload in uploads):
        raise NoFileSelected
    return uploads


def _addresses(fields: BracketedFields, settings: Settings) -> Iterable[str]:
    for url in (text.strip() for text in fields.texts.get("url", []) if text.strip()):
        if not settings.allow_url_fetch:
            raise BadOption("url", url, "a file: this server fetches nothing without --allow-url-fetch")
        parse_url(LISTS[0].parse(url))
        yield url


def _name(text: str) -> str:
    """What is shown of a name that a client gives; no path is made of it."""
    shown = "".join(character if character.isprintable() else "�" for character in text)
    return shown[-_LONGEST_NAME:]


def _digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
    file.seek(0)
    return digest.digest()
