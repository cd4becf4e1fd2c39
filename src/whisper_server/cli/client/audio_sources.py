"""The audio sources of `whisper-server listen`: a file, standard input, a microphone."""

from __future__ import annotations

import asyncio
import importlib
import math
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from anyio import sleep_until, to_thread

from whisper_server.core.errors import SettingsError
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.audio.waveform import SAMPLE_RATE
from whisper_server.inference.request_context import RequestContext

_CHUNK_SECONDS = 0.1
_CHUNK_SAMPLES = int(SAMPLE_RATE * _CHUNK_SECONDS)
_READ_BYTES = 4096
_MAX_QUEUED_READS = 8
_PCM16 = {"encoding": "pcm16", "rate": str(SAMPLE_RATE)}


class Source(Protocol):
    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters that describe the audio to the server."""

    def chunks(self) -> AsyncIterator[bytes]: ...


@dataclass
class File:
    """An audio or video file, decoded here and sent in real time, or without delay if `fast`."""

    path: Path
    fast: bool
    query = _PCM16

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises OSError or BadAudio."""
        samples = await to_thread.run_sync(self._decode)
        started = asyncio.get_running_loop().time()
        for number, start in enumerate(range(0, len(samples), _CHUNK_SAMPLES), 1):
            if not self.fast:
                await sleep_until(started + number * _CHUNK_SECONDS)
            yield samples[start : start + _CHUNK_SAMPLES].tobytes()

    def _decode(self) -> Any:
        with self.path.open("rb") as file, AudioDecoder(max_seconds=math.inf).decode(file, RequestContext()) as audio:
            return (audio[:] * 32768).astype("<i2")


@dataclass
class Pipe:
    """Raw samples or a WAV from a stream, forwarded as they arrive."""

    stream: BufferedIOBase
    query: Mapping[str, str]

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read in a daemon thread, as event loops cannot wait for files and terminals."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes] = asyncio.Queue(_MAX_QUEUED_READS)

        def read() -> None:
            data = b"-"
            while data:
                data = self.stream.read1(_READ_BYTES)
                asyncio.run_coroutine_threadsafe(queue.put(data), loop).result()

        threading.Thread(target=read, name="standard input", daemon=True).start()
        while data := await queue.get():
            yield data


class Microphone:
    """`device` is its number or a part of its name; `load_sounddevice` returns the module `sounddevice`."""

    def __init__(self, device: str | None = None, load_sounddevice: Callable[[], Any] | None = None) -> None:
        self._device = int(device) if device and device.isdecimal() else device
        self._load_sounddevice = load_sounddevice or _sounddevice
        self.query = _PCM16

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises SettingsError if there is no microphone."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes] = asyncio.Queue()

        def enqueue(data: Any, *_: object) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, bytes(data))

        sounddevice = self._load_sounddevice()
        try:
            stream = sounddevice.RawInputStream(
                samplerate=SAMPLE_RATE,
                channels=1,
                dtype="int16",
                blocksize=_CHUNK_SAMPLES,
                device=self._device,
                callback=enqueue,
            )
        except (sounddevice.PortAudioError, ValueError) as exc:
            raise SettingsError(f"cannot use the microphone: {exc}") from exc
        with stream:
            while True:
                yield await queue.get()


def _sounddevice() -> ModuleType:
    """Import an optional package, which needs PortAudio; raises SettingsError if one of them is missing."""
    try:
        return importlib.import_module("sounddevice")
    except ImportError as exc:
        raise SettingsError(
            "--microphone needs the package sounddevice",
            hint="pip install sounddevice, or pipe in a recorder: arecord -f S16_LE -r 16000 | whisper-server listen -",
        ) from exc
    except OSError as exc:
        raise SettingsError(f"--microphone needs PortAudio (Debian: libportaudio2): {exc}") from exc
