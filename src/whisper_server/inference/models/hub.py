"""Finds models in the Hugging Face cache, downloads them from the hub and deletes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from threading import Lock, Thread
from typing import Any, TypeVar

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    CacheNotFound,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm

from whisper_server.core.errors import (
    Cancelled,
    ModelLoadFailed,
    ModelNotFound,
    ModelUnavailable,
    WhisperServerError,
    without_errno,
)

logger = logging.getLogger(__name__)

PATTERNS = ["config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*"]
TIMEOUT_SECONDS = 8.0
# How snapshot_download() names its progress bar that counts bytes.
_BYTES_BAR = "huggingface_hub.snapshot_download"
T = TypeVar("T")


class Download:
    """The progress of a download in bytes, which other threads may read; `total` is 0 until it is known."""

    def __init__(self) -> None:
        self.total = 0
        self.done = 0
        self._cancelled = False
        self._lock = Lock()

    def cancel(self) -> None:
        """Let the download fail with Cancelled at its next block; complete files stay in the cache."""
        self._cancelled = True

    def advance(self, count: int) -> None:
        """Count bytes that have been stored; raises Cancelled."""
        if self._cancelled:
            raise Cancelled("the download was cancelled")
        with self._lock:
            self.done = min(self.done + count, self.total)


@dataclass(frozen=True, slots=True)
class CachedRepository:
    """A repository in the cache: the directory of its newest snapshot, all its files on disk, their size in bytes."""

    id: str
    snapshot: Path
    path: Path
    size: int


def cached(repository: str) -> Path | None:
    """Return the directory of the newest snapshot in the Hugging Face cache, or None if it has no weights."""
    try:
        path = Path(huggingface_hub.snapshot_download(repository, allow_patterns=PATTERNS, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return path if (path / "model.bin").is_file() else None


def cached_repositories() -> list[CachedRepository]:
    """Return the repositories in the cache that have weights for CTranslate2."""
    try:
        scanned = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, ValueError, OSError):  # there is no cache yet, or it is no directory
        return []
    return [
        CachedRepository(repository.repo_id, snapshot, repository.repo_path, repository.size_on_disk)
        for repository in sorted(scanned, key=lambda scanned: scanned.repo_id)
        if repository.repo_type == "model" and (snapshot := cached(repository.repo_id)) is not None
    ]


def delete_cached(repository: str) -> None:
    """Delete every revision of the repository from the cache; raises OSError if something remains."""
    cache = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE)
    revisions = [
        revision.commit_hash
        for scanned in cache.repos
        if (scanned.repo_id, scanned.repo_type) == (repository, "model")
        for revision in scanned.revisions
    ]
    cache.delete_revisions(*revisions).execute()
    if cached(repository) is not None:  # execute() only logs what it cannot delete
        raise PermissionError("some of its files cannot be removed")


def check_exists(repository: str) -> int:
    """Return the bytes that `download` stores.

    Raises ModelNotFound if the hub does not have the repository, or ModelUnavailable if it fails to respond.
    """
    with _translated_errors(repository):
        timeout = TIMEOUT_SECONDS / 2
        info = _with_timeout(
            TIMEOUT_SECONDS,
            lambda: huggingface_hub.model_info(repository, timeout=timeout, files_metadata=True),
        )
    files = [file for file in info.siblings or () if any(fnmatch(file.rfilename, pattern) for pattern in PATTERNS)]
    return sum(file.size or 0 for file in files)


def download(repository: str, progress: Download | None = None) -> Path:
    """Download the repository into the cache and return the snapshot's directory.

    Without `progress`, a bar is shown. Raises ModelNotFound, ModelUnavailable (within 10 s if the hub does not
    respond), ModelLoadFailed (disk errors) or Cancelled.
    """
    size = check_exists(repository)
    if progress is not None:
        progress.total = size
    with _translated_errors(repository):
        logger.info("downloading %s from the Hugging Face hub", repository)
        bar = None if progress is None else _bar_for(progress)
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=PATTERNS, tqdm_class=bar))


def _bar_for(progress: Download) -> type[tqdm]:
    """Return the class of an invisible progress bar that reports the bytes."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            self._counts_bytes = options.get("name") == _BYTES_BAR and options.get("unit") == "B"
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            progress.advance(int(n or 0) if self._counts_bytes else 0)
            return None

    return Bar


@contextmanager
def _translated_errors(repository: str) -> Iterator[None]:
    """Translate the exceptions of the hub's libraries into this server's errors."""
    try:
        yield
    except WhisperServerError:
        raise
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
