"""The sides of serve.py: a server over HTTP, or a library in a process of its own. All transcribe the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import re
import shlex
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
from peers import PEERS, be_peer
from work import Common, Work, pairs, transcribe_all

_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2)
_BATCH_SIZE = re.compile(r"^whisper_batch_size_(mean|sum|count)(?:\{[^}]*\})? (\S+)", re.MULTILINE)


class Side(ABC):
    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def run(self, clips: Sequence[Path], clients: int) -> Work: ...

    @abstractmethod
    def close(self) -> None: ...


def make_side(spec: str, common: Common) -> Side:
    """NAME|KIND|… as the help of serve.py lists them."""
    name, kind, *rest = [part.strip() for part in spec.split("|")]
    first, second = [*rest, "", ""][:2]
    if kind == "server":
        return Server(name, f"{common.server_flags} {first}", {**common.fields, **pairs(second)}, common)
    if kind == "openai-url":
        return OpenAIServer(name, first, pairs(second), common)
    if kind in PEERS:
        return Peer(name, kind, pairs(first), common)
    raise ValueError(f"{spec}: no kind of side {kind!r}; there are server, openai-url, {', '.join(PEERS)}")


class Server(Side):
    """python -m whisper_server in a process of its own; VARIABLE=value among the flags goes to its environment."""

    def __init__(self, name: str, flags: str, fields: Mapping[str, str], common: Common) -> None:
        super().__init__(name)
        self._fields = {"beam_size": str(common.beam), "best_of": "1", **common.decoding, **fields}
        words = shlex.split(flags)
        variables = [word for word in words if re.match(r"[A-Z_]+=", word)]
        command = [sys.executable, "-m", "whisper_server", "--port", "0", "--offline", "--model", common.model]
        command += ["--device", common.device, "--compute-type", common.compute_type]
        command += [word for word in words if word not in variables]
        environment = {**os.environ, **dict(word.split("=", 1) for word in variables)}
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self._log: deque[str] = deque(maxlen=20)
        self._client = httpx2.Client(base_url=self._wait_for_address(), timeout=600, limits=_LIMITS)

    def _wait_for_address(self) -> str:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._log.append(line)
            if " serving " in line:
                # a full pipe would stop the server
                Thread(target=self._log.extend, args=(self._process.stderr,), daemon=True).start()
                return line.split()[-1]
        raise RuntimeError(f"{self.name} did not start:\n{''.join(self._log)}")

    def run(self, clips: Sequence[Path], clients: int) -> Work:
        before = self._metrics()
        work = transcribe_all(self._transcribe, clips, clients)
        return Work(work.seconds, work.answers, _mean_batch_size(before, self._metrics()))

    def _transcribe(self, content: bytes) -> str:
        answer = self._client.post("/recognise", files={"file": ("clip", content)}, data=self._fields)
        if answer.is_error:
            raise RuntimeError(f"{answer.status_code} {answer.text[:200]}")
        text: str = answer.json()["transcription"]["text"]
        return text

    def _metrics(self) -> dict[str, float]:
        answer = self._client.get("/metrics")
        if answer.is_error:
            return {}
        return {name: float(value) for name, value in _BATCH_SIZE.findall(answer.text)}

    def close(self) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait()


def _mean_batch_size(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Of this run if the server counts, else of its life."""
    batches = after.get("count", 0) - before.get("count", 0)
    if "sum" in after and batches > 0:
        return (after["sum"] - before.get("sum", 0)) / batches
    return after.get("mean")


class OpenAIServer(Side):
    """A server that somebody else has started, by OpenAI's interface."""

    def __init__(self, name: str, url: str, fields: Mapping[str, str], common: Common) -> None:
        super().__init__(name)
        self._url = f"{url.rstrip('/')}/audio/transcriptions"
        self._fields = {"model": common.model, "beam_size": str(common.beam), **common.decoding, **fields}
        self._client = httpx2.Client(timeout=600, limits=_LIMITS)

    def run(self, clips: Sequence[Path], clients: int) -> Work:
        return transcribe_all(self._transcribe, clips, clients)

    def _transcribe(self, content: bytes) -> str:
        answer = self._client.post(self._url, files={"file": ("clip.flac", content)}, data=self._fields)
        if answer.is_error:
            raise RuntimeError(f"{answer.status_code} {answer.text[:200]}")
        text: str = answer.json()["text"]
        return text

    def close(self) -> None:
        self._client.close()


class Peer(Side):
    """A library in a process of its own, which waits while others work."""

    def __init__(self, name: str, kind: str, options: Mapping[str, str], common: Common) -> None:
        super().__init__(name)
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=be_peer, args=(theirs, kind, options, common), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is noticed
        self._receive()

    def run(self, clips: Sequence[Path], clients: int) -> Work:
        self._connection.send((clips, clients))
        work: Work = self._receive()
        return work

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            raise RuntimeError(f"the process of {self.name} has ended") from None

    def close(self) -> None:
        if self._process.is_alive():
            self._connection.send(None)
        self._process.join()
