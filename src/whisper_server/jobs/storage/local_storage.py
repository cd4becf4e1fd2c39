"""The data directory.

DIRECTORY/jobs.sqlite       the database, unless --database-url names another
DIRECTORY/storage           a name for this directory that does not depend on its path
DIRECTORY/audio/JOB         the audio of a job
DIRECTORY/servers/NAME      locked by a server for as long as it runs
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from whisper_server.core.errors import BadAudio
from whisper_server.jobs.storage.audio_storage import AudioStorage, storage_errors

DATABASE = "jobs.sqlite"

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DIRECTORY = "the data directory"


class LocalStorage(AudioStorage):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = ""
        self._audio = path / "audio"
        self._servers = path / "servers"

    def open(self) -> None:
        """Create the directories, readable by this user only."""
        with storage_errors(f"{_DIRECTORY} {self.path}"):
            for directory in (self.path, self._audio, self._servers):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.name = _read_or_create_name(self.path / "storage")
            # SQLite creates its other files with the permissions of this one.
            (self.path / DATABASE).touch(mode=0o600)

    def file(self, id: str) -> Path:
        return self._audio / id

    @contextmanager
    def writer(self, id: str) -> Iterator[BinaryIO]:
        part = self._audio / f"{id}.{uuid4().hex}"
        with storage_errors(_DIRECTORY):
            try:
                with open(part, "xb", opener=_private) as target:
                    yield target
                    target.flush()
                    os.fsync(target.fileno())
                part.replace(self.file(id))
                _sync_directory(self._audio)
            except BaseException:
                part.unlink(missing_ok=True)
                raise

    def has(self, id: str) -> bool:
        return self.file(id).is_file()

    def read(self, id: str) -> BinaryIO:
        try:
            return self.file(id).open("rb")
        except FileNotFoundError as exc:
            raise BadAudio("the audio of the job does not exist any more") from exc

    def remove(self, id: str) -> None:
        with storage_errors(_DIRECTORY):
            self.file(id).unlink(missing_ok=True)

    def older_than(self, seconds: float) -> list[str]:
        before = time.time() - seconds
        with storage_errors(_DIRECTORY), os.scandir(self._audio) as entries:
            return [entry.name for entry in entries if _modified_at(entry) < before]

    @contextmanager
    def register_server(self) -> Iterator[str]:
        name = uuid4().hex
        lock = self._servers / name
        with storage_errors(_DIRECTORY):
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(descriptor)
            yield f"{_boot_id()}/{name}"
        finally:
            os.close(descriptor)
            with suppress(OSError):
                lock.unlink(missing_ok=True)

    def has_ended(self, server: str) -> bool:
        boot, _, name = server.partition("/")
        if not boot or boot != _boot_id():
            return False
        try:
            with open(self._servers / name, "r+b") as lock:
                _lock(lock.fileno())
        except FileNotFoundError:
            return True
        except OSError:
            return False
        (self._servers / name).unlink(missing_ok=True)
        return True


def _lock(descriptor: int) -> None:
    """Lock a file until it is closed or this process ends; raises OSError if another process has locked it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_directory(directory: Path) -> None:
    """A rename is durable once its directory is synced. Windows cannot open directories."""
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _modified_at(entry: os.DirEntry[str]) -> float:
    """Infinity for a file that was removed in the meantime."""
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _read_or_create_name(file: Path) -> str:
    """If several servers start at once, the first creates the name, and the others read it, never a part of it."""
    if not file.exists():
        new = file.with_name(f".{uuid4().hex}")
        with open(new, "x", opener=_private) as written:
            written.write(new.name[1:])
        with suppress(FileExistsError):
            os.link(new, file)
        new.unlink()
    return file.read_text()


def _boot_id() -> str:
    """Linux's identifier of this boot of this machine, or an empty string."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
