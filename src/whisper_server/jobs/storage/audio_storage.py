"""Where the audio of jobs is stored: what a local directory and an object store have in common."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from whisper_server.core.errors import JobsUnavailable, StorageFull

_BLOCK = 1 << 20


class AudioStorage(ABC):
    """All methods block; they raise JobsUnavailable or StorageFull.

    `name` identifies the storage in the database, once it is open: only servers that share it can run its jobs.
    """

    path: Path
    name: str

    @abstractmethod
    def open(self) -> None:
        """Create what is missing."""

    @abstractmethod
    def writer(self, id: str) -> AbstractContextManager[BinaryIO]:
        """Return a file to write to. At the end of the block it is stored durably; on an exception nothing is."""

    @abstractmethod
    def has(self, id: str) -> bool: ...

    @abstractmethod
    def read(self, id: str) -> AbstractContextManager[BinaryIO]:
        """Open the audio of a job; raises BadAudio if it does not exist."""

    @abstractmethod
    def remove(self, id: str) -> None:
        """Remove the audio of a job, if it exists."""

    @abstractmethod
    def older_than(self, seconds: float) -> list[str]:
        """Return the names of the files written longer ago: ids of jobs, and incomplete files."""

    @abstractmethod
    def register_server(self) -> AbstractContextManager[str]:
        """Return a name for this server, which `has_ended` can check, until the end of the block."""

    @abstractmethod
    def has_ended(self, server: str) -> bool:
        """Whether a registered server has certainly ended; servers on other machines cannot be checked."""

    def save(self, id: str, source: BinaryIO) -> int:
        """Store a file and return its size in bytes."""
        with self.writer(id) as target:
            source.seek(0)
            while block := source.read(_BLOCK):
                target.write(block)
            return target.tell()

    @contextmanager
    def local_path(self, id: str) -> Iterator[Path]:
        """Yield a path where the audio can be read during the block; raises BadAudio if it does not exist."""
        with self.read(id) as file:
            yield Path(file.name)


@contextmanager
def storage_errors(subject: str) -> Iterator[None]:
    """Turn an OSError of the block into JobsUnavailable or StorageFull."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from exc
        raise JobsUnavailable(f"{subject} cannot be used: {exc.strerror or exc}") from exc
