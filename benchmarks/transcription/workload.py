"""What each compared system transcribes, with which options, and what it returns."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

Transcribe = Callable[[bytes], str]


@dataclass(frozen=True)
class SharedOptions:
    """Options of all systems; `decoding` are options of transcribe() as texts, `fields` are form fields of servers."""

    model: str
    beam: int
    device: str = "cpu"
    compute_type: str = "int8"
    decoding: Mapping[str, str] = field(default_factory=dict)
    server_flags: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipResult:
    file: str
    seconds: float
    text: str = ""
    error: str = ""


@dataclass(frozen=True)
class RunResult:
    """The results of a list of clips; `batch_size` is the mean that the server reports, if it does."""

    seconds: float
    clips: list[ClipResult]
    batch_size: float | None = None


def key_values(text: str) -> dict[str, str]:
    """Parse a=1 b="two words"."""
    return dict(word.split("=", 1) for word in shlex.split(text))


def transcribe_clips(transcribe: Transcribe, clips: Sequence[Path], clients: int) -> RunResult:
    """Each client takes the next clip when it has a result. The files are read before the clock starts."""
    contents = {clip: clip.read_bytes() for clip in clips}

    def transcribe_clip(clip: Path) -> ClipResult:
        started = time.perf_counter()
        try:
            text = transcribe(contents[clip])
        except Exception as exc:
            return ClipResult(clip.name, time.perf_counter() - started, error=f"{type(exc).__name__}: {exc}")
        return ClipResult(clip.name, time.perf_counter() - started, text)

    with ThreadPoolExecutor(clients) as pool:
        started = time.perf_counter()
        results = list(pool.map(transcribe_clip, clips))
        return RunResult(time.perf_counter() - started, results)
