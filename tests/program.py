"""Runs `whisper-server` in processes that are forked from one that has imported it: an import takes a second or two."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import CompletedProcess
from threading import Timer
from typing import IO

import pytest

from whisper_server.__main__ import main
from whisper_server.core.settings import PREFIX

# The beginnings of the names of variables with the settings of this machine.
SETTINGS = (PREFIX, "HF_", "XDG_")
_PRELOADED = [
    "pytest",
    "whisper_server.cli.serve",
    "whisper_server.cli.client.listen",
    "whisper_server.cli.client.submit",
]


class Program:
    """A running `whisper-server ARGUMENTS` with an empty standard input."""

    def __init__(self, *arguments: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
        context = _forking_context()
        environ = dict(os.environ if environ is None else environ)
        (stdout, stdout_writer), (stderr, stderr_writer) = (context.Pipe(duplex=False) for _ in range(2))
        with stdout, stdout_writer, stderr, stderr_writer:
            values = (arguments, environ, cwd, stdout_writer, stderr_writer)
            self._process = context.Process(target=_run_main, args=values, daemon=True)
            self._process.start()
            self.stdout, self.stderr = _opened(stdout), _opened(stderr)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float) -> int:
        """Return the exit status."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still running after {timeout} s"
        return self._process.exitcode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Return the rest of its two outputs; kills it after the timeout."""
        with ThreadPoolExecutor() as pool:
            timer = Timer(timeout, self.kill)
            timer.start()
            output, errors = pool.map(lambda stream: stream.read(), (self.stdout, self.stderr))
            timer.cancel()
        return output, errors

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Kill it if it is still running."""
        self.kill()
        self.wait(60)
        self.stdout.close()
        self.stderr.close()


def run(*arguments: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    """Run `whisper-server ARGUMENTS` to its end."""
    with Program(*arguments, cwd=cwd, environ=environ) as program:
        output, errors = program.communicate()
        return CompletedProcess(arguments, program.wait(60), output, errors)


@cache
def _forking_context() -> ForkServerContext:
    """Start the process to fork from, without settings of this machine that libraries read when they are imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name.startswith(SETTINGS):
                patch.delenv(name)
        forkserver.ensure_running()
    return context


def _opened(reader: Connection) -> IO[str]:
    return open(os.dup(reader.fileno()), encoding="utf-8")


def _run_main(
    arguments: tuple[str, ...], environ: Mapping[str, str], cwd: Path | None, stdout: Connection, stderr: Connection
) -> None:
    os.environ.clear()
    os.environ.update(environ)
    if cwd is not None:
        os.chdir(cwd)
    for number, pipe in enumerate((stdout, stderr), 1):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    sys.exit(main(arguments))
