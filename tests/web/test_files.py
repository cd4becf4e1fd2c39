"""Files on the page: how they are added, their jobs, and recovery from errors."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from servers import LiveServer, live_server
from visitor import Visitor

Visit = Callable[..., Visitor]
pytestmark = pytest.mark.browser

DROP = """([bytes, name, type]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, { type }));
  for (const kind of ["dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}"""
PASTE = """([bytes, name, type]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, { type }));
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
}"""


@pytest.mark.parametrize("script", [DROP, PASTE], ids=["dropped", "pasted"])
def test_files_can_be_dropped_and_pasted(visit: Visit, server: LiveServer, audio: Path, script: str) -> None:
    visitor = visit(server.url)
    content = list((audio / "short.flac").read_bytes())
    visitor.wait("document.querySelector('#model-dot').classList.contains('ready')")
    visitor.page.evaluate(script, [content, "short.flac", "audio/flac"])
    visitor.finish()
    assert "kettle" in visitor.text("#segments")


def test_several_files_become_several_jobs(visit: Visit, server: LiveServer, audio: Path) -> None:
    visitor = visit(server.url)
    visitor.choose(audio / "short.flac", audio / "spanish.flac")
    for name in ("short.flac", "spanish.flac"):
        visitor.page.wait_for_selector(f"#jobs li.succeeded .name:text-is('{name}')", timeout=60_000)


def test_jobs_can_be_reopened_with_their_audio_and_deleted(visit: Visit, server: LiveServer, audio: Path) -> None:
    visitor = visit(server.url)
    visitor.transcribe(audio / "short.flac")
    job_id = visitor.page.url.split("#")[1]
    second = visit(server.url)
    second.page.click(f"#jobs a[href='#{job_id}']")
    second.finish()
    assert "kettle" in second.text("#segments")
    second.wait("document.querySelector('#audio').duration > 2")
    second.page.click(".back")
    job = second.page.locator(f"li[data-job='{job_id}']")
    job.get_by_role("button").click()
    job.wait_for(state="detached")


def test_a_file_of_another_type_is_rejected_in_the_page(visit: Visit, server: LiveServer) -> None:
    visitor = visit(server.url)
    visitor.choose({"name": "letter.pdf", "mimeType": "application/pdf", "buffer": b"%PDF"})
    assert visitor.text("#files-error") == "Letter.pdf is neither audio nor video."


def test_a_file_without_audio_is_reported(visit: Visit, server: LiveServer) -> None:
    visitor = visit(server.url)
    visitor.choose({"name": "noise.mp3", "mimeType": "audio/mpeg", "buffer": b"no audio at all" * 100})
    visitor.page.wait_for_selector("#failure:not([hidden])", timeout=30_000)
    assert "audio" in visitor.text("#failure-message").lower()
    assert visitor.page.is_hidden("#progress")


def test_cancelling_stops_the_job(visit: Visit, server: LiveServer, audio: Path) -> None:
    visitor = visit(server.url)
    visitor.choose(audio / "long.flac")
    visitor.wait("location.hash.startsWith('#job_')")
    visitor.page.click("#cancel")
    visitor.page.wait_for_selector("#failure:not([hidden])")
    assert visitor.text("#failure-message") == "Cancelled."
    job = httpx2.get(f"{server.url}/v1/jobs/{visitor.page.url.split('#')[1]}").json()
    assert job["state"] == "cancelled"


def test_an_interrupted_upload_is_repeated_when_the_server_is_back(visit: Visit, audio: Path, tmp_path: Path) -> None:
    with live_server("--data-dir", str(tmp_path)) as first:
        visitor = visit(first.url)
        visitor.wait("document.querySelector('#model-dot').classList.contains('ready')")
        visitor.expected += ["ERR_"]  # a broken connection
        # 200 kB/s, so that the upload is still running when the server is killed.
        session = visitor.page.context.new_cdp_session(visitor.page)
        limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 200_000}
        session.send("Network.emulateNetworkConditions", limits)
        visitor.choose(audio / "long.flac")
        visitor.page.wait_for_selector("#progress-status:has-text('Uploading')")
        first.process.send_signal(signal.SIGKILL)
        visitor.page.wait_for_selector("#progress-status:has-text('is not responding')")
    session.send("Network.emulateNetworkConditions", {**limits, "uploadThroughput": -1})
    port = first.url.rsplit(":", 1)[1]
    with live_server("--data-dir", str(tmp_path), "--port", port):
        visitor.page.wait_for_selector("#segments li", timeout=60_000)
        visitor.page.click("#cancel")
        visitor.page.wait_for_selector("#failure:not([hidden])")


def test_a_job_resumes_after_the_server_was_killed(visit: Visit, audio: Path, tmp_path: Path) -> None:
    with live_server("--data-dir", str(tmp_path)) as first:
        visitor = visit(first.url)
        visitor.expected += ["ERR_"]
        visitor.choose(audio / "long.flac")
        visitor.page.wait_for_selector("#segments li", timeout=60_000)
        before = visitor.text("#segments li:first-child p")
        first.process.send_signal(signal.SIGKILL)
        visitor.page.wait_for_selector("#progress-status:has-text('is not responding')")
    with live_server("--data-dir", str(tmp_path), "--port", first.url.rsplit(":", 1)[1]):
        visitor.page.wait_for_selector("#summary:has-text('took')", timeout=120_000)
    assert visitor.text("#segments li:first-child p") == before
    starts = visitor.page.locator("#segments .time").all_inner_texts()
    assert len(starts) == len(set(starts)) or len(starts) > 3


def test_without_jobs_the_request_streams_segments(visit: Visit, sentences: Path) -> None:
    with live_server("--no-jobs") as server:
        visitor = visit(server.url)
        visitor.transcribe(sentences)
        assert len(visitor.text("#segments")) > 40
        assert visitor.page.is_hidden("#recent")
        assert visitor.page.locator("#segments .time").count() > 0
