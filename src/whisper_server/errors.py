"""Every error that a client or an operator can meet, each with the HTTP status it becomes.

WhisperServerError
├── BadRequest                400   the request cannot be understood
│   ├── NoFileProvided        400
│   ├── NoFileSelected        400
│   ├── BadOption             400   a field has a value outside its range
│   └── BadAudio              400   the upload is not audio that can be decoded
├── UploadTooLarge            413
├── AudioTooLong              413
├── ModelNotFound             404   no such model, or not one that a client may ask for
├── ModelIsServed             409   the model that requests without a name get cannot be unloaded
├── ModelUnavailable          503   the model hub does not answer
├── ModelLoadFailed           500   the model's files are there but do not work
├── EngineFailed              500   a worker of the model crashed
├── Overloaded                503   too much is waiting already; says when to come again
├── DeadlinePassed            504   the work took longer than it was given
└── Cancelled                 503   the work was given up: the client left or the server stops
"""

from __future__ import annotations


class WhisperServerError(Exception):
    status = 500


class BadRequest(WhisperServerError):
    status = 400


class NoFileProvided(BadRequest):
    def __init__(self) -> None:
        super().__init__("No file provided")


class NoFileSelected(BadRequest):
    def __init__(self) -> None:
        super().__init__("No file selected")


class BadOption(BadRequest):
    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {_shortened(value)} is not allowed; expected {allowed}")
        self.field = field


class BadAudio(BadRequest):
    pass


class UploadTooLarge(WhisperServerError):
    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"the upload is larger than the {limit} bytes that this server accepts")


class AudioTooLong(WhisperServerError):
    status = 413

    def __init__(self, limit: float) -> None:
        super().__init__(f"the audio is longer than the {limit:g} seconds that this server accepts")


class ModelNotFound(WhisperServerError):
    status = 404


class ModelIsServed(WhisperServerError):
    status = 409

    def __init__(self, name: str) -> None:
        super().__init__(f"model {name!r} is the one that this server serves; POST /reload replaces it")


class ModelUnavailable(WhisperServerError):
    status = 503


class ModelLoadFailed(WhisperServerError):
    status = 500


class Overloaded(WhisperServerError):
    status = 503

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(f"{message}; try again later")
        self.retry_after = retry_after


class DeadlinePassed(WhisperServerError):
    status = 504

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the request was given up after its {seconds:g} seconds")


class EngineFailed(WhisperServerError):
    status = 500


class Cancelled(WhisperServerError):
    status = 503


def _shortened(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
