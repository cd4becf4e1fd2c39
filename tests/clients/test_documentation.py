from __future__ import annotations

import re

from clients import test_deepgram, test_openai
from conftest import TESTS


def test_every_client_is_documented() -> None:
    page = (TESTS.parent / "docs" / "clients.md").read_text()
    clients = (*test_openai.CLIENTS, test_openai.WHISPER_CPP, *test_deepgram.CLIENTS)
    packages = [re.split(r"(?<=.)[=@\[]", client.packages[0])[0] for client in clients]
    assert [package for package in packages if f"`{package.removeprefix('livekit-plugins-')}" not in page] == []
