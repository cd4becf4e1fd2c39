from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

KEYS = ("first-key-0123456789", "second-key-0123456789")


def events_of(client: TestClient, id: str, **kwargs: Any) -> list[dict[str, Any]]:
    """What is told until the job has ended."""
    response = client.get(f"/v1/jobs/{id}/events", **kwargs)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in response.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            event = json.loads(lines["data"])
            assert event["type"] == lines["event"]
            found.append({**event, "number": int(lines["id"])})
    return found


def post(client: TestClient, file: Path, **kwargs: Any) -> Any:
    return client.post("/v1/jobs", files={"file": (file.name, file.read_bytes())}, **kwargs)


@pytest.fixture
def server(client_with: Callable[..., TestClient], tmp_path: Path) -> TestClient:
    return client_with(data_dir=tmp_path)


@pytest.fixture
def idle(client_with: Callable[..., TestClient], tmp_path: Path) -> TestClient:
    """A server that takes jobs and leaves them."""
    return client_with(data_dir=tmp_path, job_concurrency=0)


@pytest.fixture(scope="module")
def done(models: Any, audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str]]:
    """A server and a job of it that has succeeded, with words and log probabilities."""
    from whisper_server.app import create_app
    from whisper_server.core.settings import Settings

    settings = Settings(
        model="tiny.en", device="cpu", offline=True, allow_host=("testserver",), data_dir=tmp_path_factory.mktemp("d")
    )
    with TestClient(create_app(settings, models)) as client:
        asked = {"word_timestamps": "true", "include[]": "logprobs"}
        id = post(client, audio / "short.flac", data=asked).json()["id"]
        assert events_of(client, id)[-1]["type"] == "job.succeeded"
        yield client, id


def test_a_job_is_accepted_and_comes_to_its_end(server: TestClient, audio: Path, tmp_path: Path) -> None:
    response = post(server, audio / "long.flac")
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["object"], job["state"], job["progress"], job["position"]) == ("job", "queued", 0.0, 0)
    assert job["file"] == {
        "name": "long.flac",
        "bytes": (audio / "long.flac").stat().st_size,
        "url": None,
        "kept": False,
    }
    assert (tmp_path / "audio" / job["id"]).read_bytes() == (audio / "long.flac").read_bytes()
    told = events_of(server, job["id"])
    assert [event["number"] for event in told] == list(range(1, len(told) + 1))
    kinds = [event["type"] for event in told]
    assert kinds[:2] == ["job.queued", "job.started"] and kinds[-1] == "job.succeeded"
    progress = [event["progress"] for event in told if "progress" in event]
    assert progress == sorted(progress) and len(progress) > 2 and progress[-1] == 1.0
    after = server.get(f"/v1/jobs/{job['id']}", params={"text": "true"}).json()
    assert (after["state"], after["progress"], after["position"]) == ("succeeded", 1.0, None)
    assert after["audio_seconds"] == after["audio_seconds_done"] > 60
    assert after["started_at"] <= after["finished_at"] < after["expires_at"]
    segments = [event["segment"] for event in told if event["type"] == "job.segment"]
    assert [segment["id"] for segment in segments] == list(range(len(segments)))
    assert "".join(segment["text"] for segment in segments).strip() == after["text"]
    result = server.get(f"/v1/jobs/{job['id']}/result").json()
    assert result["text"] == after["text"]
    assert not (tmp_path / "audio" / job["id"]).exists()
    whole = server.post("/v1/audio/transcriptions", files={"file": (audio / "long.flac").read_bytes()}).json()
    assert result == whole


FORMATS = ("json", "text", "srt", "vtt", "verbose_json")


@pytest.mark.parametrize("response_format", FORMATS)
def test_every_format_is_what_the_transcription_endpoint_answers(
    done: tuple[TestClient, str], audio: Path, response_format: str
) -> None:
    client, id = done
    asked = {"word_timestamps": "true", "response_format": response_format}
    if response_format == "json":
        asked["include[]"] = "logprobs"
    file = {"file": (audio / "short.flac").read_bytes()}
    expected = client.post("/v1/audio/transcriptions", files=file, data=asked)
    got = client.get(f"/v1/jobs/{id}/result", params={"response_format": response_format})
    assert got.status_code == 200
    assert (got.content, got.headers["content-type"]) == (expected.content, expected.headers["content-type"])


