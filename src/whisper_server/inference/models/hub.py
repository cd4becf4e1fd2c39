"""Finds models in the Hugging Face cache and downloads them from the hub."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TypeVar

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from whisper_server.core.errors import ModelLoadFailed, ModelNotFound, ModelUnavailable, without_errno

logger = logging.getLogger(__name__)

PATTERNS = ["config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*"]
TIMEOUT_SECONDS = 8.0
T = TypeVar("T")


def cached(repository: str) -> Path | None:
    """Return the directory of the newest snapshot in the Hugging Face cache, or None if it has no weights."""
    try:
        path = Path(huggingface_hub.snapshot_download(repository, allow_patterns=PATTERNS, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return path if (path / "model.bin").is_file() else None


def check_exists(repository: str) -> None:
    """Raise ModelNotFound if the hub does not have the repository, or ModelUnavailable if it fails to respond."""
    with _translated_errors(repository):
        _with_timeout(TIMEOUT_SECONDS, lambda: huggingface_hub.model_info(repository, timeout=TIMEOUT_SECONDS / 2))


def download(repository: str) -> Path:
    """Download the repository into the cache, with a progress bar, and return the snapshot's directory.

    Raises ModelNotFound, ModelUnavailable (within 10 s if the hub does not respond) or ModelLoadFailed (disk errors).
    """
    check_exists(repository)
    with _translated_errors(repository):
        logger.info("downloading %s from the Hugging Face hub", repository)
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=PATTERNS))


@contextmanager
def _translated_errors(repository: str) -> Iterator[None]:
    """Translate the exceptions of the hub's libraries into this server's errors."""
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
            f"the Hugging Face hub did not deliver {repository!r} ({_summary(exc)})", hint="check the connection"
        ) from exc


def _is_local(exc: OSError) -> bool:
    """Whether the disk failed and not the network: the OSErrors of HTTP libraries have no errno."""
    return exc.errno is not None and not isinstance(exc, (ConnectionError, TimeoutError))


def _summary(exc: Exception) -> str:
    if isinstance(exc, TimeoutError):
        return f"no response within {TIMEOUT_SECONDS:g} s"
    return ": ".join([type(exc).__name__, *without_errno(exc).splitlines()[:1]])


def _with_timeout(seconds: float, call: Callable[[], T]) -> T:
    """Return the result of a call, or raise TimeoutError: DNS look-ups ignore the timeouts of HTTP libraries."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as exc:
            result.set_exception(exc)

    Thread(target=run, name="hub", daemon=True).start()
    return result.result(seconds)
