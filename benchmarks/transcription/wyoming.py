"""From the end of a command to its transcript, over Wyoming as Home Assistant does it and over HTTP, in turn.

    python -m benchmarks.transcription.wyoming tests/audio/short.flac --model tiny.en --runs 20

Over Wyoming, the audio arrives while it is spoken, so the time counts from `audio-stop`. Over HTTP, the clip is one WAV
that is sent when it is complete. Both get the language. With several satellites, all commands end at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import httpx2
from faster_whisper import decode_audio
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.ping import Ping, Pong

from benchmarks.audio_files import SAMPLE_RATE, to_pcm16, wav_bytes
from benchmarks.report import argument_parser, markdown_table
from benchmarks.server_process import UNTUNED_CPU, ServerProcess, free_port

FORMAT = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}
CHUNK_BYTES = 2048

# A command that has been spoken, and its end: returns the transcript.
End: TypeAlias = Callable[[], Awaitable[str]]
Command: TypeAlias = Callable[[], AbstractAsyncContextManager[End]]


@asynccontextmanager
async def over_wyoming(uri: str, language: str, pcm: bytes) -> AsyncIterator[End]:
    async with AsyncClient.from_uri(uri) as client:
        await client.write_event(Transcribe(language=language).event())
        await client.write_event(AudioStart(**FORMAT).event())
        for start in range(0, len(pcm), CHUNK_BYTES):
            await client.write_event(AudioChunk(**FORMAT, audio=pcm[start : start + CHUNK_BYTES]).event())
        await client.write_event(Ping().event())
        await _wait_for(client, Pong.is_type)

        async def end() -> str:
            await client.write_event(AudioStop().event())
            return await _wait_for(client, Transcript.is_type)

        yield end


async def _wait_for(client: AsyncClient, is_type: Callable[[str], bool]) -> str:
    while (event := await client.read_event()) is not None:
        if is_type(event.type):
            return str(event.data.get("text"))
    raise RuntimeError("the connection was closed")


@asynccontextmanager
async def over_http(client: httpx2.AsyncClient, language: str, wav: bytes) -> AsyncIterator[End]:
    async def end() -> str:
        files, data = {"file": ("command.wav", wav)}, {"language": language}
        response = await client.post("/v1/audio/transcriptions", files=files, data=data)
        return str(response.raise_for_status().json()["text"])

    yield end


async def run_at_once(command: Command, satellites: int) -> list[float]:
    """The seconds of each satellite, from the moment in which all commands end."""
    async with AsyncExitStack() as spoken:
        ends = [await spoken.enter_async_context(command()) for _ in range(satellites)]
        results = await asyncio.gather(*map(_timed, ends))
    assert len({text for text, _ in results}) == 1, results
    return [seconds for _, seconds in results]


async def _timed(end: End) -> tuple[str, float]:
    started = time.perf_counter()
    text = await end()
    return text, time.perf_counter() - started


async def measure(wyoming: Command, http: Command, satellites: int, runs: int) -> list[tuple[float, float]]:
    """For each pair of runs, the median seconds of Wyoming and of HTTP; the order within a pair alternates."""
    pairs = []
    for run in range(-1, runs):
        order = (wyoming, http) if run % 2 else (http, wyoming)
        seconds = {command: statistics.median(await run_at_once(command, satellites)) for command in order}
        pairs.append((seconds[wyoming], seconds[http]))
    return pairs[1:]


async def measure_server(arguments: argparse.Namespace, server: ServerProcess, uri: str) -> list[list[str]]:
    samples = to_pcm16(decode_audio(str(arguments.clip)))
    rows = []
    async with httpx2.AsyncClient(base_url=server.url, timeout=600) as client:
        for satellites in arguments.satellites:
            pairs = await measure(
                lambda: over_wyoming(uri, arguments.language, samples.tobytes()),
                lambda: over_http(client, arguments.language, wav_bytes(samples)),
                satellites,
                arguments.runs if satellites == 1 else max(2, arguments.runs // 2),
            )
            rows.append([str(satellites), *_figures(pairs)])
    return rows


def _figures(pairs: list[tuple[float, float]]) -> list[str]:
    ratios = [wyoming / http for wyoming, http in pairs]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return [*(f"{median:.2f}" for median in medians), f"{ratio:.2f}", f"{low:.2f}–{high:.2f}", str(len(pairs))]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--language", default="en")
    parser.add_argument("--satellites", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    rows = []
    for window in ("full", "adaptive"):
        uri = f"tcp://127.0.0.1:{free_port()}"
        flags = ["--model", arguments.model, "--encoder-window", window, "--wyoming", uri]
        with ServerProcess(*UNTUNED_CPU, *flags) as server:
            rows += [[window, *row] for row in asyncio.run(measure_server(arguments, server, uri))]
    titles = ["window", "satellites", "Wyoming s", "HTTP s", "ratio", "quartiles", "pairs"]
    print(markdown_table(titles, rows, text_columns=("window",)))


if __name__ == "__main__":
    main()
