"""Five measurements of background jobs, each of which can be run alone with --only:

    queue     submitting many jobs and listing them
    replay    going through a file again with all results in the checkpoint's journal
    restart   the work that is repeated after the server is killed in the middle of a job
    estimate  the error of a job's estimated time of completion, half-way through
    latency   the latency of short requests beside two running jobs

python -m benchmarks.jobs.job_performance tests/audio/long.flac tests/audio/short.flac --model tiny.en
"""

from __future__ import annotations

import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import numpy as np
from faster_whisper import decode_audio

from benchmarks.audio_files import SAMPLE_RATE, to_pcm16, wav_bytes
from benchmarks.jobs.job_client import get_job, job_events, job_result, submit_job, two_running_jobs, wait_for_job
from benchmarks.report import argument_parser
from benchmarks.server_process import UNTUNED_CPU, ServerProcess, model_calls, resident_megabytes
from whisper_server.bootstrap import load_models
from whisper_server.core.settings import Settings
from whisper_server.engine.admission import Admission
from whisper_server.engine.transcriber import RunOptions, Transcriber
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.request_context import RequestContext


@contextmanager
def running_server(model: str, *flags: str) -> Iterator[ServerProcess]:
    with (
        tempfile.TemporaryDirectory() as data_dir,
        ServerProcess(*UNTUNED_CPU, "--model", model, "--data-dir", data_dir, *flags) as server,
    ):
        yield server


def repeat_audio(file: Path, seconds: int, folder: Path) -> Path:
    """Write a WAV file of this length that repeats the audio of the file."""
    target = folder / f"{seconds}.wav"
    target.write_bytes(wav_bytes(to_pcm16(np.resize(decode_audio(str(file)), seconds * SAMPLE_RATE))))
    return target


def measure_queue(model: str, clip: Path, jobs: int) -> None:
    """Submit jobs to a server that processes none, and list them."""
    content = clip.read_bytes()
    with (
        running_server(model, "--job-concurrency", "0") as server,
        httpx2.Client(base_url=server.url, timeout=60) as client,
    ):

        def get(path: str) -> list[float]:
            return [_timed(lambda: client.get(path)) for _ in range(100)]

        before = resident_megabytes(server.pid)
        submits = [_timed(lambda: client.post("/v1/jobs", files={"file": ("a.flac", content)})) for _ in range(jobs)]
        after = resident_megabytes(server.pid)
        size = len(content) / 1e3
        print(f"{jobs} submits of {size:.0f} kB: {_spread(submits)}; the last 100: {_spread(submits[-100:])}")
        for path in ("/v1/jobs?limit=100", "/v1/jobs?state=queued&order=asc&limit=100", "/v1/jobs"):
            print(f"GET {path}: {_spread(get(path))}")
        last_id = client.get("/v1/jobs?limit=50").json()["last_id"]
        print(f"GET the next page: {_spread(get(f'/v1/jobs?limit=100&after={last_id}'))}")
        lists = resident_megabytes(server.pid)
        print(
            f"resident memory: {before:.0f} MB before, {after:.0f} MB after the submits, {lists:.0f} MB after the lists"
        )


class MemoryJournal(dict[str, bytes]):
    def find(self, *keys: str) -> bytes | None:
        return next((self[key] for key in keys if key in self), None)

    def record(self, key: str, answer: bytes) -> None:
        self[key] = answer


def measure_replay(model: str, file: Path, seconds: int) -> None:
    """Transcribe the audio twice with one journal, which has all results the second time."""
    models = load_models(Settings(model=model, device="cpu", offline=True, autotune=False))
    transcriber = Transcriber(models, AudioDecoder(max_seconds=1e6), Admission(max_requests=1, max_audio_seconds=1e9))
    journal = MemoryJournal()
    segments = []
    with tempfile.TemporaryDirectory() as folder:
        audio = repeat_audio(file, seconds, Path(folder))
        for run in ("first run", "replay"):
            with transcriber.background() as context, audio.open("rb") as content:
                started = time.monotonic()
                samples = anyio.run(transcriber.decode, context, content)
                decoded = time.monotonic()
                transcript = anyio.run(_transcribe, transcriber, context, samples, journal)
                ended = time.monotonic()
            segments.append(repr(transcript.segments))
            print(
                f"{run}: {seconds} s of audio, {decoded - started:.2f} s to decode the file, "
                f"{ended - decoded:.2f} s to transcribe; the journal has {len(journal)} entries, "
                f"{sum(map(len, journal.values())) / 1e3:.0f} kB"
            )
    print(f"equal results: {segments[0] == segments[1]}")
    models.close()


