"""A server in a process of its own, for the benchmarks that look at the process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread


@contextmanager
def running_server(model: str, *flags: str) -> Iterator[tuple[str, int]]:
    """Yield its address and its process id."""
    command = [sys.executable, "-m", "whisper_server", "--port", "0", "--offline", "--model", model, *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            url = next(line for line in process.stderr if " serving " in line).split()[-1]
            Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop the server
            yield url, process.pid
        finally:
            process.terminate()
