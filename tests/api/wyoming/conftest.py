from __future__ import annotations

import pytest
from conftest import memoize
from memoized_model import SharedResults

from whisper_server.inference.models.manager import ModelManager


@pytest.fixture(autouse=True, scope="module")
def memoized(models: ModelManager, shared_results: SharedResults | None) -> None:
    """Other tests may have loaded the weights again."""
    memoize(models, shared_results)
