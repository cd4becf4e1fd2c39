from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from clients.environments import Client

# Takes a client and the arguments of its program; returns what it prints.
RunClient: TypeAlias = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def run_client(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> RunClient:
    root, latest = tmp_path_factory.getbasetemp(), bool(pytestconfig.getoption("--latest-clients"))

    def run(client: Client, *arguments: str) -> dict[str, Any]:
        return client.run(root, *arguments, latest=latest)

    return run
