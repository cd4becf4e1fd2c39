from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

KEYS = ("first-key-0123456789", "second-key-0123456789")


def events_of(client: TestClient, id: str, **kwargs: Any) -> list[dict[str, Any]]:
    """Return the events of a job until it has ended."""
    response = client.get(f"/v1/jobs/{id}/events", **kwargs)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in response.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            event = json.loads(lines["data"])
            assert event["type"] == lines["event"]
            events.append({**event, "number": int(lines["id"])})
    return events


def post(client: TestClient, file: Path, **kwargs: Any) -> Any:
    return client.post("/v1/jobs", files={"file": (file.name, file.read_bytes())}, **kwargs)


@pytest.fixture
def server(client_with: Callable[..., TestClient], tmp_path: Path) -> TestClient:
    return client_with(data_dir=tmp_path)


@pytest.fixture
def idle(client_with: Callable[..., TestClient], tmp_path: Path) -> TestClient:
    """A server that accepts jobs but does not run them."""
    return client_with(data_dir=tmp_path, job_concurrency=0)


@pytest.fixture(scope="module")
def done(models: Any, audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str]]:
    """A server and the id of a finished job with words and log probabilities."""
    from whisper_server.app import create_app
    from whisper_server.core.settings import Settings

    settings = Settings(
        model="tiny.en", device="cpu", offline=True, allow_host=("testserver",), data_dir=tmp_path_factory.mktemp("d")
    )
    with TestClient(create_app(settings, models)) as client:
        fields = {"word_timestamps": "true", "include[]": "logprobs"}
        id = post(client, audio / "short.flac", data=fields).json()["id"]
        assert events_of(client, id)[-1]["type"] == "job.succeeded"
        yield client, id


def test_a_job_runs_to_completion(server: TestClient, audio: Path, tmp_path: Path) -> None:
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
    events = events_of(server, job["id"])
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["job.queued", "job.started"] and kinds[-1] == "job.succeeded"
    progress = [event["progress"] for event in events if "progress" in event]
    assert progress == sorted(progress) and len(progress) > 2 and progress[-1] == 1.0
    after = server.get(f"/v1/jobs/{job['id']}", params={"text": "true"}).json()
    assert (after["state"], after["progress"], after["position"]) == ("succeeded", 1.0, None)
    assert after["audio_seconds"] == after["audio_seconds_done"] > 60
    assert after["started_at"] <= after["finished_at"] < after["expires_at"]
    segments = [event["segment"] for event in events if event["type"] == "job.segment"]
    assert [segment["id"] for segment in segments] == list(range(len(segments)))
    assert "".join(segment["text"] for segment in segments).strip() == after["text"]
    result = server.get(f"/v1/jobs/{job['id']}/result").json()
    assert result["text"] == after["text"]
    assert not (tmp_path / "audio" / job["id"]).exists()
    transcript = server.post("/v1/audio/transcriptions", files={"file": (audio / "long.flac").read_bytes()}).json()
    assert result == transcript


FORMATS = ("json", "text", "srt", "vtt", "verbose_json")


@pytest.mark.parametrize("response_format", FORMATS)
def test_every_result_format_equals_that_of_the_transcription_endpoint(
    done: tuple[TestClient, str], audio: Path, response_format: str
) -> None:
    client, id = done
    fields = {"word_timestamps": "true", "response_format": response_format}
    if response_format == "json":
        fields["include[]"] = "logprobs"
    file = {"file": (audio / "short.flac").read_bytes()}
    expected = client.post("/v1/audio/transcriptions", files=file, data=fields)
    result = client.get(f"/v1/jobs/{id}/result", params={"response_format": response_format})
    assert result.status_code == 200
    assert (result.content, result.headers["content-type"]) == (expected.content, expected.headers["content-type"])


def test_results_can_be_tsv_and_have_a_subtitle_layout(done: tuple[TestClient, str]) -> None:
    client, id = done
    table = client.get(f"/v1/jobs/{id}/result?response_format=tsv")
    assert table.text.startswith("start\tend\ttext\n0\t")
    words = client.get(f"/v1/jobs/{id}/result?response_format=srt&max_words_per_line=2").text
    assert words.count(" --> ") > 4


