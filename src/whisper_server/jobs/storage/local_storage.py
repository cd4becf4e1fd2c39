"""What jobs keep in the data directory besides the database: their files, and who is alive.

DIRECTORY/jobs.sqlite       the database, unless --database-url names another
DIRECTORY/storage           the name of this directory for jobs, whatever its path
DIRECTORY/audio/JOB         a job's file
DIRECTORY/servers/NAME      locked by a server for as long as it lives
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from whisper_server.core.errors import BadAudio, JobsUnavailable, StorageFull

DATABASE = "jobs.sqlite"

_BLOCK = 1 << 20
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class LocalStorage:
    """Made when it is opened; its methods raise JobsUnavailable or StorageFull."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._audio = path / "audio"
        self._servers = path / "servers"
        self.storage = ""

    def open(self) -> None:
        """Make what is missing; nobody else may look into it."""
        with failures(f"the data directory {self.path}"):
            for directory in (self.path, self._audio, self._servers):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.storage = _name(self.path / "storage")
            # SQLite gives what it puts beside it the same permissions.
            (self.path / DATABASE).touch(mode=0o600)

    def save(self, id: str, source: BinaryIO) -> int:
        """Copy a file to the disk and return its size in bytes."""
        with self.receiving(id) as target:
            source.seek(0)
            shutil.copyfileobj(source, target, _BLOCK)
        return self.file(id).stat().st_size

    @contextmanager
    def receiving(self, id: str) -> Iterator[BinaryIO]:
        """Yield a file to write to. It is a job's at the end of the block, and stays then even if the power fails."""
        part = self._audio / f"{id}.{uuid4().hex}"
        with failures("the data directory"):
            try:
                with open(part, "xb", opener=_private) as target:
                    yield target
                    target.flush()
                    os.fsync(target.fileno())
                part.rename(self._audio / id)
                _sync(self._audio)
            except BaseException:
                part.unlink(missing_ok=True)
                raise

    def has(self, id: str) -> bool:
        return self.file(id).is_file()

    def file(self, id: str) -> Path:
        return self._audio / id

    @contextmanager
    def lasting(self, id: str) -> Iterator[Path]:
        """Yield where the file can be read for the block; raises BadAudio if it is gone."""
        with self.read(id) as file:
            yield Path(file.name)

    @contextmanager
    def read(self, id: str) -> Iterator[BinaryIO]:
        """Raises BadAudio if the file is gone."""
        try:
            file = self.file(id).open("rb")
        except FileNotFoundError as exc:
            raise BadAudio("the file of the job is gone") from exc
        with file as opened:
            yield opened

    def remove(self, id: str) -> None:
        with failures("the data directory"):
            self.file(id).unlink(missing_ok=True)

    def old(self, seconds: float) -> list[str]:
        """The names of all files that were written so long ago: ids, and others for what never became whole."""
        before = time.time() - seconds
        with failures("the data directory"), os.scandir(self._audio) as entries:
            return [entry.name for entry in entries if _written_at(entry) < before]

    @contextmanager
    def alive(self) -> Iterator[str]:
        """Yield a name for this server, which others can see to be alive until the end of the block."""
        name = uuid4().hex
        lock = self._servers / name
        with failures("the data directory"):
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield f"{_boot()}/{name}"
        finally:
            with suppress(OSError):
                lock.unlink(missing_ok=True)
            os.close(descriptor)

    def is_dead(self, server: str) -> bool:
        """Whether that server of this directory has certainly ended; of other machines nobody here can know."""
        boot, _, name = server.partition("/")
        if not boot or boot != _boot():
            return False
        try:
            descriptor = os.open(self._servers / name, os.O_RDWR)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        (self._servers / name).unlink(missing_ok=True)
        return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(directory: Path) -> None:
    """A file's name is safe when its directory is."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _written_at(entry: os.DirEntry[str]) -> float:
    """What was removed meanwhile is not old."""
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _name(file: Path) -> str:
    """What the file says; the first server that asks writes it, and it appears whole."""
    if not file.exists():
        new = file.with_name(f".{uuid4().hex}")
        with open(new, "x", opener=_private) as written:
            written.write(new.name[1:])
        with suppress(FileExistsError):
            os.link(new, file)
        new.unlink()
    return file.read_text()


def _boot() -> str:
    """What tells one run of one machine from all others; nothing where there is no such thing."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


@contextmanager
def failures(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from exc
        raise JobsUnavailable(f"{what} cannot be used: {exc.strerror or exc}") from exc
