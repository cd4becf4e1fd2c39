from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import anyio
import pytest
from anyio import to_thread
from inference.stand_in_hub import FILES, StandInHub, serving_hub, use_hub

from whisper_server.core.errors import Cancelled, ModelUnavailable
from whisper_server.engine.model_library import ModelLibraryAdmin
from whisper_server.inference.hardware.autotune import Tuner
from whisper_server.inference.hardware.device import Device
from whisper_server.inference.hardware.worker_plan import WorkerConfig
from whisper_server.inference.models.catalogue import REPOSITORIES
from whisper_server.inference.models.hub import Download
from whisper_server.inference.models.library import LibraryModel, ModelLibrary
from whisper_server.inference.models.loader import ModelLoader
from whisper_server.inference.models.manager import ModelManager
from whisper_server.inference.models.packages import PackagedModels
from whisper_server.inference.models.resolver import ModelResolver

KNOWN = "tiny"
STORED = sum(len(body) for name, body in FILES.items() if name != "README.md")


class SlowHub:
    """Sends the weights when they are released."""

    def __init__(self, served: StandInHub) -> None:
        self.requested, self.released = Event(), Event()
        self._respond = served.respond
        served.respond = self.respond  # type: ignore[method-assign]

    def respond(self, path: str) -> tuple[int, dict[str, str], bytes]:
        response = self._respond(path)
        if path.endswith("model.bin"):
            self.requested.set()
            assert self.released.wait(60)
        return response


@pytest.fixture
def served(tmp_path: Path) -> Iterator[StandInHub]:
    with serving_hub(REPOSITORIES[KNOWN]) as served, use_hub(served.url, tmp_path / "hub"):
        yield served


@pytest.fixture
def manager(tmp_path: Path) -> ModelManager:
    resolver = ModelResolver(
        models_dir=tmp_path / "models", packages=PackagedModels({}, cache_dir=tmp_path), offline=False
    )
    tuner = Tuner(Device("cpu"), "int8", WorkerConfig(1, 1, 1), cache=tmp_path / "unused", measure=False)
    return ModelManager(resolver, ModelLoader(tuner))


def test_pulls_of_one_model_are_one_download(served: StandInHub, manager: ModelManager) -> None:
    slow = SlowHub(served)

    async def act() -> None:
        async with anyio.create_task_group() as group:
            library = ModelLibraryAdmin(manager, group, interval=0.001)
            pull = library.pull(KNOWN)
            assert library.pull("openai/whisper-tiny") is pull
            await to_thread.run_sync(slow.requested.wait)
            async for progress in library.follow(pull):
                assert 0 <= progress.done < progress.total == STORED
                break
            slow.released.set()
            model = await library.result(pull)
            assert [progress async for progress in library.follow(pull)] == []
            assert (model.id, model.source, model.bytes, model.loaded, model.deletable) == (
                KNOWN,
                "cache",
                STORED,
                False,
                True,
            )
            assert await library.result(library.pull(KNOWN)) == model
            assert [found for found in await library.available() if found.source == "cache"] == [model]
            assert await library.delete("whisper-tiny") == KNOWN
            assert [found for found in await library.available() if found.source == "cache"] == []

    anyio.run(act)
    assert sum("GET" in request and "model.bin" in request for request in served.requests) == 1


def test_everybody_who_waits_gets_the_error_and_the_next_pull_starts_again(
    served: StandInHub, manager: ModelManager
) -> None:
    served.fail_downloads("model.bin", 403)

    async def act() -> None:
        async with anyio.create_task_group() as group:
            library = ModelLibraryAdmin(manager, group)
            pulls = [library.pull(KNOWN), library.pull(KNOWN)]
            for pull in pulls:
                with pytest.raises(ModelUnavailable):
                    await library.result(pull)
            served.failures.clear()
            assert (await library.result(library.pull(KNOWN))).bytes == STORED

    anyio.run(act)


@dataclass(frozen=True)
class ObservedLibrary(ModelLibrary):
    """Notes how a pull has failed."""

    ended: SimpleQueue[BaseException] = field(default_factory=SimpleQueue)

    def pull(self, name: str, download: Download) -> LibraryModel:
        try:
            return super().pull(name, download)
        except BaseException as exc:
            self.ended.put(exc)
            raise


def test_a_shutdown_ends_a_download_that_can_be_repeated(served: StandInHub, manager: ModelManager) -> None:
    slow = SlowHub(served)
    library = manager.library = ObservedLibrary(manager.library.resolver)

    async def act() -> None:
        async with anyio.create_task_group() as group:
            admin = ModelLibraryAdmin(manager, group)
            pull = admin.pull(KNOWN)
            await to_thread.run_sync(slow.requested.wait)
            group.cancel_scope.cancel()
        with pytest.raises(Cancelled, match="request it again"):
            await admin.result(pull)

    anyio.run(act)
    slow.released.set()
    assert isinstance(library.ended.get(timeout=60), Cancelled)
    assert manager.library.pull(KNOWN, Download()).size == STORED