def test_a_table_and_layouts_can_be_had(done: tuple[TestClient, str]) -> None:
    client, id = done
    table = client.get(f"/v1/jobs/{id}/result?response_format=tsv")
    assert table.text.startswith("start\tend\ttext\n0\t")
    words = client.get(f"/v1/jobs/{id}/result?response_format=srt&max_words_per_line=2").text
    assert words.count(" --> ") > 4


def test_words_that_were_not_asked_for_are_refused(server: TestClient, audio: Path) -> None:
    id = post(server, audio / "short.flac").json()["id"]
    events_of(server, id)
    refused = server.get(f"/v1/jobs/{id}/result?response_format=srt&max_words_per_line=2")
    assert refused.status_code == 400
    assert "without word_timestamps" in refused.json()["error"]["message"]
    assert server.get(f"/v1/jobs/{id}/result?response_format=doc").status_code == 400


def test_events_go_on_where_a_client_was(done: tuple[TestClient, str]) -> None:
    client, id = done
    told = events_of(client, id)
    assert events_of(client, id, headers={"last-event-id": "2"}) == told[2:]
    assert events_of(client, id, params={"last_event_id": "2"}) == told[2:]
    assert client.get(f"/v1/jobs/{id}/events", headers={"last-event-id": str(len(told))}).status_code == 204
    assert client.get(f"/v1/jobs/{id}/events", headers={"last-event-id": "x"}).status_code == 400


def test_several_files_are_several_jobs(idle: TestClient, audio: Path) -> None:
    files = [("file", (name, b"x")) for name in ("a.mp3", "../b.mp3", "c\n.mp3")]
    response = idle.post("/v1/jobs", files=files, data={"language": "en"})
    assert (response.status_code, response.headers["location"]) == (202, "/v1/jobs")
    made = response.json()["data"]
    assert [job["file"]["name"] for job in made[:2]] == ["a.mp3", "../b.mp3"]
    assert [job["position"] for job in made] == [0, 1, 2]
    assert len({job["id"] for job in made}) == 3


def test_pages_and_filters(idle: TestClient) -> None:
    files = [("file", (f"{number}.mp3", b"x")) for number in range(5)]
    ids = [job["id"] for job in idle.post("/v1/jobs", files=files).json()["data"]]
    idle.post(f"/v1/jobs/{ids[4]}/cancel")
    first = idle.get("/v1/jobs?limit=2").json()
    assert [job["id"] for job in first["data"]] == [ids[4], ids[3]] and first["has_more"]
    assert (first["first_id"], first["last_id"]) == (ids[4], ids[3])
    rest = idle.get(f"/v1/jobs?after={first['last_id']}").json()
    assert [job["id"] for job in rest["data"]] == [ids[2], ids[1], ids[0]] and not rest["has_more"]
    oldest = idle.get("/v1/jobs?order=asc&limit=1").json()["data"]
    assert [job["id"] for job in oldest] == [ids[0]]
    queued = idle.get("/v1/jobs?state=queued,running&order=asc").json()["data"]
    assert [job["position"] for job in queued] == [0, 1, 2, 3]
    assert idle.get("/v1/jobs?model=large").json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    for query in ("limit=0", "state=odd", "order=up", "after=job_none"):
        assert idle.get(f"/v1/jobs?{query}").status_code == 400


def test_a_job_that_is_not_finished_has_no_result_and_can_be_cancelled(idle: TestClient, tmp_path: Path) -> None:
    id = idle.post("/v1/jobs", files={"file": b"x"}).json()["id"]
    early = idle.get(f"/v1/jobs/{id}/result")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "job_not_finished")
    cancelled = idle.post(f"/v1/jobs/{id}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert idle.post(f"/v1/jobs/{id}/cancel").json()["state"] == "cancelled"
    late = idle.get(f"/v1/jobs/{id}/result")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "job_cancelled")
    assert not list((tmp_path / "audio").iterdir())
    assert [event["type"] for event in events_of(idle, id)] == ["job.queued", "job.cancelled"]


