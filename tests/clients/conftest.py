from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def environments(request: pytest.FixtureRequest) -> Path:
    """The folder of the clients' environments."""
    if folder := os.environ.get("TEST_CLIENTS_DIR"):
        return Path(folder)
    cache = request.config.cache
    assert cache is not None
    return cache.mkdir("clients")