async def _transcribe(transcriber: Transcriber, context: RequestContext, samples: Any, journal: MemoryJournal) -> Any:
    return await transcriber.transcribe_samples(context, samples, {}, RunOptions(), journal=journal)


def measure_restart(model: str, file: Path, seconds: int) -> None:
    """Kill the server half-way through a job, start it again, and count the model calls that it repeats."""
    with tempfile.TemporaryDirectory() as folder, running_server(model) as server:
        audio = repeat_audio(file, seconds, Path(folder))
        undisturbed = submit_job(server.url, audio)
        wait_for_job(server.url, undisturbed, "succeeded")
        needed, expected = model_calls(server.url), job_result(server.url, undisturbed)["text"]
        id = submit_job(server.url, audio)
        wait_for_job(server.url, id, "running", progress=0.5)
        before = model_calls(server.url) - needed
        done = get_job(server.url, id)["audio_seconds_done"]
        server.stop(signal.SIGKILL)
        server.start()
        wait_for_job(server.url, id, "succeeded")
        repeated = before + model_calls(server.url) - needed
        print(
            f"killed after {done:.0f} of {seconds} s: {repeated:g} of {needed:g} model calls were repeated, "
            f"{repeated / needed * seconds:.1f} s of audio; same text: {job_result(server.url, id)['text'] == expected}"
        )


def measure_estimate(model: str, file: Path, seconds: int) -> None:
    """Run one job and compare its estimate half-way through with the time it then took."""
    with tempfile.TemporaryDirectory() as folder, running_server(model) as server:
        id = submit_job(server.url, repeat_audio(file, seconds, Path(folder)))
        events = job_events(server.url, id)
        job = get_job(server.url, id)
    half = next(event for event in events if event.get("progress", 0) >= 0.5)
    estimated, actual = half["estimated_finish_at"] - half["at"], job["finished_at"] - half["at"]
    print(
        f"a job of {seconds} s took {job['finished_at'] - job['started_at']:.1f} s; at {half['progress']:.0%} it "
        f"estimated {estimated:.1f} s more, and it took {actual:.1f} s: off by {abs(estimated - actual) / actual:.0%}"
    )


def measure_latency(model: str, file: Path, clip: Path, seconds: int) -> None:
    """Transcribe a clip repeatedly, first alone and then while two jobs run."""
    content = clip.read_bytes()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        server = stack.enter_context(running_server(model))
        client = stack.enter_context(httpx2.Client(base_url=server.url, timeout=600))

        def transcribe() -> float:
            return _timed(lambda: client.post("/v1/audio/transcriptions", files={"file": content}))

        transcribe()
        print(f"a clip alone: {_spread([transcribe() for _ in range(10)])}")
        with two_running_jobs(server.url, repeat_audio(file, seconds, Path(folder)).read_bytes()):
            print(f"the clip beside two jobs: {_spread([transcribe() for _ in range(10)])}")


def _timed(request: Callable[[], httpx2.Response]) -> float:
    started = time.monotonic()
    response = request()
    assert response.status_code in (200, 202), response.text
    return time.monotonic() - started


def _spread(seconds: list[float]) -> str:
    return f"median {statistics.median(seconds) * 1000:.1f} ms, slowest {max(seconds) * 1000:.0f} ms"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("long", type=Path, help="the audio of jobs, repeated to the given length")
    parser.add_argument("short", type=Path, help="the clip of short requests and of the queue")
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--jobs", type=int, default=1000, help="in the queue")
    parser.add_argument("--seconds", type=int, default=600, help="length of a job's audio")
    parser.add_argument("--only", choices=("queue", "replay", "restart", "estimate", "latency"))
    arguments = parser.parse_args()
    model, long, short, seconds = arguments.model, arguments.long, arguments.short, arguments.seconds
    measurements: dict[str, Callable[[], None]] = {
        "queue": lambda: measure_queue(model, short, arguments.jobs),
        "replay": lambda: measure_replay(model, long, seconds),
        "restart": lambda: measure_restart(model, long, seconds),
        "estimate": lambda: measure_estimate(model, long, seconds),
        "latency": lambda: measure_latency(model, long, short, seconds),
    }
    for name, measurement in measurements.items():
        if arguments.only in (None, name):
            measurement()


if __name__ == "__main__":
    main()
