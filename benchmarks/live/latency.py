"""Latency of live transcription: clients stream speech to /v1/stream in real time.

    python -m benchmarks.live.latency CLIPS --model tiny.en --clients 1 4 --seconds 120 --json latency.json

The audio is joined from the clips of a corpus (benchmarks.speech.corpus) with pauses of 1 to 2 seconds, or is --audio
FILE with the text --reference FILE. Each client streams all of it in frames of 100 ms that are sent on time, and starts
a little after the previous one. A word's delay is the time from its end in the audio, by a transcript with word times
that the same server makes of the whole file, to the message that confirms it; the "unaware" delay counts decoded audio
instead of time, as if computing took none. A first partial is measured from the start of the speech, a final from the
end of the utterance's last word. With --beside FILE, the server works on two jobs of that file meanwhile. "Against
first" is the word error rate against the text of the first row.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from faster_whisper import decode_audio
from numpy.typing import NDArray
from websockets.asyncio.client import connect

from benchmarks.audio_files import SAMPLE_RATE, to_pcm16, wav_bytes
from benchmarks.jobs.job_client import two_running_jobs
from benchmarks.live.word_delays import OfflineWord, mean_error_rate, read_messages, summarise
from benchmarks.report import argument_parser, machine, markdown_table, write_json
from benchmarks.server_process import ServerProcess, cpu_seconds, model_calls

FRAME_SECONDS = 0.1
STAGGER_SECONDS = 0.37
SILENCE_SECONDS = 60

Samples = NDArray[np.int16]
Messages = list[tuple[float, dict[str, Any]]]


def join_clips(folder: Path, pattern: str, seconds: float, seed: int) -> tuple[Samples, str]:
    """Clips in a random order with pauses between them, and their text."""
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    generator = random.Random(seed)
    clips = sorted(path for path in folder.glob(pattern) if path.name in texts or path.stem in texts)
    generator.shuffle(clips)
    parts = [np.zeros(SAMPLE_RATE // 2, np.float32)]
    clip_texts: list[str] = []
    for clip in clips:
        if sum(map(len, parts)) >= seconds * SAMPLE_RATE:
            break
        parts += [decode_audio(str(clip)), np.zeros(round(SAMPLE_RATE * generator.uniform(1, 2)), np.float32)]
        clip_texts.append(texts.get(clip.name) or texts[clip.stem])
    return to_pcm16(np.concatenate(parts)), " ".join(clip_texts)


def transcribe_offline(url: str, samples: Samples) -> list[OfflineWord]:
    form = {"model": "whisper-1", "language": "en", "response_format": "verbose_json"}
    response = httpx2.post(
        f"{url}/v1/audio/transcriptions",
        files={"file": ("audio.wav", wav_bytes(samples))},
        data={**form, "timestamp_granularities[]": ["word", "segment"]},
        timeout=600,
    ).raise_for_status()
    return [OfflineWord.from_json({**word, "word": f" {word['word'].strip()}"}) for word in response.json()["words"]]


async def stream(url: str, samples: Samples, query: str, *, delay: float, pace: float) -> tuple[Messages, float]:
    """Return the messages with their times, and by how many seconds the latest frame was sent too late."""
    await asyncio.sleep(delay)
    address = url.replace("http", "ws", 1) + f"/v1/stream?encoding=pcm16&words=1&{query}"
    messages: Messages = []
    async with connect(address, max_size=None) as socket:
        started = time.monotonic()

        async def receive() -> None:
            async for message in socket:
                messages.append((time.monotonic() - started, json.loads(message)))

        receiving = asyncio.create_task(receive())
        latest = 0.0
        length = round(FRAME_SECONDS * SAMPLE_RATE)
        for at in range(0, len(samples), length):
            due = started + (at + length) / SAMPLE_RATE / pace
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            latest = max(latest, time.monotonic() - due)
            await socket.send(samples[at : at + length].tobytes())
        await socket.send(json.dumps({"type": "end"}))
        await receiving
    errors = [message for _, message in messages if message["type"] == "error"]
    if errors:
        raise SystemExit(f"the server sent {errors[0]}")
    return messages, latest


def run_clients(url: str, samples: Samples, clients: int, query: str, pace: float) -> list[tuple[Messages, float]]:
    async def run() -> list[tuple[Messages, float]]:
        delays = [number * STAGGER_SECONDS for number in range(clients)]
        return await asyncio.gather(*(stream(url, samples, query, delay=delay, pace=pace) for delay in delays))

    return asyncio.run(run())


def measure(
    server: ServerProcess, arguments: argparse.Namespace, samples: Samples, reference: str
) -> list[dict[str, Any]]:
    url, query = server.url, arguments.query
    run_clients(url, samples[: 8 * SAMPLE_RATE], 1, query, 4.0)  # warms up
    before = model_calls(url)
    ((messages, _),) = run_clients(url, np.zeros(SILENCE_SECONDS * SAMPLE_RATE, np.int16), 1, query, 10.0)
    calls = model_calls(url) - before
    print(f"{SILENCE_SECONDS} s of silence: {calls:g} model calls, {len(messages) - 2} messages")
    offline = transcribe_offline(url, samples)
    rows: list[dict[str, Any]] = []
    baseline = ""
    for clients, pace in product(arguments.clients, arguments.pace):
        started, cpu_before, before = time.monotonic(), cpu_seconds(server.pid), model_calls(url)
        with two_running_jobs(url, arguments.beside.read_bytes()) if arguments.beside else nullcontext():
            streams = run_clients(url, samples, clients, query, pace)
        seconds = time.monotonic() - started
        transcripts = [read_messages(messages) for messages, _ in streams]
        baseline = baseline or transcripts[0].text
        row = {
            "clients": clients,
            "pace": pace,
            "seconds": round(seconds, 1),
            **summarise(transcripts, offline, reference),
            "against_first": mean_error_rate(baseline, transcripts),
            "cores": round((cpu_seconds(server.pid) - cpu_before) / seconds, 2),
            "calls": model_calls(url) - before,
            "sent_late": round(max(latest for _, latest in streams), 3),
        }
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


# Titles and keys
COLUMNS = (
    ("clients", "clients"),
    ("pace", "pace"),
    ("delay mean s", "delay_mean"),
    ("p50", "delay_p50"),
    ("p95", "delay_p95"),
    ("unaware mean", "unaware_mean"),
    ("first partial p50", "first_p50"),
    ("p95", "first_p95"),
    ("final p50", "final_p50"),
    ("p95", "final_p95"),
    ("revisions", "revisions"),
    ("WER %", "wer"),
    ("offline", "wer_offline"),
    ("against first", "against_first"),
    ("cores", "cores"),
)


def table(rows: Sequence[dict[str, Any]]) -> str:
    cells = [["–" if row[key] is None else f"{row[key]:g}" for _, key in COLUMNS] for row in rows]
    return markdown_table([title for title, _ in COLUMNS], cells)


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="clips and texts.json (benchmarks.speech.corpus)")
    parser.add_argument("--only", default="*", metavar="GLOB", help="such as 'joe_en_*'")
    parser.add_argument("--audio", type=Path, help="a recording instead of clips")
    parser.add_argument("--reference", type=Path, help="a file with the text of the recording")
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=120, help="length of the audio")
    parser.add_argument("--seed", type=int, default=5, help="for the order of the clips and the pauses")
    parser.add_argument("--pace", type=float, nargs="+", default=[1.0], help="1 is real time, 2 twice as fast")
    parser.add_argument("--beside", type=Path, metavar="FILE", help="the audio of two jobs that run meanwhile")
    parser.add_argument("--query", default="language=en", help="further parameters of the stream")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.audio is not None:
        samples, reference = to_pcm16(decode_audio(str(arguments.audio))), arguments.reference.read_text("utf-8")
    else:
        samples, reference = join_clips(arguments.folder, arguments.only, arguments.seconds, arguments.seed)
    with (
        tempfile.TemporaryDirectory() as data_dir,
        ServerProcess("--model", arguments.model, "--data-dir", data_dir) as server,
    ):
        rows = measure(server, arguments, samples, reference)
    print(table(rows))
    write_json(arguments.json, {"machine": machine(), "command": sys.argv[1:], "rows": rows})


if __name__ == "__main__":
    main()
