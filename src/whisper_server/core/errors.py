"""Every error that a client or an operator can meet, each with the HTTP status and headers it becomes.

WhisperServerError
├── BadRequest                400   the request cannot be understood
│   ├── NoFileProvided        400
│   ├── NoFileSelected        400
│   ├── BadOption             400   a field has a value outside its range
│   ├── BadAudio              400   the upload is not audio that can be decoded
│   ├── BadAddress            400   an address that may not be fetched from or called
│   └── BadMessage            400   a live session's client said what cannot be understood
├── Unauthorized              401   no key, or one that is not known
├── OriginRefused             403   a web page of another origin drives the client
├── UploadTimedOut            408   the client stopped sending, or sends too slowly
├── SessionIdle               408   a live session's client said nothing for too long
├── SessionTooLong            408   a live session has had its time
├── UploadTooLarge            413
├── AudioTooLong              413
├── HostRefused               421   the request is for a name that is not this server's
├── TryAgainLater                   says when to come again
│   ├── TooManyRequests       429   a key has used its share up
│   │   └── TooManyJobs       429   so many jobs wait already
│   ├── JobsUnavailable       503   the database or the directory of jobs is broken
│   │   └── StorageFull       507   no space is left for them
│   ├── Overloaded            503   too much is waiting already
│   │   └── OutOfMemory       503   no device has memory for the model now
│   └── ServerStopping        503   live sessions end with the server
├── JobNotFound               404   no such job, or another key's
├── JobState                  409   a job that is not finished, has failed, is finished …
├── IdempotencyKeyReused      422   with another request
├── FetchFailed               502   the audio of a job could not be fetched
├── LeaseLost                 409   a job is not this server's any more
├── ModelNotFound             404   no such model, or not one that a client may ask for
├── ModelIsServed             409   the model that requests without a name get cannot be unloaded
├── ModelUnavailable          503   the model hub does not answer
├── ModelLoadFailed           500   the model's files are there but do not work
├── EngineFailed              500   a worker of the model crashed
├── DeadlinePassed            504   the work took longer than it was given
└── Cancelled                 503   the work was given up: the client left or the server stops
"""

from __future__ import annotations


class WhisperServerError(Exception):
    """`code` is its name and `param` the field that it is about, for clients that get these, too."""

    status = 500
    code: str | None = None
    param: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {}


class BadRequest(WhisperServerError):
    status = 400


class NoFileProvided(BadRequest):
    code = "missing_required_parameter"
    param = "file"

    def __init__(self) -> None:
        super().__init__("No file provided")


class NoFileSelected(BadRequest):
    code = "missing_required_parameter"
    param = "file"

    def __init__(self) -> None:
        super().__init__("No file selected")


class BadOption(BadRequest):
    code = "invalid_value"

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {_shortened(value)} is not allowed; expected {allowed}")
        self.param = field


class BadAudio(BadRequest):
    code = "invalid_audio"
    param = "file"


class BadMessage(BadRequest):
    code = "invalid_message"


class Unauthorized(WhisperServerError):
    status = 401
    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__("this server wants a key that it knows, as in Authorization: Bearer KEY")

    @property
    def headers(self) -> dict[str, str]:
        return {"www-authenticate": "Bearer"}


class OriginRefused(WhisperServerError):
    status = 403
    code = "origin_refused"

    def __init__(self, origin: str) -> None:
        super().__init__(f"pages of {_shortened(origin)} may not use this server; --allow-origin lets them")


class UploadTimedOut(WhisperServerError):
    status = 408
    code = "upload_timed_out"

    def __init__(self) -> None:
        super().__init__("the upload came too slowly")

    @property
    def headers(self) -> dict[str, str]:
        return {"connection": "close"}


class SessionIdle(WhisperServerError):
    status = 408
    code = "session_idle"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing was sent for {seconds:g} seconds")


class SessionTooLong(WhisperServerError):
    status = 408
    code = "session_too_long"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"a session may last {seconds:g} seconds; a new one may be opened at once")


class HostRefused(WhisperServerError):
    status = 421
    code = "host_refused"

    def __init__(self, host: str) -> None:
        super().__init__(f"{_shortened(host)} is not a name of this server; --allow-host makes it one")


class TryAgainLater(WhisperServerError):
    """`retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(f"{message}; try again later")
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {"retry-after": str(self.retry_after)}


class TooManyRequests(TryAgainLater):
    status = 429
    code = "rate_limit_exceeded"


class UploadTooLarge(WhisperServerError):
    status = 413
    code = "file_too_large"
    param = "file"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the upload is larger than the {limit} bytes that this server accepts")


class AudioTooLong(WhisperServerError):
    status = 413
    code = "audio_too_long"
    param = "file"

    def __init__(self, limit: float) -> None:
        super().__init__(f"the audio is longer than the {limit:g} seconds that this server accepts")


class ModelNotFound(WhisperServerError):
    status = 404
    code = "model_not_found"
    param = "model"


class ModelIsServed(WhisperServerError):
    status = 409
    code = "model_in_use"
    param = "model"

    def __init__(self, name: str) -> None:
        super().__init__(f"model {name!r} is the one that this server serves; POST /reload replaces it")


class ModelUnavailable(WhisperServerError):
    status = 503


class ModelLoadFailed(WhisperServerError):
    status = 500


class Overloaded(TryAgainLater):
    status = 503
    code = "overloaded"


class OutOfMemory(Overloaded):
    code = "out_of_memory"

    def __init__(self) -> None:
        super().__init__("no device has memory for the model", 5)


class ServerStopping(TryAgainLater):
    status = 503
    code = "server_stopping"

    def __init__(self) -> None:
        super().__init__("this server stops", 1)


class DeadlinePassed(WhisperServerError):
    status = 504
    code = "timeout"
    param = "timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the request was given up after its {seconds:g} seconds")


class JobsUnavailable(TryAgainLater):
    """Whatever keeps jobs is broken: a database or a directory. The rest of the server works."""

    status = 503
    code = "jobs_unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(message, 30)


class StorageFull(JobsUnavailable):
    status = 507
    code = "storage_full"

    def __init__(self) -> None:
        super().__init__("there is no space left on the disk that keeps the jobs")


class JobNotFound(WhisperServerError):
    status = 404
    code = "job_not_found"
    param = "id"

    def __init__(self, id: str) -> None:
        super().__init__(f"there is no job {_shortened(id)}")


class JobState(WhisperServerError):
    """What is asked for does not go with the state of the job, which the code names."""

    status = 409

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class IdempotencyKeyReused(WhisperServerError):
    status = 422
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key came with another request before")


class TooManyJobs(TooManyRequests):
    code = "too_many_jobs"


class BadAddress(BadRequest):
    """An address that this server may not fetch from or call."""

    code = "invalid_url"


class FetchFailed(WhisperServerError):
    status = 502
    code = "fetch_failed"
    param = "url"


class LeaseLost(WhisperServerError):
    """A job was cancelled, deleted or taken up by another server while this one worked on it. No client sees it."""

    status = 409


class EngineFailed(WhisperServerError):
    status = 500


class Cancelled(WhisperServerError):
    status = 503


def _shortened(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