def test_a_layout_of_words_is_refused_without_word_timestamps(server: TestClient, audio: Path) -> None:
    id = post(server, audio / "short.flac").json()["id"]
    events_of(server, id)
    refused = server.get(f"/v1/jobs/{id}/result?response_format=srt&max_words_per_line=2")
    assert refused.status_code == 400
    assert "without word_timestamps" in refused.json()["error"]["message"]
    assert server.get(f"/v1/jobs/{id}/result?response_format=doc").status_code == 400


def test_events_continue_after_the_last_event_id(done: tuple[TestClient, str]) -> None:
    client, id = done
    events = events_of(client, id)
    assert events_of(client, id, headers={"last-event-id": "2"}) == events[2:]
    assert events_of(client, id, params={"last_event_id": "2"}) == events[2:]
    assert client.get(f"/v1/jobs/{id}/events", headers={"last-event-id": str(len(events))}).status_code == 204
    assert client.get(f"/v1/jobs/{id}/events", headers={"last-event-id": "x"}).status_code == 400


def test_each_file_becomes_a_job(idle: TestClient, audio: Path) -> None:
    files = [("file", (name, b"x")) for name in ("a.mp3", "../b.mp3", "c\n.mp3")]
    response = idle.post("/v1/jobs", files=files, data={"language": "en"})
    assert (response.status_code, response.headers["location"]) == (202, "/v1/jobs")
    created = response.json()["data"]
    assert [job["file"]["name"] for job in created[:2]] == ["a.mp3", "../b.mp3"]
    assert [job["position"] for job in created] == [0, 1, 2]
    assert len({job["id"] for job in created}) == 3


def test_jobs_are_listed_with_pages_and_filters(idle: TestClient) -> None:
    files = [("file", (f"{number}.mp3", b"x")) for number in range(5)]
    ids = [job["id"] for job in idle.post("/v1/jobs", files=files).json()["data"]]
    idle.post(f"/v1/jobs/{ids[4]}/cancel")
    first = idle.get("/v1/jobs?limit=2").json()
    assert [job["id"] for job in first["data"]] == [ids[4], ids[3]] and first["has_more"]
    assert (first["first_id"], first["last_id"]) == (ids[4], ids[3])
    remaining = idle.get(f"/v1/jobs?after={first['last_id']}").json()
    assert [job["id"] for job in remaining["data"]] == [ids[2], ids[1], ids[0]] and not remaining["has_more"]
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


def test_a_queued_job_has_no_result_and_can_be_cancelled(idle: TestClient, tmp_path: Path) -> None:
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
    with server.stream("GET", f"/v1/jobs/{id}/events") as stream:
        next(line for line in stream.iter_lines() if line == "event: job.started")
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


def test_a_file_that_is_not_audio_fails_with_the_reason(server: TestClient) -> None:
    id = server.post("/v1/jobs", files={"file": b"no audio"}).json()["id"]
    events = events_of(server, id)
    assert events[-1]["type"] == "job.failed"
    error = server.get(f"/v1/jobs/{id}").json()["error"]
    assert error == events[-1]["error"]
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
def test_invalid_fields_are_refused_without_creating_a_job(idle: TestClient, data: dict[str, str], param: str) -> None:
    refused = idle.post("/v1/jobs", files={"file": b"x"}, data=data)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert idle.get("/v1/jobs").json()["data"] == []


def test_other_invalid_submissions_are_refused(idle: TestClient) -> None:
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


def test_keep_audio_keeps_the_file(server: TestClient, audio: Path) -> None:
    content = (audio / "short.flac").read_bytes()
    id = post(server, audio / "short.flac", data={"keep_audio": "true"}).json()["id"]
    assert events_of(server, id)[-1]["type"] == "job.succeeded"
    kept = server.get(f"/v1/jobs/{id}/audio")
    assert (kept.content, kept.headers["content-type"]) == (content, "application/octet-stream")
    assert kept.headers["x-content-type-options"] == "nosniff"
    server.delete(f"/v1/jobs/{id}")
    assert server.get(f"/v1/jobs/{id}/audio").status_code == 404


