"""Live transcription: clients that speak at the pace of speech into /v1/stream, and how late their words are.

    python benchmarks/live.py CLIPS --model tiny.en --clients 1 4 --seconds 120 --json live.json

The clips (of a folder with a texts.json, see corpus.py) are joined with pauses of 1 to 2 seconds to so many seconds of
audio; --audio FILE and --said FILE take a recording instead. Every client streams all of it in frames of 100 ms that
are sent on time, and starts a little after the one before. A word's delay is the time from its end in the audio, by a
transcript with word times that the same server makes of the file, to the message that confirms it; without the time
that computing takes ("unaware") it is counted on the clock of the audio. A final's is from the end of the utterance's
last word; a first partial's is from the beginning of the speech. With --beside FILE the server works on two jobs of
that file meanwhile. "Against first" is the word error rate against the text of the first row.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from contextlib import nullcontext
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from delays import Said, describe, errors, heard
from faster_whisper import decode_audio
from numpy.typing import NDArray
from running import calls, running_server, two_jobs
from websockets.asyncio.client import connect

RATE = 16_000
FRAME = 0.1
STAGGER = 0.37
SILENCE = 60


def joined(folder: Path, pattern: str, seconds: float, seed: int) -> tuple[NDArray[np.int16], str]:
    """Clips in a random order with pauses between them, and what is said in them."""
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    chance = random.Random(seed)
    clips = sorted(path for path in folder.glob(pattern) if path.name in texts or path.stem in texts)
    chance.shuffle(clips)
    parts = [np.zeros(RATE // 2, np.float32)]
    said: list[str] = []
    for clip in clips:
        if sum(map(len, parts)) >= seconds * RATE:
            break
        parts += [decode_audio(str(clip)), np.zeros(round(RATE * chance.uniform(1, 2)), np.float32)]
        said.append(texts.get(clip.name) or texts[clip.stem])
    return as_pcm(np.concatenate(parts)), " ".join(said)


def as_pcm(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)


def offline_words(url: str, samples: NDArray[np.int16]) -> list[Said]:
    content = BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    form = {"model": "whisper-1", "language": "en", "response_format": "verbose_json"}
    answer = httpx2.post(
        f"{url}/v1/audio/transcriptions",
        files={"file": ("talk.wav", content.getvalue())},
        data={**form, "timestamp_granularities[]": ["word", "segment"]},
        timeout=600,
    ).raise_for_status()
    return spaced([Said.of(word) for word in answer.json()["words"]])


def spaced(words: Sequence[Said]) -> list[Said]:
    return [Said(" " + word.text.strip(), word.end) for word in words]


async def stream(
    url: str, samples: NDArray[np.int16], query: str, *, delay: float = 0.0, pace: float = 1.0
) -> tuple[list[tuple[float, dict[str, Any]]], float]:
    """Return the messages with their times and by how much the latest frame was sent too late, in seconds."""
    await asyncio.sleep(delay)
    address = url.replace("http", "ws", 1) + f"/v1/stream?encoding=pcm16&words=1&{query}"
    messages: list[tuple[float, dict[str, Any]]] = []
    async with connect(address, max_size=None) as socket:
        began = time.monotonic()

        async def read() -> None:
            async for message in socket:
                messages.append((time.monotonic() - began, json.loads(message)))

        reading = asyncio.create_task(read())
        latest = 0.0
        length = round(FRAME * RATE)
        for at in range(0, len(samples), length):
            due = began + (at + length) / RATE / pace
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            latest = max(latest, time.monotonic() - due)
            await socket.send(samples[at : at + length].tobytes())
        await socket.send(json.dumps({"type": "end"}))
        await reading
    failures = [message for _, message in messages if message["type"] == "error"]
    if failures:
        raise SystemExit(f"the server answered {failures[0]}")
    return messages, latest


async def run(url: str, samples: NDArray[np.int16], clients: int, query: str, pace: float) -> list[Any]:
    streams = [stream(url, samples, query, delay=number * STAGGER, pace=pace) for number in range(clients)]
    return list(await asyncio.gather(*streams))


def cpu_seconds(pid: int) -> float:
    """What the process has used until now; Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(url: str, pid: int, arguments: argparse.Namespace, samples: NDArray[np.int16], said: str) -> list[Any]:
    asyncio.run(run(url, samples[: 8 * RATE], 1, arguments.query, 4.0))  # warms up
    before = calls(url)
    silent = asyncio.run(run(url, np.zeros(SILENCE * RATE, np.int16), 1, arguments.query, 10.0))
    print(f"{SILENCE} s of silence: {calls(url) - before:g} calls of the model, {len(silent[0][0]) - 2} messages")
    offline = offline_words(url, samples)
    rows: list[dict[str, Any]] = []
    first = ""
    for clients, pace in product(arguments.clients, arguments.pace):
        started, used, before = time.monotonic(), cpu_seconds(pid), calls(url)
        beside = two_jobs(url, arguments.beside.read_bytes()) if arguments.beside else nullcontext()
        with beside:
            streams = asyncio.run(run(url, samples, clients, arguments.query, pace))
        told = [heard(messages) for messages, _ in streams]
        first = first or told[0].text
        row = {
            "clients": clients,
            "pace": pace,
            "seconds": round(time.monotonic() - started, 1),
            **describe(told, offline, said),
            "against_first": round(float(np.mean([errors(first, one.text) for one in told])), 2),
            "cores": round((cpu_seconds(pid) - used) / (time.monotonic() - started), 2),
            "calls": calls(url) - before,
            "sent_late": round(max(latest for _, latest in streams), 3),
        }
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


COLUMNS = {
    "clients": "clients",
    "pace": "pace",
    "delay mean s": "delay_mean",
    "p50": "delay_p50",
    "p95": "delay_p95",
    "unaware mean": "unaware_mean",
    "first partial p50": "first_p50",
    "p95 ": "first_p95",
    "final p50": "final_p50",
    "p95  ": "final_p95",
    "revisions": "revisions",
    "WER %": "wer",
    "offline": "wer_offline",
    "against first": "against_first",
    "cores": "cores",
}


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(title.strip() for title in COLUMNS) + " |", "|" + "---:|" * len(COLUMNS)]
    lines += [
        "| " + " | ".join("–" if row[key] is None else f"{row[key]:g}" for key in COLUMNS.values()) + " |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="clips and texts.json (corpus.py)")
    parser.add_argument("--only", default="*", metavar="GLOB", help="such as 'joe_en_*'")
    parser.add_argument("--audio", type=Path, help="a recording instead of clips")
    parser.add_argument("--said", type=Path, help="what is said in it")
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--pace", type=float, nargs="+", default=[1.0], help="times as fast as speech")
    parser.add_argument("--beside", type=Path, metavar="FILE", help="what two jobs transcribe meanwhile")
    parser.add_argument("--query", default="language=en", help="more of the stream's query")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.audio is not None:
        samples, said = as_pcm(decode_audio(str(arguments.audio))), arguments.said.read_text(encoding="utf-8")
    else:
        samples, said = joined(arguments.folder, arguments.only, arguments.seconds, arguments.seed)
    with tempfile.TemporaryDirectory() as place, running_server(arguments.model, "--data-dir", place) as (url, pid):
        rows = measure(url, pid, arguments, samples, said)
    print(table(rows))
    if arguments.json is not None:
        report = {"machine": platform.processor() or platform.machine(), "command": sys.argv[1:], "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
