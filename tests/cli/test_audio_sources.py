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

from whisper_server.cli.audio_sources import File, Microphone, Pipe, Source
from whisper_server.core.errors import BadAudio
from whisper_server.core.settings import SettingsError


def read(source: Source, most: int = 1_000_000) -> list[bytes]:
    async def gather() -> list[bytes]:
        found = []
        async for chunk in source.chunks():
            found.append(chunk)
            if len(found) == most:
                break
        return found

    return anyio.run(gather)


def test_a_file_is_decoded_here(audio: Path) -> None:
    path = audio / "short.flac"
    data = b"".join(read(File(path, fast=True)))
    expected = (decode_audio(str(path)) * 32768).astype("<i2")
    np.testing.assert_array_equal(np.frombuffer(data, "<i2"), expected)


def test_a_file_comes_at_the_pace_of_speech(audio: Path) -> None:
    started = time.monotonic()
    chunks = read(File(audio / "short.flac", fast=False), most=6)
    assert {len(chunk) for chunk in chunks} == {3200}
    assert time.monotonic() - started > 0.5


def test_a_file_that_is_no_audio_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(BadAudio):
        read(File(tmp_path / "notes.txt", fast=True))


def test_a_pipe_is_passed_on_as_it_comes() -> None:
    out, into = os.pipe()
    with os.fdopen(out, "rb") as reading, os.fdopen(into, "wb") as writing:
        writing.write(b"abc" * 5000)
        writing.close()
        assert b"".join(read(Pipe(reading, {"rate": "8000"}))) == b"abc" * 5000
    assert b"".join(read(Pipe(io.BytesIO(b"x" * 9000), {}))) == b"x" * 9000


def test_a_microphone_is_asked_for_what_the_server_hears() -> None:
    asked: dict[str, Any] = {}

    class Stream:
        def __init__(self, **options: Any) -> None:
            asked.update(options)

        def __enter__(self) -> None:
            hear: Callable[..., None] = asked["callback"]
            hear(memoryview(b"ab"), 1, None, None)
            hear(memoryview(b"cd"), 1, None, None)

        def __exit__(self, *_: object) -> None:
            asked["closed"] = True

    module = SimpleNamespace(RawInputStream=Stream, PortAudioError=OSError)

    async def two() -> list[bytes]:
        chunks = Microphone("USB", lambda: module).chunks()
        found = [await anext(chunks), await anext(chunks)]
        await chunks.aclose()  # type: ignore[attr-defined]
        return found

    assert asyncio.run(two()) == [b"ab", b"cd"]
    assert (asked["samplerate"], asked["channels"], asked["dtype"], asked["device"]) == (16_000, 1, "int16", "USB")
    assert asked["closed"]


def test_a_machine_without_a_microphone_says_so() -> None:
    def refuse(**_: Any) -> None:
        raise ValueError("No input device matching 'USB'")

    module = SimpleNamespace(RawInputStream=refuse, PortAudioError=OSError)
    with pytest.raises(SettingsError, match="No input device"):
        read(Microphone("USB", lambda: module))
