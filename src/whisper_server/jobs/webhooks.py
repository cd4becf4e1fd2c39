"""Webhooks: signed requests that report finished jobs, at least once, retried for a day.

Signatures follow Standard Webhooks (https://www.standardwebhooks.com), which OpenAI's clients can verify.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import http.client
import json
import logging
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from threading import Lock
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from whisper_server import __version__
from whisper_server.core.errors import BadAddress
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.job import Job
from whisper_server.jobs.url_fetcher import Deadline, parse_url

logger = logging.getLogger(__name__)

# Seconds until the next attempt, a day in total.
DELAYS = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 30_000)
# After this time, another server may repeat an attempt.
ATTEMPT_SECONDS = 60.0
_TIMEOUT = 15.0  # for the connection, and then for the response
_PREFIX = "whsec_"
# For so long a host that does not respond is left alone, first and at most, in seconds.
_FIRST_PAUSE = 5.0
_MAX_PAUSE = 300.0
_MAX_FAILING_HOSTS = 1000
# A host gets no more calls at the same time, so that others can be called beside one that does not respond.
MAX_CALLS_PER_HOST = 4
_BUSY_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a webhook sends: JSON, and the method of the request."""

    body: bytes
    method: str = "POST"


# Makes the delivery of a finished job, and of its transcript if it has succeeded and the transcript is still there.
MakeDelivery: TypeAlias = Callable[[Job, Transcript | None], Delivery]


def job_event(job: Job, job_json: Mapping[str, Any]) -> Delivery:
    """Return the event that reports a finished job."""
    content = {"type": f"job.{job.state}", "created_at": job.finished_at, "data": job_json}
    event = {"id": _event_id(job), "object": "event", **content}
    return Delivery(json.dumps(event, ensure_ascii=False).encode())


@dataclass(slots=True)
class _FailingHost:
    """It is left alone until a time of the monotonic clock; then it is `tried` with one call."""

    failures: int = 0
    until: float = 0.0
    tried: bool = True


class Webhooks:
    """Calls the hosts that the operator allows, given by name or as `*.example.org`."""

    def __init__(
        self,
        hosts: Sequence[str],
        secret: str,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._hosts = tuple(hosts)
        self._secret = _bytes_of(secret)
        self._clock = clock
        self._monotonic = monotonic
        self._context = context or ssl.create_default_context()
        self._calls: Counter[str] = Counter()
        self._failing: dict[str, _FailingHost] = {}
        self._lock = Lock()

    def check(self, url: str, *, param: str = "callback_url") -> None:
        """Raise BadAddress for a URL that may not be called; `param` is the name of the client's parameter."""
        host = (parse_url(url, param).hostname or "").lower()
        if not any(fnmatchcase(host, pattern) for pattern in self._hosts):
            exc = BadAddress(f"{param}: {host} is not among the hosts that the operator allows (--webhook-host)")
            exc.param = param
            raise exc

    def deliver(self, job: Job, delivery: Delivery) -> bool:
        """Make one attempt to report a finished job; return whether the receiver accepted it."""
        try:
            self.check(job.callback_url)  # the settings may have changed since the job was submitted
            with self._counted(_host(job.callback_url)):
                status = self._send(job.callback_url, delivery, self.headers(_event_id(job), delivery.body))
        except (BadAddress, OSError, http.client.HTTPException, ValueError) as exc:
            logger.warning("the webhook of job %s failed: %s", job.id, exc)
            self._record_failure(job.callback_url)
            return False
        self._failing.pop(_host(job.callback_url), None)
        if not 200 <= status < 300:
            logger.warning("the webhook of job %s got the status %d", job.id, status)
        return 200 <= status < 300

    def pause(self, url: str) -> float:
        """Return for how many seconds the URL's host is left alone; 0 if it may be called.

        It is left alone after a call without a response, and while it has too many calls. After the pause one call is
        made, and meanwhile the others wait.
        """
        with self._lock:
            host, now = self._failing.get(_host(url)), self._monotonic()
            if host is None:
                return _BUSY_PAUSE if self._calls[_host(url)] >= MAX_CALLS_PER_HOST else 0.0
            if now < host.until:
                return host.until - now
            host.until, host.tried = now + ATTEMPT_SECONDS, True
            return 0.0

    @contextmanager
    def _counted(self, host: str) -> Iterator[None]:
        with self._lock:
            self._calls[host] += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls[host] -= 1
                if not self._calls[host]:
                    del self._calls[host]

    def _record_failure(self, url: str) -> None:
        with self._lock:
            if len(self._failing) >= _MAX_FAILING_HOSTS:
                self._failing.clear()
            host = self._failing.setdefault(_host(url), _FailingHost())
            if host.tried:  # otherwise the call began before another one failed
                pause = min(_MAX_PAUSE, _FIRST_PAUSE * 2**host.failures)
                host.failures, host.until, host.tried = host.failures + 1, self._monotonic() + pause, False

    def headers(self, id: str, body: bytes) -> dict[str, str]:
        """Return the headers with the signature of a body; `id` is that of the event."""
        now = str(int(self._clock()))
        digest = hmac.new(self._secret, f"{id}.{now}.".encode() + body, sha256).digest()
        return {
            "content-type": "application/json",
            "user-agent": f"whisper-server/{__version__}",
            "webhook-id": id,
            "webhook-timestamp": now,
            "webhook-signature": "v1," + base64.b64encode(digest).decode(),
        }

    def _send(self, url: str, delivery: Delivery, headers: Mapping[str, str]) -> int:
        parts = urlsplit(url)
        host = parts.hostname or ""
        connection: http.client.HTTPConnection
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, parts.port, timeout=_TIMEOUT, context=self._context)
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=_TIMEOUT)
        with closing(connection):
            connection.connect()
            with Deadline(connection.sock.dup(), _TIMEOUT):
                connection.request(delivery.method, path, delivery.body, dict(headers))
                return connection.getresponse().status


def _host(url: str) -> str:
    return urlsplit(url).netloc.lower()


def _event_id(job: Job) -> str:
    """All attempts have the same id, so that receivers can recognise repetitions."""
    return "evt_" + job.id.removeprefix("job_")


def _bytes_of(secret: str) -> bytes:
    """Standard Webhooks writes secrets as whsec_BASE64; other secrets are used as they are."""
    if secret.startswith(_PREFIX):
        with suppress(binascii.Error):
            return base64.b64decode(secret[len(_PREFIX) :], validate=True)
    return secret.encode()
