"""A real server in a process of its own, started from the command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Thread

from program import Program


class LiveServer:
    def __init__(self, process: subprocess.Popen[str] | Program) -> None:
        self.process = process
        self.url = ""
        self.log: list[str] = []
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        """Read without a pause, as a full pipe would block the server."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str) -> str:
        """Return the next line of the log that matches; fails if there is none."""
        try:
            while (line := self._lines.get(timeout=120)) is not None:
                self.log.append(line)
                if re.search(pattern, line):
                    return line
        except Empty:
            pass
        raise AssertionError(f"{pattern!r} was not logged:\n" + "".join(self.log))

    def remaining_log(self) -> str:
        """Wait for the end of the process, and return what it has logged since `wait_for`."""
        self._reader.join()
        return "".join(iter(self._lines.get, None))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def live_server(*flags: str, model: str = "tiny.en", **environ: str) -> Iterator[LiveServer]:
    common = ("--port", "0", "--device", "cpu", "--offline", "--model", model)
    with Program(*common, *flags, environ={**os.environ, **environ}) as program:
        yield from _ready(program, "serving .* on https?://")


@contextmanager
def launched(
    command: Sequence[str], environ: Mapping[str, str], banner: str = "serving .* on https?://", user: int | None = None
) -> Iterator[LiveServer]:
    """Start the server of a command, and wait for the log line with its URL."""
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        user=user,
        group=user,
        extra_groups=[] if user else None,
    )
    with process:
        yield from _ready(process, banner)


def _ready(process: subprocess.Popen[str] | Program, banner: str) -> Iterator[LiveServer]:
    """Yield the server when it has logged its URL, and kill it afterwards."""
    server = LiveServer(process)
    try:
        url = re.search(r"https?://[^\s\"]+", server.wait_for(banner))
        assert url is not None
        server.url = url.group()
        yield server
    finally:
        process.kill()
        server._reader.join()