def test_a_running_job_can_be_cancelled(server: TestClient, audio: Path, tmp_path: Path) -> None:
    id = post(server, audio / "long.flac", data={"beam_size": "8"}).json()["id"]
    with server.stream("GET", f"/v1/jobs/{id}/events") as told:
        next(line for line in told.iter_lines() if line == "event: job.started")
    assert server.post(f"/v1/jobs/{id}/cancel").json()["state"] == "cancelled"
    assert not (tmp_path / "audio" / id).exists()
    second = post(server, audio / "short.flac").json()["id"]
    assert events_of(server, second)[-1]["type"] == "job.succeeded"
    assert server.get(f"/v1/jobs/{id}").json()["state"] == "cancelled"


def test_a_deleted_job_is_gone(done: tuple[TestClient, str], idle: TestClient, tmp_path: Path) -> None:
    id = idle.post("/v1/jobs", files={"file": b"x"}).json()["id"]
    assert idle.delete(f"/v1/jobs/{id}").json() == {"id": id, "object": "job", "deleted": True}
    assert not list((tmp_path / "audio").iterdir())
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/result"), ("GET", "/events"), ("POST", "/cancel")):
        gone = idle.request(method, f"/v1/jobs/{id}{path}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "job_not_found")
    assert idle.get(f"/jobs/{id}").json() == {"error": f"there is no job {id!r}"}


def test_a_finished_job_cannot_be_cancelled(done: tuple[TestClient, str]) -> None:
    client, id = done
    refused = client.post(f"/v1/jobs/{id}/cancel")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "job_finished")


def test_audio_that_is_none_fails_and_says_why(server: TestClient) -> None:
    id = server.post("/v1/jobs", files={"file": b"no audio"}).json()["id"]
    told = events_of(server, id)
    assert told[-1]["type"] == "job.failed"
    error = server.get(f"/v1/jobs/{id}").json()["error"]
    assert error == told[-1]["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "file", "invalid_audio")
    result = server.get(f"/v1/jobs/{id}/result")
    assert (result.status_code, result.json()["error"]["code"]) == (409, "job_failed")


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"stream": "true"}, "stream"),
        ({"url": "https://example.org/a.mp3"}, "url"),
        ({"callback_url": "https://example.org/"}, "callback_url"),
        ({"callback_url": "file:///etc/passwd"}, "callback_url"),
        ({"keep_audio": "perhaps"}, "keep_audio"),
    ],
)
def test_what_cannot_be_is_refused_at_once(idle: TestClient, data: dict[str, str], param: str) -> None:
    refused = idle.post("/v1/jobs", files={"file": b"x"}, data=data)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert idle.get("/v1/jobs").json()["data"] == []


def test_other_refusals(idle: TestClient) -> None:
    assert idle.post("/v1/jobs", data={"language": "en"}).json()["error"]["message"] == "No file provided"
    assert idle.post("/v1/jobs", files={"file": b"x"}, data={"model": "large-v3"}).status_code == 404
    odd = idle.post("/v1/jobs", files={"file": b"x"}, headers={"idempotency-key": "a b"})
    assert (odd.status_code, odd.json()["error"]["param"]) == (400, "Idempotency-Key")


def test_the_same_idempotency_key_gives_the_same_job(idle: TestClient, tmp_path: Path) -> None:
    headers = {"idempotency-key": "once"}

    def again(content: bytes = b"x", **data: str) -> Any:
        return idle.post("/v1/jobs", files={"file": ("a", content)}, data=data, headers=headers)

    first, second = again(), again()
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert "idempotent-replayed" not in first.headers and second.headers["idempotent-replayed"] == "true"
    for other in (again(b"y"), again(language="en")):
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert len(list((tmp_path / "audio").iterdir())) == 1


def test_the_file_is_kept_if_that_is_wanted(server: TestClient, audio: Path) -> None:
    content = (audio / "short.flac").read_bytes()
    id = post(server, audio / "short.flac", data={"keep_audio": "true"}).json()["id"]
    assert events_of(server, id)[-1]["type"] == "job.succeeded"
    kept = server.get(f"/v1/jobs/{id}/audio")
    assert (kept.content, kept.headers["content-type"]) == (content, "application/octet-stream")
    assert kept.headers["x-content-type-options"] == "nosniff"
    server.delete(f"/v1/jobs/{id}")
    assert server.get(f"/v1/jobs/{id}/audio").status_code == 404


