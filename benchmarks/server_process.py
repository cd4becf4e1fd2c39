"""whisper-server in a process of its own, and what its metrics and the kernel say about it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from threading import Thread

import httpx2

# Always the same workers and threads, whatever autotuning would choose.
UNTUNED_CPU = ("--device", "cpu", "--no-measure")


class ServerProcess:
    """Can be started and stopped several times, and as a context manager. It listens on a free port each time."""

    def __init__(self, *flags: str, environ: Mapping[str, str] | None = None, log_lines: int | None = 20) -> None:
        """`log` has the last lines of all its processes, or all of them with None."""
        self._command = [sys.executable, "-m", "whisper_server", "--port", "0", "--offline", *flags]
        self._environ = {**os.environ, **(environ or {})}
        self.log: deque[str] = deque(maxlen=log_lines)
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return when the port is open. Raises RuntimeError with the last lines of the log if the server fails."""
        self._process = process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True, env=self._environ)
        assert process.stderr is not None
        for line in process.stderr:
            self.log.append(line)
            if " serving " in line:
                break
        # A full pipe would block the server.
        self._reader = Thread(target=self.log.extend, args=(process.stderr,))
        self._reader.start()
        if " serving " not in line:
            self.stop()
            raise RuntimeError(f"the server did not start:\n{''.join(self.log)}")
        self.url = line.split()[-1]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._reader.join()
            assert self._process.stderr is not None
            self._process.stderr.close()
            self._process = None

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def model_calls(url: str) -> float:
    """The number of windows that the server's model has decoded so far."""
    lines = httpx2.get(f"{url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("whisper_batch_size_sum"))


def resident_megabytes(pid: int) -> float:
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return round(int(match.group(1)) / 1024, 1)


def cpu_seconds(pid: int) -> float:
    """The CPU time of all threads of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
