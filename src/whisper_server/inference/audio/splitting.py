"""Splits audio at silence, and finds the parts with speech."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps

from whisper_server.inference.audio.vad import WINDOW, VoiceActivity
from whisper_server.inference.audio.waveform import SAMPLE_RATE, Samples, Waveform

# A chunk ends in the 8 consecutive windows of 32 ms with the least voice: a quarter of a second is shorter than most
# pauses and longer than a stop consonant. Where there is no voice at all, the quietest windows count.
_PAUSE_WINDOWS = 8
_ENERGY_WEIGHT = 0.01
MAX_SILENT_PROBABILITY = 0.15

# The positions of its first sample and of the one after its last.
Chunk: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """Chunk length limits, in samples. The last chunk of a file may be shorter."""

    shortest: int
    longest: int


@dataclass(frozen=True, slots=True)
class SpeechActivity:
    """The parts of an audio with speech, as (start, end), and its length; in seconds."""

    segments: list[tuple[float, float]]
    duration: float


_VAD_LIMITS = ChunkLimits(50 * SAMPLE_RATE, 60 * SAMPLE_RATE)


def split_at_silence(audio: Waveform, limits: ChunkLimits) -> Iterator[Chunk]:
    """Yield consecutive chunks within the limits that end where there is the least voice; the last may be shorter."""
    start = 0
    while len(audio) - start > limits.longest:
        earliest = start + limits.shortest
        stop = earliest + _quietest_position(audio[earliest : start + limits.longest])
        yield start, stop
        start = stop
    yield start, len(audio)


def find_speech(audio: Waveform, options: VadOptions, check: Callable[[], None]) -> list[Chunk]:
    """Return the parts with speech, as faster-whisper's `get_speech_timestamps` for each chunk of a minute.

    For a whole file it needs 20 times the memory of the samples. `check` is called before each chunk, and may raise.
    """
    parts: list[Chunk] = []
    for start, stop in split_at_silence(audio, _VAD_LIMITS):
        check()
        for speech in get_speech_timestamps(audio[start:stop], options):
            parts.append((start + speech["start"], start + speech["end"]))
    return parts


def detect_speech(audio: Waveform, options: VadOptions, check: Callable[[], None]) -> SpeechActivity:
    """Return the speech in an audio, as `find_speech` does, but not divided where a chunk ends."""
    joined: list[Chunk] = []
    for start, stop in find_speech(audio, options, check):
        if joined and _is_one_stretch(joined[-1], (start, stop), options):
            start, _ = joined.pop()
        joined.append((start, stop))
    return SpeechActivity([(a / SAMPLE_RATE, b / SAMPLE_RATE) for a, b in joined], len(audio) / SAMPLE_RATE)


def _is_one_stretch(part: Chunk, following: Chunk, options: VadOptions) -> bool:
    """Whether `options` join two parts, which may be in two chunks."""
    milliseconds = (following[0] - part[1]) * 1000 / SAMPLE_RATE
    pause = milliseconds + 2 * options.speech_pad_ms
    short = milliseconds <= 0 or pause < options.min_silence_duration_ms
    return bool(short and following[1] - part[0] <= options.max_speech_duration_s * SAMPLE_RATE)


def _quietest_position(samples: Samples) -> int:
    """The middle of the quietest pause; of equally quiet ones the last, for fewer chunks."""
    voice = np.array(VoiceActivity()(samples))
    voice[voice < MAX_SILENT_PROBABILITY] = 0.0
    energy = (samples[: len(voice) * WINDOW].reshape(-1, WINDOW) ** 2).sum(axis=1)
    loudness = voice + _ENERGY_WEIGHT * energy / max(float(energy.max()), 1e-9)
    pauses = np.convolve(loudness, np.ones(_PAUSE_WINDOWS), "valid")[::-1]
    return (len(pauses) - 1 - int(pauses.argmin())) * WINDOW + _PAUSE_WINDOWS * WINDOW // 2