def test_keys_see_their_own_jobs_only(client_with: Callable[..., TestClient], tmp_path: Path) -> None:
    client = client_with(data_dir=tmp_path, job_concurrency=0, api_key=KEYS, key_jobs=2)
    mine, others = ({"authorization": f"Bearer {key}"} for key in KEYS)
    id = client.post("/v1/jobs", files={"file": b"x"}, headers=mine).json()["id"]
    assert client.get(f"/v1/jobs/{id}").status_code == 401
    assert client.get(f"/v1/jobs/{id}", headers=mine).status_code == 200
    for path in ("", "/result", "/events", "/audio"):
        assert client.get(f"/v1/jobs/{id}{path}", headers=others).status_code == 404
    assert client.post(f"/v1/jobs/{id}/cancel", headers=others).status_code == 404
    assert client.delete(f"/v1/jobs/{id}", headers=others).status_code == 404
    assert client.get("/v1/jobs", headers=others).json()["data"] == []
    assert client.post("/v1/jobs", files={"file": b"x"}, headers=mine).status_code == 202
    refused = client.post("/v1/jobs", files={"file": b"x"}, headers=mine)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_jobs")
    assert int(refused.headers["retry-after"]) > 0
    assert client.post("/v1/jobs", files={"file": b"x"}, headers=others).status_code == 202


def test_a_full_server_says_so(client_with: Callable[..., TestClient], tmp_path: Path) -> None:
    client = client_with(data_dir=tmp_path, job_concurrency=0, max_jobs=1)
    assert client.post("/v1/jobs", files=[("file", b"x"), ("file", b"y")]).status_code == 503
    assert client.post("/v1/jobs", files={"file": b"x"}).status_code == 202
    refused = client.post("/v1/jobs", files={"file": b"x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert len(list((tmp_path / "audio").iterdir())) == 1


def test_jobs_can_be_switched_off(client_with: Callable[..., TestClient], tmp_path: Path, audio: Path) -> None:
    client = client_with(data_dir=tmp_path / "none", jobs=False)
    refused = client.get("/v1/jobs")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "jobs_unavailable")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("way", ["not a directory", "damaged database", "newer database"])
def test_a_broken_store_breaks_nothing_else(
    client_with: Callable[..., TestClient], tmp_path: Path, audio: Path, way: str
) -> None:
    place = tmp_path / "data"
    if way == "not a directory":
        place.write_text("something else")
    elif way == "damaged database":
        place.mkdir()
        (place / "jobs.sqlite").write_bytes(b"damaged " * 1000)
    else:
        client_with(data_dir=place).get("/v1/jobs")
        import sqlite3

        with sqlite3.connect(place / "jobs.sqlite") as connection:
            connection.execute("UPDATE whisper_schema SET version = 99")
        connection.close()
    client = client_with(data_dir=place)
    refused = client.post("/v1/jobs", files={"file": b"x"})
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "jobs_unavailable"
    assert refused.headers["retry-after"] == "30"
    assert client.get("/ready").status_code == 200
    assert "whisper_jobs_available 0.0" in client.get("/metrics").text
    assert "stove" in post_whole(client, audio / "short.flac")
    if way == "damaged database":
        assert (place / "jobs.sqlite").read_bytes() == b"damaged " * 1000


def post_whole(client: TestClient, file: Path) -> str:
    text: str = client.post("/v1/audio/transcriptions", files={"file": file.read_bytes()}).json()["text"]
    return text


def test_jobs_are_counted(idle: TestClient) -> None:
    idle.post("/v1/jobs", files={"file": b"x"})
    assert 'whisper_jobs{state="queued"}' in idle.get("/metrics").text


def test_a_result_is_found_again(client_with: Callable[..., TestClient], tmp_path: Path, audio: Path) -> None:
    client = client_with(data_dir=tmp_path, result_cache=True)
    ids = []
    for data in ({}, {"response_format": "srt"}, {"beam_size": "2"}):
        ids.append(post(client, audio / "short.flac", data=data).json()["id"])
        assert events_of(client, ids[-1])[-1]["type"] == "job.succeeded"
    assert [client.get(f"/v1/jobs/{id}").json()["cached"] for id in ids] == [False, True, False]
    results = [client.get(f"/v1/jobs/{id}/result?response_format=verbose_json").json() for id in ids[:2]]
    assert results[0] == results[1]
    texts = [client.get(f"/v1/jobs/{id}?text=true").json()["text"] for id in ids]
    assert texts[0] == texts[1] != ""
