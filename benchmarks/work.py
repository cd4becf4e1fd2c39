"""What the sides of serve.py work on, and what comes of it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

Transcribe = Callable[[bytes], str]


@dataclass(frozen=True)
class Common:
    """What all sides share; `decoding` are options of transcribe() as texts."""

    model: str
    beam: int
    device: str = "cpu"
    compute_type: str = "int8"
    decoding: Mapping[str, str] = field(default_factory=dict)
    server_flags: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    file: str
    seconds: float
    text: str = ""
    error: str = ""


@dataclass(frozen=True)
class Work:
    """What came of a list of clips; `batch_size` is the server's own mean, where it tells."""

    seconds: float
    answers: list[Answer]
    batch_size: float | None = None


def pairs(text: str) -> dict[str, str]:
    """a=1 b="two words" as a dictionary."""
    return dict(word.split("=", 1) for word in shlex.split(text))


def transcribe_all(transcribe: Transcribe, clips: Sequence[Path], clients: int) -> Work:
    """Each client takes the next clip when it has its answer; the bytes are in memory before the clock starts."""
    contents = {clip: clip.read_bytes() for clip in clips}

    def one(clip: Path) -> Answer:
        started = time.perf_counter()
        try:
            text = transcribe(contents[clip])
        except Exception as exc:
            return Answer(clip.name, time.perf_counter() - started, error=f"{type(exc).__name__}: {exc}")
        return Answer(clip.name, time.perf_counter() - started, text)

    with ThreadPoolExecutor(clients) as pool:
        started = time.perf_counter()
        answers = list(pool.map(one, clips))
        return Work(time.perf_counter() - started, answers)
