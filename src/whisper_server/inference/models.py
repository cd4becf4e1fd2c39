"""Loads a model, tries it, and swaps it in; whoever works keeps the model that they started with."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from pathlib import Path
from threading import Lock, Thread

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel

from whisper_server.errors import ModelIsServed, ModelLoadFailed, ModelNotFound, Overloaded
from whisper_server.inference.catalogue import OPENAI_NAMES, REPOSITORIES
from whisper_server.inference.features import PiecewiseFeatureExtractor
from whisper_server.inference.heap import release_freed_memory
from whisper_server.inference.resolver import ModelResolver
from whisper_server.inference.tickets import Ticket
from whisper_server.inference.tuning import Tuner
from whisper_server.inference.whisper import BatchedWhisper, TaskTokens
from whisper_server.inference.workers import Workers

logger = logging.getLogger(__name__)

_RETRY_AFTER = 5
_NEEDED = ("model.bin", "config.json", "tokenizer.json")


class LoadedModel:
    """A model and its workers. `memory` is what loading it added to the device, in bytes; `id` is its name for clients.

    `whisper` is faster-whisper's model itself, which knows nothing of the queue; requests work with `whisper_for`.
    """

    def __init__(
        self,
        name: str,
        whisper: WhisperModel,
        *,
        runs_on: str,
        max_batch_size: int,
    ) -> None:
        self.name = name
        self.id = _id(name)
        self.loaded_at = int(time.time())
        self.memory = 0
        self.users = 0
        self.whisper = whisper
        self._runs_on = runs_on
        token = whisper.hf_tokenizer.token_to_id
        self._tokens = TaskTokens(token("<|startoftranscript|>"), token("<|endoftext|>"), token("<|notimestamps|>"))
        self.batched = BatchedWhisper(whisper.model, max_batch_size=max_batch_size)
        self._later: Thread | None = None

    def __str__(self) -> str:
        memory = f", {self.memory / 1e6:.0f} MB" if self.memory else ""
        return f"{self.name} ({self._runs_on}{memory})"

    def is_called(self, name: str) -> bool:
        """Whether a client that says this name means this model."""
        return name == self.id or _key(name) == _key(self.name)

    def whisper_for(
        self, ticket: Ticket, *, encoder_window: str = "full", languages: Sequence[str] = ()
    ) -> WhisperModel:
        """Return a faster-whisper model whose engine calls queue up under this ticket."""
        whisper = copy(self.whisper)
        adaptive = encoder_window == "adaptive"
        whisper.model = self.batched.for_request(ticket, self._tokens, adaptive=adaptive, languages=languages)
        return whisper

    def later(self, work: Callable[[], None]) -> None:
        """Do what improves this model while it serves already; closing it waits for that."""
        self._later = Thread(target=work, name=f"improve {self.name}", daemon=True)
        self._later.start()

    def wait_until_improved(self) -> None:
        if self._later is not None:
            self._later.join()

    def close(self) -> None:
        self.wait_until_improved()
        self.batched.close()


def _key(name: str) -> str:
    """Names of one repository are names of one model."""
    return REPOSITORIES.get(name, name)


def _id(name: str) -> str:
    """The name, or the last part of an operator's path, which is not for clients to know."""
    path = os.path.expanduser(name)
    return os.path.basename(os.path.normpath(path)) if os.path.isdir(path) else name


class ModelLoader:
    def __init__(self, tuner: Tuner) -> None:
        self._device = tuner.device
        self._compute_type = tuner.compute_type
        self._tuner = tuner

    def load(self, name: str, directory: Path) -> LoadedModel:
        """Load the directory and transcribe one window of silence with it; raises ModelLoadFailed."""
        logger.info("loading %s from %s", name, directory)
        missing = [file for file in _NEEDED if not (directory / file).is_file()]
        if missing:
            raise ModelLoadFailed(f"model {name!r} is incomplete: it has no {', '.join(missing)}")
        try:
            workers = self._tuner.workers_for(directory)
            started, before = time.monotonic(), self._device.used_bytes()
            model = self._tried(name, directory, workers)
        except Exception as exc:
            reason = str(exc).replace(str(directory), name)  # clients read it, and the path is not theirs to know
            raise ModelLoadFailed(f"model {name!r} could not be loaded: {reason}") from exc
        model.memory = max(0, self._device.used_bytes() - before)
        logger.info("loaded %s in %.1f s, %s", model, time.monotonic() - started, workers)
        if workers.lone_threads:
            model.later(partial(self._add_lone, model, directory, workers.lone_threads))
        return model

    def _tried(self, name: str, directory: Path, workers: Workers) -> LoadedModel:
        """A model that has transcribed a window."""
        model = LoadedModel(
            name,
            self._open(directory, workers),
            runs_on=f"{self._device}, {self._compute_type}",
            max_batch_size=workers.max_batch_size,
        )
        try:
            _warm_up(model.whisper_for(Ticket()))
        except BaseException:
            model.close()
            raise
        return model

    def _open(self, directory: Path, workers: Workers) -> WhisperModel:
        whisper = WhisperModel(
            str(directory),
            device=self._device.kind,
            device_index=self._device.index,
            compute_type=self._compute_type,
            cpu_threads=workers.threads,
            num_workers=workers.count,
            local_files_only=True,
        )
        # Without a preprocessor_config.json faster-whisper assumes 80 mels, and large-v3 has 128.
        mels = {"feature_size": whisper.model.n_mels}
        whisper.feature_extractor = PiecewiseFeatureExtractor(**{**whisper.feat_kwargs, **mels})
        return whisper

    def _add_lone(self, model: LoadedModel, directory: Path, threads: int) -> None:
        """Load the copy for a lone caller while the port is open already; without it the model serves as well."""
        before = self._device.used_bytes()
        try:
            lone = ctranslate2.models.Whisper(
                str(directory), device=self._device.kind, compute_type=self._compute_type, intra_threads=threads
            )
        except Exception:
            logger.exception("%s serves a lone caller with its workers, as its copy cannot be loaded", model.name)
            return
        model.memory += max(0, self._device.used_bytes() - before)
        model.batched.lone = lone


