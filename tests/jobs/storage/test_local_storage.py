from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from whisper_server.core.errors import BadAudio, JobsUnavailable, StorageFull
from whisper_server.jobs.storage.local_storage import LocalStorage


@pytest.fixture
def data(tmp_path: Path) -> LocalStorage:
    directory = LocalStorage(tmp_path / "data")
    directory.open()
    return directory


class FailingFile(io.BytesIO):
    def __init__(self, code: int) -> None:
        super().__init__(b"x")
        self._code = code

    def read(self, size: int | None = -1) -> bytes:
        raise OSError(self._code, os.strerror(self._code))


def test_only_this_user_can_read_the_files(data: LocalStorage) -> None:
    source = io.BytesIO(b"audio")
    source.seek(3)
    assert data.save("job_1", source) == 5
    with data.read("job_1") as file:
        assert file.read() == b"audio"
    assert [oct(path.stat().st_mode & 0o777) for path in (data.path, data.file("job_1"))] == ["0o700", "0o600"]
    assert oct((data.path / "jobs.sqlite").stat().st_mode & 0o777) == "0o600"
    data.remove("job_1")
    data.remove("job_1")
    assert not data.has("job_1")
    with pytest.raises(BadAudio), data.read("job_1"):
        pass


@pytest.mark.parametrize(("code", "error"), [(errno.ENOSPC, StorageFull), (errno.EIO, JobsUnavailable)])
def test_an_incomplete_file_is_removed(data: LocalStorage, code: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        data.save("job_1", FailingFile(code))
    assert list((data.path / "audio").iterdir()) == []


def test_the_name_of_a_directory_stays_the_same(data: LocalStorage) -> None:
    again = LocalStorage(data.path)
    again.open()
    assert again.name == data.name != ""
    other = LocalStorage(data.path / "other")
    other.open()
    assert other.name != data.name


def test_an_impossible_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JobsUnavailable, match="data directory"):
        LocalStorage(tmp_path / "file" / "data").open()


def test_old_files_are_listed(data: LocalStorage) -> None:
    data.save("job_1", io.BytesIO(b"x"))
    data.save("job_2", io.BytesIO(b"x"))
    os.utime(data.file("job_1"), (0, 0))
    assert data.older_than(3600) == ["job_1"]


def test_a_file_removed_during_the_listing_is_not_old(data: LocalStorage) -> None:
    """A dangling link is listed but has no time, like a file that is removed in between."""
    data.file("job_1").symlink_to("nowhere")
    assert data.older_than(3600) == []


def test_a_server_has_ended_once_it_is_not_registered(data: LocalStorage) -> None:
    with data.register_server() as name:
        assert not data.has_ended(name)
        assert not data.has_ended("another-machine/" + name.partition("/")[2])
        assert not data.has_ended("")
    assert data.has_ended(name)


def test_a_killed_server_has_ended(data: LocalStorage) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from whisper_server.jobs.storage.local_storage import LocalStorage\n"
        "data = LocalStorage(Path(sys.argv[1])); data.open()\n"
        "with data.register_server() as name:\n print(name, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(data.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert not data.has_ended(name)
        process.kill()
    assert data.has_ended(name) and data.has_ended(name)
    assert list((data.path / "servers").iterdir()) == []
