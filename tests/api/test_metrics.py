from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from servers import live_server
from starlette.testclient import TestClient

KEY = "a-secret-of-the-tests"


def samples(text: str) -> dict[str, float]:
    """Return the value of each series by its name and the values of its labels."""
    return {
        sample.name + "".join(f"|{value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(client: TestClient, **headers: str) -> dict[str, float]:
    response = client.get("/metrics", headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return samples(response.text)


def test_a_transcription_is_counted(client: TestClient, audio: Path) -> None:
    before = read(client)
    files = {"file": (audio / "short.flac").read_bytes()}
    assert client.post("/recognise", files=files).status_code == 200
    after = read(client)
    assert after["whisper_requests_total|POST|/recognise|200"] == 1
    assert after["whisper_request_seconds_count|POST|/recognise"] == 1
    assert after["whisper_audio_seconds_total"] == pytest.approx(3.146, abs=0.01)
    assert after["whisper_real_time_factor_count"] == 1
    assert 0 < after["whisper_real_time_factor_sum"] < 100
    assert after["whisper_batch_size_count"] > before["whisper_batch_size_count"]
    assert after["whisper_batch_size_sum"] > before["whisper_batch_size_sum"]
    assert after["whisper_requests_in_progress"] == 1  # the request for the metrics
    assert after["whisper_queue_length"] == 0
    assert after["whisper_process_resident_memory_bytes"] > 50e6


def test_the_model_is_described(client: TestClient) -> None:
    scraped = read(client)
    (model,) = [name for name in scraped if name.startswith("whisper_model_info")]
    assert model.split("|")[1:] == ["int8_float32", "cpu", "tiny.en"]
    assert scraped["whisper_ready"] == 1
    assert scraped["whisper_model_memory_bytes"] > 0
    assert scraped["whisper_worker_crashes_total"] == 0


def test_refusals_are_counted_by_reason(client_with: Callable[..., TestClient]) -> None:
    client = client_with(api_key=(KEY,), key_rate="5/day", max_requests=1)
    bearer = {"authorization": f"Bearer {KEY}"}
    client.get("/metrics")
    with client.app_state["transcriber"].admission.admit():
        client.post("/recognise", headers=bearer)
    scraped = read(client, **bearer)
    for reason, count in {"unauthorized": 1, "overloaded": 1, "rate_limited": 0}.items():
        assert scraped[f"whisper_rejected_total|{reason}"] == count, reason
    for _ in range(9):
        client.post("/reload", headers=bearer, content=b"[]")
    response = client.get("/metrics", headers=bearer)
    assert response.status_code == 429


def test_refused_hosts_and_origins_are_counted(client_with: Callable[..., TestClient]) -> None:
    client = client_with()
    client.get("/", headers={"host": "evil.example"})
    client.post("/reload", headers={"origin": "https://evil.example"})
    scraped = read(client)
    assert (scraped["whisper_rejected_total|host"], scraped["whisper_rejected_total|origin"]) == (1, 1)


def test_clients_cannot_create_time_series(client: TestClient) -> None:
    for number in range(20):
        client.request(f"METHOD{number}", f"/nowhere/{number}")
        client.get(f"/web/{number}")
    scraped = read(client)
    assert scraped["whisper_requests_total|OTHER|none|404"] == 20
    assert scraped["whisper_requests_total|GET|/web|404"] == 20


def test_each_application_has_its_own_metrics(client_with: Callable[..., TestClient]) -> None:
    first, second = client_with(), client_with()
    first.get("/health")
    assert "whisper_requests_total|GET|/health|200" not in read(second)


def test_a_disconnect_is_counted_as_cancelled(audio: Path) -> None:
    with live_server() as server:
        files = {"file": (audio / "long.flac").read_bytes()}
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{server.url}/recognise", files=files, timeout=httpx2.Timeout(30, read=0.5))
        server.wait_for("POST /recognise 499 in")
        scraped = samples(httpx2.get(f"{server.url}/metrics").text)
        assert scraped["whisper_cancelled_total"] == 1
        assert scraped["whisper_requests_total|POST|/recognise|499"] == 1
