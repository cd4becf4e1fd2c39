from __future__ import annotations

import pytest

from whisper_server.cli.server_options import refusal


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "no model of that name", "code": "model_not_found"}}', "no model of that name"),
        (b'{"error": "no file"}', "no file"),
        (b"<html>502 Bad Gateway</html>", ""),
        (b'["error"]', ""),
        (b'{"detail": "Not Found"}', ""),
        (b"", ""),
        (b"\xff\xfe", ""),
    ],
)
def test_only_the_servers_own_words_are_repeated(body: bytes, words: str) -> None:
    assert refusal(body) == words
