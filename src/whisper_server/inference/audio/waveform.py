"""The samples of a file, for as long as a request needs them: in memory if they are few, in a temporary file otherwise.

A few kilobytes of FLAC or Opus can be hours of silence, so the memory of a request must not grow with its audio.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from tempfile import SpooledTemporaryFile
from threading import Lock
from types import TracebackType
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from whisper_server.core.errors import Cancelled, UploadNotStored

SAMPLE_RATE = 16_000
Samples: TypeAlias = NDArray[np.float32]

_MAX_SECONDS_IN_MEMORY = 600
_SAMPLE_BYTES = 2


class Waveform(Protocol):
    """Mono samples at 16 kHz in -1..1 that can be read in parts: an array, or one of the classes below."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Samples: ...


class SpooledWaveform:
    """Samples of 16 bits: 19 MB in memory after ten minutes, and none beyond. Several threads may read them.

    Each of several `channels` has its share of that memory.
    """

    def __init__(self, *, channels: int = 1) -> None:
        in_memory = _MAX_SECONDS_IN_MEMORY // channels * SAMPLE_RATE * _SAMPLE_BYTES
        self._file = SpooledTemporaryFile(in_memory)  # noqa: SIM115
        self._length = 0
        self._lock = Lock()

    def __enter__(self) -> SpooledWaveform:
        return self

    def __exit__(self, *exc_info: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return self._length

    @property
    def seconds(self) -> float:
        return self._length / SAMPLE_RATE

    def append(self, block: NDArray[np.int16]) -> None:
        """Raises UploadNotStored if the temporary directory is full; call it before anything is read."""
        try:
            self._file.write(block.tobytes())
        except OSError as exc:
            raise UploadNotStored(exc.strerror or type(exc).__name__) from exc
        self._length += len(block)

    def __getitem__(self, part: slice) -> Samples:
        """Raises Cancelled after `close()`: only the thread of a request that nobody waits for reads on."""
        start, stop, _ = part.indices(self._length)
        with self._lock:
            if self._file.closed:
                raise Cancelled("the audio of the request was released")
            self._file.seek(start * _SAMPLE_BYTES)
            data = self._file.read(max(0, stop - start) * _SAMPLE_BYTES)
        return np.divide(np.frombuffer(data, np.int16), np.float32(32768), dtype=np.float32)

    def __del__(self) -> None:
        """A thread that nobody waits for may have made it."""
        self.close()

    def close(self) -> None:
        """Free the memory or the file."""
        with self._lock:
            self._file.close()


class JoinedParts:
    """Some parts of a waveform, one after the other; `parts` are pairs of positions, (start, stop), in order."""

    def __init__(self, waveform: Waveform, parts: Sequence[tuple[int, int]]) -> None:
        self._waveform = waveform
        self._parts = parts
        # The position of each part in this waveform, and at last the length.
        self._starts = [0, *accumulate(stop - start for start, stop in parts)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, part: slice) -> Samples:
        start, stop, _ = part.indices(len(self))
        pieces = [np.empty(0, np.float32)]
        number = bisect_right(self._starts, start) - 1
        while number < len(self._parts) and self._starts[number] < stop:
            offset = self._parts[number][0] - self._starts[number]
            end = min(stop, self._starts[number + 1])
            pieces.append(self._waveform[max(start, self._starts[number]) + offset : end + offset])
            number += 1
        return np.concatenate(pieces)
