"""Clients of other projects against a real server: only the address and the key are set."""

from __future__ import annotations

import json
import re

import pytest
from clients.clients import CLIENTS, Client
from clients.conftest import Run
from conftest import TESTS

ROOT = TESTS.parent


@pytest.mark.network
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_gets_the_text(client: Client, run: Run) -> None:
    printed = run(client)
    assert printed
    for result in printed.values():
        text = re.sub(r"[^a-z ]", " ", json.dumps(result).lower())
        assert {"kettle", "stove", "tea"} <= set(text.split()), printed


def test_every_client_is_documented() -> None:
    page = (ROOT / "docs" / "clients.md").read_text()
    packages = [re.split(r"(?<=.)[=@\[]", client.packages[0])[0] for client in CLIENTS]
    assert [package for package in packages if f"`{package}`" not in page] == []
