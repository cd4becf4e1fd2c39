from __future__ import annotations

import io
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from whisper_server.core.errors import BadAudio, JobsUnavailable
from whisper_server.core.settings import SettingsError
from whisper_server.jobs.storage.local_storage import LocalStorage
from whisper_server.jobs.storage.object_storage import ObjectStorage

pytestmark = pytest.mark.skipif(find_spec("fsspec") is None, reason="needs fsspec")


def open_storage(path: Path, url: str) -> ObjectStorage:
    storage = ObjectStorage(path, url)
    storage.open()
    return storage


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/bucket"


def test_one_server_reads_what_another_saved(tmp_path: Path, url: str) -> None:
    one, other = open_storage(tmp_path / "one", url), open_storage(tmp_path / "other", f"{url}/")
    assert one.name == other.name
    source = io.BytesIO(b"audio")
    source.seek(3)
    assert one.save("job_1", source) == 5
    assert other.has("job_1")
    with other.read("job_1") as file, other.local_path("job_1") as path:
        assert file.read() == path.read_bytes() == b"audio"
    assert list((tmp_path / "other" / "audio").iterdir()) == list((tmp_path / "one" / "audio").iterdir()) == []
    other.remove("job_1")
    other.remove("job_1")
    assert not one.has("job_1")
    with pytest.raises(BadAudio), one.read("job_1"):
        pass


def test_an_incomplete_file_is_not_uploaded(tmp_path: Path, url: str) -> None:
    storage = open_storage(tmp_path / "one", url)
    with pytest.raises(RuntimeError), storage.writer("job_1") as file:
        file.write(b"half")
        raise RuntimeError
    assert not storage.has("job_1")


def test_old_files_are_listed(tmp_path: Path, url: str) -> None:
    storage = open_storage(tmp_path / "one", url)
    for id in ("job_1", "job_2"):
        storage.save(id, io.BytesIO(b"x"))
    os.utime(tmp_path / "bucket" / "job_1", (0, 0))
    assert storage.older_than(3600) == ["job_1"]


def test_servers_with_another_data_directory_never_count_as_ended(tmp_path: Path, url: str) -> None:
    one, other = open_storage(tmp_path / "one", url), open_storage(tmp_path / "other", url)
    with one.register_server() as name:
        assert not one.has_ended(name)
        assert not other.has_ended(name)
    assert one.has_ended(name)
    assert not other.has_ended(name)


def test_a_local_directory_is_another_storage(tmp_path: Path, url: str) -> None:
    storage, local = open_storage(tmp_path / "one", url), LocalStorage(tmp_path / "one")
    local.open()
    assert local.name != storage.name


def test_a_failing_store_is_reported(tmp_path: Path, url: str) -> None:
    storage = open_storage(tmp_path / "one", url)
    (tmp_path / "bucket").rmdir()
    (tmp_path / "bucket").write_text("")
    with pytest.raises(JobsUnavailable, match="the audio storage"):
        storage.save("job_1", io.BytesIO(b"x"))


@pytest.mark.parametrize("url", ["nosuch://bucket"])
def test_an_unknown_kind_of_store_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="--audio-storage"):
        ObjectStorage(tmp_path, url)


def test_a_job_of_one_server_runs_on_another(
    client_with: Callable[..., TestClient], tmp_path: Path, url: str, audio: Path
) -> None:
    """The servers share only a database and a store."""
    common = {"database_url": f"sqlite:///{tmp_path}/jobs.sqlite", "audio_storage": url}
    one = client_with(**common, data_dir=tmp_path / "one", job_concurrency=0)
    other = client_with(**common, data_dir=tmp_path / "other")
    clip = (audio / "short.flac").read_bytes()
    job = one.post("/v1/jobs", files={"file": ("a.flac", clip)}, data={"keep_audio": "true"}).json()["id"]
    assert "job.succeeded" in one.get(f"/v1/jobs/{job}/events").text
    assert "stove" in one.get(f"/v1/jobs/{job}/result?response_format=text").text
    assert one.get(f"/v1/jobs/{job}/audio").content == other.get(f"/v1/jobs/{job}/audio").content == clip
    assert one.get("/v1/jobs").json()["data"][0]["id"] == other.get("/v1/jobs").json()["data"][0]["id"]
    assert other.delete(f"/v1/jobs/{job}").json()["deleted"]
    assert one.get(f"/v1/jobs/{job}/audio").status_code == 404
