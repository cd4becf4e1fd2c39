"""The systems that benchmarks compare: servers over HTTP and libraries in processes of their own.

The help of benchmarks.transcription.throughput says how a system is specified.
"""

from __future__ import annotations

import multiprocessing
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.server_process import ServerProcess
from benchmarks.transcription.libraries import LIBRARIES, run_library
from benchmarks.transcription.workload import RunResult, SharedOptions, key_values, transcribe_clips

_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2)
_BATCH_SIZE = re.compile(r"^whisper_batch_size_(mean|sum|count)(?:\{[^}]*\})? (\S+)", re.MULTILINE)


class System(ABC):
    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def run(self, clips: Sequence[Path], clients: int) -> RunResult: ...

    @abstractmethod
    def close(self) -> None: ...


def start_system(spec: str, shared: SharedOptions) -> System:
    """Raises ValueError for an unknown kind."""
    name, kind, *options = [part.strip() for part in spec.split("|")]
    first, second = [*options, "", ""][:2]
    if kind == "server":
        return WhisperServer(name, f"{shared.server_flags} {first}", {**shared.fields, **key_values(second)}, shared)
    if kind == "openai-url":
        return OpenAIServer(name, first, key_values(second), shared)
    if kind in LIBRARIES:
        return Library(name, kind, key_values(first), shared)
    raise ValueError(f"{spec}: no kind of system {kind!r}; there are server, openai-url, {', '.join(LIBRARIES)}")


class WhisperServer(System):
    def __init__(self, name: str, flags: str, fields: Mapping[str, str], shared: SharedOptions) -> None:
        super().__init__(name)
        self._fields = {"beam_size": str(shared.beam), "best_of": "1", **shared.decoding, **fields}
        words = shlex.split(flags)
        variables = [word for word in words if re.match(r"[A-Z_]+=", word)]
        command = ["--model", shared.model, "--device", shared.device, "--compute-type", shared.compute_type]
        command += [word for word in words if word not in variables]
        self._server = ServerProcess(*command, environ=dict(word.split("=", 1) for word in variables))
        self._server.start()
        self._client = httpx2.Client(base_url=self._server.url, timeout=600, limits=_LIMITS)

    def run(self, clips: Sequence[Path], clients: int) -> RunResult:
        before = self._metrics()
        result = transcribe_clips(self._transcribe, clips, clients)
        return replace(result, batch_size=_mean_batch_size(before, self._metrics()))

    def _transcribe(self, content: bytes) -> str:
        text: str = recognise(self._client, content, self._fields)["text"]
        return text

    def _metrics(self) -> dict[str, float]:
        response = self._client.get("/metrics")
        if response.is_error:
            return {}
        return {name: float(value) for name, value in _BATCH_SIZE.findall(response.text)}

    def close(self) -> None:
        self._client.close()
        self._server.stop()


def recognise(client: httpx2.Client, content: bytes, fields: Mapping[str, str]) -> dict[str, Any]:
    """Return whisper-server's transcription of a file; raises RuntimeError if it responds with an error."""
    response = client.post("/recognise", files={"file": ("clip", content)}, data=fields)
    if response.is_error:
        raise RuntimeError(f"{response.status_code} {response.text[:200]}")
    transcription: dict[str, Any] = response.json()["transcription"]
    return transcription


def _mean_batch_size(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """The mean of this run if the server counts batches, else the mean since its start."""
    batches = after.get("count", 0) - before.get("count", 0)
    if "sum" in after and batches > 0:
        return (after["sum"] - before.get("sum", 0)) / batches
    return after.get("mean")


class OpenAIServer(System):
    """A running server with OpenAI's API."""

    def __init__(self, name: str, url: str, fields: Mapping[str, str], shared: SharedOptions) -> None:
        super().__init__(name)
        self._url = f"{url.rstrip('/')}/audio/transcriptions"
        self._fields = {"model": shared.model, "beam_size": str(shared.beam), **shared.decoding, **fields}
        self._client = httpx2.Client(timeout=600, limits=_LIMITS)

    def run(self, clips: Sequence[Path], clients: int) -> RunResult:
        return transcribe_clips(self._transcribe, clips, clients)

    def _transcribe(self, content: bytes) -> str:
        response = self._client.post(self._url, files={"file": ("clip.flac", content)}, data=self._fields)
        if response.is_error:
            raise RuntimeError(f"{response.status_code} {response.text[:200]}")
        text: str = response.json()["text"]
        return text

    def close(self) -> None:
        self._client.close()


class Library(System):
    """A library in a process of its own."""

    def __init__(self, name: str, kind: str, options: Mapping[str, str], shared: SharedOptions) -> None:
        super().__init__(name)
        context = multiprocessing.get_context("spawn")
        self._connection, remote = context.Pipe()
        self._process = context.Process(target=run_library, args=(remote, kind, options, shared), daemon=True)
        self._process.start()
        remote.close()  # so that the end of the process closes the pipe
        self._receive()

    def run(self, clips: Sequence[Path], clients: int) -> RunResult:
        self._connection.send((clips, clients))
        result: RunResult = self._receive()
        return result

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            raise RuntimeError(f"the process of {self.name} has ended") from None

    def close(self) -> None:
        if self._process.is_alive():
            self._connection.send(None)
        self._process.join()
