from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from whisper_server.inference.hardware.autotune import Tuner
from whisper_server.inference.hardware.device import Device
from whisper_server.inference.hardware.worker_plan import WorkerConfig
from whisper_server.inference.models.loader import ModelLoader


@pytest.fixture
def loader() -> ModelLoader:
    config = WorkerConfig(count=2, threads=2, max_batch_size=4)
    return ModelLoader(Tuner(Device("cpu"), "int8", config, cache=Path("unused"), measure=False))


@pytest.fixture
def linked(weights: Path) -> Callable[..., Path]:
    """Return a function that makes a directory with links to the files of tiny.en, optionally without one."""

    def link(directory: Path, *, without: str = "") -> Path:
        directory.mkdir()
        for file in weights.iterdir():
            if file.name != without:
                (directory / file.name).symlink_to(file)
        return directory

    return link
