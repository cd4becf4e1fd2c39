"""What jobs cost: a long queue, going on after an interruption, the estimate, and the latency of others meanwhile.

python benchmarks/background.py tests/audio/long.flac tests/audio/short.flac --model tiny.en
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import tempfile
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import numpy as np
from chaos import Server
from running import calls, two_jobs

from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings
from whisper_server.engine.admission import Admission
from whisper_server.engine.run_options import RunOptions
from whisper_server.engine.transcriber import Transcriber
from whisper_server.inference.audio.decoder import SAMPLE_RATE, AudioDecoder
from whisper_server.inference.request_context import RequestContext


@contextmanager
def serving(model: str, *flags: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as place:
        server = Server("--model", model, "--data-dir", place, *flags)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def repeated(file: Path, seconds: int, place: Path) -> Path:
    """Write so much of the file, again and again, as a WAV."""
    with file.open("rb") as opened:
        samples = AudioDecoder(max_seconds=3600).decode(opened, RequestContext())
    samples = np.resize(samples, seconds * SAMPLE_RATE)
    target = place / f"{seconds}.wav"
    with wave.open(str(target), "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(SAMPLE_RATE)
        written.writeframes((samples * 32767).astype(np.int16).tobytes())
    return target


def queue(model: str, small: Path, count: int) -> None:
    """Submit so many jobs to a server that works on none, and list them."""
    content = small.read_bytes()
    with serving(model, "--job-concurrency", "0") as server, httpx2.Client(base_url=server.url, timeout=60) as client:
        before = _memory(server)
        submits = [_timed(lambda: client.post("/v1/jobs", files={"file": ("a.flac", content)})) for _ in range(count)]
        after = _memory(server)
        print(
            f"{count} submits of {len(content) / 1e3:.0f} kB: {_spread(submits)}; "
            f"of the last 100: {_spread(submits[-100:])}"
        )
        for path in ("/v1/jobs?limit=100", "/v1/jobs?state=queued&order=asc&limit=100", "/v1/jobs"):
            print(f"GET {path}: {_spread([_timed(lambda path=path: client.get(path)) for _ in range(100)])}")
        page = client.get("/v1/jobs?limit=50").json()
        after_half = f"/v1/jobs?limit=100&after={page['last_id']}"
        print(f"GET the next page: {_spread([_timed(lambda: client.get(after_half)) for _ in range(100)])}")
        print(f"memory: {before:.0f} MB before, {after:.0f} MB after, {_memory(server):.0f} MB after the lists")


class Notes(dict[str, bytes]):
    """A journal in memory."""

    def find(self, key: str) -> bytes | None:
        return self.get(key)

    def record(self, key: str, answer: bytes) -> None:
        self[key] = answer


def replay(model: str, file: Path, seconds: int) -> None:
    """Transcribe so much audio, and go through it again with every answer in the journal."""
    settings = Settings(model=model, device="cpu", offline=True, autotune=False)
    models = load_models(settings)
    transcriber = Transcriber(models, AudioDecoder(max_seconds=1e6), Admission(max_requests=1, max_audio_seconds=1e9))
    notes = Notes()
    with tempfile.TemporaryDirectory() as place:
        audio = repeated(file, seconds, Path(place))
        texts = []
        for run in ("the first run", "from the journal"):
            with transcriber.background() as context, audio.open("rb") as opened:
                started = time.monotonic()
                samples = anyio.run(transcriber.decode, context, opened)
                decoded = time.monotonic()
                transcript = anyio.run(_transcribe, transcriber, context, samples, notes)
                ended = time.monotonic()
            texts.append(transcript.segments)
            print(
                f"{run}: {seconds} s of audio, {decoded - started:.2f} s to decode the file, "
                f"{ended - decoded:.2f} s to transcribe; {len(notes)} answers of "
                f"{sum(map(len, notes.values())) / 1e3:.0f} kB"
            )
    print(f"the same result: {repr(texts[0]) == repr(texts[1])}")
    models.close()


async def _transcribe(transcriber: Transcriber, context: RequestContext, samples: Any, notes: Notes) -> Any:
    return await transcriber.transcribe_samples(context, samples, {}, RunOptions(), journal=notes)


def kill(model: str, file: Path, seconds: int) -> None:
    """Kill the server when a job is half done, start it again, and count what it does twice."""
    with tempfile.TemporaryDirectory() as place, serving(model) as server:
        audio = repeated(file, seconds, Path(place))
        calm = _submitted(server, audio)
        _wait(server, calm, "succeeded")
        whole, undisturbed = calls(server.url), _text(server, calm)
        id = _submitted(server, audio)
        _wait(server, id, "running", progress=0.5)
        before = calls(server.url) - whole
        done = httpx2.get(f"{server.url}/v1/jobs/{id}").json()["audio_seconds_done"]
        server.stop(signal.SIGKILL)
        server.start()
        _wait(server, id, "succeeded")
        again = before + calls(server.url) - whole
        print(
            f"killed after {done:.0f} of {seconds} s: {again:g} of {whole:g} calls of the model were made twice, "
            f"{again / whole * seconds:.1f} s of audio; the same text: {_text(server, id) == undisturbed}"
        )


def _submitted(server: Server, audio: Path) -> str:
    with audio.open("rb") as opened:
        answer = httpx2.post(f"{server.url}/v1/jobs", files={"file": ("a.wav", opened)}, timeout=60)
    id: str = answer.json()["id"]
    return id


def _wait(server: Server, id: str, state: str, *, progress: float = 0.0) -> None:
    while True:
        job = httpx2.get(f"{server.url}/v1/jobs/{id}").json()
        if job["state"] == state and job["progress"] >= progress:
            return
        assert job["state"] in ("queued", "running"), job
        time.sleep(0.5)


def _text(server: Server, id: str) -> str:
    return httpx2.get(f"{server.url}/v1/jobs/{id}/result?response_format=text").text


def estimate(model: str, file: Path, seconds: int) -> None:
    """Run one job, and say how right its estimate was when it was half done."""
    with tempfile.TemporaryDirectory() as place, serving(model) as server:
        with repeated(file, seconds, Path(place)).open("rb") as audio:
            id = httpx2.post(f"{server.url}/v1/jobs", files={"file": ("a.wav", audio)}, timeout=60).json()["id"]
        lines = httpx2.get(f"{server.url}/v1/jobs/{id}/events", timeout=3600).text.splitlines()
        told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        job = httpx2.get(f"{server.url}/v1/jobs/{id}").json()
        half = next(event for event in told if event.get("progress", 0) >= 0.5)
        left, truly = half["estimated_finish_at"] - half["at"], job["finished_at"] - half["at"]
        took = job["finished_at"] - job["started_at"]
        print(
            f"a job of {seconds} s: {took:.1f} s; at {half['progress']:.0%} it said {left:.1f} s more, and it was "
            f"{truly:.1f} s: {abs(left - truly) / truly:.0%} off"
        )


def latency(model: str, file: Path, clip: Path, seconds: int) -> None:
    """Transcribe a clip again and again, alone and while two jobs run."""
    content = clip.read_bytes()
    with ExitStack() as held:
        place = held.enter_context(tempfile.TemporaryDirectory())
        server = held.enter_context(serving(model))
        client = held.enter_context(httpx2.Client(base_url=server.url, timeout=600))

        def ask() -> float:
            return _timed(lambda: client.post("/v1/audio/transcriptions", files={"file": content}))

        ask()
        print(f"a clip alone: {_spread([ask() for _ in range(10)])}")
        long = repeated(file, seconds, Path(place)).read_bytes()
        with two_jobs(server.url, long):
            print(f"the clip beside two jobs: {_spread([ask() for _ in range(10)])}")


def _timed(work: Callable[[], Any]) -> float:
    started = time.monotonic()
    answer = work()
    assert answer.status_code in (200, 202), answer.text
    return time.monotonic() - started


def _spread(seconds: list[float]) -> str:
    return f"median {statistics.median(seconds) * 1000:.1f} ms, slowest {max(seconds) * 1000:.0f} ms"


def _memory(server: Server) -> float:
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("long", type=Path)
    parser.add_argument("short", type=Path)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--only", choices=("queue", "replay", "kill", "estimate", "latency"))
    asked = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "queue": lambda: queue(asked.model, asked.short, asked.jobs),
        "replay": lambda: replay(asked.model, asked.long, asked.seconds),
        "kill": lambda: kill(asked.model, asked.long, asked.seconds),
        "estimate": lambda: estimate(asked.model, asked.long, asked.seconds),
        "latency": lambda: latency(asked.model, asked.long, asked.short, asked.seconds),
    }
    for name, part in parts.items():
        if asked.only in (None, name):
            part()


if __name__ == "__main__":
    main()
