"""Loads a model, tries it, and swaps it in; whoever works keeps the model that they started with."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor

from whisper_server.errors import ModelLoadFailed
from whisper_server.inference.devices import Device
from whisper_server.inference.resolver import ModelResolver

logger = logging.getLogger(__name__)

_NEEDED = ("model.bin", "config.json", "tokenizer.json")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that has transcribed one window. `memory` is what loading it added to the device, in bytes."""

    name: str
    whisper: WhisperModel
    device: Device
    compute_type: str
    memory: int

    def __str__(self) -> str:
        memory = f", {self.memory / 1e6:.0f} MB" if self.memory else ""
        return f"{self.name} ({self.device}, {self.compute_type}{memory})"


class ModelLoader:
    def __init__(self, *, device: Device, compute_type: str, cpu_threads: int) -> None:
        self._device = device
        self._compute_type = compute_type
        self._cpu_threads = cpu_threads

    def load(self, name: str, directory: Path) -> LoadedModel:
        """Load the directory and transcribe one window of silence with it; raises ModelLoadFailed."""
        logger.info("loading %s from %s", name, directory)
        missing = [file for file in _NEEDED if not (directory / file).is_file()]
        if missing:
            raise ModelLoadFailed(f"model {name!r} is incomplete: it has no {', '.join(missing)}")
        started, before = time.monotonic(), self._device.used_bytes()
        try:
            whisper = self._open(directory)
            _warm_up(whisper)
        except Exception as exc:
            reason = str(exc).replace(str(directory), name)  # clients read it, and the path is not theirs to know
            raise ModelLoadFailed(f"model {name!r} could not be loaded: {reason}") from exc
        memory = max(0, self._device.used_bytes() - before)
        model = LoadedModel(name, whisper, self._device, self._compute_type, memory)
        logger.info("loaded %s in %.1f s", model, time.monotonic() - started)
        return model

    def _open(self, directory: Path) -> WhisperModel:
        whisper = WhisperModel(
            str(directory),
            device=self._device.kind,
            device_index=self._device.index,
            compute_type=self._compute_type,
            cpu_threads=self._cpu_threads,
            local_files_only=True,
        )
        # Without a preprocessor_config.json faster-whisper assumes 80 mels, and large-v3 has 128.
        if whisper.feature_extractor.mel_filters.shape[0] != whisper.model.n_mels:
            whisper.feature_extractor = FeatureExtractor(feature_size=whisper.model.n_mels)
        return whisper


def _warm_up(whisper: WhisperModel) -> None:
    second = np.zeros(whisper.feature_extractor.sampling_rate, np.float32)
    segments, _ = whisper.transcribe(second, language="en", beam_size=1, temperature=0.0)
    list(segments)


class ModelManager:
    def __init__(self, resolver: ModelResolver, loader: ModelLoader) -> None:
        self._resolver = resolver
        self._loader = loader
        self._lock = Lock()
        self._startup_name: str | None = None
        self._current: LoadedModel | None = None

    @property
    def current(self) -> LoadedModel:
        """The model for new work. Holding on to it keeps it loaded; it goes when its last user lets go."""
        assert self._current is not None, "load() comes before current"
        return self._current

    def load(self, name: str) -> LoadedModel:
        """Load the model that the operator names."""
        with self._lock:
            self._startup_name = name
            self._current = self._loader.load(name, self._resolver.resolve(name))
            return self._current

    def reload(self, name: str) -> LoadedModel:
        """Load the model that a client names beside the current one, which serves on unless this succeeds.

        One reload at a time: a second one waits for the first.
        """
        with self._lock:
            operator_named = name == self._startup_name
            resolve = self._resolver.resolve if operator_named else self._resolver.resolve_for_client
            self._current = self._loader.load(name, resolve(name))
            return self._current
