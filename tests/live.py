"""A real server in a process of its own, started as a user starts it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class LiveServer:
    process: subprocess.Popen[str]
    url: str = ""
    log: list[str] = field(default_factory=list)

    def wait_for(self, pattern: str) -> str:
        """Read the log up to a line that matches; fails if the server ends first."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError(f"{pattern!r} was never logged:\n" + "".join(self.log))

    def rest(self) -> str:
        """Everything that it still logs until it ends."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def live_server(*flags: str, model: str = "tiny.en") -> Iterator[LiveServer]:
    command = [sys.executable, "-m", "whisper_server", "--port", "0", "--device", "cpu", "--offline", "--model", model]
    with subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True) as process:
        server = LiveServer(process)
        try:
            found = re.search(r"http://\S+", server.wait_for(r"serving .* on http://"))
            assert found is not None
            server.url = found.group()
            yield server
        finally:
            process.kill()
            server.rest()