def test_a_key_sees_only_its_own_jobs(client_with: Callable[..., TestClient], tmp_path: Path) -> None:
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


def test_a_full_job_queue_is_a_503(client_with: Callable[..., TestClient], tmp_path: Path) -> None:
    client = client_with(data_dir=tmp_path, job_concurrency=0, max_jobs=1)
    assert client.post("/v1/jobs", files=[("file", b"x"), ("file", b"y")]).status_code == 503
    assert client.post("/v1/jobs", files={"file": b"x"}).status_code == 202
    refused = client.post("/v1/jobs", files={"file": b"x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert len(list((tmp_path / "audio").iterdir())) == 1


def test_jobs_can_be_disabled(client_with: Callable[..., TestClient], tmp_path: Path, audio: Path) -> None:
    client = client_with(data_dir=tmp_path / "none", jobs=False)
    refused = client.get("/v1/jobs")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "jobs_unavailable")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("damage", ["not a directory", "damaged database", "newer database"])
def test_other_endpoints_work_without_the_job_store(
    client_with: Callable[..., TestClient], tmp_path: Path, audio: Path, damage: str
) -> None:
    data_dir = tmp_path / "data"
    if damage == "not a directory":
        data_dir.write_text("something else")
    elif damage == "damaged database":
        data_dir.mkdir()
        (data_dir / "jobs.sqlite").write_bytes(b"damaged " * 1000)
    else:
        client_with(data_dir=data_dir).get("/v1/jobs")
        import sqlite3

        with sqlite3.connect(data_dir / "jobs.sqlite") as connection:
            connection.execute("UPDATE whisper_schema SET version = 99")
        connection.close()
    client = client_with(data_dir=data_dir)
    refused = client.post("/v1/jobs", files={"file": b"x"})
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "jobs_unavailable"
    assert refused.headers["retry-after"] == "30"
    assert client.get("/ready").status_code == 200
    assert "whisper_jobs_available 0.0" in client.get("/metrics").text
    assert "stove" in transcribe(client, audio / "short.flac")
    if damage == "damaged database":
        assert (data_dir / "jobs.sqlite").read_bytes() == b"damaged " * 1000


def transcribe(client: TestClient, file: Path) -> str:
    text: str = client.post("/v1/audio/transcriptions", files={"file": file.read_bytes()}).json()["text"]
    return text


def test_jobs_are_counted(idle: TestClient) -> None:
    idle.post("/v1/jobs", files={"file": b"x"})
    assert 'whisper_jobs{state="queued"}' in idle.get("/metrics").text


def test_results_are_cached_by_audio_and_options(
    client_with: Callable[..., TestClient], tmp_path: Path, audio: Path
) -> None:
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


def test_a_key_never_gets_the_jobs_of_a_revoked_key(
    client_with: Callable[..., TestClient], tmp_path: Path, audio: Path
) -> None:
    revoked, other = ({"authorization": f"Bearer {name}-key-of-the-tests"} for name in ("revoked", "other"))
    keys = [headers["authorization"].removeprefix("Bearer ") for headers in (revoked, other)]
    before = client_with(data_dir=tmp_path, result_cache=True, api_key=keys)
    id = post(before, audio / "short.flac", headers=revoked).json()["id"]
    assert events_of(before, id, headers=revoked)[-1]["type"] == "job.succeeded"
    after = client_with(data_dir=tmp_path, result_cache=True, api_key=keys[1:])
    assert after.get("/v1/jobs", headers=revoked).status_code == 401
    assert after.get("/v1/jobs", headers=other).json()["data"] == []
    for path in ("", "/result", "/events", "/audio"):
        assert after.get(f"/v1/jobs/{id}{path}", headers=other).status_code == 404
    assert [job["id"] for job in before.get("/v1/jobs", headers=revoked).json()["data"]] == [id]
