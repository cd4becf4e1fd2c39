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


class Failing(io.BytesIO):
    def __init__(self, code: int) -> None:
        super().__init__(b"x")
        self._code = code

    def read(self, size: int | None = -1) -> bytes:
        raise OSError(self._code, os.strerror(self._code))


def test_a_file_is_kept_for_nobody_else(data: LocalStorage) -> None:
    source = io.BytesIO(b"sound")
    source.seek(3)
    assert data.save("job_1", source) == 5
    with data.read("job_1") as file:
        assert file.read() == b"sound"
    assert [oct(path.stat().st_mode & 0o777) for path in (data.path, data.file("job_1"))] == ["0o700", "0o600"]
    assert oct((data.path / "jobs.sqlite").stat().st_mode & 0o777) == "0o600"
    data.remove("job_1")
    data.remove("job_1")
    assert not data.has("job_1")
    with pytest.raises(BadAudio), data.read("job_1"):
        pass


@pytest.mark.parametrize(("code", "error"), [(errno.ENOSPC, StorageFull), (errno.EIO, JobsUnavailable)])
def test_half_a_file_is_none(data: LocalStorage, code: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        data.save("job_1", Failing(code))
    assert list((data.path / "audio").iterdir()) == []


def test_a_directory_has_one_name(data: LocalStorage) -> None:
    again = LocalStorage(data.path)
    again.open()
    assert again.name == data.name != ""
    other = LocalStorage(data.path / "other")
    other.open()
    assert other.name != data.name


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JobsUnavailable, match="data directory"):
        LocalStorage(tmp_path / "file" / "data").open()


def test_old_files_are_found(data: LocalStorage) -> None:
    data.save("job_1", io.BytesIO(b"x"))
    data.save("job_2", io.BytesIO(b"x"))
    os.utime(data.file("job_1"), (0, 0))
    assert data.older_than(3600) == ["job_1"]


def test_a_file_that_goes_meanwhile_is_not_old(data: LocalStorage) -> None:
    """A link to nothing is found and cannot be asked, as a file is that was removed in between."""
    data.file("job_1").symlink_to("nowhere")
    assert data.older_than(3600) == []


def test_the_living_and_the_dead(data: LocalStorage) -> None:
    with data.register_server() as me:
        assert not data.has_ended(me)
        assert not data.has_ended("another-machine/" + me.partition("/")[2])
        assert not data.has_ended("")
    assert data.has_ended(me)


def test_a_server_that_was_killed_is_dead(data: LocalStorage) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from whisper_server.jobs.storage.local_storage import LocalStorage\n"
        "data = LocalStorage(Path(sys.argv[1])); data.open()\n"
        "with data.register_server() as me:\n print(me, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(data.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert not data.has_ended(name)
        process.kill()
    assert data.has_ended(name) and data.has_ended(name)
    assert list((data.path / "servers").iterdir()) == []