def _warm_up(whisper: WhisperModel) -> None:
    second = np.zeros(whisper.feature_extractor.sampling_rate, np.float32)
    segments, _ = whisper.transcribe(second, language="en", beam_size=1, temperature=0.0)
    list(segments)


class ModelManager:
    """Has the current model, and up to `on_demand` others that requests have named."""

    def __init__(self, resolver: ModelResolver, loader: ModelLoader, *, on_demand: int = 0) -> None:
        self._resolver = resolver
        self._loader = loader
        self._on_demand = on_demand
        self._others: list[LoadedModel] = []  # the least recently used first
        self._loading = Lock()
        self._swapping = Lock()
        self._startup_name: str | None = None
        self._current: LoadedModel | None = None

    @property
    def current(self) -> LoadedModel:
        """The model for new work."""
        assert self._current is not None, "load() comes before current"
        return self._current

    @property
    def loaded(self) -> list[LoadedModel]:
        """The current model and the others."""
        with self._swapping:
            return [self.current, *self._others]

    def find(self, name: str) -> LoadedModel:
        """Return the loaded model of that name; no name and those of OpenAI's models mean the current one.

        Raises ModelNotFound.
        """
        with self._swapping:
            model = self._named(name)
        if model is None:
            advice = "a request for audio that names it" if self._on_demand else "--on-demand-models, or POST /reload,"
            raise ModelNotFound(
                f"model {name!r} is not loaded here, but {self.current.id} is; {advice} can load another"
            )
        return model

    def check(self, name: str) -> None:
        """Raise ModelNotFound for a model that no lease can be had of, as far as that is known without looking."""
        if not self._on_demand:
            self.find(name)

    @contextmanager
    def lease(self, name: str = "") -> Iterator[LoadedModel]:
        """Keep the model of that name, by default the current one, until the end of the block, whatever is loaded.

        One that is not loaded is, if models are loaded on demand. Raises ModelNotFound, ModelUnavailable,
        ModelLoadFailed, or Overloaded if all others are in use.
        """
        model = self._leased(name) or self._leased_on_demand(name)
        try:
            yield model
        finally:
            with self._swapping:
                model.users -= 1
            self._close_unless_needed(model)

    def load(self, name: str) -> LoadedModel:
        """Load the model that the operator names."""
        with self._loading:
            self._startup_name = name
            return self._swap_in(self._loader.load(name, self._resolver.resolve(name)))

    def reload(self, name: str) -> LoadedModel:
        """Load the model that a client names beside the current one, which serves on unless this succeeds.

        One reload at a time: a second one waits for the first.
        """
        with self._loading:
            operator_named = name == self._startup_name
            resolve = self._resolver.resolve if operator_named else self._resolver.resolve_for_client
            return self._swap_in(self._loader.load(name, resolve(name)))

    def unload(self, name: str) -> str:
        """Let go of a model that was loaded on demand, and return its id; it ends with its last lease.

        Raises ModelNotFound, or ModelIsServed for the current one.
        """
        model = self.find(name)
        with self._swapping:
            if model is self._current:
                raise ModelIsServed(model.id)
            self._others = [other for other in self._others if other is not model]
        self._close_unless_needed(model)
        return model.id

    def close(self) -> None:
        """End the models' workers; what still waits for them fails."""
        for model in self.loaded:
            model.close()

    def _named(self, name: str) -> LoadedModel | None:
        if not name or name in OPENAI_NAMES:
            return self.current
        return next((model for model in (self.current, *self._others) if model.is_called(name)), None)

    def _leased(self, name: str) -> LoadedModel | None:
        with self._swapping:
            model = self._named(name)
            if model is not None:
                model.users += 1
                if model in self._others:
                    self._others.append(self._others.pop(self._others.index(model)))
            return model

    def _leased_on_demand(self, name: str) -> LoadedModel:
        """Load a model, unless another request has loaded it by the time that it is this one's turn."""
        self.check(name)
        with self._loading:
            if (model := self._leased(name)) is not None:
                return model
            directory = self._resolver.resolve_for_client(name)
            self._make_room()
            model = self._loader.load(name, directory)
            with self._swapping:
                model.users += 1
                self._others.append(model)
            return model

    def _make_room(self) -> None:
        """End the models that were idle for longest, as there may not be memory for the next one beside them."""
        with self._swapping:
            too_many = len(self._others) + 1 - self._on_demand
            leaving = [model for model in self._others if not model.users][: max(0, too_many)]
            if len(leaving) < too_many:
                raise Overloaded("all models that may be loaded on demand are in use", _RETRY_AFTER)
            self._others = [model for model in self._others if model not in leaving]
        for model in leaving:
            model.close()
            logger.info("unloaded %s", model.name)
        release_freed_memory()

    def _swap_in(self, model: LoadedModel) -> LoadedModel:
        with self._swapping:
            old, self._current = self._current, model
            shadowed = [other for other in self._others if other.is_called(model.name)]
            self._others = [other for other in self._others if other not in shadowed]
        for replaced in (*shadowed, old):
            if replaced is not None:
                self._close_unless_needed(replaced)
        return model

    def _close_unless_needed(self, model: LoadedModel) -> None:
        with self._swapping:
            needed = model is self._current or model in self._others or model.users > 0
        if not needed:
            model.close()
            release_freed_memory()
