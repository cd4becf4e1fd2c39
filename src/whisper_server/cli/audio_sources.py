"""Where `whisper-server listen` gets audio: a file, standard input, a microphone."""

from __future__ import annotations

import asyncio
import importlib
import math
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from io import BufferedIOBase
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from anyio import sleep_until, to_thread

from whisper_server.core.settings import SettingsError
from whisper_server.inference.audio.decoder import SAMPLE_RATE, AudioDecoder
from whisper_server.inference.request_context import RequestContext

_CHUNK_SECONDS = 0.1
_CHUNK = int(SAMPLE_RATE * _CHUNK_SECONDS)
_READ = 4096
_WAITING = 8


class Source(Protocol):
    @property
    def query(self) -> Mapping[str, str]:
        """What the server has to know of it."""

    def chunks(self) -> AsyncIterator[bytes]: ...


class File:
    """Any audio or video, decoded here; as fast as it was recorded unless it is to be `fast`."""

    def __init__(self, path: Path, *, fast: bool) -> None:
        self._path = path
        self._fast = fast
        self.query = {"encoding": "pcm16", "rate": str(SAMPLE_RATE)}

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises OSError and BadAudio."""
        samples = await to_thread.run_sync(self._decode)
        started = asyncio.get_running_loop().time()
        for number, start in enumerate(range(0, len(samples), _CHUNK), 1):
            if not self._fast:
                await sleep_until(started + number * _CHUNK_SECONDS)
            yield samples[start : start + _CHUNK].tobytes()

    def _decode(self) -> Any:
        with self._path.open("rb") as file:
            samples = AudioDecoder(max_seconds=math.inf).decode(file, RequestContext())
        return (samples * 32768).astype("<i2")


class Pipe:
    """Raw samples or a WAV, passed on as they come."""

    def __init__(self, stream: BufferedIOBase, query: Mapping[str, str]) -> None:
        self._stream = stream
        self.query = query

    async def chunks(self) -> AsyncIterator[bytes]:
        """A thread reads, as files and terminals cannot be waited for; it ends with the program."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[bytes] = asyncio.Queue(_WAITING)

        def read() -> None:
            data = b"-"
            while data:
                data = self._stream.read1(_READ)
                asyncio.run_coroutine_threadsafe(waiting.put(data), loop).result()

        threading.Thread(target=read, name="standard input", daemon=True).start()
        while data := await waiting.get():
            yield data


class Microphone:
    """`device` is a part of its name or its number; `module` makes sounddevice, if it is not to be looked for."""

    def __init__(self, device: str | None = None, module: Callable[[], Any] | None = None) -> None:
        self._device = int(device) if device and device.isdecimal() else device
        self._module = module or _sounddevice
        self.query = {"encoding": "pcm16", "rate": str(SAMPLE_RATE)}

    async def chunks(self) -> AsyncIterator[bytes]:
        async with self._recording() as heard:
            while True:
                yield await heard.get()

    @asynccontextmanager
    async def _recording(self) -> AsyncIterator[asyncio.Queue[bytes]]:
        """Raises SettingsError if there is no microphone."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[bytes] = asyncio.Queue()

        def hear(data: Any, *_: object) -> None:
            loop.call_soon_threadsafe(heard.put_nowait, bytes(data))

        sounddevice = self._module()
        try:
            stream = sounddevice.RawInputStream(
                samplerate=SAMPLE_RATE, channels=1, dtype="int16", blocksize=_CHUNK, device=self._device, callback=hear
            )
        except (sounddevice.PortAudioError, ValueError) as exc:
            raise SettingsError(f"cannot use the microphone: {exc}") from exc
        with stream:
            yield heard


def _sounddevice() -> ModuleType:
    """An optional package, which needs PortAudio; raises SettingsError without either."""
    try:
        return importlib.import_module("sounddevice")
    except ImportError as exc:
        raise SettingsError(
            "--microphone needs a package more: pip install 'whisper-server[microphone]'; "
            "or pipe a recorder in: arecord -f S16_LE -r 16000 | whisper-server listen -"
        ) from exc
    except OSError as exc:
        raise SettingsError(f"--microphone needs PortAudio (Debian: libportaudio2): {exc}") from exc
