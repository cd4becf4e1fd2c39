from __future__ import annotations

import re

from clients import test_openai
from conftest import TESTS


def test_every_client_is_documented() -> None:
    page = (TESTS.parent / "docs" / "clients.md").read_text()
    packages = [re.split(r"(?<=.)[=@\[]", client.packages[0])[0] for client in test_openai.CLIENTS]
    assert [package for package in packages if f"`{package}`" not in page] == []
