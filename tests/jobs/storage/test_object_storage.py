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


def opened(path: Path, url: str) -> ObjectStorage:
    bucket = ObjectStorage(path, url)
    bucket.open()
    return bucket


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/bucket"


def test_one_server_reads_what_another_has_saved(tmp_path: Path, url: str) -> None:
    one, other = opened(tmp_path / "one", url), opened(tmp_path / "other", f"{url}/")
    assert one.name == other.name
    source = io.BytesIO(b"sound")
    source.seek(3)
    assert one.save("job_1", source) == 5
    assert other.has("job_1")
    with other.read("job_1") as file, other.local_path("job_1") as path:
        assert file.read() == path.read_bytes() == b"sound"
    assert list((tmp_path / "other" / "audio").iterdir()) == list((tmp_path / "one" / "audio").iterdir()) == []
    other.remove("job_1")
    other.remove("job_1")
    assert not one.has("job_1")
    with pytest.raises(BadAudio), one.read("job_1"):
        pass


def test_half_a_file_is_none(tmp_path: Path, url: str) -> None:
    bucket = opened(tmp_path / "one", url)
    with pytest.raises(RuntimeError), bucket.writer("job_1") as file:
        file.write(b"half")
        raise RuntimeError
    assert not bucket.has("job_1")


def test_old_files_are_found(tmp_path: Path, url: str) -> None:
    bucket = opened(tmp_path / "one", url)
    for id in ("job_1", "job_2"):
        bucket.save(id, io.BytesIO(b"x"))
    os.utime(tmp_path / "bucket" / "job_1", (0, 0))
    assert bucket.older_than(3600) == ["job_1"]


def test_nobody_of_another_directory_is_taken_for_dead(tmp_path: Path, url: str) -> None:
    one, other = opened(tmp_path / "one", url), opened(tmp_path / "other", url)
    with one.register_server() as name:
        assert not one.has_ended(name)
        assert not other.has_ended(name)
    assert one.has_ended(name)
    assert not other.has_ended(name)


def test_a_plain_directory_has_other_files(tmp_path: Path, url: str) -> None:
    bucket, plain = opened(tmp_path / "one", url), LocalStorage(tmp_path / "one")
    plain.open()
    assert plain.name != bucket.name


def test_a_store_that_fails(tmp_path: Path, url: str) -> None:
    bucket = opened(tmp_path / "one", url)
    (tmp_path / "bucket").rmdir()
    (tmp_path / "bucket").write_text("")
    with pytest.raises(JobsUnavailable, match="the audio storage"):
        bucket.save("job_1", io.BytesIO(b"x"))


@pytest.mark.parametrize("url", ["nosuch://bucket"])
def test_a_store_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="--audio-storage"):
        ObjectStorage(tmp_path, url)


def test_a_job_of_one_server_is_done_by_another(
    client_with: Callable[..., TestClient], tmp_path: Path, url: str, audio: Path
) -> None:
    """They have nothing in common but a database and a store."""
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
