"""Every error that a client or an operator can see. WhisperServerErrors carry their HTTP status and headers.

SettingsError                       a setting is wrong, and the server does not start
WhisperServerError
├── BadRequest                400   the request cannot be understood
│   ├── NoFileProvided        400
│   │   └── NoFileSelected    400
│   ├── NoTextProvided        400   the text to align is missing
│   ├── BadOption             400   the value of a field is out of range
│   ├── BadAudio              400   the upload is not audio that can be decoded
│   ├── BadAddress            400   a URL that the server may not fetch or call
│   └── BadMessage            400   a malformed message in a live session
├── Unauthorized              401   the API key is missing or unknown
├── ScopeMissing              403   the API key may not change the models of the server
├── OriginRefused             403   a web page of another origin sent the request
├── UploadTimedOut            408   the client stopped sending, or sends too slowly
├── SessionIdle               408   a live session received nothing for too long
├── SessionTooLong            408   a live session reached its time limit
├── UploadTooLarge            413
├── UnsupportedEncoding       415   the Content-Encoding of the body is not supported
├── AudioTooLong              413
├── HostRefused               421   the Host header does not name this server
├── TryAgainLater                   has a Retry-After header
│   ├── TooManyRequests       429   an API key has used up its quota
│   │   └── TooManyJobs       429   too many unfinished jobs
│   ├── UploadNotStored       507   the temporary directory is full or broken
│   ├── JobsUnavailable       503   the database or the data directory of the jobs is broken
│   │   └── StorageFull       507   the disk that stores the jobs is full
│   ├── Overloaded            503   too many requests are running or waiting
│   │   └── OutOfMemory       503   no device has enough free memory for the model
│   └── ServerStopping        503   the server is shutting down and ends its live sessions
├── PathNotFound              404   no WebSocket at this path
├── JobNotFound               404   no such job, or one of another API key
├── JobState                  409   the operation does not fit the state of the job
├── IdempotencyKeyReused      422   the key was used with a different request
├── FetchFailed               502   the audio of a job could not be downloaded
├── LeaseLost                       another server has taken over the job
├── ModelNotFound             404   no such model, or not one that a client may request
├── ModelIsServed             409   the default model cannot be unloaded
├── ModelInUse                409   requests use the model whose files a client wants to delete
├── ModelNotDeletable         409   the files of the model are not the server's to delete
├── ModelUnavailable          503   the model hub does not respond
├── ModelLoadFailed           500   the files of the model exist but do not work
│   └── ModelIncomplete       500   some of the files are missing
├── EngineFailed              500   a worker of the model crashed
├── AddressUnavailable        500   the server cannot listen on its address, and does not start
├── DeadlinePassed            504   the request exceeded its time limit
└── Cancelled                 503   the client disconnected or the server is shutting down
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping


class HintedError(Exception):
    """`message` says what is wrong and `hint`, if there is one, what to do about it. `str()` has both."""

    message = ""
    hint = ""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message or self.message
        self.hint = hint or self.hint

    def __str__(self) -> str:
        return f"{self.message}. What to do: {self.hint}" if self.hint else self.message


class SettingsError(HintedError, ValueError):
    """A setting is wrong; the message is one sentence for the operator."""


class WhisperServerError(HintedError):
    """`code` names the error and `param` the field it is about, in the responses to clients.

    `is_limit` says that the operator's settings ask for it, so that it is no error in the log.
    """

    status = 500
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = {}
    is_limit = False

    @property
    def log_level(self) -> int:
        """One of the levels of `logging`."""
        if self.status < 500:
            return logging.INFO
        return logging.WARNING if self.is_limit else logging.ERROR


class BadRequest(WhisperServerError):
    status = 400


class NoFileProvided(BadRequest):
    code = "missing_required_parameter"
    param = "file"
    message = "No file provided"


class NoFileSelected(NoFileProvided):
    message = "No file selected"


class NoTextProvided(BadRequest):
    code = "missing_required_parameter"
    param = "text"
    message = "No text provided"


class BadOption(BadRequest):
    code = "invalid_value"

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {_shorten(value)} is not allowed; expected {allowed}")
        self.param = field


class BadAudio(BadRequest):
    code = "invalid_audio"
    param = "file"


class BadMessage(BadRequest):
    code = "invalid_message"


class Unauthorized(WhisperServerError):
    status = 401
    code = "invalid_api_key"
    message = "the API key is missing or unknown; send it as Authorization: Bearer KEY"
    headers = {"www-authenticate": "Bearer"}


class ScopeMissing(WhisperServerError):
    status = 403
    code = "insufficient_permissions"
    message = "this API key may not change the models of the server: it has the scope use, and that needs admin"


class OriginRefused(WhisperServerError):
    status = 403
    code = "origin_refused"

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"pages and extensions of {_shorten(origin)} may not use this server, as it has no API keys; "
            f"start it with --allow-origin {_shorten(origin)} to permit them"
        )


class UploadTimedOut(WhisperServerError):
    status = 408
    code = "upload_timed_out"
    message = "the upload was too slow"
    headers = {"connection": "close"}


class SessionIdle(WhisperServerError):
    status = 408
    code = "session_idle"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no data was received for {seconds:g} seconds")


class SessionTooLong(WhisperServerError):
    status = 408
    code = "session_too_long"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the session has reached its limit of {seconds:g} seconds; open a new one")


class HostRefused(WhisperServerError):
    status = 421
    code = "host_refused"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{_shorten(host)} is not a name of this server; start it with --allow-host NAME, or with API keys"
        )


class TryAgainLater(WhisperServerError):
    """`retry_after` is in seconds."""

    retry_after = 0

    def __init__(self, message: str = "", retry_after: int = 0) -> None:
        super().__init__(f"{message or self.message}; try again later")
        self.headers = {"retry-after": str(retry_after or self.retry_after)}


class TooManyRequests(TryAgainLater):
    status = 429
    code = "rate_limit_exceeded"


class UploadTooLarge(WhisperServerError):
    status = 413
    code = "file_too_large"
    param = "file"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the upload is larger than {limit} bytes, the limit of this server")


class UnsupportedEncoding(WhisperServerError):
    status = 415
    code = "unsupported_encoding"
    headers = {"accept-encoding": "gzip, deflate"}

    def __init__(self, encoding: str) -> None:
        super().__init__(f"Content-Encoding: {_shorten(encoding)} is not supported; send gzip, deflate, or none")


class UploadNotStored(TryAgainLater):
    """The temporary directory is full or broken."""

    status = 507
    code = "storage_full"
    retry_after = 30

    def __init__(self, reason: str) -> None:
        super().__init__(f"the server cannot store the upload: {reason}")


class AudioTooLong(WhisperServerError):
    status = 413
    code = "audio_too_long"
    param = "file"

    def __init__(self, limit: float) -> None:
        super().__init__(f"the audio is longer than {limit:g} seconds, the limit of this server")


class ModelNotFound(WhisperServerError):
    status = 404
    code = "model_not_found"
    param = "model"


class ModelIsServed(WhisperServerError):
    status = 409
    code = "model_in_use"
    param = "model"

    def __init__(self, name: str) -> None:
        super().__init__(f"model {name!r} is the default model of this server; POST /reload replaces it")


class ModelInUse(WhisperServerError):
    status = 409
    code = "model_in_use"
    param = "model"

    def __init__(self, name: str) -> None:
        super().__init__(f"requests use model {name!r} at the moment")


class ModelNotDeletable(WhisperServerError):
    status = 409
    code = "model_not_deletable"
    param = "model"


class ModelUnavailable(WhisperServerError):
    status = 503


class ModelLoadFailed(WhisperServerError):
    pass


class ModelIncomplete(ModelLoadFailed):
    hint = "convert or download the model again (docs/models.md)"


class Overloaded(TryAgainLater):
    status = 503
    code = "overloaded"
    is_limit = True


class OutOfMemory(Overloaded):
    code = "out_of_memory"
    message = "no device has enough free memory for the model"
    retry_after = 5
    is_limit = False


class ServerStopping(TryAgainLater):
    status = 503
    code = "server_stopping"
    is_limit = True
    message = "the server is shutting down"
    retry_after = 1


class DeadlinePassed(WhisperServerError):
    status = 504
    code = "timeout"
    param = "timeout"
    is_limit = True

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the request exceeded its time limit of {seconds:g} seconds")


class JobsUnavailable(TryAgainLater):
    """The database or the data directory of the jobs is broken. The rest of the server works."""

    status = 503
    code = "jobs_unavailable"
    message = "jobs cannot be stored; the log of the server says why"
    retry_after = 30


class StorageFull(JobsUnavailable):
    status = 507
    code = "storage_full"
    message = "no space is left on the disk that stores the jobs"


class PathNotFound(WhisperServerError):
    status = 404


class JobNotFound(WhisperServerError):
    status = 404
    code = "job_not_found"
    param = "id"

    def __init__(self, id: str) -> None:
        super().__init__(f"there is no job {_shorten(id)}")


class JobState(WhisperServerError):
    """The operation does not fit the state of the job, which `code` names."""

    status = 409

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class IdempotencyKeyReused(WhisperServerError):
    status = 422
    code = "idempotency_key_reused"
    message = "this Idempotency-Key was used with a different request before"


class TooManyJobs(TooManyRequests):
    code = "too_many_jobs"


class BadAddress(BadRequest):
    code = "invalid_url"


class FetchFailed(WhisperServerError):
    status = 502
    code = "fetch_failed"
    param = "url"


class LeaseLost(WhisperServerError):
    """A job was cancelled, deleted or taken over by another server while this one worked on it. No client sees this."""


class EngineFailed(WhisperServerError):
    pass


class AddressUnavailable(WhisperServerError):
    pass


class Cancelled(WhisperServerError):
    status = 503
    is_limit = True


def without_errno(exc: BaseException) -> str:
    """Return the exception's message without the numbers of the operating system's errors."""
    return re.sub(r"\[Errno -?\d+\] ", "", str(exc))


def _shorten(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
