"""A client of the jobs API (docs/jobs.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import httpx2

from whisper_server.cli.client.server_options import KEY_VARIABLE, error_message

Job: TypeAlias = dict[str, Any]

FINAL = frozenset({"succeeded", "failed", "cancelled"})
_RETRYABLE = frozenset({429, 502, 503, 504})
_TIMEOUT = httpx2.Timeout(30, read=120, write=120)
_MAX_DELAY = 30.0
_BLOCK = 2**20


class RequestRefused(OSError):
    """The server responds with an error."""


class ServerUnreachable(OSError):
    """No server responds at this URL."""


class JobsClient:
    """Repeats a request while the server is busy or unreachable; `report` gets a line of text for each attempt."""

    def __init__(self, url: str, api_key: str, *, report: Callable[[str], None]) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx2.Client(base_url=url.rstrip("/"), headers=headers, timeout=_TIMEOUT)
        self._report = report

    def close(self) -> None:
        self._client.close()

    def check(self) -> None:
        """Raise ServerUnreachable or RequestRefused at once, rather than after an upload."""
        try:
            response = self._client.get("/v1/jobs", params={"limit": 1})
        except httpx2.TransportError as exc:
            raise ServerUnreachable(f"no server responds at {self._client.base_url}: {exc}") from exc
        if response.status_code not in _RETRYABLE:
            _raise_for_status(response)

    def submit(self, path: Path, fields: Mapping[str, str], *, again: bool, on_sent: Callable[[int], None]) -> Job:
        """Return the existing job for this file and these fields unless it failed, or else a new one.

        `on_sent` gets the number of bytes of each block that is sent. Raises RequestRefused or OSError.
        """
        key = uuid4().hex if again else _digest(path, fields)
        while True:
            job = self._post(path, fields, key, on_sent)
            if again or job["state"] not in ("failed", "cancelled"):
                return job
            key = sha256(f"{key} after {job['id']}".encode()).hexdigest()

    def _post(self, path: Path, fields: Mapping[str, str], key: str, on_sent: Callable[[int], None]) -> Job:
        def send() -> httpx2.Response:
            with _UploadFile(path, on_sent) as file:
                files = {"file": (path.name, file)}
                return self._client.post("/v1/jobs", data=fields, files=files, headers={"idempotency-key": key})

        job: Job = self._retry(send).json()
        return job

    def get(self, job_id: str) -> Job:
        """Return the job; raises RequestRefused, also if the job no longer exists."""
        job: Job = self._retry(lambda: self._client.get(f"/v1/jobs/{job_id}")).json()
        return job

    def result(self, job_id: str, response_format: str) -> bytes:
        path, query = f"/v1/jobs/{job_id}/result", {"response_format": response_format}
        return self._retry(lambda: self._client.get(path, params=query)).content

    def _retry(self, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        """Wait between attempts: twice as long each time, or as long as the server says."""
        delay = 1.0
        while True:
            retry_after = ""
            try:
                response = send()
            except httpx2.TransportError as exc:
                reason = f"the server does not respond ({exc or type(exc).__name__})"
            else:
                if response.status_code not in _RETRYABLE:
                    return _raise_for_status(response)
                reason = f"the server is busy: {_message(response)}"
                retry_after = response.headers.get("retry-after", "")
            seconds = min(float(retry_after) if retry_after.isdecimal() else delay, _MAX_DELAY)
            self._report(f"{reason}; trying again in {seconds:.0f} s")
            time.sleep(seconds)
            delay *= 2


class _UploadFile(BufferedReader):
    """A file that reports how much of it is read."""

    def __init__(self, path: Path, on_read: Callable[[int], None]) -> None:
        super().__init__(FileIO(path))
        self._on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        self._on_read(len(block))
        return block


def _digest(path: Path, fields: Mapping[str, str]) -> str:
    """Return the same key for the same content, name and fields, so that a repeated command finds its jobs."""
    digest = sha256(repr((path.name, sorted(fields.items()))).encode())
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _raise_for_status(response: httpx2.Response) -> httpx2.Response:
    if response.status_code == 401:
        raise RequestRefused(f"{_message(response)} (--api-key, or {KEY_VARIABLE})")
    if response.is_success:
        return response
    raise RequestRefused(_message(response))


def _message(response: httpx2.Response) -> str:
    return error_message(response.content) or f"{response.status_code} {response.reason_phrase} from {response.url}"
