"""Loads a model, tries it, and swaps it in; whoever works keeps the model that they started with."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Condition, Lock, Thread

import numpy as np
from faster_whisper import WhisperModel

from whisper_server.errors import (
    ModelIsServed,
    ModelLoadFailed,
    ModelNotFound,
    OutOfMemory,
    Overloaded,
    WhisperServerError,
)
from whisper_server.inference.catalogue import OPENAI_NAMES, REPOSITORIES
from whisper_server.inference.devices import Hardware
from whisper_server.inference.features import PiecewiseFeatureExtractor
from whisper_server.inference.heap import release_freed_memory
from whisper_server.inference.journal import Replay
from whisper_server.inference.memory import Dimensions, Load, Plan
from whisper_server.inference.memory import plan as best_plan
from whisper_server.inference.pressure import Pressure
from whisper_server.inference.residency import Leave, Residency
from whisper_server.inference.resolver import ModelResolver
from whisper_server.inference.tickets import Ticket
from whisper_server.inference.tuning import Tuner
from whisper_server.inference.weights import Place, Rung, Weights
from whisper_server.inference.whisper import BatchedWhisper, TaskTokens
from whisper_server.inference.workers import Workers

logger = logging.getLogger(__name__)

_RETRY_AFTER = 5
_NEEDED = ("model.bin", "config.json", "tokenizer.json")


class LoadedModel:
    """A model and its workers. `memory` is what loading it added to the device, in bytes; `id` is its name for clients.

    `whisper` is faster-whisper's model itself, which knows nothing of the queue; requests work with `whisper_for`.
    """

    def __init__(self, name: str, weights: Weights, pressure: Pressure, plan: Plan) -> None:
        self.name = name
        self.id = _id(name)
        self.plan = plan
        self.loaded_at = int(time.time())
        self.memory = 0
        self.users = 0
        self.keep_alive: float | None = None
        self.unwanted = False
        self.weights = weights
        self.whisper = whisper = weights.whisper
        token = whisper.hf_tokenizer.token_to_id
        self._tokens = TaskTokens(token("<|startoftranscript|>"), token("<|endoftext|>"), token("<|notimestamps|>"))
        self.batched = BatchedWhisper(weights, pressure)
        self._later: Thread | None = None
        self._waking = Lock()

    def __str__(self) -> str:
        memory = f", {self.memory / 1e6:.0f} MB" if self.memory else ""
        return f"{self.name} ({self.weights.rung}{memory})"

    @property
    def on_card(self) -> bool:
        return self.weights.rung.device.kind != "cpu"

    def is_called(self, name: str) -> bool:
        """Whether a client that says this name means this model."""
        return name == self.id or _key(name) == _key(self.name)

    def whisper_for(
        self,
        ticket: Ticket,
        *,
        encoder_window: str = "full",
        languages: Sequence[str] = (),
        replay: Replay | None = None,
    ) -> WhisperModel:
        """Return a faster-whisper model whose engine calls queue up under this ticket, unless the replay knows them."""
        whisper = copy(self.whisper)
        whisper.model = self.batched.for_request(
            ticket, self._tokens, adaptive=encoder_window == "adaptive", languages=languages, replay=replay
        )
        return whisper

    def wake(self) -> None:
        """Bring the weights back from wherever they are; raises OutOfMemory."""
        with self._waking:
            if (before := self.weights.place) == "loaded":
                return
            logger.info("loading %s again, which was %s", self.name, before)
            started = time.monotonic()
            self.weights.resume()
            logger.info("loaded %s in %.1f s", self, time.monotonic() - started)
            self.wait_until_improved()
            self.later(self.weights.add_lone)

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
    """Tries the types from the best to the smallest, within `memory_limit` bytes (0: all), and then `fallback`."""

    def __init__(
        self,
        tuner: Tuner,
        *,
        types: Sequence[str] = (),
        memory_limit: int = 0,
        fallback: Hardware | None = None,
        dimensions: Callable[[Path], Dimensions | None] = Dimensions.read,
    ) -> None:
        self._device = tuner.device
        self._types = tuple(types) or (tuner.compute_type,)
        self._tuner = tuner
        self._memory_limit = memory_limit
        self._fallback = fallback
        self._dimensions = dimensions

    def fits_beside(self, directory: Path, taken: int) -> bool:
        """Whether the model gets beside others, which take so many bytes, what it would get without them."""
        workers = self._tuner.workers_for(directory)
        beside, alone = self._plan(directory, workers, taken), self._plan(directory, workers, 0, returned=taken)
        return beside.fits and beside.compute_type == alone.compute_type

    def load(self, name: str, directory: Path, *, taken: int = 0) -> LoadedModel:
        """Load the directory and transcribe one window of silence with it; raises ModelLoadFailed or OutOfMemory.

        Of what is allowed, so many bytes are taken by others.
        """
        logger.info("loading %s from %s", name, directory)
        missing = [file for file in _NEEDED if not (directory / file).is_file()]
        if missing:
            raise ModelLoadFailed(f"model {name!r} is incomplete: it has no {', '.join(missing)}")
        try:
            workers = self._tuner.workers_for(directory)
            plan = self._plan(directory, workers, taken)
            if not plan.fits and workers.lone_threads:
                workers = replace(workers, lone_threads=0)
                plan = self._plan(directory, workers, taken)
            logger.info("plan for %s on %s: %s", name, self._device, plan)
            started, before = time.monotonic(), self._device.used_bytes()
            model = self._tried(name, directory, workers, plan)
        except OutOfMemory:
            raise
        except Exception as exc:
            reason = str(exc).replace(str(directory), name)  # clients read it, and the path is not theirs to know
            raise ModelLoadFailed(f"model {name!r} could not be loaded: {reason}") from exc
        model.memory = max(0, self._device.used_bytes() - before)
        logger.info("loaded %s in %.1f s, %s", model, time.monotonic() - started, workers)
        if workers.lone_threads:
            model.later(partial(self._add_lone, model))
        return model

    def _plan(self, directory: Path, workers: Workers, taken: int, *, returned: int = 0) -> Plan:
        """For what is free, and the bytes that others would return; without dimensions there is nothing to count."""
        dimensions = self._dimensions(directory / "model.bin")
        if dimensions is None:
            return Plan(self._types[0], workers.max_batch_size, 0, None)
        memory = self._device.memory()
        rooms = [memory.free + returned] if memory is not None else []
        rooms += [self._memory_limit - taken] if self._memory_limit else []
        return best_plan(dimensions, self._load(workers), self._types, max(0, min(rooms)) if rooms else None)

    def _load(self, workers: Workers) -> Load:
        copies = 2 if workers.lone_threads else 1
        return Load(self._device.kind != "cpu", workers.max_batch_size, workers.count, copies)

    def _rungs(self, directory: Path, workers: Workers, plan: Plan) -> list[Rung]:
        """From the planned type to the smallest, then the fallback."""
        types = self._types[self._types.index(plan.compute_type) :]
        places = [(self._device, compute_type) for compute_type in types]
        if self._fallback is not None:
            places.append((self._fallback, self._fallback.compute_types("auto")[0]))
        dimensions = self._dimensions(directory / "model.bin")
        if dimensions is None:
            return [Rung(*place) for place in places]
        load = self._load(workers)
        return [self._rung(device, compute_type, load, dimensions) for device, compute_type in places]

    def _rung(self, device: Hardware, compute_type: str, load: Load, dimensions: Dimensions) -> Rung:
        return Rung(
            device,
            compute_type,
            needed=load.needed(dimensions, compute_type, 1) - load.context,
            weights=dimensions.weights(compute_type),
            window=dimensions.window(compute_type),
        )

    def _tried(self, name: str, directory: Path, workers: Workers, plan: Plan) -> LoadedModel:
        """A model that has transcribed a window."""
        pressure = Pressure(max_batch_size=plan.batch)
        weights = Weights(directory, self._rungs(directory, workers, plan), workers, pressure)
        # Without a preprocessor_config.json faster-whisper assumes 80 mels, and large-v3 has 128.
        whisper = weights.whisper
        mels = {"feature_size": whisper.model.n_mels}
        whisper.feature_extractor = PiecewiseFeatureExtractor(**{**whisper.feat_kwargs, **mels})
        model = LoadedModel(name, weights, pressure, plan)
        try:
            _warm_up(model.whisper_for(Ticket()))
        except BaseException:
            model.close()
            raise
        return model

    def _add_lone(self, model: LoadedModel) -> None:
        """While the port is open already."""
        before = self._device.used_bytes()
        model.weights.add_lone()
        model.memory += max(0, self._device.used_bytes() - before)


def _warm_up(whisper: WhisperModel) -> None:
    second = np.zeros(whisper.feature_extractor.sampling_rate, np.float32)
    segments, _ = whisper.transcribe(second, language="en", beam_size=1, temperature=0.0)
    list(segments)


class ModelManager:
    """Has the current model, and up to `on_demand` others that requests have named."""

    def __init__(
        self,
        resolver: ModelResolver,
        loader: ModelLoader,
        *,
        on_demand: int = 0,
        residency: Residency | None = None,
    ) -> None:
        self._resolver = resolver
        self._loader = loader
        self._on_demand = on_demand
        self._residency = residency or Residency()
        self._others: list[LoadedModel] = []  # the least recently used first
        self._loading = Lock()
        self._swapping = Condition()
        self._open = True
        self._startup_name: str | None = None
        self._current: LoadedModel | None = None
        self.loading = ""

    @property
    def current(self) -> LoadedModel:
        """The model for new work."""
        assert self._current is not None, "load() comes before current"
        return self._current

    @property
    def loaded(self) -> list[LoadedModel]:
        """The current model, once it was loaded, and the others."""
        with self._swapping:
            return [model for model in (self._current, *self._others) if model is not None]

    @property
    def place(self) -> Place:
        """Where the weights of the current model are."""
        if self._current is None:
            return "loading" if self.loading else "released"
        return self._current.weights.place

    def __str__(self) -> str:
        if self._current is None:
            return f"{self._startup_name} (which comes with the first request)"
        return str(self._current)

    @property
    def name(self) -> str:
        """That of the current model, for clients."""
        return self._current.id if self._current is not None else _id(self._startup_name or "")

    def find(self, name: str) -> LoadedModel:
        """Return the loaded model of that name; no name and those of OpenAI's models mean the current one.

        Raises ModelNotFound.
        """
        with self._swapping:
            model = self._named(name)
        if model is None:
            advice = "a request for audio that names it" if self._on_demand else "--on-demand-models, or POST /reload,"
            raise ModelNotFound(f"model {name!r} is not loaded here, but {self.name} is; {advice} can load another")
        return model

    def called(self, name: str) -> str:
        """Return the id of the model that a request of that name gets; raises ModelNotFound."""
        self.check(name)
        if self._is_to_come(name):
            return self.name
        with self._swapping:
            model = self._named(name)
        return name if model is None else model.id

    def check(self, name: str) -> None:
        """Raise ModelNotFound for a model that no lease can be had of, as far as that is known without looking."""
        if not self._on_demand and not self._is_to_come(name):
            self.find(name)

    @contextmanager
    def lease(self, name: str = "", *, keep_alive: float | None = None) -> Iterator[LoadedModel]:
        """Keep the model of that name, by default the current one, until the end of the block, whatever is loaded.

        One that is not loaded is, if models are loaded on demand. After the last lease its weights stay for
        `keep_alive` seconds, or as the server is set. Raises ModelNotFound, ModelUnavailable, ModelLoadFailed,
        OutOfMemory, or Overloaded if all others are in use.
        """
        model = self._leased(name) or self._leased_later(name)
        try:
            self._residency.wake(id(model))
            model.wake()
            yield model
        finally:
            with self._swapping:
                model.users -= 1
                model.keep_alive = keep_alive
                self._swapping.notify_all()
            self._close_unless_needed(model)
            self._rest(model)

    def load(self, name: str) -> LoadedModel:
        """Load the model that the operator names."""
        self.expect(name)
        with self._loading:
            model = self._swap_in(self._loaded(name, self._resolver.resolve(name)))
        self._rest(model)
        return model

    def expect(self, name: str) -> None:
        """Note the model that the operator names: the first request loads it."""
        self._startup_name = name

    def wake(self) -> None:
        """Bring the current model's weights back, for a request that is on its way; failures are for that to meet."""
        if self.place == "loaded":
            return
        try:
            with self.lease():
                pass
        except WhisperServerError as exc:
            logger.warning("the model cannot be loaded now: %s", exc)

    def reload(self, name: str) -> LoadedModel:
        """Load the model that a client names, and let the current one serve on unless this succeeds.

        It is loaded beside the current one. Where there is no room for both, new requests wait while those that run
        finish, and the current one steps aside. One reload at a time: a second one waits for the first.
        """
        with self._loading:
            operator_named = name == self._startup_name
            resolve = self._resolver.resolve if operator_named else self._resolver.resolve_for_client
            directory = resolve(name)
            if self._loader.fits_beside(directory, self._taken()):
                model = self._swap_in(self._loaded(name, directory))
            else:
                model = self._load_instead(name, directory)
        self._rest(model)
        return model

    def _load_instead(self, name: str, directory: Path) -> LoadedModel:
        logger.info("there is no room for %s beside %s, which steps aside as soon as nobody uses it", name, self)
        with self._nobody_works():
            aside = self.loaded
            for old in aside:
                if not old.weights.park():
                    old.weights.release()
            release_freed_memory()
            try:
                return self._swap_in(self._loaded(name, directory))
            finally:
                if self._current in aside and self._current is not None:
                    self._bring_back(self._current)

    def _bring_back(self, model: LoadedModel) -> None:
        try:
            model.wake()
        except WhisperServerError as exc:
            logger.warning("%s comes back with the next request, as now it cannot: %s", model.name, exc)

    @contextmanager
    def _nobody_works(self) -> Iterator[None]:
        """Let nobody in until the end of the block, which begins when all are gone."""
        with self._swapping:
            self._open = False
            self._swapping.wait_for(lambda: not any(m.users for m in (self._current, *self._others) if m is not None))
        try:
            yield
        finally:
            with self._swapping:
                self._open = True
                self._swapping.notify_all()

    def _loaded(self, name: str, directory: Path) -> LoadedModel:
        self.loading = _id(name)
        try:
            return self._loader.load(name, directory, taken=self._taken())
        finally:
            self.loading = ""

    def _taken(self) -> int:
        """The bytes that the models' plans count with, of those whose weights are where they work."""
        return sum(model.plan.needed for model in self.loaded if model.weights.place == "loaded")

    def release(self, name: str = "") -> LoadedModel | None:
        """Drop a model's weights, now or after its last lease; the next request brings them back.

        Returns the model, or None if it was not there yet. Raises ModelNotFound.
        """
        if self._is_to_come(name):
            return None
        model = self.find(name)
        with self._swapping:
            model.unwanted = True
        self._rest(model)
        return model

    def _rest(self, model: LoadedModel) -> None:
        """Once nobody uses it, drop what is unwanted and let the residency decide about the rest."""
        with self._swapping:
            if model.users or model not in (self._current, *self._others):
                return
            unwanted, model.unwanted = model.unwanted, False
        if unwanted:
            self._leave(model, "release")
        else:
            leave = partial(self._leave, model)
            self._residency.rest(id(model), leave, on_card=model.on_card, keep_alive=model.keep_alive)

    def _leave(self, model: LoadedModel, how: Leave) -> None:
        with self._swapping:
            if model.users or model.weights.place == "released":
                return
        if how == "park" and model.weights.park():
            logger.info("parked %s in RAM", model.name)
        elif how == "release":
            model.wait_until_improved()
            model.weights.release()
            logger.info("released the weights of %s", model.name)
        release_freed_memory()

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
        self._residency.close()
        for model in self.loaded:
            model.close()

    def _named(self, name: str) -> LoadedModel | None:
        if not name or name in OPENAI_NAMES:
            return self._current
        models = (self._current, *self._others)
        return next((model for model in models if model is not None and model.is_called(name)), None)

    def _is_to_come(self, name: str) -> bool:
        """Whether that is the model that the first request loads."""
        startup = self._startup_name or ""
        named = not name or name in OPENAI_NAMES or name == _id(startup) or _key(name) == _key(startup)
        return self._current is None and named

    def _leased_later(self, name: str) -> LoadedModel:
        if not self._is_to_come(name):
            return self._leased_on_demand(name)
        with self._loading:
            if (model := self._leased(name)) is None:
                startup = self._startup_name or ""
                self._swap_in(self._loaded(startup, self._resolver.resolve(startup)), users=1)
        return model or self.current

    def _leased(self, name: str) -> LoadedModel | None:
        with self._swapping:
            self._swapping.wait_for(lambda: self._open)
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
            model = self._loaded(name, directory)
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

    def _swap_in(self, model: LoadedModel, *, users: int = 0) -> LoadedModel:
        with self._swapping:
            model.users += users
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
            self._residency.wake(id(model))
            model.close()
            release_freed_memory()
