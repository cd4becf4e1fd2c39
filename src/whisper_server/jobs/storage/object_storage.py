"""The files of jobs in an object store, or whatever else fsspec knows, for servers without a common directory.

A file passes through the data directory on its way, so that it is whole when the store gets it.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from whisper_server.core.errors import BadAudio, JobsUnavailable, StorageFull
from whisper_server.core.settings import SettingsError
from whisper_server.jobs.storage.local_storage import LocalStorage, failures

logger = logging.getLogger(__name__)

_SEPARATOR = ":"
_BLOCK = 1 << 20


class ObjectStorage(LocalStorage):
    """`url` is one of fsspec's, such as s3://bucket/path. Servers with the same one share their jobs' files."""

    def __init__(self, path: Path, url: str) -> None:
        """Connects to nothing yet; raises SettingsError."""
        super().__init__(path)
        self._url = url
        self._store, self._root = _store(url)
        self._own = ""

    def open(self) -> None:
        super().open()
        self._own = self.storage
        self.storage = hashlib.sha256(self._url.rstrip("/").encode()).hexdigest()[:32]
        with _failures():
            self._store.makedirs(self._root, exist_ok=True)

    def save(self, id: str, source: BinaryIO) -> int:
        with self.receiving(id) as target:
            source.seek(0)
            while block := source.read(_BLOCK):
                target.write(block)
            return target.tell()

    @contextmanager
    def receiving(self, id: str) -> Iterator[BinaryIO]:
        with self._passing() as file:
            yield file
            file.flush()
            with _failures():
                self._store.put_file(file.name, self._place(id))

    def has(self, id: str) -> bool:
        with _failures():
            self._store.invalidate_cache()
            return bool(self._store.exists(self._place(id)))

    @contextmanager
    def read(self, id: str) -> Iterator[BinaryIO]:
        with self._passing() as file:
            try:
                with _failures():
                    self._store.get_file(self._place(id), file.name)
            except FileNotFoundError as exc:
                raise BadAudio("the file of the job is gone") from exc
            with open(file.name, "rb") as opened:
                yield opened

    def remove(self, id: str) -> None:
        try:
            with _failures():
                self._store.rm_file(self._place(id))
        except FileNotFoundError:
            pass

    def old(self, seconds: float) -> list[str]:
        before = time.time() - seconds
        with _failures():
            self._store.invalidate_cache()
            places = self._store.find(self._root)
            return [place.rsplit("/", 1)[-1] for place in places if self._written_at(place) < before]

    def _written_at(self, place: str) -> float:
        """What was removed meanwhile is not old."""
        try:
            return float(self._store.modified(place).timestamp())
        except FileNotFoundError:
            return math.inf

    @contextmanager
    def alive(self) -> Iterator[str]:
        with super().alive() as name:
            yield f"{self._own}{_SEPARATOR}{name}"

    def is_dead(self, server: str) -> bool:
        """Whether it has ended; of those with another data directory nobody here can know."""
        own, _, name = server.partition(_SEPARATOR)
        return own == self._own and super().is_dead(name)

    def _place(self, id: str) -> str:
        return f"{self._root}/{id}"

    @contextmanager
    def _passing(self) -> Iterator[Any]:
        """Yield a file of the data directory for the block; raises as the directory's own methods do."""
        with failures("the data directory"), tempfile.NamedTemporaryFile(dir=self.path / "audio") as file:
            yield file


def _store(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        store, root = url_to_fs(url)
    except (ImportError, ValueError) as exc:
        raise SettingsError(f"--audio-storage: {exc}") from exc
    return store, root.rstrip("/")


@contextmanager
def _failures() -> Iterator[None]:
    """Stores have errors of their own, which are of no common kind."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from exc
        logger.error("the store of the jobs' files failed: %s", exc)
        raise JobsUnavailable(f"the store of the jobs' files cannot be used: {type(exc).__name__}") from exc
