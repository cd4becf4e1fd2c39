"""A server's queue of jobs, as a client sees it (docs/jobs.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import httpx2

from whisper_server.cli.server_options import KEY_VARIABLE, refusal

Job: TypeAlias = dict[str, Any]

FINAL = frozenset({"succeeded", "failed", "cancelled"})
_BUSY = frozenset({429, 502, 503, 504})
_TIMEOUT = httpx2.Timeout(30, read=120, write=120)
_LONGEST_WAIT = 30.0
_CHUNK = 2**20


class RequestRefused(OSError):
    """The server has answered, and it is no."""


class ServerUnreachable(OSError):
    """No server answers there."""


@dataclass
class RetryDelay:
    """How long to wait before the next attempt: longer each time, or as the server says. `tell` hears why."""

    tell: Callable[[str], None]
    wait: Callable[[float], None] = time.sleep
    delay: float = 1.0

    def next(self, why: str, retry_after: str | None = None) -> None:
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else self.delay
        self.tell(f"{why}; trying again in {seconds:.0f} s")
        self.wait(min(seconds, _LONGEST_WAIT))
        self.delay = min(2 * self.delay, _LONGEST_WAIT)


class JobsClient:
    """At `url`. A server that is busy, or away for a while, is asked again; `tell` hears of that."""

    def __init__(self, url: str, api_key: str = "", *, tell: Callable[[str], None], verify: bool | str = True) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx2.Client(base_url=url.rstrip("/"), headers=headers, timeout=_TIMEOUT, verify=verify)
        self._tell = tell

    def __enter__(self) -> JobsClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def check(self) -> None:
        """Raise ServerUnreachable or RequestRefused at once, rather than after an upload."""
        try:
            answer = self._client.get("/v1/jobs", params={"limit": 1})
        except httpx2.TransportError as exc:
            raise ServerUnreachable(f"no server answers at {self._client.base_url}: {exc}") from exc
        if answer.status_code not in _BUSY:
            _checked(answer)

    def submit(
        self,
        path: Path,
        fields: Mapping[str, str],
        *,
        again: bool = False,
        sent: Callable[[int], None] = lambda _: None,
    ) -> Job:
        """Return the job of that file and those fields: the one that there is, unless it failed, or a new one.

        `sent` hears of the bytes that are on their way. Raises RequestRefused or OSError.
        """
        key = uuid4().hex if again else _digest(path, fields)
        while True:
            job = self._post(path, fields, key, sent)
            if again or job["state"] not in ("failed", "cancelled"):
                return job
            key = sha256(f"{key} after {job['id']}".encode()).hexdigest()

    def _post(self, path: Path, fields: Mapping[str, str], key: str, sent: Callable[[int], None]) -> Job:
        def send() -> httpx2.Response:
            with _Counted(path, sent) as file:
                files = {"file": (path.name, file)}
                return self._client.post("/v1/jobs", data=fields, files=files, headers={"idempotency-key": key})

        job: Job = self._persistently(send).json()
        return job

    def look(self, job_id: str) -> Job:
        """Raises RequestRefused, of a job that is gone, too."""
        job: Job = self._persistently(lambda: self._client.get(f"/v1/jobs/{job_id}")).json()
        return job

    def result(self, job_id: str, response_format: str) -> bytes:
        path, query = f"/v1/jobs/{job_id}/result", {"response_format": response_format}
        return self._persistently(lambda: self._client.get(path, params=query)).content

    def _persistently(self, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        patience = RetryDelay(self._tell)
        while True:
            try:
                answer = send()
            except httpx2.TransportError as exc:
                patience.next(f"the server does not answer ({exc or type(exc).__name__})")
                continue
            if answer.status_code in _BUSY:
                patience.next(f"the server is busy: {_message(answer)}", answer.headers.get("retry-after"))
                continue
            return _checked(answer)


class _Counted(BufferedReader):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, sent: Callable[[int], None]) -> None:
        super().__init__(FileIO(path))
        self._sent = sent

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        self._sent(len(chunk))
        return chunk


def _digest(path: Path, fields: Mapping[str, str]) -> str:
    """The same for the same sound, name and fields, so that a command that is given again finds its jobs."""
    digest = sha256(repr((path.name, sorted(fields.items()))).encode())
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _checked(answer: httpx2.Response) -> httpx2.Response:
    if answer.status_code == 401:
        raise RequestRefused(f"{_message(answer)} (--api-key, or {KEY_VARIABLE})")
    if answer.is_success:
        return answer
    raise RequestRefused(_message(answer))


def _message(answer: httpx2.Response) -> str:
    return refusal(answer.content) or f"{answer.status_code} {answer.reason_phrase} from {answer.url}"
