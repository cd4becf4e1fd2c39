from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import numpy as np
import pytest
from faster_whisper import decode_audio

from whisper_server.cli.client.audio_sources import File, Microphone, Pipe, Source
from whisper_server.core.errors import BadAudio, SettingsError


def read(source: Source, limit: int = 1_000_000) -> list[bytes]:
    async def gather() -> list[bytes]:
        chunks = []
        async for chunk in source.chunks():
            chunks.append(chunk)
            if len(chunks) == limit:
                break
        return chunks

    return anyio.run(gather)


def test_a_file_is_decoded(audio: Path) -> None:
    path = audio / "short.flac"
    data = b"".join(read(File(path, fast=True)))
    expected = (decode_audio(str(path)) * 32768).astype("<i2")
    np.testing.assert_array_equal(np.frombuffer(data, "<i2"), expected)


def test_a_file_is_sent_in_real_time(audio: Path) -> None:
    started = time.monotonic()
    chunks = read(File(audio / "short.flac", fast=False), limit=6)
    assert {len(chunk) for chunk in chunks} == {3200}
    assert time.monotonic() - started > 0.5


def test_a_file_without_audio_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(BadAudio):
        read(File(tmp_path / "notes.txt", fast=True))


def test_a_pipe_is_forwarded_unchanged() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as reading, os.fdopen(write_end, "wb") as writing:
        writing.write(b"abc" * 5000)
        writing.close()
        assert b"".join(read(Pipe(reading, {"rate": "8000"}))) == b"abc" * 5000
    assert b"".join(read(Pipe(io.BytesIO(b"x" * 9000), {}))) == b"x" * 9000


def test_a_microphone_records_in_the_format_of_the_server() -> None:
    opened: dict[str, Any] = {}

    class Stream:
        def __init__(self, **options: Any) -> None:
            opened.update(options)

        def __enter__(self) -> None:
            callback: Callable[..., None] = opened["callback"]
            callback(memoryview(b"ab"), 1, None, None)
            callback(memoryview(b"cd"), 1, None, None)

        def __exit__(self, *_: object) -> None:
            opened["closed"] = True

    module = SimpleNamespace(RawInputStream=Stream, PortAudioError=OSError)

    async def two_chunks() -> list[bytes]:
        chunks = Microphone("USB", lambda: module).chunks()
        result = [await anext(chunks), await anext(chunks)]
        await chunks.aclose()  # type: ignore[attr-defined]
        return result

    assert asyncio.run(two_chunks()) == [b"ab", b"cd"]
    assert (opened["samplerate"], opened["channels"], opened["dtype"], opened["device"]) == (16_000, 1, "int16", "USB")
    assert opened["closed"]


def test_a_missing_microphone_is_an_error() -> None:
    def refuse(**_: Any) -> None:
        raise ValueError("No input device matching 'USB'")

    module = SimpleNamespace(RawInputStream=refuse, PortAudioError=OSError)
    with pytest.raises(SettingsError, match="No input device"):
        read(Microphone("USB", lambda: module))
