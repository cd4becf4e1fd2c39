"""The Hugging Face cache and hub, through `huggingface_hub`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TypeVar

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from whisper_server.core.errors import ModelLoadFailed, ModelNotFound, ModelUnavailable

logger = logging.getLogger(__name__)

PATTERNS = ["config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*"]
ANSWER_SECONDS = 8.0
T = TypeVar("T")


def cached(repository: str) -> Path | None:
    """Return the repository's newest snapshot in the Hugging Face cache, or None if that has no weights."""
    try:
        path = Path(huggingface_hub.snapshot_download(repository, allow_patterns=PATTERNS, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return path if (path / "model.bin").is_file() else None


def ask(repository: str) -> None:
    """Return if the hub has the repository; raises ModelNotFound, or ModelUnavailable within 10 s."""
    with _explained(repository):
        _within(ANSWER_SECONDS, lambda: huggingface_hub.model_info(repository, timeout=ANSWER_SECONDS / 2))


def download(repository: str) -> Path:
    """Fetch the repository with a progress bar.

    Raises ModelNotFound, ModelUnavailable (within 10 s if the hub does not answer) or ModelLoadFailed (disk).
    """
    ask(repository)
    with _explained(repository):
        logger.info("downloading %s from the Hugging Face hub", repository)
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=PATTERNS))


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """What the hub's libraries raise, as errors of ours."""
    try:
        yield
    except (RepositoryNotFoundError, GatedRepoError, HFValidationError) as exc:
        raise ModelNotFound(
            f"the Hugging Face hub has no repository {repository!r} that this server may read",
            hint="check its name, or set HF_TOKEN if it is private",
        ) from exc
    except Exception as exc:
        if isinstance(exc, OSError) and _is_local(exc):
            reason = exc.strerror  # without the path: clients read it
            raise ModelLoadFailed(
                f"{repository!r} could not be stored in the Hugging Face cache: {reason}",
                hint="free disk space, or set HF_HOME to a directory that this user can write to",
            ) from exc
        raise ModelUnavailable(
            f"the Hugging Face hub did not deliver {repository!r} ({_in_one_line(exc)})", hint="check the connection"
        ) from exc


def _is_local(exc: OSError) -> bool:
    """Whether the disk failed and not the network: errors of HTTP libraries are OSErrors without a number."""
    return exc.errno is not None and not isinstance(exc, (ConnectionError, TimeoutError))


def _in_one_line(exc: Exception) -> str:
    if isinstance(exc, TimeoutError):
        return f"no answer within {ANSWER_SECONDS:g} s"
    return ": ".join([type(exc).__name__, *str(exc).splitlines()[:1]])


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Run a call that may hang for longer than its own timeouts say (name look-ups do) and raise TimeoutError."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as exc:
            result.set_exception(exc)

    Thread(target=run, name="hub", daemon=True).start()
    return result.result(seconds)
