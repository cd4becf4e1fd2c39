from __future__ import annotations

import io

import pytest
from inference.containers import FRAGMENTS, RECIPES, encode, tone
from process import forget_peak, memory

from whisper_server.core.errors import BadAudio
from whisper_server.inference.audio.decoder import AudioDecoder
from whisper_server.inference.audio.ffmpeg_memory import limit_allocations
from whisper_server.inference.request_context import RequestContext


def test_a_file_that_declares_many_samples_takes_little_memory() -> None:
    """FFmpeg would allocate and write an index of 64 million entries."""
    assert limit_allocations()
    file = bytearray(encode(tone(1), RECIPES["m4a"], options=FRAGMENTS))
    decoder = AudioDecoder(max_seconds=600)
    decoder.decode(io.BytesIO(file), RequestContext()).close()
    count = file.index(b"trun", file.index(b"trun") + 4) + 8
    file[count : count + 4] = (64_000_000).to_bytes(4, "big")
    forget_peak()
    before = memory("VmRSS")
    with pytest.raises(BadAudio):
        decoder.decode(io.BytesIO(file), RequestContext())
    assert memory("VmHWM") - before < 100_000_000
