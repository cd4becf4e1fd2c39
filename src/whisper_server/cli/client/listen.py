"""`whisper-server listen`: stream audio to a server and print the transcript."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import anyio
from anyio import create_task_group
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from whisper_server import __version__
from whisper_server.cli.client.audio_sources import File, Microphone, Pipe, Source
from whisper_server.cli.client.server_options import add_server, api_key, error_message
from whisper_server.cli.terminal import JSONDisplay, LineDisplay, TerminalDisplay
from whisper_server.core.errors import SettingsError
from whisper_server.core.settings import CommandLineParser

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class ListenError(OSError):
    """The server is unreachable, or it refuses the session or ends it with an error."""


def run(argv: Sequence[str]) -> int:
    """Return 0 after the whole transcript; raises SettingsError, OSError or BadAudio."""
    arguments = _parser().parse_args(argv)
    source = _source(arguments)
    options = {"language": arguments.language, "model": arguments.model, "prompt": arguments.prompt}
    url = _url(arguments.url, {**source.query, **{name: value for name, value in options.items() if value}})
    key = api_key(arguments)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    anyio.run(_Client(url, headers, source, _display(arguments)).run)
    return 0


def _parser() -> CommandLineParser:
    parser = CommandLineParser(
        prog="whisper-server listen",
        description="Transcribe a file, a pipe or a microphone live through a server.",
        epilog="On a terminal, confirmed words are solid, and words that may still change are dim. Otherwise, each "
        "utterance is printed as a line. The first Ctrl-C ends the recording, the second one the program.",
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="?", help="audio or video file, or - for raw samples or a WAV on standard input")
    parser.add_argument("--microphone", nargs="?", const="", metavar="DEVICE", help="use a microphone instead")
    add_server(parser)
    parser.add_argument("--language", help="spoken language, such as en (default: detected)")
    parser.add_argument("--model", help="model of the server (default: the server's)")
    parser.add_argument("--prompt", help="text before the first words, which sets spelling, names and style")
    parser.add_argument("--fast", action="store_true", help="send a file as fast as the server accepts it")
    parser.add_argument("--json", action="store_true", help="print the server's messages, one per line")
    parser.add_argument(
        "--encoding", default="auto", help="encoding of standard input: pcm16, float32, mulaw, alaw, wav or auto"
    )
    parser.add_argument("--rate", default="16000", help="sample rate of raw samples (default: %(default)s)")
    parser.add_argument("--channels", default="1", help="channels of raw samples (default: %(default)s)")
    return parser


def _source(arguments: argparse.Namespace) -> Source:
    if (arguments.file is None) == (arguments.microphone is None):
        raise SettingsError("choose one source: FILE, - for standard input, or --microphone")
    if arguments.microphone is not None:
        return Microphone(arguments.microphone or None)
    if arguments.file != "-":
        if not Path(arguments.file).is_file():
            raise SettingsError(f"there is no file {arguments.file}")
        return File(Path(arguments.file), fast=arguments.fast)
    if sys.stdin.isatty():
        raise SettingsError("standard input is a terminal; pipe in a recorder such as arecord")
    query = {"encoding": arguments.encoding, "rate": arguments.rate, "channels": arguments.channels}
    return Pipe(open(sys.stdin.fileno(), "rb", closefd=False), query)


def _display(arguments: argparse.Namespace) -> LineDisplay:
    if arguments.json:
        return JSONDisplay(sys.stdout)
    return TerminalDisplay(sys.stdout) if sys.stdout.isatty() else LineDisplay(sys.stdout)


def _url(server: str, query: Mapping[str, str]) -> str:
    try:
        parts = urlsplit(server)
        scheme, hostname = _SCHEMES[parts.scheme], parts.hostname
    except (ValueError, KeyError):
        hostname = None
    if not hostname:
        raise SettingsError(f"--url: {server!r} is not a URL such as http://localhost:5000")
    return urlunsplit((scheme, parts.netloc, f"{parts.path.rstrip('/')}/v1/stream", urlencode(query), ""))


@dataclass
class _Client:
    url: str
    headers: Mapping[str, str]
    source: Source
    display: LineDisplay
    failure: Exception | None = None

    async def run(self) -> None:
        try:
            # A busy server answers no pings, and that is no reason to disconnect.
            connection = connect(
                self.url,
                additional_headers=self.headers,
                user_agent_header=f"whisper-server/{__version__}",
                compression=None,
                ping_timeout=None,
                max_size=None,
            )
            async with connection as socket:
                await self._run_session(socket)
        except InvalidStatus as exc:
            raise ListenError(f"the server refuses the session: {_reason(exc)}") from exc
        except (InvalidHandshake, InvalidURI, EOFError) as exc:
            raise ListenError(f"there is no whisper-server at {self.url.partition('?')[0]}: {exc}") from exc
        except (OSError, TimeoutError) as exc:
            raise ListenError(f"cannot reach {self.url.partition('?')[0]}: {exc}") from exc
        finally:
            self.display.close()
        if self.failure is not None:
            raise self.failure

    async def _run_session(self, socket: ClientConnection) -> None:
        async with create_task_group() as group:
            group.start_soon(self._send, socket)
            try:
                await self._print(socket)
            except ConnectionClosed as exc:
                self.failure = self.failure or ListenError(f"the connection broke: {exc}")
            group.cancel_scope.cancel()

    async def _send(self, socket: ClientConnection) -> None:
        try:
            async for chunk in _until_interrupted(self.source.chunks()):
                await socket.send(chunk)
            await socket.send(json.dumps({"type": "end"}))
        except ConnectionClosed:
            pass  # _print reports why
        except Exception as exc:  # run() raises it; the task group would wrap it
            self.failure = exc
            await socket.close()

    async def _print(self, socket: ClientConnection) -> None:
        async for text in socket:
            message: Mapping[str, Any] = json.loads(text)
            self.display.show(message)
            if message["type"] == "error":
                self.failure = self.failure or ListenError(f"the server reports: {message['message']}")
            elif message["type"] == "end":
                return
        self.failure = self.failure or ListenError("the server closed the connection before the end")


async def _until_interrupted(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Stop at the first Ctrl-C, so that the rest of the transcript still arrives; the second Ctrl-C acts as usual."""
    loop = asyncio.get_running_loop()
    interrupted = loop.create_future()

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, usual)
        loop.call_soon_threadsafe(interrupted.set_result, None)

    usual = signal.signal(signal.SIGINT, interrupt)
    next_chunk = asyncio.ensure_future(anext(chunks, None))
    try:
        while not interrupted.done():
            await asyncio.wait({next_chunk, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            if not next_chunk.done() or (chunk := next_chunk.result()) is None:
                return
            yield chunk
            next_chunk = asyncio.ensure_future(anext(chunks, None))
    finally:
        signal.signal(signal.SIGINT, usual)
        next_chunk.cancel()
        await asyncio.wait({next_chunk})


def _reason(exc: InvalidStatus) -> str:
    status = f"HTTP {exc.response.status_code}"
    message = error_message(exc.response.body or b"")
    return f"{message} ({status})" if message else status
