"""The audio of jobs in an object store, or any other fsspec file system, for servers without a common directory.

Files are completed in the data directory before they are uploaded.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from whisper_server.core.errors import BadAudio, JobsUnavailable, StorageFull
from whisper_server.core.settings import SettingsError
from whisper_server.jobs.storage.audio_storage import AudioStorage, storage_errors
from whisper_server.jobs.storage.local_storage import LocalStorage

logger = logging.getLogger(__name__)

_SEPARATOR = ":"


class ObjectStorage(AudioStorage):
    """`url` is one of fsspec's, such as s3://bucket/path; servers with the same one share the audio of their jobs.

    `path` is this server's data directory, where the servers that share it are registered.
    """

    def __init__(self, path: Path, url: str) -> None:
        """Connects to nothing yet; raises SettingsError."""
        self.path = path
        self.name = hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:32]
        self._directory = LocalStorage(path)
        try:
            from fsspec.core import url_to_fs

            self._store, root = url_to_fs(url)
        except (ImportError, ValueError) as exc:
            raise SettingsError(f"--audio-storage: {exc}") from exc
        self._root = root.rstrip("/")

    def open(self) -> None:
        self._directory.open()
        with _store_errors():
            self._store.makedirs(self._root, exist_ok=True)

    @contextmanager
    def writer(self, id: str) -> Iterator[BinaryIO]:
        with self._temporary_file() as file:
            yield file
            file.flush()
            with _store_errors():
                self._store.put_file(file.name, self._object(id))

    def has(self, id: str) -> bool:
        with _store_errors():
            self._store.invalidate_cache()
            return bool(self._store.exists(self._object(id)))

    @contextmanager
    def read(self, id: str) -> Iterator[BinaryIO]:
        with self._temporary_file() as file:
            try:
                with _store_errors():
                    self._store.get_file(self._object(id), file.name)
            except FileNotFoundError as exc:
                raise BadAudio("the audio of the job does not exist any more") from exc
            with open(file.name, "rb") as opened:
                yield opened

    def remove(self, id: str) -> None:
        with suppress(FileNotFoundError), _store_errors():
            self._store.rm_file(self._object(id))

    def older_than(self, seconds: float) -> list[str]:
        before = time.time() - seconds
        with _store_errors():
            self._store.invalidate_cache()
            objects = self._store.find(self._root)
            return [name.rsplit("/", 1)[-1] for name in objects if self._modified_at(name) < before]

    @contextmanager
    def register_server(self) -> Iterator[str]:
        with self._directory.register_server() as name:
            yield f"{self._directory.name}{_SEPARATOR}{name}"

    def has_ended(self, server: str) -> bool:
        """Servers with another data directory cannot be checked."""
        directory, _, name = server.partition(_SEPARATOR)
        return directory == self._directory.name and self._directory.has_ended(name)

    def _modified_at(self, name: str) -> float:
        """Infinity for an object that was removed in the meantime."""
        try:
            return float(self._store.modified(name).timestamp())
        except FileNotFoundError:
            return math.inf

    def _object(self, id: str) -> str:
        return f"{self._root}/{id}"

    @contextmanager
    def _temporary_file(self) -> Iterator[Any]:
        with storage_errors("the data directory"), tempfile.NamedTemporaryFile(dir=self.path / "audio") as file:
            yield file


@contextmanager
def _store_errors() -> Iterator[None]:
    """fsspec's implementations raise exceptions that have no common base class."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from exc
        logger.error("the audio storage failed: %s", exc)
        raise JobsUnavailable(f"the audio storage cannot be used: {type(exc).__name__}") from exc
